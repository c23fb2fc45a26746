"""Records: one folder per run, a manifest and append-only rows. Survives a crash; read without torch.

    RUN/manifest.json   what was run: configuration, versions, command, status (written whole, then renamed)
    RUN/rows.jsonl      one JSON object per line, flushed as it is written; a torn last line is dropped on reading
    RUN/lock            held while a process writes
    RUN/checkpoints/    written by the training loop

A row is ``{"step": int, "seconds": float, **Estimate.to_row()}``. A row ``{"rewind_to": step}`` says that the run was
resumed from a checkpoint: rows of later steps before it no longer count. Nothing is ever rewritten.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sgdscope.estimate import Estimate

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
    """Write whole or not at all: a temporary file in the same folder, flushed to disk, then renamed."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=False, allow_nan=False, default=str)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


class RunWriter:
    """Writes one run folder. Use `create` or `reopen`; close it, or use it as a context manager."""

    def __init__(self, path: Path, manifest: dict[str, Any], lock: IO[str], rows: IO[str]) -> None:
        self.path = path
        self.manifest = manifest
        self._lock = lock
        self._rows = rows
        self._start = time.monotonic() - float(manifest.get("seconds", 0.0))

    @classmethod
    def create(cls, path: str | Path, manifest: Mapping[str, Any] | None = None) -> RunWriter:
        """A new run folder. Raises RecordsError if it holds a run already or cannot be written."""
        path = Path(path)
        if (path / "manifest.json").exists():
            raise RecordsError(
                f"expected a new folder, but {path} already holds a run\n"
                "hint: choose another --out, or continue that run with --resume"
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordsError(f"cannot create the run folder {path}: {error.strerror or error}") from error
        lock = _take_lock(path)
        full = {
            "format": FORMAT,
            "status": "running",
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **dict(manifest or {}),
        }
        try:
            rows = open(path / "rows.jsonl", "a", encoding="utf-8")
            write_json(path / "manifest.json", full)
        except OSError as error:
            lock.close()
            raise RecordsError(f"cannot write in the run folder {path}: {error.strerror or error}") from error
        return cls(path, full, lock, rows)

    @classmethod
    def reopen(cls, path: str | Path, *, rewind_to: int) -> RunWriter:
        """Continue a run from the checkpoint of step `rewind_to`; later rows no longer count."""
        path = Path(path)
        run = open_run(path)
        lock = _take_lock(path)
        manifest = {**run.manifest, "status": "running"}
        rows = open(path / "rows.jsonl", "a", encoding="utf-8")
        if _ends_torn(path / "rows.jsonl"):
            rows.write("\n")  # closes the torn line, which then is skipped as unreadable
        writer = cls(path, manifest, lock, rows)
        writer._write({"rewind_to": rewind_to})
        write_json(path / "manifest.json", manifest)
        return writer

    def append(self, step: int, estimate: Estimate) -> None:
        """Add one row and flush it: from here on a crash no longer loses it."""
        self._write({"step": step, "seconds": round(self.seconds, 3), **estimate.to_row()})

    @property
    def seconds(self) -> float:
        """Seconds since the run began, time before a resume included."""
        return time.monotonic() - self._start

    def update(self, **changes: Any) -> None:
        """Change entries of the manifest (atomically)."""
        self.manifest.update(changes, seconds=round(self.seconds, 3))
        write_json(self.path / "manifest.json", self.manifest)

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
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        self.close("finished" if kind is None else "interrupted" if interrupted else "failed")

    def _write(self, row: Mapping[str, Any]) -> None:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False, default=str)
        try:
            self._rows.write(line + "\n")
            self._rows.flush()
        except OSError as error:
            raise RecordsError(
                f"cannot write a row in {self.path}: {error.strerror or error}\n"
                "hint: rows written so far are safe; free some space, then use --resume"
            ) from error


def _take_lock(path: Path) -> IO[str]:
    try:
        lock = open(path / "lock", "a", encoding="utf-8")
    except OSError as error:
        raise RecordsError(f"cannot write in the run folder {path}: {error.strerror or error}") from error
    if fcntl is not None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise RecordsError(
                f"another process is writing the run folder {path}\nhint: wait for it to end, or choose another --out"
            ) from error
    return lock


