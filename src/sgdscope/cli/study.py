"""`sgdscope study NAME`: the claims of a paper, measured beside predicted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sgdscope.config import ConfigError

Name = Literal["all", "stochastic-edge", "balance", "escape", "fokker-planck", "averaging"]
Size = Literal["toy", "small", "paper"]


def study(
    name: Annotated[Name, tyro.conf.Positional], size: Size = "toy", data_dir: Path | None = None,
    out: Path | None = None, seed: int = 0, executor: str = "", judge_only: bool = False, quiet: bool = False,
) -> int:  # fmt: skip
    """Reproduce what a paper claims: measure, predict, and lay both side by side with a computed verdict.

    Cells that are finished are not done again: an interrupted study goes on where it stopped. The exit code is 1 where
    a cell failed; a claim that fails is a finding.

    Args:
        name: of the study, or all.
        size: toy takes seconds, small minutes, paper has the source's own settings where they are known.
        data_dir: folder of the real data sets. [data that ship with scikit-learn]
        out: folder for results and pages. [studies/NAME-SIZE]
        seed: of everything.
        executor: a number of processes, or the address tcp://… of a Dask cluster. [a process on each core]
        judge_only: run nothing, judge and draw what is there.
        quiet: no progress bar.
    """
    from sgdscope.studies import NAMES, carry_out, recipe, reopened  # scipy: takes its time to load

    names = NAMES if name == "all" else (name,)
    if out is not None and len(names) > 1:
        places = {each: out / f"{each}-{size}" for each in names}
    else:
        places = {each: out or Path("studies") / f"{each}-{size}" for each in names}
    try:
        recipes = [recipe(each, size, data_dir=data_dir, seed=seed) for each in names]
    except ValueError as error:
        raise ConfigError(str(error)) from error
    complete = True
    for made in recipes:
        folder = places[made.name]
        if judge_only:
            found = reopened(made, folder)
            found.write(folder)
        else:
            with _Bar(made.name, quiet) as bar:
                found = carry_out(made, folder, executor=_executor(executor), progress=bar)
        print(found)
        print(f"page: {folder / 'report.html'}\n")
        complete = complete and len(found.results) == len(found.results.cells)
    return 0 if complete else 1


def _executor(asked: str) -> str | int | None:
    if not asked or "://" in asked:
        return asked or None
    if not asked.isdigit():
        raise ConfigError(f"expected --executor as a number of processes or tcp://host:port, got {asked!r}")
    return int(asked)


class _Bar:
    """Progress bar on stderr: cells finished."""

    def __init__(self, name: str, quiet: bool) -> None:
        from tqdm import tqdm

        self._bar = tqdm(desc=name, unit=" cells", file=sys.stderr, disable=quiet)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, done: int, of: int) -> None:
        self._bar.total = of
        self._bar.update(done - self._bar.n)
