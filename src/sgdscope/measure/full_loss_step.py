r"""Full-loss step: how far along a batch gradient the loss over all data falls furthest.

.. math:: \alpha_L = \frac{E[\nabla L \cdot g_b]}{E[g_b^\top H g_b]}

with the Hessian H of the full loss. Beyond :math:`2 \alpha_L` a step raises the full loss in mean; where the full loss
no longer changes in mean, that is the learning rate itself. Source: derived here for the per-batch quadratics of
Sandler et al. 2301.02312, Sec. 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from sgdscope.estimate import Estimate
from sgdscope.measure.curvature_along import curvatures_along
from sgdscope.measure.gradient_alignment import gradients_at
from sgdscope.measure.points import Point, moved
from sgdscope.measure.sampling import serial_ratio_with_error
from sgdscope.risk import Risk

NAME, UNIT = "full_loss_step", "learning rate"


def full_loss_step(
    risk: Risk,
    batch_size: int,
    *,
    lr: float | None = None,
    points: Iterable[Point] | None = None,
    batches: int = 8,
    replacement: bool = False,
    seed: int = 0,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Best step of the full loss along a batch gradient, :math:`E[\nabla L \cdot g_b] / E[g_b^\top H g_b]`.

    Unit: learning rate. A ratio of means over batches and, if given, `points`; for uniform draws
    :math:`E[\nabla L \cdot g_b] = \|\nabla L\|^2` exactly, which takes its place unless the loss mixes samples or is
    random.

    Args:
        risk: model, loss and data.
        batch_size: of the batches drawn.
        lr: the run's learning rate; then `beside` holds ``in_learning_rates``, :math:`\alpha_L / \mathrm{lr}`, and
            ``departure``: by how much the full loss after steps of `lr` differs in mean from the quadratic, in parts of
            the quadratic's own :math:`\tfrac12 \mathrm{lr}^2 E[g_b^\top H g_b]`; zero for a quadratic.
        points: of a path, such as iterates well apart: state dicts or lists of tensors, taken one at a time; the
            present parameters if None. One point scatters widely around the mean over a path, the more so the fewer
            directions the gradient has; a mean over points needs some dozens of them.
        batches: drawn at each point.
        replacement: draw samples with replacement inside a batch.
        seed: fixes dropout masks.
        generator: for the draws.

    `beside` also holds ``squared_gradient`` and ``curvature``, the means of both parts over batches and points, and
    ``loss_trend``: mean loss of the later half of the points less that of the earlier one. The standard error is that
    over points, with their correlation along the path; over batches for a single point.

    Cost per point, over all data: 2 gradients, one Hessian product per batch, a forward pass per batch with `lr`; and
    the batch gradients. Memory: as many copies of the parameters as batches, and four.

    Status ``failed`` where the mean curvature is not positive: no best step exists. Raises ValueError for lr ≤ 0, fewer
    than 2 batches, no points, or a batch size that the data cannot give.
    """
    if lr is not None and not 0 < lr < math.inf:
        raise ValueError(f"expected a learning rate > 0, got {lr}")
    drawn_slopes = risk.batch_dependent or risk.random
    rows: list[list[float]] = []
    losses: list[float] = []
    method, cost, single = "", 0.0, points is None
    for at in gradients_at(risk, batch_size, points, batches, replacement, seed, generator):
        curvatures, method, spent = curvatures_along(risk, at.of_batches, at=at.point, seed=seed)
        cost += 1 + batches * batch_size / risk.size + spent
        slopes = at.slopes() if drawn_slopes else [at.square] * batches
        left = [0.0] * batches
        if lr is not None:
            after = [risk.value(at=moved(at.point, g, -lr), seed=seed) for g in at.of_batches]
            cost += batches / 3
            # the batch's own slope, not its mean: what is left over is the part of third order and beyond
            left = [z - at.loss + lr * s - 0.5 * lr**2 * c
                    for z, s, c in zip(after, at.slopes(), curvatures, strict=True)]  # fmt: skip
        found = [list(row) for row in zip(slopes, curvatures, left, strict=True)]
        rows += found if single else [[sum(column) / batches for column in zip(*found, strict=True)]]
        losses.append(at.loss)
    if not rows:
        raise ValueError("expected points to measure at, got none")
    settings: dict[str, Any] = {
        "batch_size": batch_size, "mode": risk.mode, "points": len(losses), "batches": batches, "method": method,
        "replacement": replacement, "lr": lr,
    }  # fmt: skip
    known: dict[str, Any] = {"count": batches * len(losses), "cost": cost, "unit": UNIT, "settings": settings}
    slope, along, left = ([row[i] for row in rows] for i in range(3))
    if not all(map(math.isfinite, (*slope, *along, *left))):
        return Estimate.failed(NAME, "the loss or its derivatives are not finite", status="diverged", **known)
    if not sum(along) > 0:
        return Estimate.failed(NAME, f"the full loss does not curve upwards along batch gradients in mean (gᵀHg "
                                     f"{sum(along) / len(along):.3g}), so no step is the best", **known)  # fmt: skip
    step, error = serial_ratio_with_error(slope, along)
    ones = [1.0] * len(rows)
    beside = {
        "squared_gradient": Estimate(
            "squared_gradient", *serial_ratio_with_error(slope, ones), unit="loss² / parameter²"
        ),
        "curvature": Estimate("curvature", *serial_ratio_with_error(along, ones), unit="loss³ / parameter⁴"),
    }
    if lr is not None:
        beside["in_learning_rates"] = Estimate("in_learning_rates", step / lr, error / lr, count=known["count"])
        departure = serial_ratio_with_error(left, [0.5 * lr**2 * c for c in along])
        beside["departure"] = Estimate("departure", *departure, count=known["count"])
    if len(losses) >= 4:
        beside["loss_trend"] = _trend(losses)
    return Estimate(NAME, step, error, beside=beside, **known)


def _trend(losses: list[float]) -> Estimate:
    """Mean loss of the later half less that of the earlier half, each with the error of a correlated series."""
    half = len(losses) // 2
    (earlier, first), (later, second) = (
        serial_ratio_with_error(part, [1.0] * len(part)) for part in (losses[:half], losses[-half:])
    )
    return Estimate("loss_trend", later - earlier, math.hypot(first, second), count=len(losses), unit="loss")
