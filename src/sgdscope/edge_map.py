"""Edge map: the learning rate at the edge as a function of the batch size, and where a run stands on it.

It is read from the row ``edge_map`` that `what_if.edge_map` measures, without torch. Every batch size has its own edge,
the learning rate whose threshold (`theory.stability`) is batch sharpness at that batch size on the present weights:
2 / batch sharpness for SGD. Below it a change is safe at first, above it the loss spikes. The map holds for the weights
it was measured on; as training goes on at a new place, the edge moves there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from sgdscope.edge_units import EdgeUnits
from sgdscope.estimate import Estimate
from sgdscope.records import Run

NAME = "edge_map"
SPIKE = 1.2
"""Position in edge units above which a change made a spike or divergence in every case tried."""

Region = Literal["safe", "near the edge", "unsafe", "off the map"]


@dataclass(frozen=True)
class Passed:
    """Where the run was at an earlier reading.

    Attributes:
        step: of the reading.
        lr: learning rate then.
        batch_size: then.
        edge: learning rate at the edge then, at that batch size.
    """

    step: int
    lr: float
    batch_size: int
    edge: float


@dataclass(frozen=True)
class EdgeMap:
    """The row of a map, and the run's way there.

    Attributes:
        estimate: the row: `value` holds the edge learning rate per batch size in ``settings["batch_sizes"]``.
        path: earlier readings in order of step; empty for a map outside of a run.
    """

    estimate: Estimate
    path: tuple[Passed, ...] = ()

    @classmethod
    def of(cls, run: Run) -> EdgeMap | None:
        """The last map of a run that carries values, with the way of the run up to it; None if there is none."""
        rows = [(step, e) for step, _, e in run.rows if e.name == NAME and readable(e)]
        if not rows:
            return None
        last, estimate = rows[-1]
        return cls(estimate, tuple(passed for passed in _path(run, estimate) if passed.step <= last))

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Batch sizes of the map, ascending."""
        return tuple(self.estimate.settings["batch_sizes"])

    @property
    def edges(self) -> tuple[float, ...]:
        """Learning rate at the edge at each batch size. Raises ValueError if the map could not be measured."""
        if not isinstance(self.estimate.value, tuple):
            raise ValueError(f"expected a map that was measured, got one that was not: {self.estimate.reason}")
        return self.estimate.value

    @property
    def lr(self) -> float:
        """The run's own learning rate."""
        return float(self.estimate.settings["lr"])

    @property
    def batch_size(self) -> int:
        """The run's own batch size."""
        return int(self.estimate.settings["batch_size"])

    def edge_at(self, batch_size: float) -> Estimate:
        """Learning rate at the edge at a batch size, in between by the fitted curve or along straight logarithms.

        A batch size off the map gives an estimate without value.
        """
        sizes, edges = self.batch_sizes, self.edges
        errors = self.estimate.standard_error
        assert isinstance(errors, tuple)
        if not sizes[0] <= batch_size <= sizes[-1]:
            return Estimate.failed("edge_learning_rate", f"the map reaches from batch size {sizes[0]} to {sizes[-1]}")
        at = math.log(batch_size)
        logs = np.log(sizes)
        relative = float(np.interp(at, logs, np.divide(errors, edges)))
        value = math.exp(float(np.interp(at, logs, np.log(edges))))
        fit = self.estimate.settings.get("coefficients")
        if fit:
            a, b, c, d = fit
            x = 1 / batch_size
            value = float(self.estimate.settings["threshold_times_lr"]) * (1 + d * x) / (a + b * x + c * x * x)
        return Estimate("edge_learning_rate", value, relative * value, unit="parameter² / loss")

    def position(self, *, lr: float | None = None, batch_size: float | None = None) -> Estimate:
        """Where a learning rate and a batch size (default: the run's own) would stand at once, in edge units."""
        edge = self.edge_at(self.batch_size if batch_size is None else batch_size)
        if edge.value is None:
            return Estimate.failed("predicted_edge", edge.reason)
        rate = self.lr if lr is None else lr
        x = rate / float(edge)
        assert isinstance(edge.standard_error, float)
        return Estimate("predicted_edge", x, x * edge.standard_error / float(edge))

    def region(self, *, lr: float | None = None, batch_size: float | None = None) -> Region:
        """Safe: below the edge by two standard errors. Unsafe: past 1.2 by as much. In between: near the edge."""
        found = self.position(lr=lr, batch_size=batch_size)
        if found.value is None:
            return "off the map"
        assert isinstance(found.standard_error, float)
        x, doubt = float(found), 2 * found.standard_error
        return "safe" if x + doubt < 1 else "unsafe" if x - doubt > SPIKE else "near the edge"

    def safe_batch_sizes(self, lr: float | None = None) -> tuple[int, ...]:
        """Batch sizes of the map at which a learning rate (default: the run's own) is in the safe region."""
        return tuple(size for size in self.batch_sizes if self.region(lr=lr, batch_size=size) == "safe")

    def __str__(self) -> str:
        if self.estimate.value is None:
            return str(self.estimate)
        lines = [
            f"edge learning rate at each batch size ({self.estimate.settings['threshold']} at the present weights)"
        ]
        for size, edge in zip(self.batch_sizes, self.edges, strict=True):
            here = f"  <- lr {self.lr:g}: {self.region()}" if size == self.batch_size else ""
            error = self.edge_at(size).standard_error
            assert isinstance(error, float)
            lines.append(f"  {size:>6}  {edge:.3g} ± {error:.1g}{here}")
        return "\n".join(lines)

    def to_row(self) -> dict[str, Any]:
        """Plain JSON types: the row of the estimate, and the path."""
        return {**self.estimate.to_row(), "path": [vars(passed) for passed in self.path]}


