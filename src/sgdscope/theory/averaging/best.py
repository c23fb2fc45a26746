"""Best averages: the decay, window, gap or weights that leave the least expected loss on a noisy quadratic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_factor, cho_solve

from sgdscope.theory.averaging import averages
from sgdscope.theory.averaging.arguments import Array, count, finite
from sgdscope.theory.averaging.average import Average
from sgdscope.theory.averaging.noisy_quadratic import NoisyQuadratic
from sgdscope.theory.averaging.path import Path
from sgdscope.theory.prediction import Prediction

_GRID = 48
_ZOOMS = 7


@dataclass(frozen=True)
class BestAverage:
    """The best of a family: its `setting` (decay, length, gap or newer weight), the average, its expected excess."""

    setting: float
    average: Average
    excess_loss: Prediction


def best_ema(
    quadratic: NoisyQuadratic, lr: ArrayLike, steps: int | None = None, *, momentum: float = 0.0
) -> BestAverage:
    """Decay of the EMA, started at θ_0, with least expected excess loss after a run.

    Search on ever finer grids of log(1 − decay), between a horizon of one step and of 100 runs. Cost: seven sweeps over
    (steps · modes · 48). A stationary run has no best decay but the longest, so a start should be given.
    """
    path = quadratic.path(lr, steps, momentum=momentum)
    low, high = np.log(0.01 / path.steps), 0.0
    ages = np.arange(path.steps, -1, -1.0)
    for _ in range(_ZOOMS):
        grid = np.linspace(low, high, _GRID)
        decays = -np.expm1(grid)[:, None]
        weights = np.exp(grid)[:, None] * decays**ages
        weights[:, 0] = decays[:, 0] ** path.steps
        at = int(np.argmin(quadratic.excess(path.averaged(weights))))
        low, high = grid[max(at - 1, 0)], grid[min(at + 1, _GRID - 1)]
    decay = float(decays[at, 0])
    best = averages.ema(decay, path.steps)
    return BestAverage(decay, best, quadratic.averaged(best, lr, steps, momentum=momentum))


def best_window(
    quadratic: NoisyQuadratic, lr: ArrayLike, steps: int | None = None, *, momentum: float = 0.0
) -> BestAverage:
    """Length of the window at the end of a run with least expected excess loss, among all. Cost: (steps · modes)."""
    path = quadratic.path(lr, steps, momentum=momentum)
    length = int(np.argmin(quadratic.excess(path.windows()))) + 1
    best = averages.window(length)
    return BestAverage(length, best, quadratic.averaged(best, lr, path.steps, momentum=momentum))


def best_gap(
    quadratic: NoisyQuadratic,
    lr: ArrayLike,
    steps: int | None = None,
    *,
    newer_weight: float = 0.5,
    momentum: float = 0.0,
) -> BestAverage:
    """How far before the last iterate the second of two averaged points is best taken. Cost: (steps · modes)."""
    a = finite(newer_weight, "weight on the newer point")
    path = quadratic.path(lr, steps, momentum=momentum)
    older, newer, both = path.variances[:-1], path.variances[-1], path.covariances_with_last()[:-1]
    moments = (1 - a) ** 2 * older + a**2 * newer + 2 * a * (1 - a) * both
    gap = path.steps - int(np.argmin(quadratic.excess(moments)))
    best = averages.two_point(gap, a)
    return BestAverage(gap, best, quadratic.averaged(best, lr, path.steps, momentum=momentum))


def best_two_point_weight(
    quadratic: NoisyQuadratic, lr: ArrayLike, gap: int, steps: int | None = None, *, momentum: float = 0.0
) -> BestAverage:
    """Best weight a* on the newer of two points `gap` steps apart; below 1 iff averaging them helps at all.

    a* = Σ h (S_s − E x_s x_t) / Σ h (S_s + S_t − 2 E x_s x_t), above 1 where the run still makes progress.
    """
    count(gap, "gap between the two points")
    path = quadratic.path(lr, steps, momentum=momentum)
    averages.two_point(gap).over(path.steps)
    older, newer, both = path.variances[-1 - gap], path.variances[-1], path.covariances_with_last()[-1 - gap]
    weight = float(quadratic.excess(older - both) / quadratic.excess(older + newer - 2 * both))
    best = averages.two_point(gap, weight)
    return BestAverage(weight, best, quadratic.averaged(best, lr, path.steps, momentum=momentum))


def best_weights(
    quadratic: NoisyQuadratic,
    lr: ArrayLike,
    steps: int | None = None,
    *,
    length: int | None = None,
    momentum: float = 0.0,
) -> BestAverage:
    """Best weights, shared by all modes, on the last `length` iterates (default: all of θ_0 … θ_T).

    w ∝ K⁻¹ 1 with K = ½ Σ h E x_s x_t; excess 1 / (1ᵀ K⁻¹ 1). Negative weights are allowed. The setting is the length.
    Memory: (modes · length²); cost: length³ / 3. Raises ValueError without noise, where the kernel has no inverse.
    """
    path = quadratic.path(lr, steps, momentum=momentum)
    length = _length(length, path)
    kernel = np.einsum("m,mst->st", quadratic.curvatures / 2, path.kernel(length))
    best = Average(f"best weights on {length} iterates", _least(kernel))
    return BestAverage(length, best, quadratic.averaged(best, lr, path.steps, momentum=momentum))


def best_weights_per_mode(
    quadratic: NoisyQuadratic,
    lr: ArrayLike,
    steps: int | None = None,
    *,
    length: int | None = None,
    momentum: float = 0.0,
) -> tuple[Array, Prediction]:
    """Best weights of each mode on its own, shape (modes, length), and the excess loss they would leave.

    A lower bound for every average of these iterates: weights shared by all modes do not reach it. Cost as
    `best_weights`, once per mode.
    """
    path = quadratic.path(lr, steps, momentum=momentum)
    kernels = path.kernel(_length(length, path))
    weights = np.stack([_least(kernel) for kernel in kernels])
    moments = np.einsum("ms,mst,mt->m", weights, kernels, weights)
    return weights, quadratic.prediction(moments, "weights of its own for each mode", "½ Σ h / (1ᵀ K⁻¹ 1)")


def _length(length: int | None, path: Path) -> int:
    if length is None:
        return path.steps + 1
    averages.window(length).over(path.steps)
    return length


def _least(kernel: Array) -> Array:
    """Weights of sum one with the least wᵀ K w."""
    try:
        weights = cho_solve(cho_factor(kernel), np.ones(len(kernel)))
    except np.linalg.LinAlgError:
        raise ValueError(
            "expected noise at every step, got iterates that determine each other: no best weights"
        ) from None
    return np.asarray(weights / weights.sum())
