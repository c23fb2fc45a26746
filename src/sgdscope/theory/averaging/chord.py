"""Chord: the loss between and among measured points of a path, from losses and gradients at the points alone.

Exact where the loss is quadratic on their span, whatever its curvature. Gradients and losses are of the full loss (or
of one and the same sample). Source: derived here; the quadratic shape along SGD paths is the finding of Sandler et al.
2301.02312, Sec. 3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.theory.averaging.arguments import Array, finite, numbers
from sgdscope.theory.averaging.average import Average
from sgdscope.theory.prediction import Prediction

_SOURCE = "derived here: identity of quadratics, cf. Sandler et al. 2301.02312, Sec. 3"


def chord_losses(older_loss: float, newer_loss: float, chord_curvature: float, newer_weights: ArrayLike) -> Array:
    """(1 − a) L_s + a L_t − ½ a (1 − a) D for weights a of any shape; outside [0, 1] it goes on beyond the points.

    D = dᵀ H d = (∇L_t − ∇L_s) · d with d = θ_t − θ_s: two gradients predict the whole chord.
    """
    a = np.asarray(newer_weights, dtype=np.float64)
    return np.asarray((1 - a) * older_loss + a * newer_loss - 0.5 * a * (1 - a) * chord_curvature)


def two_point_loss(
    older_loss: float, newer_loss: float, chord_curvature: float, newer_weight: float = 0.5
) -> Prediction:
    """Loss of the average of two points: one value of `chord_losses`."""
    for value, what in ((older_loss, "older loss"), (newer_loss, "newer loss"), (chord_curvature, "chord curvature")):
        finite(value, what)
    value = float(chord_losses(older_loss, newer_loss, chord_curvature, finite(newer_weight, "newer weight")))
    warnings = []
    if chord_curvature <= 0:
        warnings.append(f"the chord does not curve upwards (D = {chord_curvature:.3g}): not one basin, or D is noise")
    formula = "(1 − a) L_s + a L_t − ½ a (1 − a) D"
    return Prediction(
        value, "loss of the average of two points", formula, "a loss quadratic along the chord", _SOURCE, "loss",
        warnings=tuple(warnings),
    )  # fmt: skip


def chord_curvatures(gradient_dots: ArrayLike) -> Array:
    """D_ij = (∇L_i − ∇L_j) · (θ_i − θ_j) from G_ij = ∇L_i · θ_j, both of shape (points, points)."""
    G = _square(gradient_dots, "gradient products")
    own = G.diagonal()
    return own[:, None] + own - G - G.T


def average_loss(average: Average, losses: ArrayLike, curvatures: ArrayLike) -> Prediction:
    """Loss of a weighted average of measured points: Σ w_i L_i − ¼ Σ_ij w_i w_j D_ij.

    `losses` has shape (points,) and `curvatures`, from `chord_curvatures`, (points, points): as many as the average has
    weights. The same as Σ w_i L_i − ½ Σ w_i ∇L_i · (θ_i − θ̄).
    """
    L, D = points(losses, curvatures)
    w = average.weights
    if w.size != L.size:
        raise ValueError(f"{average.name}: expected one weight per point, got {w.size} for {L.size} points")
    value = float(w @ L - 0.25 * w @ D @ w)
    return Prediction(
        value, f"loss of {average.name}", "Σ w L − ¼ Σ w w D", "a loss quadratic on the span of the points", _SOURCE,
        "loss", warnings=average.warnings,
    )  # fmt: skip


def points(losses: ArrayLike, curvatures: ArrayLike) -> tuple[Array, Array]:
    """Losses (points,) and chord curvatures (points, points), symmetric with zero diagonal; ValueError otherwise."""
    L, D = numbers(losses, "losses"), _square(curvatures, "chord curvatures")
    if D.shape != (L.size, L.size):
        raise ValueError(f"expected chord curvatures of {L.size} points, got shape {D.shape}")
    size = float(np.abs(D).max())
    if float(np.abs(D - D.T).max()) > 1e-6 * size or float(np.abs(D.diagonal()).max()) > 1e-6 * size:
        raise ValueError("expected symmetric chord curvatures with zero diagonal, got others: see `chord_curvatures`")
    return L, D


def _square(matrix: ArrayLike, what: str) -> Array:
    array = numbers(matrix, what, 2)
    if array.shape[0] != array.shape[1]:
        raise ValueError(f"expected {what} of shape (points, points), got {array.shape}")
    return array
