"""Regime: where a recorded run stands relative to its edge of stability, and the verdicts that follow.

Measurement and theory meet here: batch sharpness and λ_max come from the records, thresholds from
`theory.stability`. Everything is shown in edge units (`edge_units`), measured / threshold, so that the edge is 1. The
claims about where a run settles are made for constant learning rates; the verdicts say so where it was not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sgdscope.edge_units import WINDOW as WINDOW
from sgdscope.edge_units import EdgeUnits as EdgeUnits
from sgdscope.edge_units import halved as halved
from sgdscope.edge_units import reading
from sgdscope.edge_units import trend as trend
from sgdscope.edge_units import window_mean as window_mean
from sgdscope.estimate import Estimate, short
from sgdscope.records import Run
from sgdscope.theory import stability
from sgdscope.theory.prediction import Prediction
from sgdscope.verdict import Verdict, compare

Regime = Literal[
    "at the edge", "above the edge", "approaching the edge", "stable, noise-driven", "below the edge", "unknown"
]

# Borders in edge units, measured on small networks with plain SGD (tanh and ReLU, batch sizes 4 to full).
_EDGE_LOW, _ABOVE, _NOISE_DRIVEN = 0.85, 1.15, 0.60
_OSCILLATING = (0.8, 1.5)
# Rise across the window that counts as climbing, below the edge and within its band.
_RISE_BELOW, _RISE_WITHIN = 0.03, 0.10


@dataclass(frozen=True)
class Standing:
    """Where a run stands.

    Attributes:
        regime: a label, see `label`.
        headline: one sentence a tired reader understands.
        edge: measured / threshold over the window (batch sharpness; λ_max for full batch; else half the generalised
            edge ratio); its name says which. The last reading alone where the window holds none or the run diverged.
        lambda_max: λ_max of the full loss in the same edge units, or an estimate with status ``failed``.
        noise_interaction: gradient-noise interaction in edge units, or None if it was not recorded.
        trend: change of `edge` across the window, with its standard error.
        window: first and last step of the window; see `EdgeUnits.window`.
        threshold: the level at the last reading and its scope; None where no theory applies.
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
    threshold: Prediction | None
    changes: tuple[Estimate, ...]
    verdicts: tuple[Verdict, ...]


def standing(run: Run) -> Standing:
    """Where the run stands over its last quarter, or since the last change of the learning rate if that is later."""
    units = EdgeUnits.of(run)
    first, last = units.window(run.last_step)
    recorded = {name: run.get(name) for name in ("lambda_max", "batch_sharpness", "gradient_noise_interaction")}
    if len(recorded["gradient_noise_interaction"]) == 0:
        recorded["gradient_noise_interaction"] = recorded["batch_sharpness"].component("gradient_noise_interaction")
    series = {name: units.convert(readings) for name, readings in recorded.items()}
    series["edge_ratio"] = halved(run.get("edge_ratio"))
    mean = {name: reading(readings, first, last) for name, readings in series.items()}
    candidates = ["lambda_max"] * units.full_batch + ["batch_sharpness", "edge_ratio"]
    readable = [name for name in candidates if len(series[name])] or candidates[:1]
    subject = readable[0]
    if run.status == "diverged":  # the last that was seen, not a mean over the way there
        latest = {name: int(series[name].steps[-1]) if len(series[name]) else -1 for name in readable}
        subject = max(readable, key=latest.__getitem__)
        mean[subject] = window_mean(series[subject], latest[subject], last)
    edge = mean[subject]
    # the trend from the streamed ratio where it is the finer one and the same thing
    finer = units.method == "sgd" and not units.full_batch and len(series["edge_ratio"]) > len(series[subject])
    change = trend(series["edge_ratio" if finer else subject], first, last)
    noise = mean["gradient_noise_interaction"]
    judged = subject != "edge_ratio" or units.method == "sgd"
    regime = label(edge, change, None if units.full_batch else noise) if judged else "unknown"
    if regime == "above the edge" and float(edge) <= _ABOVE * _large_batch_level(units):
        regime = "unknown"
    if run.status == "diverged" and regime != "above the edge":
        regime = "unknown"
    readings = series[subject].steps
    threshold = units.threshold_at(int(readings[-1]) if len(readings) else last)
    return Standing(
        regime,
        _headline(run, regime, subject, mean, threshold, units),
        edge,
        mean["lambda_max"],
        None if noise.value is None else noise,
        change,
        (first, last),
        threshold,
        tuple(e for _, _, e in run.rows if e.name == "predicted_edge"),
        _verdicts(run, regime, subject, mean, threshold, units),
    )


