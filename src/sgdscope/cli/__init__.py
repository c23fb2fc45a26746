"""Command line. Data on stdout, talk on stderr; exit 2 for wrong usage, 1 for failure."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from sgdscope._version import __version__
from sgdscope.cli.average import average, averaged
from sgdscope.cli.balance import balance, balanced
from sgdscope.cli.diagonal import diagonal, diagonal_answered
from sgdscope.cli.predict import answer, predict
from sgdscope.cli.progress import Forks, Progress
from sgdscope.cli.simulate import simulate, simulated
from sgdscope.cli.study import study
from sgdscope.cli.sweep import sweep, sweep_lines, swept, write_page
from sgdscope.config import ConfigError, RunConfig
from sgdscope.records import RecordsError, list_runs, open_run
from sgdscope.summary import summary
from sgdscope.sweep_records import is_sweep

if TYPE_CHECKING:
    from sgdscope.records import Run

EXIT = {"finished": 0, "interrupted": 130, "diverged": 1, "failed": 1}


def run(
    config: Annotated[RunConfig, tyro.conf.arg(name="")],
    out: Path | None = None,
    resume: Path | None = None,
    quiet: bool = False,
) -> int:
    """Train a network under the monitor, write a report, and say where the run stands.

    Args:
        config: what to train and how.
        out: run folder to create. [runs/DATA-MODEL-NUMBER]
        resume: continue this run folder from its last checkpoint instead (only --steps is taken from the command).
        quiet: no progress bar.
    """
    from sgdscope import train  # torch: only where something is trained

    bar = Progress(quiet)
    command = ["sgdscope", *sys.argv[1:]]
    if resume is not None:
        _only_steps(config, out)
        finished = bar.around(lambda: train.resume(resume, steps=config.steps, progress=bar))
    else:
        resolved = config.resolved()  # wrong settings are told before torch is asked for anything
        folder = out if out is not None else _free_folder(Path("runs"), f"{resolved.data}-{resolved.model}")
        finished = bar.around(lambda: train.train(config, folder, progress=bar, command=command))
    page = _write_report(finished, None)
    print(summary(finished))
    print(f"report: {page}")
    if finished.status in ("interrupted", "diverged"):
        was = "was interrupted" if finished.status == "interrupted" else "diverged"
        print(f"the run {was} at step {finished.last_step:,}", file=sys.stderr)
    if finished.status == "interrupted":
        print(f"hint: continue with  sgdscope run --resume {finished.path}", file=sys.stderr)
    return EXIT.get(finished.status, 1)


def report(run: Annotated[Path, tyro.conf.Positional], out: Path | None = None) -> int:
    """Write the report of a run or a sweep, finished or not, as one HTML page, and print its summary.

    Args:
        run: folder of a run, or of a sweep.
        out: file to write; of a sweep also its table, as .csv or .json. [RUN/report.html]
    """
    if is_sweep(run):
        return write_page(run, out)
    opened = open_run(run)
    page = _write_report(opened, out)
    print(summary(opened))
    print(f"report: {page}")
    return 0


def edge_test(
    run: Annotated[Path, tyro.conf.Positional], lr_factor: float | None = None, batch_size: int | None = None,
    seeds: int = 4, steps: int = 200, step: int | None = None, look_every: int = 1, quiet: bool = False,
) -> int:  # fmt: skip
    """Fork a run from its checkpoint with one thing changed, and say whether the loss blows up: the test of an edge.

    Args:
        run: run folder. It stays as it is.
        lr_factor: what the learning rate is multiplied by. [1.2, or 1 with --batch-size]
        batch_size: samples per step after the change.
        seeds: orders of the data, each with the change and without.
        steps: steps of each fork.
        step: fork the last checkpoint up to this step.
        look_every: steps between looks at the loss; a peak between two looks is missed.
        quiet: no progress bar.
    """
    from sgdscope import edge_test as test  # torch

    factor = lr_factor if lr_factor is not None else 1.2 if batch_size is None else 1.0
    with closing(Forks(quiet)) as bar:
        try:
            found = test.edge_test(
                run, lr_factor=factor, batch_size=batch_size, seeds=seeds, steps=steps, step=step,
                look_every=look_every, progress=bar,
            )  # fmt: skip
        except ValueError as error:
            raise ConfigError(str(error)) from error
    print(found)
    return 0


def list_(folder: Annotated[Path, tyro.conf.Positional] = Path("runs")) -> int:
    """List the runs and sweeps in a folder with their status and where they stand.

    Args:
        folder: where to look, two levels deep; the runs of a sweep in its folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"expected a folder that holds runs, got {folder}")
    sweeps = sweep_lines(folder)
    for line in sweeps:
        print(line)
    found = list_runs(folder)
    for path in found:
        try:
            opened = open_run(path)
            print(f"{path}\t{opened.status}\tstep {opened.last_step:,}\t{opened.standing().headline}")
        except RecordsError as error:
            print(f"{path}\tunreadable\t{str(error).splitlines()[0]}")
    if not found and not sweeps:
        print(f"no runs in {folder}", file=sys.stderr)
    return 0


COMMANDS: dict[str, Callable[..., int]] = {
    "run": run, "report": report, "edge-test": edge_test, "average": average, "list": list_, "predict": predict,
    "simulate": simulate, "study": study, "balance": balance, "sweep": sweep, "diagonal": diagonal,
}  # fmt: skip


ANSWERS: dict[str, Callable[[list[str]], int]] = {
    "predict": answer, "simulate": simulated, "average": averaged, "balance": balanced, "sweep": swept,
    "diagonal": diagonal_answered,
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Entry point. Returns the exit code."""
    from sgdscope.errors import usage_errors

    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without λ must not end the run in an error
    if arguments in (["--version"], ["-V"]):
        print(f"sgdscope {__version__}")
        return 0
    try:
        if arguments and arguments[0] in ANSWERS:  # their arguments are those of the functions behind them
            return ANSWERS[arguments[0]](arguments[1:])
        return int(
            tyro.extras.subcommand_cli_from_dict(
                COMMANDS, prog="sgdscope", args=arguments,
                description=f"An instrument for the stochastic dynamics of SGD. Version {__version__}.",
            )
        )  # fmt: skip
    except RecordsError as error:
        return _complain(error, 1)
    except BrokenPipeError:  # as in `sgdscope list | head`; the rest has no reader
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except ValueError as error:
        if isinstance(error, usage_errors()):
            return _complain(error, 2)
        raise


def _complain(error: Exception, code: int) -> int:
    print(f"sgdscope: {error}", file=sys.stderr)
    return code


def _write_report(opened: Run, out: Path | None) -> Path:
    from sgdscope.report import write

    return write(opened, out if out is not None else opened.path / "report.html")


def _only_steps(config: RunConfig, out: Path | None) -> None:
    """A resumed run keeps its settings: say so rather than ignore what was asked for. Raises ConfigError."""
    plain = RunConfig()
    changed = [f.name for f in fields(config) if getattr(config, f.name) != getattr(plain, f.name)]
    given = ["--" + name.replace("_", "-") for name in changed if name != "steps"] + ["--out"] * (out is not None)
    if given:
        raise ConfigError(
            f"expected no other setting than --steps with --resume, got {', '.join(given)}\n"
            "hint: a resumed run keeps its settings and its folder; start a new one to change them"
        )


def _free_folder(parent: Path, stem: str) -> Path:
    """The first of STEM-001, STEM-002, … that does not exist."""
    number = 1
    while (parent / f"{stem}-{number:03d}").exists():
        number += 1
    return parent / f"{stem}-{number:03d}"


if __name__ == "__main__":
    sys.exit(main())
