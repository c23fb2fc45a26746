"""`sgdscope sweep`: a grid of runs, and its page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from sgdscope.config import ConfigError
from sgdscope.records import RecordsError
from sgdscope.sweep import options
from sgdscope.sweep.folder import holds
from sgdscope.sweep.grid import Grid
from sgdscope.sweep_records import SETTLED, Sweep, list_sweeps

if TYPE_CHECKING:
    from tqdm import tqdm

    from sgdscope.sweep.progress import State

_OWN = ("out", "resume", "executor", "reports", "no-reports", "quiet", "help")
_EXIT = {"interrupted": 130, "finished": 0}


def sweep(arguments: tyro.conf.Positional[tuple[str, ...]] = ()) -> int:
    """Train a grid of runs, several at a time, and lay them beside each other: see sweep --help.

    Args:
        arguments: a TOML file with a grid, and options of run with one value or several.
    """
    return swept(list(arguments))


def swept(arguments: list[str]) -> int:
    """`sgdscope sweep` with the words that follow it."""
    given, rest = options.taken(arguments)
    _check_known(rest)
    values = {name: _values(name, words) for name, words in given.items()}
    command = ["sgdscope", "sweep", *arguments]

    def _sweep(
        grid: Annotated[Path | None, tyro.conf.Positional] = None, out: Path | None = None, resume: Path | None = None,
        executor: str = "", reports: bool = True, quiet: bool = False,
    ) -> int:  # fmt: skip
        """Train a grid of runs, several at a time, and lay them beside each other on one page.

        Every option of `sgdscope run` may have several values: sgdscope sweep --lr 0.1 0.2 0.4 --batch-size 4 16 trains
        the six combinations. A TOML file says the same as lr = [0.1, 0.2, 0.4]; in it a table [zip] holds lists that go
        in step, and each table [[cells]] a single run.

        Started again, the same command skips what is done and goes on with what was interrupted. The exit code is 0 if
        all runs came to their end (a run that diverges has), 1 if some failed, 130 after an interrupt.

        Args:
            grid: TOML file, before the options.
            out: folder of the sweep. [runs/DATA-sweep-NUMBER or runs/FILE-NUMBER; the one that holds this grid if any]
            resume: go on with the sweep of this folder instead, with the grid it has.
            executor: number of processes, or the address tcp://host:port of a Dask cluster. [a process on each core]
            reports: write a report for each run, too.
            quiet: no progress bar.
        """
        if resume is not None:
            _alone(resume, grid, out, values)
            return _carried_out(None, resume, executor, reports, quiet, command)
        if grid is None and not values:
            raise ConfigError("expected a grid, as a TOML file or as options with several values, got none\n"
                              "hint: sgdscope sweep --lr 0.1 0.2 0.4 --batch-size 4 16")  # fmt: skip
        laid_out = Grid(values) if grid is None else Grid.read(grid, values)
        stem = grid.stem if grid is not None else f"{laid_out.cells[0].config.data}-sweep"
        folder = out if out is not None else _folder(Path("runs"), stem, laid_out)
        return _carried_out(laid_out, folder, executor, reports, quiet, command)

    return int(tyro.cli(_sweep, prog="sgdscope sweep", args=rest))


def write_page(folder: Path, out: Path | None) -> int:
    """`sgdscope report` of a sweep: its page; with a name that ends in .csv or .json the table of its cells."""
    from sgdscope.report import comparison, shell

    found = Sweep.open(folder)
    path = out if out is not None else folder / "report.html"
    if path.suffix.lower() in (".csv", ".json"):
        shell.written(path, found.to_csv() if path.suffix.lower() == ".csv" else found.to_json())
    else:
        comparison.write(found, path)
    print(found)
    print(f"{'table' if path.suffix.lower() in ('.csv', '.json') else 'report'}: {path}")
    return 0


def sweep_lines(folder: Path) -> list[str]:
    """`sgdscope list`: a line for each sweep at or below a folder."""
    lines = []
    for path in list_sweeps(folder):
        try:
            found = Sweep.open(path)
            done = sum(cell.settled for cell in found)
            lines.append(f"{path}\tsweep {found.status}\t{done} of {len(found)} done\t{found.headline}")
        except RecordsError as error:
            lines.append(f"{path}\tunreadable\t{str(error).splitlines()[0]}")
    return lines


def _check_known(rest: list[str]) -> None:
    """Raises ConfigError for an option that is neither of a run nor of a sweep, with the nearest one of a run."""
    for word in rest:
        if word.startswith("--") and word.partition("=")[0][2:].replace("_", "-") not in _OWN:
            options.named(word.partition("=")[0][2:], "or a sweep")


def _values(name: str, words: list[str]) -> object:
    """What the grid takes for the words after an option."""
    return words if name in options.LISTS else [options.read(name, word) for word in words]


def _carried_out(
    grid: Grid | None, folder: Path, executor: str, reports: bool, quiet: bool, command: list[str]
) -> int:  # fmt: skip
    from sgdscope.sweep import running

    workers = _executor(executor)
    with _Bar(quiet) as bar:
        try:
            if grid is None:
                found = running.resume(folder, executor=workers, reports=reports, progress=bar)
            else:
                found = running.run(grid, folder, executor=workers, reports=reports, progress=bar, command=command)
        except (ImportError, ValueError) as error:  # no such executor
            raise error if isinstance(error, ConfigError) else ConfigError(str(error)) from error
    print(found)
    print(f"report: {folder / 'report.html'}")
    failed = [cell for cell in found if cell.status == "failed"]
    for cell in failed[:5]:
        print(f"failed: {cell.name}: {cell.reason}", file=sys.stderr)
    if len(failed) > 5:
        print(f"failed: {len(failed) - 5} more, see the report", file=sys.stderr)
    if found.status == "interrupted":
        done = sum(cell.status in SETTLED for cell in found)
        print(f"the sweep was interrupted with {done} of {len(found)} runs done", file=sys.stderr)
        print(f"hint: go on with  sgdscope sweep --resume {folder}", file=sys.stderr)
    return _EXIT.get(found.status, 1) or int(bool(failed))


def _executor(asked: str) -> str | int | None:
    if not asked or "://" in asked:
        return asked or None
    if not asked.isdecimal():
        raise ConfigError(f"expected --executor as a number of processes or tcp://host:port, got {asked!r}")
    return int(asked)


def _alone(resume: Path, grid: Path | None, out: Path | None, values: dict[str, object]) -> None:
    """A sweep that is gone on with keeps its grid: say so rather than ignore what was asked for. Raises ConfigError."""
    given = [str(grid)] * (grid is not None) + ["--out"] * (out is not None)
    given += [f"--{options.spelled(name)}" for name in values]
    if given:
        raise ConfigError(
            f"expected no grid with --resume, got {', '.join(given)}\n"
            f"hint: to add runs, give the whole grid with --out {resume}"
        )


def _folder(parent: Path, stem: str, grid: Grid) -> Path:
    """The first of STEM-001, STEM-002, … that holds this very grid, or else does not exist."""
    number = 1
    while (folder := parent / f"{stem}-{number:03d}").exists():
        if holds(folder, grid):
            return folder
        number += 1
    return folder


class _Bar:
    """Progress bar on stderr: runs done, at work and failed, and where those that are done ended."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self._bar: tqdm[None] | None = None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, state: State) -> None:
        if self.quiet:
            return
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=1.0, desc=_said(state), file=sys.stderr, initial=state.fraction, mininterval=0,
                             bar_format="{percentage:3.0f}%|{bar:20}| {desc} [{elapsed}<{remaining}]")  # fmt: skip
        self._bar.n = state.fraction
        self._bar.set_description_str(_said(state), refresh=False)
        self._bar.refresh()


def _said(state: State) -> str:
    parts = [f"{state.done} of {state.total} done", f"{state.running} running", f"{state.failed} failed"]
    found = ", ".join(f"{count} {name.rpartition(', ')[2]}" for name, count in state.outcomes.items())
    return ", ".join(parts) + (f"; {found}" if found else "")
