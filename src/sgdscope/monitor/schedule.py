"""Schedule: when the next measurement is due, by steps or by a share of the run's time."""

from __future__ import annotations

import math
from dataclasses import dataclass

SHARES = {"edge_ratio": 0.25, "loss": 0.04, "charges": 0.06}
"""Shares of the budget for what is sampled along the way: the streamed edge ratio, the training loss, the charges."""
READINGS = {
    "batch_sharpness": 0.4, "lambda_max": 0.33, "gradient_noise_interaction": 0.06, "gradient_noise": 0.07,
    "balance": 0.14,
}  # fmt: skip
"""How the heavier measurements divide what the budget leaves them, once everything else is paid; where one of them is
impossible, the others divide its share."""
ASKED = {"spectrum": 0.4, "edge_map": 0.2, "batch_line": 0.1, "full_loss_step": 0.1}
"""Shares that those read only at the end take of all that, where they were asked for along the run."""
AGAIN = {
    "batch_sharpness": 0.5, "lambda_max": 0.33, "gradient_noise_interaction": 1.0, "gradient_noise": 0.33,
    "balance": 0.5,
}  # fmt: skip
"""What a second reading is expected to take, in first ones: those hold work done only once, or start from nothing."""

_GOLDEN = (math.sqrt(5) - 1) / 2
"""Its multiples fill the circle evenly."""


@dataclass
class Every:
    """Due every `steps` steps, at step 0 too. Deterministic."""

    steps: int

    def due(self, step: int, purse: float) -> bool:
        """Whether to measure after `step` steps."""
        return step % self.steps == 0

    def spent(self, step: int, seconds: float, *, failed: bool = False) -> None:
        """Note what a measurement took; changes nothing here."""


@dataclass
class WithinBudget:
    """Due whenever the time spent so far, with one more measurement like the last, stays below `share` of a purse.

    The purse is what the run's budget has left for the measurements that share it. The first measurement is made at
    once if `first_at_once`: an advance, which the purse pays back before there are others. Else it is made when the
    share affords `expected` seconds.

    Attributes:
        share: of the purse.
        first_at_once: whether to measure at step 0.
        pause: least number of steps between two measurements; doubled by each failure, so that one that keeps failing
            (which may cost no time) leaves a few rows and not thousands.
        again: guess of the second measurement's duration, in first ones.
        expected: guess of the first measurement's duration where it is not made at once.
    """

    share: float
    first_at_once: bool = True
    pause: int = 1
    again: float = 1.0
    total: float = 0.0
    last: float = 0.0
    last_step: int = -1
    expected: float = 0.0

    def due(self, step: int, purse: float) -> bool:
        """Whether to measure after `step` steps, with so many seconds in the purse (what was taken out included)."""
        if self.last_step < 0:
            return self.first_at_once or self.expected <= self.share * purse
        return step >= self.last_step + self.pause and self.total + self.last <= self.share * purse

    def spent(self, step: int, seconds: float, *, failed: bool = False) -> None:
        """Note what a measurement took, and whether it failed."""
        self.pause *= 2 if failed else 1
        first = self.last_step < 0 and self.first_at_once
        self.total += 0.0 if first else seconds
        self.last = self.again * seconds if self.last_step < 0 else seconds
        self.last_step = step


@dataclass
class Cadence(WithinBudget):
    """Due once after each multiple of `steps`, as soon as the purse allows; multiples that it does not allow are lost.

    Attributes:
        steps: doubled by each failure, as `pause` is.
    """

    steps: int = 1

    def due(self, step: int, purse: float) -> bool:
        """Whether to measure after `step` steps; the first of all waits for its share too, unless made at once."""
        passed = self.last_step < 0 or step // self.steps > self.last_step // self.steps
        return passed and super().due(step, purse)

    def spent(self, step: int, seconds: float, *, failed: bool = False) -> None:
        """Note what a measurement took, and whether it failed."""
        super().spent(step, seconds, failed=failed)
        self.steps *= 2 if failed else 1


@dataclass
class Stride:
    """How often to sample along a run: the smallest stride that keeps the cost of samples below `share` of its time.

    Attributes:
        share: of the run's wall time.
        fixed: a stride given by the user, which then never changes.
        stride: steps between two samples, in mean.
    """

    share: float
    fixed: int | None = None
    stride: int = 16
    _cost: float = 0.0
    _samples: int = 0

    def __post_init__(self) -> None:
        if self.fixed is not None:
            self.stride = self.fixed

    def spent(self, seconds: float, step_seconds: float) -> None:
        """Note what one sample took (a running mean) and what a training step takes."""
        self._samples += 1
        if self._samples == 1:
            self._cost = seconds / 4  # the first holds work done only once
        else:  # one that was held up by something else must not stop the sampling
            self._cost += (min(seconds, 8 * self._cost) - self._cost) * max(0.1, 1 / self._samples)
        if self.fixed is None and step_seconds > 0 and self.share > 0:
            self.stride = max(1, math.ceil(self._cost / (self.share * step_seconds)))

    def ahead(self) -> int:
        """Steps to the next sample: half a stride to one and a half, evenly, so that no place in an epoch is preferred.

        Batches late in an epoch are not like those early in it, and a constant stride may always meet the same ones.
        """
        if self.fixed is not None:
            return self.fixed
        return max(1, round(self.stride * (0.5 + self._samples * _GOLDEN % 1)))