def _ends_torn(path: Path) -> bool:
    with open(path, "rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


@dataclass(frozen=True)
class Series:
    """One quantity over the run: rows in order of step.

    `steps`, `seconds`, `values` and `standard_errors` have shape ``(n,)``, `n` the number of rows that carry a value;
    the first component is taken of tuple values. `standard_errors` is 0 where none was given. `estimates` holds all
    rows whole, those without a value included, and `estimate_steps` their steps.
    """

    name: str
    steps: NDArray[np.int64]
    seconds: NDArray[np.float64]
    values: NDArray[np.float64]
    standard_errors: NDArray[np.float64]
    estimates: tuple[Estimate, ...]
    estimate_steps: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def latest(self) -> Estimate | None:
        """The last row that carries a value, or None."""
        return next((e for e in reversed(self.estimates) if e.value is not None), None)

    def component(self, key: str) -> Series:
        """The companion measured `beside` this quantity under `key`, as a series of its own."""
        pairs = [
            (s, e.beside[key]) for s, e in zip(self.estimate_steps, self.estimates, strict=True) if key in e.beside
        ]
        seconds = dict(zip(self.steps.tolist(), self.seconds.tolist(), strict=True))
        return _series(key, [(step, seconds.get(step, 0.0), e) for step, e in pairs])

    def between(self, first: int, last: int) -> Series:
        """Rows with ``first <= step <= last``."""
        seconds = dict(zip(self.steps.tolist(), self.seconds.tolist(), strict=True))
        return _series(
            self.name,
            [
                (s, seconds.get(s, 0.0), e)
                for s, e in zip(self.estimate_steps, self.estimates, strict=True)
                if first <= s <= last
            ],
        )


def _series(name: str, rows: list[tuple[int, float, Estimate]]) -> Series:
    def first(number: Any) -> float:
        return float(number[0] if isinstance(number, tuple) else number or 0.0)

    valued = [(step, seconds, e) for step, seconds, e in rows if e.value is not None]
    return Series(
        name,
        np.array([s for s, _, _ in valued], dtype=np.int64),
        np.array([t for _, t, _ in valued], dtype=np.float64),
        np.array([first(e.value) for _, _, e in valued], dtype=np.float64),
        np.array([first(e.standard_error) for _, _, e in valued], dtype=np.float64),
        tuple(e for _, _, e in rows),
        tuple(s for s, _, _ in rows),
    )


@dataclass(frozen=True)
class Run:
    """A run folder as read from disk: manifest and rows. Reading needs no torch and runs no code of the folder."""

    path: Path
    manifest: dict[str, Any]
    rows: tuple[tuple[int, float, Estimate], ...]
    unreadable: int
    """Lines that could not be read (a torn last line is not counted)."""

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
        return _series(name, rows)

    def get(self, name: str) -> Series:
        """As indexing, but an empty series where the quantity was not recorded."""
        return self[name] if name in self else _series(name, [])

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
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecordsError(
            f"expected a run folder with a manifest.json, got {path}\n"
            "hint: `sgdscope list FOLDER` shows the runs in a folder"
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise RecordsError(f"cannot read {path / 'manifest.json'}: {error}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise RecordsError(f"expected a manifest with a format number in {path}, got something else")
    if manifest["format"] > FORMAT:
        raise RecordsError(
            f"{path} was written in format {manifest['format']}, this version reads up to {FORMAT}\n"
            "hint: upgrade sgdscope"
        )
    rows: list[tuple[int, float, Estimate]] = []
    unreadable = 0
    for row, torn in _read_rows(path / "rows.jsonl"):
        if row is None:
            unreadable += not torn
            continue
        with contextlib.suppress(KeyError, TypeError, ValueError):
            if "rewind_to" in row:
                rows = [kept for kept in rows if kept[0] <= int(row["rewind_to"])]
            else:
                rows.append((int(row["step"]), float(row.get("seconds", 0.0)), Estimate.from_row(row)))
            continue
        unreadable += 1
    return Run(path, manifest, tuple(rows), unreadable)


def _read_rows(path: Path) -> Iterator[tuple[dict[str, Any] | None, bool]]:
    """Each line as (row or None if unreadable, whether it is a torn last line)."""
    if not path.exists():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            torn = not line.endswith("\n")
            try:
                row = json.loads(line, parse_constant=_refuse_constant)
            except (json.JSONDecodeError, ValueError, RecursionError):
                row = None
            yield (row if isinstance(row, dict) else None), torn


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def list_runs(folder: str | Path) -> list[Path]:
    """Run folders at or below `folder` (two levels), oldest first."""
    folder = Path(folder)
    found = {
        p.parent for pattern in ("manifest.json", "*/manifest.json", "*/*/manifest.json") for p in folder.glob(pattern)
    }
    return sorted(found, key=lambda p: (p / "manifest.json").stat().st_mtime)
