"""Records: one folder per run, a manifest and append-only rows. Survives a crash; read without torch.

    RUN/manifest.json   what was run: configuration, versions, command, status (written whole, then renamed)
    RUN/rows.jsonl      one JSON object per line, handed to the system whole; a torn last line is dropped on reading
    RUN/lock            held while a process writes
    RUN/checkpoints/    written by the training loop

A row is ``{"step": int, "seconds": float, **Estimate.to_row()}``. A row ``{"rewind_to": step}`` says that the run was
resumed from a checkpoint: rows of later steps before it no longer count. Nothing is ever rewritten. Rows survive the
death of the process at any moment; they are not forced to disk one by one, so a power cut may take the last seconds.
"""

from __future__ import annotations

import contextlib
import json
import operator
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal

from sgdscope.estimate import Estimate, plain
from sgdscope.series import Row
from sgdscope.series import Series as Series  # read from a run, and so at home here too

if TYPE_CHECKING:
    from sgdscope.regime import Standing
    from sgdscope.verdict import Verdict

try:
    import fcntl
except ImportError:  # not a POSIX system: two writers are then not noticed
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
RunStatus = Literal["running", "finished", "interrupted", "diverged", "failed"]


class RecordsError(RuntimeError):
    """A run folder cannot be written or read; the message says what to do."""


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write whole or not at all: a temporary file in the same folder, flushed to disk, then renamed.

    What JSON cannot hold is written as `estimate.plain` says. Raises OSError if it cannot be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(_encoded(content, indent=1))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _encoded(content: Mapping[str, Any], indent: int | None = None) -> bytes:
    """One JSON object and a newline. Half a surrogate pair (from a file name) becomes its JSON escape."""
    text = json.dumps(plain(content), indent=indent, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8", "backslashreplace")


class RunWriter:
    """Writes one run folder. Use `create` or `reopen`; close it, or use it as a context manager."""

    def __init__(self, path: Path, manifest: dict[str, Any], lock: IO[str], rows: BinaryIO, *, torn: bool) -> None:
        self.path = path
        self.manifest = manifest
        self._lock = lock
        self._rows = rows  # unbuffered: what is written is in the hands of the system
        self._torn = torn  # the file ends in the middle of a line
        seconds = manifest.get("seconds", 0.0)
        self._start = time.monotonic() - (seconds if _is_real(seconds) else 0.0)

    @classmethod
    def create(cls, path: str | Path, manifest: Mapping[str, Any] | None = None) -> RunWriter:
        """A new run folder. Raises RecordsError if it holds a run already or cannot be written."""
        path = Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordsError(f"cannot create the run folder {path}: {error.strerror or error}") from error
        with _undone_on_error(path) as undo:
            lock = undo.enter_context(_take_lock(path))
            rows_path = path / "rows.jsonl"
            if (path / "manifest.json").exists() or (rows_path.exists() and rows_path.stat().st_size):
                raise RecordsError(
                    f"expected a new folder, but {path} already holds a run\n"
                    "hint: choose another --out, or continue that run with --resume"
                )
            full = {
                "format": FORMAT,
                "status": "running",
                "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                **{k: v for k, v in (manifest or {}).items() if k not in ("format", "status", "seconds")},
            }
            rows = undo.enter_context(open(rows_path, "ab", buffering=0))
            write_json(path / "manifest.json", full)
            return cls(path, full, lock, rows, torn=False)

    @classmethod
    def reopen(cls, path: str | Path, *, rewind_to: int) -> RunWriter:
        """Continue a run from the checkpoint of step `rewind_to`; rows of later steps no longer count.

        Raises RecordsError if it is no run folder, another process writes it, or it cannot be written.
        """
        path = Path(path)
        _read_manifest(path)  # no lock is left in a folder that holds no run
        with _undone_on_error(path) as undo:
            lock = undo.enter_context(_take_lock(path))
            manifest = {**_read_manifest(path), "status": "running"}
            rows = undo.enter_context(open(path / "rows.jsonl", "ab", buffering=0))
            writer = cls(path, manifest, lock, rows, torn=_ends_torn(path / "rows.jsonl"))
            writer._write({"rewind_to": operator.index(rewind_to)})
            write_json(path / "manifest.json", manifest)
            return writer

    def append(self, step: int, estimate: Estimate) -> None:
        """Add one row: from here on the death of this process no longer loses it.

        Raises RecordsError if it cannot be written; rows before it are safe, and a later one may be tried.
        """
        self._write({"step": operator.index(step), "seconds": round(self.seconds, 3), **estimate.to_row()})

    @property
    def seconds(self) -> float:
        """Seconds since the run began, time before a resume included."""
        return time.monotonic() - self._start

    def update(self, **changes: Any) -> None:
        """Change entries of the manifest (atomically). Raises RecordsError if it cannot be written."""
        self.manifest.update(changes, seconds=round(self.seconds, 3))
        try:
            write_json(self.path / "manifest.json", self.manifest)
        except OSError as error:
            raise RecordsError(
                f"cannot write {self.path / 'manifest.json'}: {error.strerror or error}\n"
                "hint: the manifest as it was before and all rows are safe"
            ) from error

    def close(self, status: RunStatus = "finished") -> None:
        """Write the final status and release the folder. Closing twice does nothing."""
        if self._rows.closed:
            return
        try:
            self.update(status=status)
        finally:
            self._rows.close()
            self._lock.close()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close("finished")
            return
        with contextlib.suppress(RecordsError):  # the error under way says more
            self.close("interrupted" if issubclass(kind, KeyboardInterrupt | SystemExit) else "failed")

    def _write(self, row: Mapping[str, Any]) -> None:
        if self._rows.closed:
            raise RecordsError(f"cannot write a row in {self.path}: this run is closed")
        line = _encoded(row)
        if self._torn:
            line = b"\n" + line  # closes the torn line, which is then skipped as unreadable
        written = 0
        try:
            while written < len(line):
                written += self._rows.write(line[written:])
        except OSError as error:
            raise RecordsError(
                f"cannot write a row in {self.path}: {error.strerror or error}\n"
                "hint: rows written so far are safe; free some space, then use --resume"
            ) from error
        finally:
            if written:
                self._torn = written < len(line)


@contextlib.contextmanager
def _undone_on_error(path: Path) -> Iterator[contextlib.ExitStack]:
    """Closes what was opened if the body fails, and says so as a RecordsError."""
    with contextlib.ExitStack() as stack:
        try:
            yield stack
        except OSError as error:
            raise RecordsError(f"cannot write in the run folder {path}: {error.strerror or error}") from error
        stack.pop_all()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within the block no other process may work on the folder so. Raises RecordsError if one does."""
    try:
        lock = _take_lock(folder)
    except OSError as error:
        raise RecordsError(f"cannot write in {folder}: {error.strerror or error}") from error
    with lock:
        yield


def _take_lock(path: Path) -> IO[str]:
    lock = open(path / "lock", "a", encoding="utf-8")
    if fcntl is not None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise RecordsError(
                f"another process is writing the folder {path}\nhint: wait for it to end, or choose another --out"
            ) from error
        except OSError:
            pass  # a file system without locks: two writers are then not noticed
    return lock


def _ends_torn(path: Path) -> bool:
    with open(path, "rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


@dataclass(frozen=True)
class Run:
    """A run folder as read from disk: manifest and rows. Reading needs no torch and runs no code of the folder."""

    path: Path
    manifest: dict[str, Any]
    rows: tuple[Row, ...]
    unreadable: int
    """Lines that could not be read. The last line, torn by a crash or still being written, is not counted."""

    @property
    def status(self) -> str:
        """running, finished, interrupted, diverged or failed, as the manifest says."""
        return str(self.manifest.get("status", "running"))

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the run."""
        config = self.manifest.get("config", {})
        return config if isinstance(config, dict) else {}

    @property
    def names(self) -> list[str]:
        """Quantities recorded, in order of first appearance."""
        return list(dict.fromkeys(e.name for _, _, e in self.rows))

    @property
    def last_step(self) -> int:
        """Step of the last row; 0 if there is none."""
        return self.rows[-1][0] if self.rows else 0

    def __contains__(self, name: str) -> bool:
        return any(e.name == name for _, _, e in self.rows)

    def __getitem__(self, name: str) -> Series:
        rows = [row for row in self.rows if row[2].name == name]
        if not rows:
            raise KeyError(f"this run has no {name!r}; it has {', '.join(self.names) or 'no rows'}")
        return Series.of(name, rows)

    def get(self, name: str) -> Series:
        """As indexing, but an empty series where the quantity was not recorded."""
        return self[name] if name in self else Series.of(name, [])

    def standing(self) -> Standing:
        """Where the run stands: regime, headline and the numbers behind them."""
        from sgdscope.regime import standing

        return standing(self)

    def verdicts(self) -> tuple[Verdict, ...]:
        """Claims of theory laid beside what this run measured."""
        return self.standing().verdicts


def open_run(path: str | Path) -> Run:
    """Read a run folder, finished or not.

    Raises RecordsError if it is no run folder or comes from a newer format. Unreadable rows are counted, not fatal.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    rows: list[Row] = []
    unreadable = 0
    before_readable = True
    for row, torn in _read_lines(path / "rows.jsonl"):
        readable = False
        with contextlib.suppress(KeyError, TypeError, ValueError):
            if row is not None and "rewind_to" in row:
                first_lost = _whole(row["rewind_to"]) + 1
                rows = [kept for kept in rows if kept[0] < first_lost]
                unreadable -= not before_readable  # what the crash tore, before the resume
                readable = True
            elif row is not None:
                seconds = row.get("seconds", 0.0)
                rows.append((_whole(row["step"]), float(seconds) if _is_real(seconds) else 0.0, Estimate.from_row(row)))
                readable = True
        unreadable += not (readable or torn)
        before_readable = readable
    return Run(path, manifest, tuple(sorted(rows, key=lambda kept: kept[0])), unreadable)


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / "manifest.json"
    try:
        if not os.path.lexists(file):
            raise RecordsError(
                f"expected a run folder with a manifest.json, got {path}\n"
                "hint: `sgdscope list FOLDER` shows the runs in a folder"
            )
        if not file.is_file():  # a pipe or a device might never end
            raise RecordsError(f"cannot read {file}: it is not a file")
        manifest = json.loads(file.read_bytes().decode("utf-8"), parse_constant=lambda _: None)
    except (OSError, ValueError, RecursionError) as error:
        raise RecordsError(f"cannot read {file}: {error}") from error
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if type(version) is not int or version < 1:
        raise RecordsError(f"expected a manifest with a format number in {path}, got something else")
    if version > FORMAT:
        raise RecordsError(
            f"{path} was written in format {version:.6g}, this version reads up to {FORMAT}\nhint: upgrade sgdscope"
        )
    return dict(manifest)


def _read_lines(path: Path) -> Iterator[tuple[dict[str, Any] | None, bool]]:
    """Each line as (row or None if unreadable, whether it is a torn last line)."""
    try:
        if not os.path.lexists(path):
            return
        if not path.is_file():
            raise RecordsError(f"cannot read {path}: it is not a file")
        with open(path, "rb") as file:
            for line in file:
                if line == b"\n":  # left where a torn line was closed
                    continue
                try:
                    row = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
                except (ValueError, RecursionError):
                    row = None
                yield (row if isinstance(row, dict) else None), not line.endswith(b"\n")
    except OSError as error:
        raise RecordsError(f"cannot read {path}: {error.strerror or error}") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e15 < value < 1e15


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"expected a step, got {value!r:.80}")
    return value


def list_runs(folder: str | Path) -> list[Path]:
    """Run folders at or below `folder` (two levels), oldest first."""
    found: dict[Path, float] = {}
    for pattern in ("manifest.json", "*/manifest.json", "*/*/manifest.json"):
        for manifest in Path(folder).glob(pattern):
            with contextlib.suppress(OSError):  # removed meanwhile
                found[manifest.parent] = manifest.stat().st_mtime
    return sorted(found, key=lambda path: (found[path], path))
