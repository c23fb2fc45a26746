"""Gain: what averages of checkpoints are worth, predicted from losses and gradients at the checkpoints alone.

On the span of the checkpoints the loss is taken as quadratic; then one gradient at each predicts the loss of every
average, and evaluating one is only needed to check it. Source: derived here; that losses along SGD's path are close to
quadratic, and that two points are enough for a clear gain, is the finding of Sandler et al. 2301.02312.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sgdscope.estimate import Estimate
from sgdscope.measure.checkpoint_gradients import HELD, CheckpointGradients, checkpoint_gradients
from sgdscope.measure.common_losses import CommonLosses, common_losses
from sgdscope.measure.points import Point, rounding, vector_of
from sgdscope.measure.sampling import ratio_with_error
from sgdscope.risk import Risk
from sgdscope.theory.averaging import Average, average_loss, chord_curvatures
from sgdscope.theory.averaging.harm import Judgement
from sgdscope.trajectory import harm
from sgdscope.trajectory.candidates import candidates
from sgdscope.vectors import Vector
from sgdscope.verdict import Verdict, compare

Array = NDArray[np.float64]

_TWO_POINTS, _MANY_POINTS = 0.05, 0.15
"""Part of the gain over the checkpoints' mean loss by which prediction and measurement may differ."""


@dataclass(frozen=True, eq=False)
class PredictedAverage:
    """One average of the checkpoints.

    Attributes:
        average: its weights on the checkpoints, oldest first.
        loss: predicted loss.
        gain: predicted gain: how far it lies below the newest checkpoint.
        measured: measured gain on the same samples; None if it was not evaluated.
        verdict: how far it lies below the mean loss of its checkpoints, measured over predicted, held against 1 (this
            part of the gain comes from averaging; the rest is a difference of measured losses). None if it was not
            evaluated.
        warnings: what speaks against this average.
    """

    average: Average
    loss: Estimate
    gain: Estimate
    measured: Estimate | None = None
    verdict: Verdict | None = None
    warnings: tuple[str, ...] = ()

    @property
    def effect(self) -> str:
        """``helps`` or ``hurts`` with two standard errors of certainty, else ``undecided``."""
        error = self.gain.standard_error
        residual = self.gain.residual
        doubt = 2 * (error if isinstance(error, float) else math.inf)
        doubt += residual if isinstance(residual, float) else 0.0
        value = float(self.gain)
        return "undecided" if abs(value) <= doubt else "helps" if value > 0 else "hurts"

    def to_row(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "name": self.average.name, "weights": self.average.weights.tolist(), "effect": self.effect,
            "loss": self.loss.to_row(), "gain": self.gain.to_row(), "warnings": list(self.warnings),
            "measured": None if self.measured is None else self.measured.to_row(),
            "verdict": None if self.verdict is None else self.verdict.to_row(),
        }  # fmt: skip

    def __str__(self) -> str:
        measured = "" if self.measured is None else f", measured {self.measured}"
        return f"{self.average.name} {self.effect}: gain {self.gain}{measured}"


@dataclass(frozen=True, eq=False)
class Gain:
    """What averages of some checkpoints are worth.

    Attributes:
        losses: measured loss of each checkpoint, oldest first.
        averages: by predicted loss, best first.
        pairs: for each older checkpoint, whether equal weights on it and the newest help.
        early: checkpoints on which any weight hurts.
        curvatures: D_ij between checkpoints, shape (count, count).
        warnings: what speaks against averaging these checkpoints, or against trusting the predictions.
        cost: gradient evaluations over all data.
        settings: how it was measured.
    """

    losses: tuple[Estimate, ...]
    averages: tuple[PredictedAverage, ...]
    pairs: tuple[Judgement, ...]
    early: tuple[int, ...]
    curvatures: Array
    warnings: tuple[str, ...] = ()
    cost: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> PredictedAverage | None:
        """The average of the lowest predicted loss; None where none clearly helps: keep the newest checkpoint."""
        return next((found for found in self.averages if found.effect == "helps"), None)

    def to_row(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "losses": [loss.to_row() for loss in self.losses],
            "averages": [average.to_row() for average in self.averages],
            "pairs": [{"gain": p.value, "error": p.error, "verdict": p.verdict} for p in self.pairs],
            "early": list(self.early), "curvatures": self.curvatures.tolist(), "warnings": list(self.warnings),
            "cost": self.cost, "settings": dict(self.settings),
        }  # fmt: skip

    def __str__(self) -> str:
        best = self.best
        advice = (
            "no average clearly lies below the newest checkpoint: keep that one" if best is None
            else f"{best}; loss {best.loss} against {self.losses[-1]} of the newest checkpoint"
        )  # fmt: skip
        return "\n".join([advice, *(best.warnings if best else ()), *self.warnings])


