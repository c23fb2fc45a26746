"""Session: how cells, wherever they run, know that the sweep they belong to wants them to go on.

A sweep that begins writes a mark of its own into its folder, and takes it away when it ends. A cell that no longer
finds the mark it was begun under stops with a checkpoint: after an interrupt, also where no signal reaches it (on a
cluster), and when another sweep has taken over the folder of one that was killed.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from sgdscope.records import RecordsError

_EVERY = 1.0
"""Seconds between two looks."""


@contextlib.contextmanager
def session(folder: Path) -> Iterator[str]:
    """The mark of a new session, there as long as the block lasts. Raises RecordsError if it cannot be written."""
    mark, file = uuid.uuid4().hex, folder / "session"
    try:
        file.write_text(mark, encoding="ascii")
    except OSError as error:
        raise RecordsError(f"cannot write in {folder}: {error.strerror or error}") from error
    try:
        yield mark
    finally:
        end(folder)


def end(folder: Path) -> None:
    """Ends the session of a folder: cells stop, and none is begun any more."""
    (folder / "session").unlink(missing_ok=True)


def is_over(folder: Path, mark: str) -> Callable[[], bool]:
    """A function that says whether the session with this mark has ended; it looks once a second."""
    due, over = 0.0, False

    def asked() -> bool:
        nonlocal due, over
        if not over and time.monotonic() >= due:
            due = time.monotonic() + _EVERY
            over = _read(folder / "session") != mark
        return over

    return asked


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
