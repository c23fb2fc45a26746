"""Schedule: when the next measurement is due, by steps or by a share of the run's time."""

from __future__ import annotations

import math
from dataclasses import dataclass

SHARES = {"edge_ratio": 0.35, "batch_sharpness": 0.25, "lambda_max": 0.20, "gradient_noise_interaction": 0.05}
"""How the budget is divided among the measurements; the rest is for first readings and averaging the loss."""


@dataclass
class Every:
    """Due every `steps` steps, at step 0 too. Deterministic."""

    steps: int

    def due(self, step: int, seconds: float) -> bool:
        """Whether to measure after `step` steps."""
        return step % self.steps == 0

    def spent(self, step: int, seconds: float, *, failed: bool = False) -> None:
        """Note what a measurement took; changes nothing here."""


@dataclass
class WithinBudget:
    """Due whenever the time spent so far, with one more measurement like the last, stays below `share` of the run.

    The first measurement is made at once if `first_at_once`, and not held against the share (it holds work done only
    once); else when the share affords `expected` seconds.

    Attributes:
        share: of the run's wall time.
        first_at_once: whether to measure at step 0.
        pause: least number of steps between two measurements; doubled by each failure, so that one that keeps failing
            (which may cost no time) leaves a few rows and not thousands.
        expected: guess of the first measurement's duration where it is not made at once.
    """

    share: float
    first_at_once: bool = True
    pause: int = 1
    total: float = 0.0
    last: float = 0.0
    last_step: int = -1
    expected: float = 0.0

    def due(self, step: int, seconds: float) -> bool:
        """Whether to measure after `step` steps and `seconds` of run time."""
        if self.last_step < 0:
            return self.first_at_once or self.expected <= self.share * seconds
        return step >= self.last_step + self.pause and self.total + self.last <= self.share * seconds

    def spent(self, step: int, seconds: float, *, failed: bool = False) -> None:
        """Note what a measurement took, and whether it failed."""
        self.pause *= 2 if failed else 1
        first = self.last_step < 0 and self.first_at_once
        self.total += 0.0 if first else seconds
        self.last = seconds / 4 if first else seconds
        self.last_step = step


@dataclass
class Stride:
    """Sampling stride for the streamed edge ratio: the smallest that keeps its cost below `share` of a step's time.

    Attributes:
        share: of the run's wall time.
        fixed: a stride given by the user, which then never changes.
    """

    share: float
    fixed: int | None = None
    stride: int = 16
    _cost: float = 0.0

    def __post_init__(self) -> None:
        if self.fixed is not None:
            self.stride = self.fixed

    def spent(self, seconds: float, step_seconds: float) -> None:
        """Note what one sample took (a running mean) and what a training step takes."""
        self._cost = seconds if self._cost == 0 else 0.9 * self._cost + 0.1 * seconds
        if self.fixed is None and step_seconds > 0 and self.share > 0:
            self.stride = max(1, math.ceil(self._cost / (self.share * step_seconds)))