def label(edge: Estimate, change: Estimate, noise: Estimate | None) -> Regime:
    """The regime from position, trend and gradient-noise interaction, all in edge units.

    Above the edge: past 1.15, and past 1 by more than two standard errors. At the edge: 0.85 to 1.15, and not still
    climbing towards 1 by more than 0.1 across the window. Below that: climbing, or stable with the loss oscillating
    from noise (below 0.6, interaction between 0.8 and 1.5), or plainly below. Climbing means a trend of more than two
    standard errors. Nothing here certifies stability: below the threshold theory is silent.
    """
    if edge.value is None:
        return "unknown"
    x = float(edge)
    rise = 0.0 if change.value is None else float(change)
    climbing = change.value is not None and rise > 2 * _error(change)
    if x > _ABOVE and x - 2 * _error(edge) > 1:
        return "above the edge"
    if x >= _EDGE_LOW:
        return "approaching the edge" if x < 1 and climbing and rise > _RISE_WITHIN else "at the edge"
    if x < _NOISE_DRIVEN and noise is not None and noise.value is not None:
        low, high = _OSCILLATING
        if low <= float(noise) <= high:
            return "stable, noise-driven"
    return "approaching the edge" if climbing and rise > _RISE_BELOW else "below the edge"


def _error(estimate: Estimate) -> float:
    return estimate.standard_error if isinstance(estimate.standard_error, float) else 0.0


def _large_batch_level(units: EdgeUnits) -> float:
    """Where batch sharpness settles at large batch, in edge units: with momentum far above the small-batch level."""
    if units.method not in ("momentum", "nesterov") or units.full_batch:
        return 0.0
    nesterov = units.method == "nesterov"
    large = stability.full_batch_threshold(1.0, units.momentum, nesterov=nesterov)
    return large.value / stability.small_batch_momentum_threshold(1.0, units.momentum).value


def _shown(estimate: Estimate) -> str:
    return short(estimate) if estimate.count > 1 else f"{short(estimate)} (one reading)"


def _headline(
    run: Run, regime: Regime, subject: str, mean: dict[str, Estimate], threshold: Prediction | None,
    units: EdgeUnits,
) -> str:  # fmt: skip
    edge, lambda_max, diverged = mean[subject], mean["lambda_max"], run.status == "diverged"
    if edge.value is None:
        start = f"Diverged at step {run.last_step:,}" if diverged else "Not known yet"
        return f"{start}: {_missing(run, units, edge)}."
    no_theory = subject == "edge_ratio" and units.method != "sgd"
    between = regime == "unknown" and not no_theory
    start = {
        "at the edge": "At the edge of stability" if units.full_batch else "At the edge of stochastic stability",
        "above the edge": "Above the edge",
        "approaching the edge": "Below the edge, and climbing towards it",
        "stable, noise-driven": "Below the edge; the loss oscillates from noise, not from instability",
        "below the edge": "Below the edge",
        "unknown": f"No theory says where the edge ratio settles under {units.method}",
    }[regime]
    if between:
        start = "Between the small-batch and the large-batch level of momentum, where no edge is known"
    if diverged:
        above = ", above the edge" if regime == "above the edge" else ""
        start = f"Diverged at step {run.last_step:,}{above}"
    last_seen = "at the last readings " if diverged else ""
    changed = units.last_change()
    if run.get(subject).steps[-1] < changed and not units.scheduled(run.last_step):
        last_seen = f"before the learning rate changed at step {changed:,}, "
    if no_theory:
        meaning = "at 1 a step no longer lowers the loss of its own batch"
        return f"{start}: {last_seen}half the generalised edge ratio is {_shown(edge)} ({meaning})."
    if subject == "edge_ratio" or threshold is None:
        return f"{start}: {last_seen}the streamed edge ratio is {_shown(edge)} of the threshold 2 / lr."
    name = {"lambda_max": "λ_max", "batch_sharpness": "batch sharpness"}[subject]
    if units.full_batch and subject == "batch_sharpness":
        name = "the curvature along the gradient (at most λ_max)"
    small = "small-batch " if units.momentum and not units.full_batch else ""
    text = f"{start}: {last_seen}{name} is {_shown(edge)} of the {small}threshold {threshold.formula}"
    if lambda_max.value is not None and subject != "lambda_max":
        text += f", λ_max of the full loss is {_shown(lambda_max)}"
    return text + "."


