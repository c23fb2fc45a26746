"""Half learning rate: where SGD has settled, half a step along a batch gradient is best for the loss over all data.

On quadratics that share one Hessian this holds exactly, whatever the Hessian and the noise: the full loss no longer
changes in mean over a step, so its parabola along the step has its end as high as its start. Source: derived here for
the per-batch quadratics of Sandler et al. 2301.02312, Sec. 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from sgdscope.estimate import Estimate
from sgdscope.measure.full_loss_step import full_loss_step
from sgdscope.measure.points import Point
from sgdscope.risk import Risk
from sgdscope.verdict import Verdict, compare

_DEPARTURE = 0.1


@dataclass(frozen=True)
class HalfLearningRate:
    """The check, with reasons where it fails.

    Attributes:
        verdict: best full-loss step over learning rate, held against ½ (with momentum: ½ / (1 − momentum)).
        measured: the best step and what was measured beside it.
        reasons: what was seen that the claim does not allow for.
    """

    verdict: Verdict
    measured: Estimate
    reasons: tuple[str, ...]

    @property
    def settled(self) -> bool | None:
        """Whether the run looks settled by this check; None if it cannot tell."""
        return {"agrees": True, "disagrees": False}.get(self.verdict.outcome)

    def __str__(self) -> str:
        return "\n".join([str(self.verdict), *self.reasons])


def half_learning_rate(
    risk: Risk,
    batch_size: int,
    lr: float,
    *,
    points: Iterable[Point] | None = None,
    momentum: float = 0.0,
    batches: int = 8,
    replacement: bool = False,
    tolerance: float = 0.1,
    seed: int = 0,
    generator: torch.Generator | None = None,
) -> HalfLearningRate:
    """Hold the best full-loss step along batch gradients against half the learning rate.

    Args:
        risk: model, loss and data, in the mode trained in.
        batch_size: trained with.
        lr: the constant learning rate trained with.
        points: iterates of the run, some dozens and well apart: state dicts or lists of tensors, taken one at a time.
            The claim is about their mean; None takes the present parameters alone.
        momentum: of heavy ball; the constant is then ½ / (1 − momentum), for learning rate times curvature ≪ 1.
        batches: drawn at each point.
        replacement: draw samples with replacement inside a batch.
        tolerance: relative band around the constant.
        seed: fixes dropout masks.
        generator: for the draws.

    Cost, memory and errors as in `measure.full_loss_step`, which is what is held. Raises ValueError as it does, and for
    a momentum outside [0, 1).
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"expected momentum in [0, 1), got {momentum}")
    measured = full_loss_step(risk, batch_size, lr=lr, points=points, batches=batches, replacement=replacement,
                              seed=seed, generator=generator)  # fmt: skip
    ratio = measured.beside.get("in_learning_rates", measured)
    expected = 0.5 / (1 - momentum)
    verdict = compare(
        ratio, expected, tolerance=tolerance,
        claim=f"a settled run has its best full-loss step at {expected:.3g} learning rates",
        scope="settled SGD at constant learning rate, batches drawn independently, one Hessian for all batches"
        + ("; momentum at learning rate times curvature ≪ 1" if momentum else ""),
        source="derived here for the per-batch quadratics of Sandler et al. 2301.02312, Sec. 4",
    )  # fmt: skip
    return HalfLearningRate(verdict, measured, tuple(_reasons(verdict, measured, momentum, points is None)))


def _reasons(verdict: Verdict, measured: Estimate, momentum: float, single: bool) -> Iterator[str]:
    if measured.value is None:
        yield measured.reason
        return
    ratio, beside = float(verdict.measured), measured.beside
    off = verdict.outcome == "disagrees"
    if single and verdict.outcome != "agrees":
        yield "measured at one point: the claim is about the mean over a settled path, and one point scatters around it"
    moving = _clear(beside.get("loss_trend"))
    if moving:
        trend = float(beside["loss_trend"])
        way = "falls" if trend < 0 else "rises"
        yield f"not stationary: from the earlier half of the points to the later the loss {way} by {abs(trend):.2g}"
    if _clear(beside.get("departure"), _DEPARTURE):
        share = 100 * float(beside["departure"])
        yield f"not quadratic: over a full step the loss differs from its parabola by {share:.2g} % of the curved part"
    if off and not moving and ratio > verdict.predicted and momentum == 0:
        yield (
            f"a momentum of about {1 - 0.5 / ratio:.2g} would make it this large, and so would progress that the "
            "points are too few to show"
        )
    if off and not moving and ratio < verdict.predicted:
        yield (
            "smaller than where settled: batches without replacement leave less noise in slow directions, or the "
            "learning rate was lowered shortly before"
        )


def _clear(estimate: Estimate | None, least: float = 0.0) -> bool:
    """Whether a number is larger than `least` with two standard errors of certainty."""
    if estimate is None or estimate.value is None:
        return False
    error = estimate.standard_error
    doubt = 2 * error if isinstance(error, float) else math.inf
    return abs(float(estimate)) - doubt > least