def gain(
    risk: Risk,
    checkpoints: Sequence[Point],
    averages: Sequence[Average] | None = None,
    *,
    evaluate: bool | int = False,
    samples: int | None = None,
    population: bool = False,
    held: int = HELD,
    seed: int = 0,
    generator: torch.Generator | None = None,
) -> Gain:
    """Predicted loss and gain of averages of checkpoints, with their errors, and what warns against them.

    Args:
        risk: model, loss and data; its present parameters play no part. A risk on held-out data predicts held-out
            losses, for which it needs their gradients as well.
        checkpoints: two or more, oldest first and at equal distances where windows and EMAs are to mean something:
            state dicts, or lists of tensors in the order of `Risk.parameters`. They are read by indexing, so a sequence
            may load them from disk.
        averages: weights on the checkpoints (`theory.averaging.averages`), oldest first; shorter ones are taken at the
            end. None looks at two checkpoints, windows and EMAs of lengths that double, and the best non-negative
            weights.
        evaluate: measure the loss of the averages too: True for all, a number for that many of the best predicted.
        samples: measure on this many samples, drawn once and common to all checkpoints; None: all data.
        population: count all data as a sample themselves; errors then tell how far other data of the same size would
            move the numbers.
        held: gradients, and averages to evaluate, kept at a time.
        seed: fixes dropout masks, the same at every point.
        generator: for the draw.

    Standard errors come from groups of samples and know that differences on common samples have smaller errors than
    losses; 0 for all data. Residuals of predicted gains are what the loss may depart from a quadratic by, as below.
    Weights chosen on the same samples (the best pair, the best on the simplex) are predicted too well by a little.
    Measured on digits (a tanh network, label noise, 2000 steps): two points within 5 % and windows
    of 50 within 15 % of the drop below the checkpoints' mean loss, too good rather than too bad.

    Known flaw: exact for losses that are quadratic between the checkpoints alone; `warnings` says what it can see of
    that from the same gradients.

    Cost: one gradient per checkpoint and a forward pass per average evaluated, on the data chosen. Memory: `held`
    copies of the parameters and four; fewer for fewer checkpoints.

    Raises ValueError for fewer than two checkpoints, averages longer than the checkpoints and checkpoints of another
    shape, and FloatingPointError where a loss or gradient is not finite.
    """
    count = len(checkpoints)
    if count < 2:
        raise ValueError(f"expected at least two checkpoints to average, got {count}")
    if held < 1 or evaluate < 0:
        raise ValueError(f"expected held ≥ 1 and evaluate ≥ 0, got {held} and {evaluate}")
    common = common_losses(risk, samples=samples, population=population, seed=seed, generator=generator)
    at = checkpoint_gradients(common, checkpoints, held=held)
    D_of_groups = np.stack([chord_curvatures(products) for products in at.products])
    L, D = at.weights @ at.losses, np.tensordot(at.weights, D_of_groups, 1)
    chosen = candidates(L, D) if averages is None else [average.over(count - 1) for average in averages]
    noise = 2 * rounding(risk, float(np.abs(L).max()))

    def error(of_groups: Array) -> float:
        return common.error(of_groups.tolist()) or 0.0

    def estimate(name: str, of_groups: Array, **known: Any) -> Estimate:
        value = float(at.weights @ of_groups)
        return Estimate(name, value, common.error(of_groups.tolist()), count=len(of_groups), unit="loss", **known)

    differences = at.losses[:, :-1] - at.losses[:, -1:]
    errors = np.apply_along_axis(error, 0, differences)
    D_errors = np.apply_along_axis(error, 0, D_of_groups)
    pairs = harm.Pairs(at.weights @ differences, D[:-1, -1], errors, D_errors[:-1, -1])
    early = pairs.early()
    predicted: list[tuple[PredictedAverage, Array]] = []
    for average in chosen:
        losses = np.array([average_loss(average, *group).value for group in zip(at.losses, D_of_groups, strict=True)])
        gains = at.losses[:, -1] - losses
        drop = abs(float(average.weights @ L - at.weights @ losses))
        doubt = noise + _tolerance(average) * drop
        predicted.append((
            PredictedAverage(
                average, estimate("predicted_loss", losses, residual=doubt),
                estimate("predicted_gain", gains, residual=doubt),
                warnings=tuple(harm.of_average(average, early, L, D)),
            ), gains,
        ))  # fmt: skip
    predicted.sort(key=lambda found: float(found[0].loss))
    most = len(predicted) if evaluate is True else min(int(evaluate), len(predicted))
    found = [*_evaluated(common, checkpoints, at, predicted[:most], held, noise), *(p for p, _ in predicted[most:])]
    largest = max((float(p.gain) for p in found), default=0.0)
    return Gain(
        tuple(estimate("loss", of_groups) for of_groups in at.losses.T), tuple(found), pairs.equal_weights(),
        tuple(early), D,
        tuple(harm.general(risk, L, D, D_errors, _asymmetry(at, L), early, largest)),
        at.cost + most * common.share / 3,
        {"mode": risk.mode, "samples": common.samples, "population": population, "checkpoints": count},
    )  # fmt: skip