def readable(estimate: Estimate) -> bool:
    """Whether an estimate has all that a map needs; rows may come from anywhere."""
    settings = estimate.settings
    sizes, value, errors = settings.get("batch_sizes"), estimate.value, estimate.standard_error
    fit = settings.get("coefficients")
    own = [settings.get("lr"), settings.get("batch_size"), settings.get("threshold_times_lr")]
    return (
        isinstance(value, tuple)
        and isinstance(errors, tuple)
        and isinstance(sizes, list)
        and len(sizes) == len(value)
        and all(_positive(number) for number in (*sizes, *value, *own))
        and all(a < b for a, b in pairwise(sizes))
        and isinstance(settings.get("threshold"), str)
        and (not fit or (isinstance(fit, list) and len(fit) == 4 and _denominator_positive(fit, sizes)))
    )


def _positive(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and 0 < number < 1e100


def _denominator_positive(fit: list[Any], sizes: Sequence[float]) -> bool:
    """Whether the fitted curve is positive all over the map."""
    if not all(isinstance(number, int | float) and abs(number) < 1e100 for number in fit):
        return False
    x = 1 / np.geomspace(sizes[0], sizes[-1], 100)
    a, b, c, d = fit
    return bool((a + b * x + c * x * x > 0).all() and (1 + d * x > 0).all())


def _path(run: Run, estimate: Estimate) -> list[Passed]:
    """Readings of batch sharpness as points: learning rate and batch size of their step, and the edge there."""
    units = EdgeUnits.of(run)
    found = []
    readings = run.get("batch_sharpness")
    for step, reading in zip(readings.estimate_steps, readings.estimates, strict=True):
        threshold = units.threshold_at(step)
        if reading.value is None or float(reading) <= 0 or threshold is None:
            continue
        rates = units.learning_rate
        lr = float(rates.values[max(int(np.searchsorted(rates.steps, step, side="right")) - 1, 0)])
        size = reading.settings.get("batch_size", estimate.settings["batch_size"])
        if _positive(size) and lr > 0:
            found.append(Passed(step, lr, int(size), lr * threshold.value / float(reading)))
    return found
