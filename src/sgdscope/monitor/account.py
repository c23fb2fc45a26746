"""Account: where the wall time of a watched run goes, into measuring or into training."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

_PASSES = 15
"""Idle passes that are timed."""
_THROUGH_TORCH = 1.5
"""What an idle step costs, in such passes: they are made with the code at hand, without torch's way to the hooks.
Measured where a step takes 0.3 ms: 1.5 to 2 µs a pass, about 2.5 µs a step."""
_AFTER, _AFTER_AT_MOST = 0.15, 1e-4
"""What a visit costs the steps after it, which find cold caches: a share of the visit, and at most so many seconds.
Measured where a step takes 0.3 ms: a sample of the stream takes 0.6 ms, and the two steps after it 0.1 ms longer."""


class Account:
    """Counts all time that passes inside the monitor: what it measures, what it writes, and that it is called at all.

    Attributes:
        budget: share of the run's wall time that all of it may take.
        idle: seconds that a step costs on which there is nothing to do.
        final: seconds of the readings at the end, which are no part of the run's.
    """

    def __init__(self, budget: float, first_step: int = 0) -> None:
        self.budget = budget
        self.idle = 0.0
        self.final = 0.0
        self._passes: list[float] = []
        self._start: float | None = None
        self._entered: float | None = None
        self._busy = 0.0
        self._elapsed_before = 0.0
        self._first_step = first_step

    def begin(self) -> None:
        """Start the clock of the run; a second call does nothing."""
        if self._start is None:
            self._start = time.perf_counter()

    @property
    def begun(self) -> bool:
        """Whether the clock runs."""
        return self._start is not None

    def skip(self, seconds: float) -> None:
        """Leave out time that just passed and was not the run's."""
        if self._start is not None:
            self._start += seconds

    def timed(self, action: Callable[..., Any], *arguments: Any) -> Any:
        """Call `action`, and count its time as measuring (once, where such calls are nested)."""
        if self._entered is not None:
            return action(*arguments)
        self._entered = time.perf_counter()
        try:
            return action(*arguments)
        finally:
            took = time.perf_counter() - self._entered
            self._busy += took + min(_AFTER * took, _AFTER_AT_MOST)
            self._entered = None

    def set_apart(self, seconds: float) -> None:
        """Take time that was counted as measuring out of the account again: it went into readings at the end."""
        self._busy -= seconds
        self.final += seconds

    def passed_idly(self, seconds: float) -> None:
        """Note what a pass through the hooks took on which nothing was to be done."""
        self._passes.append(seconds)
        self.idle = _THROUGH_TORCH * statistics.median(self._passes)

    @property
    def knows_idle(self) -> bool:
        """Whether enough idle passes were timed."""
        return len(self._passes) >= _PASSES

    @property
    def seconds(self) -> float:
        """Wall time of the run, time before a resume included, readings at the end left out."""
        now = 0.0 if self._start is None else time.perf_counter() - self._start
        return self._elapsed_before + now - self.final

    def measuring(self, step: int) -> float:
        """Seconds of it that went into measuring, up to step number `step`."""
        running = 0.0 if self._entered is None else time.perf_counter() - self._entered
        return self._busy + running + self.idle * (step - self._first_step)

    def resume(self, step: int, seconds: float, measuring: float) -> None:
        """Go on from a run that had taken so many seconds by step number `step`."""
        self._first_step, self._elapsed_before, self._busy = step, seconds, measuring
