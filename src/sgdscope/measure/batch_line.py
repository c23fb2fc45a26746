r"""Batch line: losses along minus the gradient of one batch, for step sizes far beyond the learning rate.

One large step on a batch takes its own loss well below what a fully trained model has on all data, while batches that
it was not made for get nothing of the kind (Sandler et al. 2301.02312, Sec. 3). On a quadratic
:math:`L_b(\alpha) = L_b - \alpha \|g\|^2 + \tfrac12 \alpha^2 g^\top H g`, lowest at
:math:`\alpha = \|g\|^2 / g^\top H g`, the Newton step along the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from sgdscope import vectors
from sgdscope.batches import Batch, length
from sgdscope.estimate import Estimate
from sgdscope.measure.curvature_along import curvatures_along
from sgdscope.measure.loss_curves import LossCurves, fits_of, followed, watched
from sgdscope.measure.points import here, moved, normalisation_notes, rounding
from sgdscope.risk import Risk
from sgdscope.vectors import Vector

NAME, AXIS = "batch_line", "step size"
CURVATURE = "loss / parameter²"
_EXTENT = 2.0
"""Reach of the line, in Newton steps."""


def batch_line(
    risk: Risk,
    batch: Batch | int,
    *,
    lr: float | None = None,
    steps: Sequence[float] | None = None,
    resolution: int = 17,
    unseen: int | Sequence[Batch] = 4,
    full: bool = True,
    seed: int = 0,
    generator: torch.Generator | None = None,
) -> LossCurves:
    r"""Losses at :math:`\theta - \alpha g_b` over step sizes α: of the batch itself, of unseen batches, of all data.

    Args:
        risk: model, loss and data; the line begins at its present parameters.
        batch: whose gradient is followed, or the size of one to draw (then disjoint from the unseen ones where data
            allow).
        lr: the run's learning rate; step sizes are then multiples or whole fractions of it.
        steps: step sizes of your own; None means from 0 to twice the Newton step.
        resolution: how many, roughly where `lr` is given.
        unseen: number of other batches of the same size to draw, or batches of your own (held-out data).
        full: the loss over all data too, at the cost of a forward pass over them per step size.
        seed: fixes dropout masks, the same at every point.
        generator: for the draws.

    `beside` holds, as far as they exist:

    - ``curvature``: gᵀHg / ‖g‖² by a Hessian product (gradients in its place where a kernel has no second derivative;
      ``settings["method"]`` says so), and ``fitted_curvature``, the same from the parabola through the batch's losses;
    - ``newton_step``: ‖g‖² / gᵀHg, and ``newton_loss``, what a quadratic would reach there;
    - ``best_step``: step size at which the batch's own loss is lowest on the line, by a parabola through the lowest
      three points; ``loss_reached``: the loss measured there; residuals are what the two parabolas differ by;
    - ``best_unseen_step`` and ``best_full_step``: where the fitted parabolas of the others are lowest.

    Cost: 2 gradients of the batch and a forward pass on each of the data per step size. Memory: four copies of the
    parameters.

    Status ``failed`` with the reason, and no losses, where the gradient is zero or not finite, or where the batch's
    loss does not curve upwards and neither `steps` nor `lr` says how far to look (with `lr`: 8 of them). Raises
    ValueError for a learning rate ≤ 0, fewer than 3 points, step sizes that are not finite or all the same.
    """
    if lr is not None and not 0 < lr < math.inf:
        raise ValueError(f"expected a learning rate > 0, got {lr}")
    if resolution < 3:
        raise ValueError(f"expected resolution ≥ 3, got {resolution}")
    if steps is not None and (len(set(steps)) < 2 or not all(map(math.isfinite, steps))):
        raise ValueError(f"expected at least two different finite step sizes, got {list(steps)!r:.80}")
    what = watched(risk, batch, unseen, full, generator)
    own = what.batch
    assert own is not None
    start, size = here(risk), length(own) / risk.size
    first, g = risk.gradient(own, seed=seed)
    square = vectors.dot(g, g)
    settings = what.settings(risk) | {"lr": lr}
    begun = LossCurves(NAME, (), AXIS, (), settings=settings, cost=size, notes=normalisation_notes(risk))
    if not (math.isfinite(first) and math.isfinite(square)):
        return replace(begun, failure="the batch's loss or its gradient is not finite")
    if square == 0:
        return replace(begun, failure="the batch's gradient is zero")
    (along,), method, cost = curvatures_along(risk, [g], at=start, batch=own, seed=seed)
    newton = square / along if along > 0 else None
    sizes = tuple(sorted(steps)) if steps is not None else _grid(newton, lr, resolution)
    begun = replace(begun, settings=settings | {"method": method}, cost=size * (1 + cost))
    if not sizes:
        return replace(begun, failure="the batch's loss does not curve upwards along its gradient, so there is no "
                                      "Newton step\nhint: give step sizes or lr")  # fmt: skip

    def points() -> Iterator[Vector]:
        return (moved(start, g, -alpha) for alpha in sizes)

    losses, others, whole = followed(risk, points(), what, seed)
    fits = fits_of(sizes, losses, others, whole)
    beside = {"curvature": Estimate("curvature", along / square, unit=CURVATURE)}
    if newton is not None:
        beside["newton_step"] = Estimate("newton_step", newton, unit="learning rate")
        beside["newton_loss"] = Estimate("newton_loss", first - 0.5 * square * newton, unit="loss")
    if "batch" in fits:
        beside["fitted_curvature"] = Estimate("fitted_curvature", fits["batch"].curvature / square, unit=CURVATURE)
    for of, name in (("unseen", "best_unseen_step"), ("full", "best_full_step")):
        lowest = fits[of].lowest if of in fits else None
        if lowest is not None:
            beside[name] = Estimate(name, lowest, unit="learning rate")
    total = begun.cost + len(sizes) * what.cost(risk)
    best = _lowest(sizes, losses)
    if best is not None:
        reached = risk.value(own, at=moved(start, g, -best.step), seed=seed)
        total += size / 3
        beside |= best.estimates(reached, rounding(risk, first))
    return replace(begun, coordinates=sizes, batch=losses, unseen=others, full=whole, fits=fits, beside=beside,
                   cost=total)  # fmt: skip


def _grid(newton: float | None, lr: float | None, resolution: int) -> tuple[float, ...]:
    """Step sizes from 0 on: to twice the Newton step, on a grid that `lr` lies on; empty if there is no measure."""
    if newton is None:
        return () if lr is None else tuple(_EXTENT * 4 * lr * i / (resolution - 1) for i in range(resolution))
    reach = _EXTENT * newton
    if lr is None:
        return tuple(reach * i / (resolution - 1) for i in range(resolution))
    spacing = reach / (resolution - 1) / lr
    spacing = lr * (round(spacing) if spacing >= 1 else 1 / round(1 / spacing))
    return tuple(spacing * i for i in range(max(math.ceil(reach / spacing - 1e-9), 3) + 1))


class _Best:
    """The lowest point of a curve by the parabola through its lowest three points."""

    def __init__(self, step: float, expected: float, at_points: float) -> None:
        self.step = step
        self.expected = expected
        self.at_points = at_points

    def estimates(self, reached: float, noise: float) -> dict[str, Estimate]:
        """Step and loss; the loss is that measured, its residual what the parabola missed it by."""
        lost = abs(reached - self.expected) if math.isfinite(reached) else math.inf
        if not math.isfinite(lost):
            return {}
        curvature = self.at_points
        off = math.sqrt(2 * (lost + noise) / curvature) if curvature > 0 else 0.0
        return {
            "best_step": Estimate("best_step", self.step, residual=off, unit="learning rate"),
            "loss_reached": Estimate("loss_reached", reached, residual=lost + noise, unit="loss"),
        }


def _lowest(sizes: Sequence[float], losses: Sequence[float | None]) -> _Best | None:
    """None where the lowest loss lies at an end of the line, or beside one that is not finite."""
    known = [math.inf if z is None else z for z in losses]
    i = min(range(len(known)), key=known.__getitem__)
    if not 0 < i < len(known) - 1 or not math.isfinite(known[i - 1] + known[i + 1]):
        return None
    (a, b, c), (za, zb, zc) = sizes[i - 1 : i + 2], known[i - 1 : i + 2]
    left, right = (zb - za) / (b - a), (zc - zb) / (c - b)
    curvature = 2 * (right - left) / (c - a)
    if not curvature > 0:
        return None
    slope = left + 0.5 * curvature * (b - a)  # at b
    return _Best(b - slope / curvature, zb - 0.5 * slope**2 / curvature, curvature)
