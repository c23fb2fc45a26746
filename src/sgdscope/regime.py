"""Regime: where a recorded run stands relative to its edge of stability, and the verdicts that follow.

Measurement and theory meet here: batch sharpness and λ_max come from the records, thresholds from
`theory.stability`. Everything is shown in *edge units*, measured / threshold, so that the edge is 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sgdscope.estimate import Estimate, with_error
from sgdscope.records import Run, Series
from sgdscope.theory import stability
from sgdscope.verdict import Verdict, compare

Regime = Literal[
    "at the edge", "above the edge", "approaching the edge", "stable, noise-driven", "below the edge", "unknown"
]

WINDOW = 0.25
"""Share of the run, counted from its end, over which the plateau is read."""

# Borders in edge units: eoss specification, item 7 (measured on small networks; see docs).
_EDGE_LOW, _EDGE_HIGH, _ABOVE, _NOISE_DRIVEN = 0.85, 1.10, 1.15, 0.60
_OSCILLATING = (0.8, 1.5)


@dataclass(frozen=True)
class Standing:
    """Where a run stands.

    Attributes:
        regime: a label, see `Regime`.
        headline: one sentence a tired reader understands.
        edge: measured / threshold over the window (batch sharpness; λ_max for full batch; else the edge ratio).
        lambda_max: λ_max of the full loss in the same edge units, or an estimate with status ``failed``.
        noise_interaction: gradient-noise interaction in edge units, or None if it was not recorded.
        trend: change of `edge` across the window, with its standard error.
        window: first and last step of the window.
        threshold: the level used and its scope; None where no theory applies.
        changes: predicted position after a change, one estimate per change recorded (edge units).
        verdicts: claims laid beside the measurements.
    """

    regime: Regime
    headline: str
    edge: Estimate
    lambda_max: Estimate
    noise_interaction: Estimate | None
    trend: Estimate
    window: tuple[int, int]
    threshold: stability.Threshold | None
    changes: tuple[Estimate, ...]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class EdgeUnits:
    """How to turn recorded numbers into edge units, step by step (the learning rate may change during the run)."""

    method: str
    momentum: float
    full_batch: bool
    learning_rate: Series

    @classmethod
    def of(cls, run: Run) -> EdgeUnits:
        """Read method, momentum and batch size from the manifest, the learning rate from its series."""
        optimizer: dict[str, Any] = run.manifest.get("optimizer") or {}
        method = str(optimizer.get("method", "sgd"))
        momentum = float(optimizer.get("momentum", 0.0))
        return cls(method, momentum, bool(optimizer.get("full_batch", False)), run.get("learning_rate"))

    @property
    def has_theory(self) -> bool:
        """Whether a threshold is known for this optimizer."""
        return self.method in ("sgd", "momentum", "nesterov") and len(self.learning_rate) > 0

    def threshold_at(self, step: int) -> stability.Threshold | None:
        """The threshold in force at a step; None where no theory applies or the learning rate was 0."""
        if not self.has_theory:
            return None
        index = max(int(np.searchsorted(self.learning_rate.steps, step, side="right")) - 1, 0)
        lr = float(self.learning_rate.values[index])
        if lr <= 0:
            return None
        return stability.threshold(lr, self.momentum, nesterov=self.method == "nesterov", full_batch=self.full_batch)

    def convert(self, series: Series) -> Series:
        """Curvatures (loss / parameter²) into edge units; rows without a threshold are dropped."""
        factors = np.array([0.0 if (t := self.threshold_at(int(s))) is None else 1 / t.value for s in series.steps])
        keep = factors > 0
        return Series(
            series.name, series.steps[keep], series.seconds[keep], (series.values * factors)[keep],
            (series.standard_errors * factors)[keep], series.estimates, series.estimate_steps,
        )  # fmt: skip

    def last_change(self) -> int:
        """Step since which the learning rate has been constant."""
        return int(self.learning_rate.steps[-1]) if len(self.learning_rate) else 0


def halved(series: Series) -> Series:
    """The generalised edge ratio, whose edge is 2, in edge units."""
    return Series(series.name, series.steps, series.seconds, series.values / 2, series.standard_errors / 2,
                  series.estimates, series.estimate_steps)  # fmt: skip


def window_mean(series: Series, first: int, last: int) -> Estimate:
    """Mean of a series over ``first <= step <= last``.

    The standard error is the larger of two: that of the readings themselves, and their scatter about the mean (which
    also holds true drift of the quantity along the run). `count` is the number of readings.
    """
    keep = (series.steps >= first) & (series.steps <= last)
    values, errors = series.values[keep], series.standard_errors[keep]
    if len(values) == 0:
        return Estimate.failed(series.name, f"no reading between steps {first} and {last}")
    sampling = math.sqrt(float((errors**2).sum())) / len(values)
    scatter = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Estimate(series.name, float(values.mean()), max(sampling, scatter), count=len(values))


def trend(series: Series, first: int, last: int) -> Estimate:
    """Change of a series across the window by a straight-line fit, with its standard error."""
    keep = (series.steps >= first) & (series.steps <= last)
    steps, values = series.steps[keep].astype(float), series.values[keep]
    if len(values) < 4 or steps[0] == steps[-1]:
        return Estimate.failed("trend", f"{len(values)} readings in the window; 4 are needed for a trend")
    design = np.stack([np.ones_like(steps), (steps - steps.mean()) / (steps[-1] - steps[0])], 1)
    coefficients = np.linalg.lstsq(design, values, rcond=None)[0]
    rest = values - design @ coefficients
    variance = float(rest @ rest) / (len(values) - 2)
    error = math.sqrt(variance * float(np.linalg.inv(design.T @ design)[1, 1]))
    return Estimate("trend", float(coefficients[1]), error, count=len(values))


def standing(run: Run) -> Standing:
    """Where the run stands over its last quarter, or since the last change of the learning rate if that is later."""
    units = EdgeUnits.of(run)
    last = run.last_step
    first = max(int(last * (1 - WINDOW)), units.last_change() if units.has_theory else 0)
    streamed = halved(run.get("edge_ratio"))
    sharpness = units.convert(run.get("lambda_max" if units.full_batch else "batch_sharpness"))
    primary = sharpness if len(sharpness) else streamed
    edge = window_mean(primary, first, last)
    if edge.value is None and len(primary):  # sparse readings: the last one
        edge = window_mean(primary, int(primary.steps[-1]), last)
    lambda_max = window_mean(units.convert(run.get("lambda_max")), first, last)
    if lambda_max.value is None and len(run.get("lambda_max")):
        readings = units.convert(run.get("lambda_max"))
        if len(readings):
            lambda_max = window_mean(readings, int(readings.steps[-1]), last)
    interaction = window_mean(units.convert(run.get("gradient_noise_interaction")), first, last)
    longest = streamed if len(streamed) > len(primary) else primary
    change = trend(longest, first, last)
    noise = None if interaction.value is None else interaction
    regime = _label(edge, change, noise)
    if run.status == "diverged":
        regime = "above the edge" if regime in ("above the edge", "at the edge") else "unknown"
    threshold = units.threshold_at(last)
    changes = tuple(e for _, _, e in run.rows if e.name == "predicted_edge")
    verdicts = _verdicts(edge, lambda_max, window_mean(streamed, first, last), threshold, units, regime)
    headline = _headline(run, regime, edge, lambda_max, threshold, units)
    return Standing(regime, headline, edge, lambda_max, noise, change, (first, last), threshold, changes, verdicts)


def _label(edge: Estimate, change: Estimate, noise: Estimate | None) -> Regime:
    if edge.value is None:
        return "unknown"
    x = float(edge)
    if x > _ABOVE:
        return "above the edge"
    if x >= _EDGE_LOW:
        return "at the edge"
    rising = change.value is not None and float(change) > 2 * float(change.standard_error or 0) and float(change) > 0.03  # type: ignore[arg-type]
    if x >= _NOISE_DRIVEN and rising:
        return "approaching the edge"
    if x < _NOISE_DRIVEN and noise is not None and _OSCILLATING[0] <= float(noise) <= _OSCILLATING[1]:
        return "stable, noise-driven"
    return "approaching the edge" if rising else "below the edge"


def _shown(estimate: Estimate) -> str:
    error = estimate.standard_error
    return with_error(float(estimate), error if isinstance(error, float) and error > 0 else None)


def _headline(
    run: Run, regime: Regime, edge: Estimate, lambda_max: Estimate, threshold: stability.Threshold | None,
    units: EdgeUnits,
) -> str:  # fmt: skip
    if edge.value is None:
        text = "Not known yet: no batch sharpness has been measured"
        return text + ("; the run diverged." if run.status == "diverged" else ".")
    start = {
        "at the edge": "At the edge of stochastic stability" if not units.full_batch else "At the edge of stability",
        "above the edge": "Above the edge",
        "approaching the edge": "Stable, and climbing towards the edge",
        "stable, noise-driven": "Stable: the loss oscillates from noise, not from instability",
        "below the edge": "Stable, below the edge",
        "unknown": "The regime is unclear",
    }[regime]
    if run.status == "diverged":
        start = f"Diverged at step {run.last_step}" + (
            f", {start[0].lower()}{start[1:]}" if regime != "unknown" else ""
        )
    if threshold is None:
        return (
            f"{start}: the generalised edge ratio is {_shown(edge)} (edge = 1; no theory backs it for {units.method})."
        )
    name = "λ_max" if threshold.quantity == "lambda_max" else "batch sharpness"
    text = f"{start}: {name} is {_shown(edge)} of the threshold {threshold.formula}"
    if lambda_max.value is not None and threshold.quantity != "lambda_max":
        text += f", λ_max of the full loss is {_shown(lambda_max)}"
    return text + "."


def _verdicts(
    edge: Estimate, lambda_max: Estimate, streamed: Estimate, threshold: stability.Threshold | None,
    units: EdgeUnits, regime: Regime,
) -> tuple[Verdict, ...]:  # fmt: skip
    if threshold is None:
        return ()
    verdicts = []
    if threshold.quantity == "lambda_max":
        verdicts.append(compare(edge, 1.0, tolerance=0.1, claim=f"λ_max settles at {threshold.formula}",
                                scope=threshold.scope, source=threshold.source))  # fmt: skip
        return tuple(verdicts)
    reached = regime in ("at the edge", "above the edge")
    scope = threshold.scope + ("" if reached else "; claimed only for runs that have reached the edge")
    not_there = "the run has not reached the edge, where the claim applies"
    for claim, measured, tolerance in (
        (f"batch sharpness settles at {threshold.formula}", edge, 0.15),
        (f"ratio of expectations (streamed) settles at {threshold.formula}", _to_units(streamed, units), 0.15),
    ):
        held = measured if reached or measured.value is None else Estimate.failed(measured.name, not_there)
        verdicts.append(compare(held, 1.0, tolerance=tolerance, claim=claim, scope=scope, source=threshold.source))
    below = lambda_max if reached or lambda_max.value is None else Estimate.failed("lambda_max", not_there)
    predicted = float(edge) if edge.value is not None else 1.0
    verdicts.append(compare(below, predicted, relation="below", scope=scope, source=threshold.source,
                            claim="λ_max of the full loss stays below batch sharpness"))  # fmt: skip
    return tuple(verdicts)


def _to_units(streamed: Estimate, units: EdgeUnits) -> Estimate:
    """The streamed ratio counts the optimizer's realised step; only for plain SGD is it lr · RoE / 2."""
    if units.method == "sgd" or streamed.value is None:
        return streamed
    return Estimate.failed(
        "edge_ratio", "with momentum the realised step's ratio is not batch sharpness over its level"
    )
