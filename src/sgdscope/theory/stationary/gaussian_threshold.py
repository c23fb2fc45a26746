r"""The threshold of real, discrete steps on Gaussian data ``y = k x + ε``, where the law of a batch is known exactly.

With Q = Σ x² over the batch the mean of xy is (k Q + σ √Q Z) / S: given Q, which is χ² with S degrees of freedom, it is
Gaussian, and the mean of the logarithm of a Gaussian number's size is known. One integral over Q is left. Derived here.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import digamma, gammaln

from sgdscope.theory.prediction import Prediction
from sgdscope.theory.stationary.discrete_threshold import first_root
from sgdscope.theory.stationary.noise import DiagonalNoise

Array = npt.NDArray[np.float64]

NODES = 1200
"""Of the integral over Q, evenly spaced in its logarithm: errors below 1e-12."""
LOWEST = -45.0
"""Logarithm, relative to its peak, below which the density of log Q is left out."""
FAR = 8.0
"""Standard deviations between mean and 0 from which on the asymptotic series holds to 1e-10."""
TERMS = 140


def gaussian_growth_rate(
    slope: float, noise_variance: float, input_variance: float = 1.0, *, lr: float, batch_size: int,
    weight_decay: float = 0.0,
) -> float:  # fmt: skip
    """Mean change of ln |v| in one step of SGD close to v = 0; cf. `growth_rate`, here for ``y = slope · x + ε``.

    Args:
        slope: k.
        noise_variance: σ² = Var ε ≥ 0.
        input_variance: s = Var x > 0.
        lr: learning rate > 0.
        batch_size: S ≥ 1.
        weight_decay: γ ≥ 0.

    Source: derived here. Cost: 1 ms.
    """
    if not 0 < lr < math.inf:
        raise ValueError(f"expected a learning rate > 0, got {lr}")
    if batch_size < 1 or batch_size != int(batch_size):
        raise ValueError(f"expected a whole batch size ≥ 1, got {batch_size}")
    DiagonalNoise.gaussian(slope, noise_variance, input_variance).critical_temperature(weight_decay)  # checks them
    log_square, weights = _squares(int(batch_size))
    square = input_variance * np.exp(log_square)
    centre = 1 + 2 * lr * (abs(slope) * square / batch_size - weight_decay)
    spread = 2 * lr * np.sqrt(noise_variance * square) / batch_size
    return 2 * float(weights @ mean_log_size(centre, spread))


def gaussian_discrete_critical_temperature(
    slope: float, noise_variance: float, input_variance: float = 1.0, *, batch_size: int, weight_decay: float = 0.0
) -> Prediction:
    """T = lr / batch_size at which real SGD on Gaussian data collapses a balanced two-layer network to 0.

    Arguments as for `gaussian_growth_rate`; see `discrete_critical_temperature` for data of any other law. Cost: 0.1 s.

    Raises ValueError where no temperature collapses it (σ² = 0 at batch size 1 …) or every one does (γ ≥ |β₂|).
    """
    noise = DiagonalNoise.gaussian(slope, noise_variance, input_variance)
    continuous = noise.critical_temperature(weight_decay)
    if continuous == 0:
        raise ValueError(f"expected weight decay < |E[xy]| = {abs(noise.product_mean):g}, got {weight_decay}")
    if noise_variance == 0 and weight_decay == 0:
        raise ValueError("all xy have one sign: every batch makes the weight grow, and no temperature collapses it")

    def growth(temperature: float) -> float:
        return gaussian_growth_rate(slope, noise_variance, input_variance, lr=temperature * batch_size,
                                    batch_size=batch_size, weight_decay=weight_decay)  # fmt: skip

    return Prediction(
        first_root(growth, continuous),
        "discrete critical temperature",
        "E log|1 + 2 lr (m̄ − γ)| = 0",
        "depth 1, balanced layers, Gaussian data",
        "derived here",
        "learning rate / batch size",
    )


def mean_log_size(centre: npt.ArrayLike, spread: npt.ArrayLike) -> Array:
    """E log |a + b Z| for standard normal Z, of arrays a (`centre`) and b ≥ 0 (`spread`), not both 0.

    (a + b Z)² / b² is a noncentral χ² number: a Poisson mixture of central ones, whose mean logarithms are digamma
    functions. Far from 0 the series in b / a takes over.
    """
    a, b = np.broadcast_arrays(np.abs(np.asarray(centre, dtype=float)), np.asarray(spread, dtype=float))
    found = np.empty(a.shape)
    far = a >= FAR * b
    share = np.square(b[far] / a[far])
    series, factor = np.zeros_like(share), np.ones_like(share)
    for n in range(1, 11):
        factor = factor * (2 * n - 1) * share
        series -= factor / (2 * n)
    found[far] = np.log(a[far]) + series
    mean = np.square(a[~far] / b[~far]) / 2
    count = np.arange(TERMS)
    log_chance = count * np.log(np.maximum(mean, 1e-300))[:, None] - mean[:, None] - gammaln(count + 1)
    found[~far] = np.log(b[~far]) + (math.log(2) + np.exp(log_chance) @ digamma(count + 0.5)) / 2
    return found


def _squares(batch_size: int) -> tuple[Array, Array]:
    """Logarithms of χ² numbers with S degrees of freedom, and their probabilities."""
    half = batch_size / 2

    def log_density(t: Array) -> Array:
        found: Array = half * (t - math.log(batch_size)) - (np.exp(t) - batch_size) / 2
        return found

    scan = np.linspace(math.log(batch_size) - 100, math.log(batch_size) + 6, 20_000)
    kept = scan[log_density(scan) > LOWEST]
    t = np.linspace(kept[0], kept[-1], NODES)
    weights = np.exp(log_density(t))
    return t, weights / weights.sum()
