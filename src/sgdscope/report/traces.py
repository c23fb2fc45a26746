"""Traces: recorded series made ready to be drawn, thinned to what an eye can tell apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sgdscope.records import Series
from sgdscope.regime import EdgeUnits
from sgdscope.report.markup import first

Floats = NDArray[np.float64]
SHOWN = 2.0
"""Standard errors to each side shown by bars and bands."""
_HUGE = 1e150  # nothing larger is drawn at its place: its square would overflow


@dataclass(frozen=True)
class Trace:
    """A series to draw; all arrays have shape ``(n,)``.

    Attributes:
        steps: steps, or their mean over the readings merged into a point.
        values: readings, or their mean.
        sampling: half-width of the sampling error shown: two standard errors (of the mean).
        solver: residual of the solver; not reduced by averaging.
        low: smallest reading merged into each point.
        high: largest one.
        flagged: whether a reading merged into the point fell short (a value with a status other than ``ok``).
        merged: readings per point (1 unless thinned).
    """

    steps: Floats
    values: Floats
    sampling: Floats
    solver: Floats
    low: Floats
    high: Floats
    flagged: NDArray[np.bool_]
    merged: int = 1

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def half(self) -> Floats:
        """Half-width of the error bar: sampling and solver together."""
        return self.sampling + self.solver


def trace(series: Series, units: EdgeUnits | None = None, factor: float = 1.0) -> Trace:
    """A series as recorded (times `factor`), or in edge units if `units` are given."""
    valued = [e for e in series.estimates if e.value is not None]
    # only the arrays are converted: scaling every estimate of a long run costs seconds
    sampled = replace(series, estimates=(), estimate_steps=(), estimate_seconds=())
    solved = replace(sampled, standard_errors=np.array([first(e.residual) for e in valued]))
    flags = replace(sampled, standard_errors=np.array([float(e.status != "ok") for e in valued]))
    if units is not None:
        sampled, solved, flags = units.convert(sampled), units.convert(solved), units.convert(flags)
    steps = sampled.steps.astype(np.float64)
    with np.errstate(over="ignore"):
        values, solver = sampled.values * factor, solved.standard_errors * factor
        sampling = SHOWN * sampled.standard_errors * factor
    values = np.clip(values, -_HUGE, _HUGE)
    flagged = flags.standard_errors > 0
    return Trace(steps, values, np.clip(sampling, 0, _HUGE), np.clip(solver, 0, _HUGE), values, values, flagged)


def thinned(trace: Trace, most: int) -> Trace:
    """At most `most` points (3 or more): neighbours are averaged, with errors and extremes kept.

    The first and the last reading stay as they are. Raises ValueError for `most` below 3.
    """
    if most < 3:
        raise ValueError(f"expected at least 3 points, got {most}")
    n = len(trace)
    if n <= most:
        return trace
    inner = np.linspace(1, n - 1, most - 1).round().astype(int)[:-1]
    starts = np.concatenate([[0], inner, [n - 1]])
    counts = np.diff(np.concatenate([starts, [n]]))

    def mean(values: Floats) -> Floats:
        # divided before summing: a mean of huge numbers does not overflow
        return np.asarray(np.add.reduceat(values / np.repeat(counts, counts), starts), dtype=np.float64)

    return Trace(
        mean(trace.steps),
        mean(trace.values),
        np.sqrt(mean(trace.sampling**2) / counts),
        mean(trace.solver),
        np.minimum.reduceat(trace.low, starts),
        np.maximum.reduceat(trace.high, starts),
        np.logical_or.reduceat(trace.flagged, starts),
        int(counts.max()),
    )
