"""Running: carries out a grid in a folder, and goes on with one that was interrupted."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

from sgdscope.config import ConfigError
from sgdscope.executors import Executor, outcomes
from sgdscope.executors.pool import pool
from sgdscope.records import RecordsError, locked
from sgdscope.report import comparison, shell
from sgdscope.sweep.folder import check_runs, joined, manifest_of, planned
from sgdscope.sweep.grid import Grid, GridCell
from sgdscope.sweep.progress import Progress, Watch
from sgdscope.sweep.session import end, session
from sgdscope.sweep.task import Result, Task, carry_out, in_words
from sgdscope.sweep_records import Sweep, is_sweep, note_of, write_manifest, write_note


def run(
    grid: Grid, folder: str | Path, *, executor: Executor = None, reports: bool = True,
    progress: Progress | None = None, command: Sequence[str] = (),
) -> Sweep:  # fmt: skip
    """Carry out a grid in `folder`, and return what came of it.

    Cells that have come to their end are left as they are; others go on from their last checkpoint; those that failed
    are tried again. A folder that holds some of the grid's cells already is added to. What a cell gives depends neither
    on the executor nor on the number of workers, apart from readings timed by the clock (the monitor's ``budget``;
    with ``every`` there are none).

    A cell that fails is written down with its reason and leaves the others alone; one whose worker was killed is begun
    again at once, from its checkpoint. Ctrl-C or SIGTERM stop all cells, each with a checkpoint, and the sweep comes
    back as interrupted. At the end its page ``report.html`` and its table ``cells.csv`` are written.

    Args:
        grid: what to run.
        folder: of the sweep; made if needed. For a cluster, one that all its workers see at this path.
        executor: who does the work, see `executors.Executor`; by default a process on each core. Cells take turns in
            one worker of a cluster: give it one thread.
        reports: whether to write a report for each run as well (half a second each).
        progress: see `progress.Progress`.
        command: what the user typed, for the record.

    Raises ConfigError if the folder holds cells that the grid does not have, RecordsError if it cannot be written or
    another process runs a sweep there, ValueError for an executor that is none or does not answer.
    """
    folder = Path(folder).absolute()
    _check_cadences(grid.cells)
    _check_executor(executor)
    if (folder / "manifest.json").exists():
        raise RecordsError(f"expected a folder for a sweep, but {folder} holds a run\nhint: choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordsError(f"cannot create the sweep folder {folder}: {error.strerror or error}") from error
    with locked(folder):
        began = Sweep.open(folder) if is_sweep(folder) else None
        cells = grid.cells if began is None else joined(began, grid.cells)
        return _carried_out(folder, cells, began, executor, reports, progress, command)


def resume(
    folder: str | Path, *, executor: Executor = None, reports: bool = True, progress: Progress | None = None
) -> Sweep:
    """Go on with the sweep of a folder, as `run` does with the same grid. Raises RecordsError if there is none."""
    folder = Path(folder).absolute()
    _check_executor(executor)
    Sweep.open(folder)  # no lock is left in a folder that holds none
    with locked(folder):
        began = Sweep.open(folder)
        cells = tuple(planned(began))
        return _carried_out(folder, cells, began, executor, reports, progress, began.manifest.get("command", ()))


def _carried_out(
    folder: Path, cells: Sequence[GridCell], began: Sweep | None, executor: Executor, reports: bool,
    progress: Progress | None, command: Sequence[str],
) -> Sweep:  # fmt: skip
    manifest = manifest_of(cells, began, command)
    if began is not None:
        check_runs(began, cells)
    write_manifest(folder, {**manifest, "status": "running"})
    before = {cell.name: cell for cell in Sweep.open(folder)}
    status = "finished"
    paths = {cell.name: before[cell.name].path for cell in cells}
    with session(folder) as mark, Watch([(paths[c.name], c.config) for c in cells], progress) as watch:
        left = []
        for cell in cells:
            there = before[cell.name]
            if there.settled:
                watch.ended(there.path, there.status, there.outcome)
            elif there.status == "running":  # in a session that was killed
                write_note(there.path, "interrupted")
            if not there.settled or (reports and not (there.path / "report.html").exists()):
                left.append(Task(folder, cell.name, cell.config, mark, reports, command))
        try:
            with _interrupted_by_sigterm(), closing(
                outcomes(carry_out if executor != 0 else _carry_out_here, left, executor=executor, retries=1)
            ) as under_way:  # fmt: skip
                for ended in under_way:
                    name, result = left[ended.key].name, ended.value
                    if result is None:  # its worker was lost for good, or what it was given could not be read there
                        reason = in_words(ended.error or RuntimeError("no result"))
                        write_note(paths[name], "failed", reason)
                        watch.ended(paths[name], "failed", "failed")
                    elif not before[name].settled:
                        watch.ended(paths[name], result.status, result.regime or result.status)
        except KeyboardInterrupt:
            status = "interrupted"
        except BaseException:
            write_manifest(folder, {**manifest, "status": "interrupted"})
            raise
    if status == "interrupted" and not (executor is None or isinstance(executor, int)):
        _wait_until_stopped(list(paths.values()))
    found = Sweep.open(folder)
    if any(not cell.settled and cell.status != "failed" for cell in found):
        status = "interrupted"
    write_manifest(folder, {**manifest, "status": status})
    found = replace(found, manifest={**found.manifest, "status": status})
    shell.written(folder / "cells.csv", found.to_csv())
    comparison.write(found, folder / "report.html")
    return found


def _carry_out_here(task: Task) -> Result:
    """In this very process, where Ctrl-C comes to the run: the session ends with it."""
    result = carry_out(task)
    if result.status == "interrupted":
        end(task.sweep)
    return result


def _wait_until_stopped(paths: Sequence[Path], seconds: float = 10.0) -> None:
    """Until no cell is at work any more: workers that get no signal look once a second whether to stop."""
    deadline = time.monotonic() + seconds
    while any(note_of(path).status == "running" for path in paths) and time.monotonic() < deadline:
        time.sleep(0.1)


def _check_cadences(cells: Sequence[GridCell]) -> None:
    """Raises ConfigError for a measurement with a cadence that the monitor does not know."""
    if any(cell.config.cadence for cell in cells):
        from sgdscope.monitor.agenda import check_pace  # torch

        for config in (cell.config for cell in cells):
            try:
                check_pace(config.every, config.cadences(), config.budget)
            except ValueError as error:
                raise ConfigError(str(error)) from error


def _check_executor(executor: Executor) -> None:
    """Raises ValueError or ImportError for one that cannot be used, before anything is written."""
    if executor is not None and not callable(getattr(executor, "submit", None)):  # one of someone else's stays open
        pool(executor).close()


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: signals are someone else's business
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
