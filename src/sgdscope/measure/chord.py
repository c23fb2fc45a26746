r"""Chord: losses on the straight line through two checkpoints, and the curvature that two gradients give.

On a loss that is quadratic along the chord :math:`d = \theta_t - \theta_s`,

.. math:: L((1-a)\theta_s + a\theta_t) = (1-a) L_s + a L_t - \tfrac12 a (1-a) D, \qquad
   D = d^\top H d = (\nabla L_t - \nabla L_s) \cdot d,

so D says what every average of the two is worth before any is evaluated. Source: derived here; that losses are close
to quadratic there is the finding of Sandler et al. 2301.02312, Sec. 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from sgdscope import vectors
from sgdscope.batches import Batch, length
from sgdscope.estimate import Estimate
from sgdscope.measure.loss_curves import LossCurves, fits_of, followed, watched
from sgdscope.measure.points import Point, moved, normalisation_notes, rounding, vector_of
from sgdscope.risk import Risk
from sgdscope.vectors import Vector


def chord(
    risk: Risk,
    older: Point,
    newer: Point,
    batch: Batch | int | None = None,
    *,
    extent: tuple[float, float] = (-0.5, 1.5),
    resolution: int = 21,
    unseen: int | Sequence[Batch] | None = None,
    full: bool = True,
    seed: int = 0,
    generator: torch.Generator | None = None,
) -> LossCurves:
    """Losses at ``(1 − a) older + a newer``: of a fixed batch, of unseen batches, of all data; and the chord's D.

    Args:
        risk: model, loss and data; its present parameters play no part.
        older: the point at a = 0: a state dict, or tensors in the order of `Risk.parameters`.
        newer: the point at a = 1.
        batch: a batch to follow, or the size of one to draw; None follows all data alone.
        extent: range of a.
        resolution: points on the line.
        unseen: number of other batches of the same size, or batches of your own; None means 4 beside a batch.
        full: the loss over all data too.
        seed: fixes dropout masks, the same at every point.
        generator: for the draws.

    `beside` holds ``chord_curvature``, D over all data from two gradients (``batch_chord_curvature`` for the batch),
    its ``fitted_chord_curvature`` from the parabola, ``asymmetry``, which is
    L_t − L_s − ½ (∇L_s + ∇L_t) · d and zero for a quadratic, and ``distance``, ‖d‖. Residuals: what rounding in the
    parameters' precision may do. A D that is not positive, or an R² far from 1, says that the two do not lie in one
    quadratic basin.

    Cost: 2 gradients and `resolution` forward passes on each of the data. Memory: five copies of the parameters.

    Raises ValueError for two points that are the same, fewer than 3 points on the line, an empty range, and nothing to
    follow.
    """
    low, high = extent
    if resolution < 3 or not low < high:
        raise ValueError(f"expected resolution ≥ 3 and a range of a, got {resolution} and {extent}")
    if batch is None and not full:
        raise ValueError("expected a batch or full=True, got nothing to follow")
    start, end = vector_of(risk, older, "the older point"), vector_of(risk, newer, "the newer point")
    d = vectors.plus(end, start, -1.0)
    distance = vectors.norm(d)
    if distance == 0:
        raise ValueError("expected two different points, got the same twice")
    what = watched(risk, batch, (0 if batch is None else 4) if unseen is None else unseen, full, generator)
    weights = tuple(low + (high - low) * i / (resolution - 1) for i in range(resolution))

    def points() -> Iterator[Vector]:
        return (moved(start, d, a) for a in weights)

    losses, others, whole = followed(risk, points(), what, seed)
    fits = fits_of(weights, losses, others, whole)
    cost = resolution * what.cost(risk)
    beside = {"distance": Estimate("distance", distance, unit="parameter")}
    for of, data in (("full", None), ("batch", what.batch)):
        if (of == "full" and not full) or (of == "batch" and data is None):
            continue
        prefix = "" if of == "full" else "batch_"
        beside |= {
            f"{prefix}{name}": estimate for name, estimate in _from_ends(risk, start, end, d, data, seed).items()
        }
        if of in fits:
            name = f"{prefix}fitted_chord_curvature"
            beside[name] = Estimate(name, fits[of].curvature, unit="loss")
        cost += 2 * (1.0 if data is None else length(data) / risk.size)
    return LossCurves(
        "chord", weights, "weight on the newer point", losses, others, whole, fits, beside, cost,
        what.settings(risk) | {"distance": distance}, normalisation_notes(risk),
    )  # fmt: skip


def _from_ends(
    risk: Risk, start: Vector, end: Vector, d: Vector, batch: Batch | None, seed: int
) -> dict[str, Estimate]:
    """D and the asymmetry from losses and gradients at the two ends."""
    first, g = risk.gradient(batch, at=start, seed=seed)
    at_start, size = vectors.dot(g, d), vectors.norm(g)
    second, g = risk.gradient(batch, at=end, seed=seed)
    at_end, size = vectors.dot(g, d), size + vectors.norm(g)
    unit = rounding(risk, 1.0)
    noise = unit * size * vectors.norm(d)
    names = ("chord_curvature", "asymmetry")
    values = (at_end - at_start, second - first - 0.5 * (at_start + at_end))
    doubts = (noise, noise + unit * (abs(first) + abs(second)))
    return {
        name: Estimate(name, value, residual=doubt, unit="loss")
        if math.isfinite(value) and math.isfinite(doubt)
        else Estimate.failed(name, "the loss or its gradient is not finite", status="diverged", unit="loss")
        for name, value, doubt in zip(names, values, doubts, strict=True)
    }  # fmt: skip
