r"""Discrete threshold: the temperature at which SGD with its real steps, not the SDE, collapses a two-layer network.

Close to 0 both layers of ``ℓ = (u w x − y)² + γ (u² + w²)`` are multiplied in every step by 1 + 2 lr (m̄ − γ), m̄ the
mean of xy over the batch. The weight dies out where E log |1 + 2 lr (m̄ − γ)| turns negative. Derived here; T_c of the
SDE is its first order.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import gammaln

from sgdscope.theory.prediction import Prediction
from sgdscope.theory.stationary.noise import DiagonalNoise

Array = npt.NDArray[np.float64]

OUTCOMES = 20_000
"""Up to this many different batch means are listed one by one."""
CELLS = 2**17
"""Cells of the lattice that holds the law of the batch mean where there are more."""


def growth_rate(x: npt.ArrayLike, y: npt.ArrayLike, *, lr: float, batch_size: int, weight_decay: float = 0.0) -> float:
    """Mean change of ln |v| in one step of SGD close to v = 0: 2 E log |1 + 2 lr (m̄ − γ)|, two balanced layers.

    v is on the side of the optimum, and batches are drawn with replacement; to first order in lr it is
    4 lr (|β₂| − γ − T α₃). Arguments, cost and source as for `discrete_critical_temperature`.
    """
    if not 0 < lr < math.inf:
        raise ValueError(f"expected a learning rate > 0, got {lr}")
    _, products = _pulls(x, y, batch_size, weight_decay)
    means, masses = _batch_means(products, int(batch_size))
    return 2 * _mean_log(means, masses, lr)


def discrete_critical_temperature(
    x: npt.ArrayLike, y: npt.ArrayLike, batch_size: int, weight_decay: float = 0.0
) -> Prediction:
    """T = lr / batch_size at which real SGD on these data collapses a balanced two-layer network to 0.

    Batches are drawn with replacement. The growth rate is exact where the data leave few different batch means (few
    different values of xy, or a small batch); otherwise the law of the batch mean is convolved on a lattice, with
    rounding to cells that keeps its mean (error of the threshold below 1e-5 in the cases tried). It is the first
    temperature at which the growth turns negative on a scan in steps of 5 %: the windows that single fatal batches
    (lr m̄ ≈ −½) open are narrower and passed over. Cost: at most 0.3 s.

    Args:
        x: inputs, shape (samples,).
        y: targets, same shape.
        batch_size: S ≥ 1.
        weight_decay: γ ≥ 0, in the loss as γ ‖θ‖².

    Raises ValueError for data without variance of xy or with a mean below γ, where all batches make the weight grow,
    and where the growth rate stays positive: at large batches the steps get too large before the noise gets large
    enough.

    Source: derived here. The modified loss of Ziyin, Li & Ueda (arXiv 2308.06671, Eq. 54) gives a third of the shift.
    """
    noise, products = _pulls(x, y, batch_size, weight_decay)
    continuous = noise.critical_temperature(weight_decay)
    if continuous == 0:
        least = f"a mean above weight decay {weight_decay:g}" if weight_decay else "a nonzero mean"
        raise ValueError(f"expected {least} of xy: without it v = 0 wins at every temperature")
    if products.min() >= 0:
        raise ValueError("all xy have one sign: every batch makes the weight grow, and no temperature collapses it")
    means, masses = _batch_means(products, int(batch_size))

    def growth(temperature: float) -> float:
        return _mean_log(means, masses, temperature * batch_size)

    return Prediction(
        first_root(growth, continuous),
        "discrete critical temperature",
        "E log|1 + 2 lr (m̄ − γ)| = 0",
        "depth 1, balanced layers, batches with replacement",
        "derived here",
        "learning rate / batch size",
    )


def discrete_correction(x: npt.ArrayLike, y: npt.ArrayLike, batch_size: int) -> Prediction:
    """The same to first order in lr: T_c [1 − lr β₂ (3 + 2κ/S) + 4 lr² κ₃ / (3 S² β₂)] at lr = S T_c.

    κ is the excess kurtosis of xy and κ₃ its third cumulant. For large batches the shift is −3 lr β₂, three times what
    the modified loss of Ziyin, Li & Ueda (arXiv 2308.06671, Eq. 54) says. Arguments as for
    `discrete_critical_temperature`. A warning comes with a shift above 30 %. Derived here.
    """
    noise = DiagonalNoise.of_data(x, y)
    continuous = noise.critical_temperature()
    if continuous == 0:
        raise ValueError("expected a nonzero mean of xy: without it v = 0 wins at every temperature")
    products = noise.sign * np.asarray(x, dtype=float) * np.asarray(y, dtype=float)
    deviation = products - products.mean()
    excess = float(np.mean(deviation**4)) / noise.product_variance**2 - 3
    third = float(np.mean(deviation**3))
    lr, pull = batch_size * continuous, abs(noise.product_mean)
    shift = -lr * pull * (3 + 2 * excess / batch_size) + 4 * lr * lr * third / (3 * batch_size**2 * pull)
    if shift <= -1:
        raise ValueError(f"the expansion in lr fails here (relative shift {shift:.2g}): use the exact threshold")
    return Prediction(
        continuous * (1 + shift),
        "discrete critical temperature",
        "T_c [1 − lr β2 (3 + 2κ/S) + 4 lr² κ3 / (3 S² β2)]",
        "depth 1, balanced layers, small lr",
        "derived here",
        "learning rate / batch size",
        warnings=(f"the relative shift is {shift:.2g}, too large for a first order",) if abs(shift) > 0.3 else (),
    )


def _pulls(x: npt.ArrayLike, y: npt.ArrayLike, batch_size: int, weight_decay: float) -> tuple[DiagonalNoise, Array]:
    """The noise, and xy − γ of every sample, on the side of the optimum."""
    noise = DiagonalNoise.of_data(x, y)
    if batch_size < 1 or batch_size != int(batch_size):
        raise ValueError(f"expected a whole batch size ≥ 1, got {batch_size}")
    if not 0 <= weight_decay < math.inf:
        raise ValueError(f"expected a weight decay ≥ 0, got {weight_decay}")
    return noise, noise.sign * np.asarray(x, dtype=float) * np.asarray(y, dtype=float) - weight_decay


def _mean_log(means: Array, masses: Array, lr: float) -> float:
    """E log |1 + 2 lr m| over values m with their probabilities."""
    grown = 2 * lr * means
    log_size = np.log(np.maximum(np.abs(1 + grown), 1e-300))
    log_size[grown > -0.5] = np.log1p(grown[grown > -0.5])  # keeps the digits of small steps
    return float(masses @ log_size)


def first_root(growth: Callable[[float], float], continuous: float) -> float:
    """Lowest temperature at which the growth turns negative, on a scan around the threshold of the SDE."""
    scan = continuous * 1.05 ** np.arange(-60, 61)
    negative = np.flatnonzero([growth(at) < 0 for at in scan])
    if not negative.size or negative[0] == 0:
        raise ValueError(
            f"none within a factor 19 of T_c = {continuous:.4g}: steps get too large before the noise does "
            "(less so with smaller batches)"
        )
    at = negative[0]
    return float(brentq(growth, scan[at - 1], scan[at], xtol=1e-15 * continuous, rtol=1e-14))


def _batch_means(products: Array, batch_size: int) -> tuple[Array, Array]:
    """Values and probabilities of the mean of a batch drawn with replacement."""
    values, counts = np.unique(products.round(14), return_counts=True)
    chances = counts / counts.sum()
    if batch_size == 1:
        return values, chances
    if math.comb(values.size + batch_size - 1, batch_size) <= OUTCOMES:
        compositions = _compositions(batch_size, values.size)
        logarithm = gammaln(batch_size + 1) - gammaln(compositions + 1).sum(axis=1) + compositions @ np.log(chances)
        return compositions @ values / batch_size, np.exp(logarithm)
    return _convolved(values, chances, batch_size)


def _compositions(total: int, parts: int) -> Array:
    """All ways to write total as an ordered sum of so many whole numbers ≥ 0, shape (ways, parts)."""
    rows = np.arange(total + 1)[:, None]
    rest = total - rows[:, 0]
    for left in range(parts - 2, -1, -1):
        if left == 0:
            return np.column_stack([rows, rest]).astype(float)
        repeats = rest + 1
        rows, rest = np.repeat(rows, repeats, axis=0), np.repeat(rest, repeats)
        taken = np.concatenate([np.arange(n) for n in repeats])
        rows, rest = np.column_stack([rows, taken]), rest - taken
    return np.full((1, 1), float(total))


def _convolved(values: Array, chances: Array, batch_size: int) -> tuple[Array, Array]:
    """The law of the batch mean on a lattice; each value is shared by its two neighbours so that the mean stays."""
    span = values[-1] - values[0]
    cell = span * batch_size / (CELLS - 2 * batch_size)
    place = (values - values[0]) / cell
    low = np.floor(place).astype(int)
    one = np.zeros(CELLS)
    np.add.at(one, low, chances * (1 - (place - low)))
    np.add.at(one, low + 1, chances * (place - low))
    masses = np.fft.irfft(np.fft.rfft(one) ** batch_size, CELLS)
    kept = np.flatnonzero(masses > 1e-14)
    return values[0] + cell * kept / batch_size, masses[kept] / masses[kept].sum()
