"""Progress: how far the cells of a sweep have come, as their folders show it while workers write them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from sgdscope.config import RunConfig
from sgdscope.sweep_records import SETTLED, last_step, note_of


@dataclass(frozen=True)
class State:
    """How far a sweep has come.

    Attributes:
        total: number of cells.
        done: cells that have come to their end.
        running: cells at work.
        failed: cells that failed in this session.
        fraction: of all steps, those taken; a cell that is done or failed counts in full.
        outcomes: regimes of cells that are done, and how many diverged.
    """

    total: int
    done: int
    running: int
    failed: int
    fraction: float
    outcomes: Mapping[str, int]


_IDLE = 100
"""Cells in a row that do not run, after which no more are looked at: cells are begun in their order."""
Progress = Callable[[State], None]
"""Called when a cell ends and once a second between, from another thread too, never by two at once."""


class Watch:
    """Follows the cells of a sweep while they run, and tells `progress`. Use it around the session."""

    def __init__(self, cells: Iterable[tuple[Path, RunConfig]], progress: Progress | None, every: float = 1.0) -> None:
        self._open = dict(cells)
        self._total = len(self._open)
        self._failed: set[Path] = set()
        self._outcomes: Counter[str] = Counter()
        self._done = 0
        self._progress, self._every = progress, every
        self._lock, self._end = threading.RLock(), threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Watch:
        if self._progress is not None:
            self._tell()
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()

    def ended(self, path: Path, status: str, outcome: str) -> None:
        """A cell has ended with a status, and what came of it in a word."""
        with self._lock:
            if status in SETTLED:
                self._open.pop(path, None)
                self._done += 1
                self._outcomes[outcome] += 1
            elif status == "failed":
                self._open.pop(path, None)
                self._failed.add(path)
        if self._progress is not None and self._thread.is_alive():
            self._tell()

    def state(self) -> State:
        """As the folders show it now."""
        with self._lock:
            return self._state()

    def _state(self) -> State:
        taken = float(self._total - len(self._open))
        running = idle = 0
        for path, config in self._open.items():
            if note_of(path).status == "running":
                running, idle = running + 1, 0
                taken += min(1.0, last_step(path) / config.steps) if config.steps else 0.0
            elif (idle := idle + 1) > _IDLE:
                break
        fraction = taken / self._total if self._total else 1.0
        return State(self._total, self._done, running, len(self._failed), fraction, dict(self._outcomes))

    def _tell(self) -> None:
        if self._progress is not None:
            with self._lock:
                self._progress(self._state())

    def _follow(self) -> None:
        while not self._end.wait(self._every):
            self._tell()
