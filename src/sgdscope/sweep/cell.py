"""Cell: what a worker does for one run of a sweep: trains it, goes on with it, or leaves it as it is."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sgdscope import checkpoint, report, train
from sgdscope.errors import usage_errors
from sgdscope.records import RecordsError, Run, locked, open_run
from sgdscope.sweep.dataset import KeptDataset
from sgdscope.sweep.session import is_over
from sgdscope.sweep.task import Result, Task, in_words
from sgdscope.sweep_records import SETTLED, note_of, write_note

_PATIENCE = 60.0
"""Seconds to wait for another process that writes the run: one of an earlier session that is about to stop."""
_ONE_AT_A_TIME = threading.Lock()
"""Threads of one worker take turns: torch's random state and number of threads are those of the process."""
_dataset = KeptDataset()


def carry_out(task: Task) -> Result:
    """Train the run of a cell to its end, from its last checkpoint if it has one.

    Whatever goes wrong is written down as the cell's reason; what is not the fault of the settings is tried once more.
    """
    with _ONE_AT_A_TIME:
        stop = is_over(task.sweep, task.mark)
        path = task.path
        if stop():
            return Result("interrupted")
        for last in (False, True):
            try:
                run = _trained(task, path, stop)
                break
            except Exception as error:
                reason = in_words(error)
                if last or stop() or isinstance(error, usage_errors()):
                    write_note(path, "failed", reason)
                    return Result("failed", reason=reason)
        reason = _reported(run) if task.report else ""
        write_note(path, run.status, reason)
        return Result(run.status, run.standing().regime if run.status == "finished" else "", reason)


def _reported(run: Run) -> str:
    """Writes the report of a run that has come to its end; why it could not, if so: the run is not lost for that."""
    if run.status in SETTLED:
        try:
            report.write(run, run.path / "report.html")
        except Exception as error:
            return f"no report: {in_words(error)}"
    return ""


def _trained(task: Task, path: Path, stop: Callable[[], bool]) -> Run:
    """The run, as it ended. Raises whatever kept it from it."""
    _wait_until_free(path)
    if (path / "manifest.json").exists():
        run = open_run(path)
        if run.status in SETTLED:
            return run
        write_note(path, "running", attempts=note_of(path).attempts + 1)
        try:
            return train.resume(path, load=_dataset, stop=stop)
        except checkpoint.NoCheckpointError:
            _clear(path)
    else:
        write_note(path, "running", attempts=note_of(path).attempts + 1)
    return train.train(task.config, path, command=list(task.command), load=_dataset, stop=stop)


def _wait_until_free(path: Path) -> None:
    """Raises RecordsError if another process goes on writing the run."""
    if not path.exists():
        return
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            with locked(path):
                return
        except RecordsError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def _clear(path: Path) -> None:
    """Makes room for a run that cannot be gone on with: it had not come to its first checkpoint."""
    with locked(path):
        shutil.rmtree(path / "checkpoints", ignore_errors=True)
        for name in ("rows.jsonl", "manifest.json"):
            with contextlib.suppress(FileNotFoundError):
                (path / name).unlink()
