"""Edge units: recorded curvatures as measured / threshold, so that the edge of stability is 1.

Each reading is held against the threshold of its own step, so a learning rate that changes is no obstacle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sgdscope.estimate import Estimate
from sgdscope.records import Run
from sgdscope.series import Series
from sgdscope.theory import stability
from sgdscope.theory.prediction import Prediction

WINDOW = 0.25
"""Share of the run, counted from its end, over which the plateau is read."""


@dataclass(frozen=True)
class EdgeUnits:
    """How to turn recorded numbers into edge units, step by step (the learning rate may change during the run).

    `method` is ``"sgd"`` (no momentum), ``"momentum"``, ``"nesterov"``, or the name of an optimizer without theory.
    """

    method: str
    momentum: float
    full_batch: bool
    learning_rate: Series

    @classmethod
    def of(cls, run: Run) -> EdgeUnits:
        """Read method, momentum and batch size from the manifest, the learning rate from its series.

        A manifest that does not name its optimizer gives a method without theory, never plain SGD by default.
        """
        optimizer = run.manifest.get("optimizer")
        if not isinstance(optimizer, dict):
            optimizer = {"method": "an unnamed optimizer"}
        method, momentum = str(optimizer.get("method", "sgd"))[:80], optimizer.get("momentum") or 0.0
        if method.lower() in ("sgd", "momentum", "nesterov"):
            nesterov = method.lower() == "nesterov" or optimizer.get("nesterov") is True
            if not isinstance(momentum, int | float) or not 0 <= momentum < 1:
                method, momentum = f"SGD with momentum {momentum!r:.20}", 0.0
            else:
                method = "sgd" if momentum == 0 else "nesterov" if nesterov else "momentum"
        else:
            momentum = 0.0
        return cls(method, float(momentum), optimizer.get("full_batch") is True, run.get("learning_rate"))

    @property
    def has_theory(self) -> bool:
        """Whether a threshold is known for this optimizer."""
        return self.method in ("sgd", "momentum", "nesterov") and len(self.learning_rate) > 0

    def threshold_at(self, step: int) -> Prediction | None:
        """The threshold in force at a step; None where no theory applies or the learning rate was 0."""
        if not self.has_theory:
            return None
        index = max(int(np.searchsorted(self.learning_rate.steps, step, side="right")) - 1, 0)
        lr = float(self.learning_rate.values[index])
        try:
            return stability.threshold(
                lr, self.momentum, nesterov=self.method == "nesterov", full_batch=self.full_batch
            )
        except ValueError:  # 0, as at the start of a warm-up
            return None

    def convert(self, series: Series) -> Series:
        """Curvatures (loss / parameter²) into edge units; rows without a threshold are dropped."""

        def factor(step: int) -> float:
            threshold = self.threshold_at(step)
            return 0.0 if threshold is None else 1 / threshold.value

        return series.scaled(factor)

    def changes(self) -> list[int]:
        """Steps at which the learning rate changed, in order."""
        values = self.learning_rate.values
        changed = np.abs(np.diff(values)) > 1e-9 * np.abs(values[1:])
        return [int(step) for step in self.learning_rate.steps[1:][changed]]

    def last_change(self) -> int:
        """Step since which the learning rate has been constant; 0 if it never changed."""
        return (self.changes() or [0])[-1]

    def scheduled(self, last: int) -> bool:
        """Whether the learning rate was still on a schedule at step `last`: changing again and again to the end.

        That is, it changed at least four times, and not longer ago than its last changes lay apart on average.
        """
        changes = self.changes()
        return len(changes) >= 4 and last - changes[-1] <= (changes[-1] - changes[-4]) / 3

    def window(self, last: int) -> tuple[int, int]:
        """First and last step over which the plateau is read.

        The last quarter of the run, or what follows the last change of the learning rate if that is shorter: batch
        sharpness needs time to settle at a new level. A learning rate on a schedule (warm-up, cosine) changes at every
        step, and would leave nothing; then it is the last quarter, each reading against the threshold of its step.
        """
        quarter = int(last * (1 - WINDOW))
        return (quarter if self.scheduled(last) else min(max(quarter, self.last_change()), last)), last


def halved(series: Series) -> Series:
    """The generalised edge ratio, whose edge is 2, in edge units."""
    return series.scaled(lambda step: 0.5)


def window_mean(series: Series, first: int, last: int) -> Estimate:
    """Mean of a series over ``first <= step <= last``.

    The standard error is the larger of two: that of the readings themselves, and their scatter about the mean (which
    also holds true drift of the quantity along the run). The residual is the largest of the readings': doubt of the
    solver does not average out. `count` is the number of readings.
    """
    keep = (series.steps >= first) & (series.steps <= last)
    values, errors = series.values[keep], series.standard_errors[keep]
    if len(values) == 0:
        return Estimate.failed(series.name, f"no reading between steps {first} and {last}")
    with np.errstate(over="ignore", invalid="ignore"):
        mean, sampling = float(values.mean()), math.sqrt(float((errors**2).sum())) / len(values)
        scatter = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    error = max(sampling, scatter)
    if not math.isfinite(mean + error):
        return Estimate.failed(
            series.name, f"the readings of {series.name.replace('_', ' ')} are too large to average", status="diverged"
        )
    inside = series.between(first, last).estimates
    residuals = [e.residual[0] if isinstance(e.residual, tuple) else e.residual for e in inside if e.value is not None]
    residual = max((r for r in residuals if r is not None), default=None)
    return Estimate(series.name, mean, error, residual, count=len(values))


def trend(series: Series, first: int, last: int) -> Estimate:
    """Change of a series from the first to the last reading in the window, by a straight-line fit, with its error."""
    keep = (series.steps >= first) & (series.steps <= last)
    steps, values = series.steps[keep].astype(float), series.values[keep]
    if len(values) < 4 or steps[0] == steps[-1]:
        return Estimate.failed("trend", f"{len(values)} readings in the window; 4 at different steps make a trend")
    along = (steps - steps.mean()) / (steps[-1] - steps[0])
    with np.errstate(over="ignore", invalid="ignore"):
        slope = float(along @ values / (along @ along))
        rest = values - values.mean() - slope * along
        error = math.sqrt(float(rest @ rest) / (len(values) - 2) / float(along @ along))
    if not math.isfinite(slope + error):
        return Estimate.failed("trend", "the readings are too large for a trend", status="diverged")
    return Estimate("trend", slope, error, count=len(values))


def reading(series: Series, first: int, last: int) -> Estimate:
    """Mean over the window; where it holds no reading, the last one before it."""
    before = series.steps[series.steps <= last]
    inside = len(before) == 0 or int(before[-1]) >= first
    return window_mean(series, first if inside else int(before[-1]), last)