def _missing(run: Run, units: EdgeUnits, edge: Estimate) -> str:
    """Why there is no position."""
    name = "lambda_max" if units.full_batch else "batch_sharpness"
    words = "λ_max" if units.full_batch else "batch sharpness"
    readings = run.get(name)
    if units.method not in ("sgd", "momentum", "nesterov"):
        return f"no theory names an edge for {units.method}, and no edge ratio was recorded"
    if len(readings) and not len(units.learning_rate):
        return f"{words} was measured, but no learning rate was recorded to hold it against"
    if edge.status == "diverged":
        return edge.reason
    if len(readings):
        return f"{words} was measured only where the learning rate was 0"
    if readings.estimates:
        return f"{words} could not be measured ({readings.estimates[-1].reason})"
    return f"no {words} has been measured"


def _verdicts(
    run: Run, regime: Regime, subject: str, mean: dict[str, Estimate], threshold: Prediction | None,
    units: EdgeUnits,
) -> tuple[Verdict, ...]:  # fmt: skip
    if threshold is None:
        return ()
    why_not = ""
    if run.status == "diverged":
        why_not = "the run diverged and settled nowhere"
    elif regime == "unknown":
        why_not = "no edge is known where the run stands"
    elif regime not in ("at the edge", "above the edge"):
        why_not = "the run has not reached the edge, where the claim applies"
    scope = f"{threshold.scope}; claimed once the edge is reached ({_EDGE_LOW} of it), so it can fail only from above"
    if units.scheduled(run.last_step):
        scope += "; here the learning rate changed all through the window, which the claim does not cover"

    def held(measured: Estimate, claim: str, *, below: Estimate | None = None, note: str = "") -> Verdict:
        reason = why_not
        if below is not None and below.value is None:
            reason = reason or f"there is no reading of {below.name} to hold it against"
        if reason and measured.value is not None:
            measured = Estimate.failed(measured.name, reason)
        predicted = 1.0 if below is None or below.value is None else float(below)
        return compare(
            measured, predicted, predicted_error=0.0 if below is None else _error(below), claim=claim,
            relation="equal" if below is None else "below", tolerance=0.15, scope=scope + note,
            source=threshold.source,
        )  # fmt: skip

    if units.full_batch:
        return (held(mean["lambda_max"], f"λ_max settles at {threshold.formula}"),)
    streamed, sharpness = mean["edge_ratio"], mean["batch_sharpness"]
    if units.method != "sgd" and streamed.value is not None:
        streamed = Estimate.failed("edge_ratio", "with momentum the ratio of the realised step has no known level")
    return (
        held(sharpness, f"batch sharpness settles at {threshold.formula}"),
        held(streamed, f"ratio of expectations (streamed) settles at {threshold.formula}"),
        held(
            mean["lambda_max"],
            "λ_max of the full loss stays below batch sharpness",
            below=sharpness,
            note="; generally so and not a theorem: at large batch sizes the two meet",
        ),
    )
