"""Fixed batch: its loss along the path, one step on it alone, and what that step does to the full loss.

All at stationarity on a `NoisyQuadratic`; with momentum by its recursion. Source: Sandler et al. 2301.02312, Sec. 3
and 4, for the phenomena; the formulas are derived here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.theory.averaging import recursions
from sgdscope.theory.averaging.arguments import MODEL, Array, count, finite, non_negative, positive, stable
from sgdscope.theory.averaging.average import Average
from sgdscope.theory.averaging.noisy_quadratic import NoisyQuadratic
from sgdscope.theory.prediction import Prediction

_STATIONARY = "stationary SGD at constant learning rate on quadratics with one Hessian for all batches"


def gap_to_batch_minimum(
    quadratic: NoisyQuadratic, lr: float, steps_since_use: int | None = None, *, momentum: float = 0.0
) -> Prediction:
    """E[L_b − min L_b] at the present iterate, `steps_since_use` steps after the one that used batch b.

    ½ Σ h (V + σ² − 2 λ h q^j σ²): j = 0 right after its step, None before it or for a batch never seen. The dip heals
    with the memory q = 1 − λ h of each mode.
    """
    unseen = quadratic.stationary_variance(lr, momentum=momentum) + quadratic.noise
    formula = "½ Σ h (V + σ²)"
    seen = np.zeros_like(unseen)
    if steps_since_use is not None:
        count(steps_since_use, "steps since the batch was used", 0)
        transition, kick = (a[0] for a in recursions.sgd(np.array([lr]), quadratic.curvatures, momentum))
        carried = np.linalg.matrix_power(transition, steps_since_use) @ kick[..., None]
        seen = 2 * carried[:, 0, 0] * quadratic.noise
        formula = "½ Σ h (V + σ² − 2 λ h q^j σ²)"
    value = float(quadratic.excess(unseen - seen))
    return Prediction(value, "mean height above the batch's own minimum", formula, _STATIONARY, MODEL, "loss")


def best_batch_step(squared_gradient: float, curvature: float) -> Prediction:
    """Step along −g_b that lowers this batch's loss most: |g|² / gᵀHg, from |g|² and gᵀHg."""
    value = _squared(squared_gradient) / _upward(curvature)
    return Prediction(value, "best step on one batch", "|g|² / gᵀHg", "a batch loss quadratic along −g", MODEL, "lr")


def best_batch_loss(loss: float, squared_gradient: float, curvature: float) -> Prediction:
    """Loss of the batch after `best_batch_step`: L_b − ½ |g|⁴ / gᵀHg."""
    value = finite(loss, "loss") - 0.5 * _squared(squared_gradient) ** 2 / _upward(curvature)
    return Prediction(
        value, "batch loss after the best step", "L_b − ½ |g|⁴ / gᵀHg", "a batch loss quadratic along −g", MODEL, "loss"
    )


def batch_losses_along_gradient(loss: float, squared_gradient: float, curvature: float, steps: ArrayLike) -> Array:
    """L_b(α) = L_b − α |g|² + ½ α² gᵀHg for step sizes α of any shape."""
    alpha = np.asarray(steps, dtype=np.float64)
    return np.asarray(loss - alpha * squared_gradient + 0.5 * alpha**2 * curvature)


def best_full_loss_step(quadratic: NoisyQuadratic, lr: float, *, momentum: float = 0.0) -> Prediction:
    """Step along −g_b that lowers the full loss most, as ratio of means: lr / 2 exactly, for any H and C.

    Σ h² V / Σ h³ (V + σ²). With momentum about lr / (2 (1 − momentum)) for small lr · curvature. Raises ValueError
    without noise, where there is no gradient at stationarity.
    """
    towards, against = _slope_and_curvature(quadratic, lr, momentum)
    if not against > 0:
        raise ValueError("expected noise in some mode, got none: without it the stationary gradient is zero")
    formula = "λ / 2" if momentum == 0 else "Σ h² V / Σ h³ (V + σ²)"
    return Prediction(towards / against, "best step for the full loss along a batch's gradient", formula, _STATIONARY,
                      MODEL, "lr")  # fmt: skip


def full_losses_along_batch_gradient(
    quadratic: NoisyQuadratic, lr: float, steps: ArrayLike, *, momentum: float = 0.0
) -> Array:
    """Expected excess of the full loss after a step α along −g_b, for step sizes of any shape.

    L_0 + ½ B α (α − lr) with B = Σ h³ (V + σ²) for plain SGD: no gain at α = lr, harm beyond.
    """
    alpha = np.asarray(steps, dtype=np.float64)
    towards, against = _slope_and_curvature(quadratic, lr, momentum)
    here = quadratic.excess(quadratic.stationary_variance(lr, momentum=momentum))
    return np.asarray(here - alpha * towards + 0.5 * alpha**2 * against)


def gradient_alignment(lr: float, curvature: float) -> Prediction:
    """Lr · curvature / 2: cos² between full and batch gradient, and cosine of two batch gradients, where H = h I."""
    stable(lr, np.array([positive(curvature, "curvature")]))
    scope = f"{_STATIONARY}, H = h I; ratio of mean squares"
    return Prediction(lr * curvature / 2, "alignment of gradients", "λ h / 2", scope, MODEL)


def squared_distance_between_runs(quadratic: NoisyQuadratic, lr: float, *, momentum: float = 0.0) -> Prediction:
    """E |θ − θ'|² of two independent stationary runs in one basin: 2 tr V."""
    value = 2 * float(quadratic.stationary_variance(lr, momentum=momentum).sum())
    return Prediction(value, "squared distance between two runs", "2 tr V", _STATIONARY, MODEL, "parameter²")


def squared_distance_of_average(
    quadratic: NoisyQuadratic, average: Average, lr: ArrayLike, steps: int | None = None, *, momentum: float = 0.0
) -> Prediction:
    """E |θ̄ − θ*|² of an average; ½ tr((I + Q^k) V) for two stationary points k steps apart. Arguments as `averaged`."""
    if steps is None and quadratic.start is None and np.ndim(lr) == 0:
        steps = max(average.steps, 1)
    path = quadratic.path(lr, steps, momentum=momentum)
    value = float(path.averaged(average.over(path.steps).weights).sum())
    scope = "quadratics with one Hessian for all batches"
    return Prediction(value, f"squared distance of {average.name} from the minimum", "Σ wᵀ K w", scope, MODEL,
                      "parameter²", warnings=average.warnings)  # fmt: skip


def _slope_and_curvature(quadratic: NoisyQuadratic, lr: float, momentum: float) -> tuple[float, float]:
    """E ∇L·g_b = Σ h² V and E g_bᵀ H g_b = Σ h³ (V + σ²)."""
    h, V = quadratic.curvatures, quadratic.stationary_variance(lr, momentum=momentum)
    return float((h**2 * V).sum()), float((h**3 * (V + quadratic.noise)).sum())


def _squared(squared_gradient: float) -> float:
    return non_negative(squared_gradient, "squared gradient")


def _upward(curvature: float) -> float:
    if not 0 < curvature < np.inf:
        raise ValueError(f"expected curvature gᵀHg > 0 along the gradient, got {curvature}: no best step exists")
    return curvature
