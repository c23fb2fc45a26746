"""Note: what a sweep writes of a cell beside its run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sgdscope.records import RecordsError, write_json
from sgdscope.sweep_records.files import read_object


@dataclass(frozen=True)
class Note:
    """What a sweep knows of a cell beside its run: how it went last, why it failed, and how often it was begun."""

    status: str = "waiting"
    reason: str = ""
    attempts: int = 0


def note_of(path: Path) -> Note:
    """The note of a cell's folder."""
    content = read_object(path / "cell.json") or {}
    attempts = content.get("attempts")
    return Note(str(content.get("status", "waiting")), str(content.get("reason", "")),
                attempts if type(attempts) is int else 0)  # fmt: skip


def write_note(path: Path, status: str, reason: str = "", *, attempts: int | None = None) -> None:
    """Write the note of a cell's folder, with the number of attempts as it was unless given. Raises RecordsError."""
    begun = note_of(path).attempts if attempts is None else attempts
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "cell.json", {"status": status, "reason": reason, "attempts": begun})
    except OSError as error:
        raise RecordsError(f"cannot write in {path}: {error.strerror or error}") from error