def _tolerance(average: Average) -> float:
    return _TWO_POINTS if int((average.weights != 0).sum()) <= 2 else _MANY_POINTS


def _asymmetry(at: CheckpointGradients, L: Array) -> Array:
    """L_j − L_i − ½ (∇L_i + ∇L_j) · (θ_j − θ_i), antisymmetric and zero for a quadratic."""
    G = np.tensordot(at.weights, at.products, 1)
    own = G.diagonal()
    slopes = (G - own[:, None]) + (own[None, :] - G.T)
    return np.asarray(L[None, :] - L[:, None] - 0.5 * slopes)


def _evaluated(
    common: CommonLosses, checkpoints: Sequence[Point], at: CheckpointGradients,
    predicted: list[tuple[PredictedAverage, Array]], held: int, noise: float,
) -> list[PredictedAverage]:  # fmt: skip
    """The averages with their measured gains; the checkpoints are read once for each `held` of them."""
    found = []
    for start in range(0, len(predicted), held):
        block = predicted[start : start + held]
        for (known, gains), mean in zip(block, _averaged(common.risk, checkpoints, [p for p, _ in block]), strict=True):
            losses = np.array(common.losses(mean))
            reached = at.losses[:, -1] - losses
            value = float(at.weights @ reached)
            if not math.isfinite(value):
                measured = Estimate.failed("gain", "the loss of the average is not finite", status="diverged")
            else:
                measured = Estimate("gain", value, common.error(reached.tolist()), count=len(reached), unit="loss")
            drops = at.losses @ known.average.weights - at.losses[:, -1]  # to the newest from the checkpoints' mean
            verdict = _held_against(known, at.weights, drops + reached, drops + gains, noise)
            found.append(replace(known, measured=measured, verdict=verdict))
    return found


def _averaged(risk: Risk, checkpoints: Sequence[Point], of: Sequence[PredictedAverage]) -> list[Vector]:
    means = [[torch.zeros_like(p) for p in risk.parameters] for _ in of]
    needed = np.any([p.average.weights != 0 for p in of], axis=0)
    with torch.inference_mode(False), torch.no_grad():
        for index in np.flatnonzero(needed).tolist():
            point = vector_of(risk, checkpoints[index], f"checkpoint {index}")
            for mean, known in zip(means, of, strict=True):
                torch._foreach_add_(mean, point, alpha=float(known.average.weights[index]))
    return means


def _held_against(known: PredictedAverage, weights: Array, measured: Array, predicted: Array, noise: float) -> Verdict:
    """Drop below the checkpoints' mean loss, measured over predicted, against 1.

    Both come from the same samples, so the ratio's error is that of pairs.
    """
    name = "measured over predicted drop"
    value, reached = float(weights @ predicted), float(weights @ measured)
    if not math.isfinite(reached):
        ratio = Estimate.failed(name, "the loss of the average is not finite")
    elif abs(value) <= noise:
        ratio = Estimate.failed(name, "the predicted drop is zero within rounding")
    else:
        sampled = known.gain.standard_error != 0 and len(measured) > 1
        spread = ratio_with_error(measured.tolist(), predicted.tolist())[1] if sampled else 0.0
        ratio = Estimate(name, reached / value, spread, residual=2 * noise / abs(value))
    return compare(
        ratio, 1.0, tolerance=_tolerance(known.average),
        claim=f"{known.average.name} lies {value:.3g} below the mean loss of its checkpoints",
        scope="a loss quadratic between the checkpoints", source="derived here, cf. Sandler et al. 2301.02312, Sec. 3",
    )  # fmt: skip
