"""Gradient steps: what a run recorded of steps along batch gradients, checked, since rows may come from anywhere.

Read from the rows ``batch_line`` and ``full_loss_step`` that the monitor writes, without torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeGuard

from sgdscope.edge_units import EdgeUnits
from sgdscope.estimate import Estimate
from sgdscope.records import Run

Losses = tuple[float, ...]
_LEAST = 4
"""Readings from whose scatter a mean over the path has its error."""
_BAND = 0.1
"""Relative deviation from the value of a settled run that still counts as it."""
_MOST = 1000
"""Points of a line looked at."""


@dataclass(frozen=True)
class BatchLine:
    """Losses along minus the gradient of one batch.

    Attributes:
        row: the row ``batch_line`` as recorded; its value is the batch's best single step.
        step: of the run, at which it was read.
        steps: lengths of the step, ascending from 0: in learning rates of the run where `in_learning_rates`.
        batch, unseen, full: losses of the batch itself, of batches that had no part in it (mean), of all data.
        in_learning_rates: whether that is the unit; else steps are learning rates of SGD.
    """

    row: Estimate
    step: int
    steps: Losses
    batch: Losses
    unseen: Losses
    full: Losses
    in_learning_rates: bool

    @classmethod
    def of(cls, run: Run) -> BatchLine | None:
        """The last one of a run; None if none can be drawn."""
        found = [(step, e) for step, _, e in run.rows if e.name == "batch_line" and isinstance(e.value, float)]
        if not found:
            return None
        step, row = found[-1]
        curves = row.settings.get("curves")
        if not isinstance(curves, dict) or not _drawable(row.value):
            return None
        rows = [curves.get(name) for name in ("steps", "batch", "unseen", "full")]
        lengths = {len(each) if isinstance(each, list) else 0 for each in rows}
        if len(lengths) > 1 or not 3 <= min(lengths) <= _MOST:
            return None
        points = [at for at in zip(*rows, strict=True) if all(map(_drawable, at))]
        if len(points) < 3 or points[0][0] < 0 or any(a[0] >= b[0] for a, b in pairwise(points)):
            return None
        steps, batch, unseen, full = zip(*points, strict=True)
        return cls(row, step, steps, batch, unseen, full, bool(row.settings.get("lr")))

    @property
    def best(self) -> float:
        """The batch's best single step."""
        return float(self.row)

    @property
    def best_full(self) -> float | None:
        """Where the loss of all data is lowest, by a parabola through its lowest three points; None beyond the line."""
        losses = self.full
        i = min(max(losses.index(min(losses)), 1), len(losses) - 2)
        (a, b, c), (za, zb, zc) = self.steps[i - 1 : i + 2], losses[i - 1 : i + 2]
        left, right = (zb - za) / (b - a), (zc - zb) / (c - b)
        if not right > left:
            return None
        lowest = 0.5 * (a + b) - left * 0.5 * (c - a) / (right - left)
        return lowest if self.steps[0] <= lowest <= self.steps[-1] else None

    def beside(self, name: str) -> float | None:
        """A companion that is a single number, or None."""
        found = self.row.beside.get(name)
        return float(found) if found is not None and _drawable(found.value) else None


@dataclass(frozen=True)
class FullLossStep:
    """Best step of the loss of all data along batch gradients, in learning rates.

    Attributes:
        estimate: the ratio of means over the last readings, where there are four or more at the last learning rate and
            batch size within the window that the headline is read from; else the last reading.
        readings: how many points of the run that is from.
        expected: its value in a settled run: ½ for plain SGD, ½ / (1 − momentum).
    """

    estimate: Estimate
    readings: int
    expected: float

    @classmethod
    def of(cls, run: Run) -> FullLossStep | None:
        """What the readings of a run say; None if there is none."""
        found = [(step, e) for step, _, e in run.rows if e.name == "full_loss_step" and _drawable(e.value)]
        if not found:
            return None
        last = found[-1][1]
        expected = last.settings.get("expected")
        if not _drawable(expected) or expected <= 0:
            return None
        start, _ = EdgeUnits.of(run).window(run.last_step)
        same = list({step: e for step, e in found if step >= start and _like(e, last)}.values())
        pooled = _pooled(same, last)
        return cls(last, 1, expected) if pooled is None else cls(pooled, len(same), expected)

    @property
    def verdict(self) -> str:
        """``settled``, ``larger`` or ``smaller`` than where settled, by two standard errors; else ``undecided``.

        One reading decides nothing: a single point scatters around the mean over the path.
        """
        error = self.estimate.standard_error
        if self.readings < _LEAST or not isinstance(error, float):
            return "undecided"
        off = float(self.estimate) - self.expected
        if abs(off) > max(2 * error, _BAND * self.expected):
            return "larger" if off > 0 else "smaller"
        return "settled" if 2 * error <= 2 * _BAND * self.expected else "undecided"


def _pooled(rows: list[Estimate], last: Estimate) -> Estimate | None:
    """Σ‖∇L‖² / Σ gᵀHg over readings, in learning rates, with the error from their scatter."""
    parts = list(_parts(rows))
    if len(parts) < _LEAST or len(parts) < len(rows):
        return None
    count = len(parts)
    curvature = math.fsum(c for _, c in parts) / count
    ratio = math.fsum(s for s, _ in parts) / count / curvature
    scatter = math.fsum((s - ratio * c) ** 2 for s, c in parts) / (count * (count - 1))
    lr = float(last.settings["lr"])
    value, error = ratio / lr, math.sqrt(scatter) / curvature / lr
    if not _drawable(value) or not _drawable(error):
        return None
    return Estimate(last.name, value, error, count=sum(e.count for e in rows), unit=last.unit, settings=last.settings)


def _parts(rows: list[Estimate]) -> Iterator[tuple[float, float]]:
    for row in rows:
        square, curvature = (row.beside.get(name) for name in ("squared_gradient", "curvature"))
        if square is None or curvature is None or not _drawable(square.value) or not _drawable(curvature.value):
            continue
        if curvature.value > 0:
            yield square.value, curvature.value


def _like(row: Estimate, last: Estimate) -> bool:
    """Whether two readings are of the same learning rate and batch size."""
    lr = last.settings.get("lr")
    return _drawable(lr) and lr > 0 and all(row.settings.get(k) == last.settings.get(k) for k in ("lr", "batch_size"))


def _drawable(x: Any) -> TypeGuard[float]:
    return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) < 1e40 and (x == 0 or abs(x) > 1e-40)
