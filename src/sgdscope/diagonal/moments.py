"""Moments: what data say about SGD on a diagonal network, with the doubt that a finite sample leaves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sgdscope.estimate import Estimate
from sgdscope.theory import stationary as theory
from sgdscope.theory.stationary import DiagonalNoise

Array = NDArray[np.float64]

BLOCKS = 200
"""Blocks of samples that are left out in turn."""
FEWER = 20
"""Blocks for what takes long."""
FEWEST = 8
"""Samples below which no error is stated."""


@dataclass(frozen=True)
class DataMoments:
    """Moments of data and what follows from them, each an `Estimate` with its standard error. Immutable.

    Values are those of these very data: SGD that draws from them knows no doubt. The errors are those of the data as a
    sample of more (jackknife over blocks of samples).

    Attributes:
        noise: the five moments as theory takes them.
        samples: number of pairs.
        square_variance: α₁ = Var[x²].
        covariance: α₂ = Cov(x², xy).
        product_variance: α₃ = Var[xy].
        square_mean: β₁ = E[x²].
        product_mean: β₂ = E[xy].
        discriminant: Δ = α₁α₃ − α₂².
        optimum: v* = β₂ / β₁.
        critical_temperature: T_c of two layers; failed, with the reason, where there is none, as are the next two.
        mode_temperature: lowest temperature at which the density has no maximum away from 0.
        discrete_critical_temperature: T_c of real steps at the batch size asked for.
    """

    noise: DiagonalNoise
    samples: int
    square_variance: Estimate
    covariance: Estimate
    product_variance: Estimate
    square_mean: Estimate
    product_mean: Estimate
    discriminant: Estimate
    optimum: Estimate
    critical_temperature: Estimate
    mode_temperature: Estimate
    discrete_critical_temperature: Estimate


def data_moments(
    x: ArrayLike, y: ArrayLike, *, batch_size: int = 1, weight_decay: float = 0.0, blocks: int = BLOCKS
) -> DataMoments:
    """Moments of pairs (x, y), the phase boundaries of SGD on ``(v x − y)²``, and their standard errors.

    Args:
        x: inputs, shape (samples,).
        y: targets, same shape.
        batch_size: for the threshold of discrete steps.
        weight_decay: γ ≥ 0, in the loss as γ ‖θ‖².
        blocks: into how many parts the samples are dealt for the jackknife; fewer samples are left out one by one.

    Raises ValueError for what `DiagonalNoise.of_data` refuses. Cost: 0.1 s, with large batches a second.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    noise = DiagonalNoise.of_data(x, y)
    count = min(blocks, len(x)) if len(x) >= FEWEST else 0

    @cache
    def others() -> list[DiagonalNoise]:
        return _without_blocks(noise, x, y, count)

    def estimate(name: str, of: Callable[[DiagonalNoise], float]) -> Estimate:
        return _jackknife(name, lambda: of(noise), lambda: [of(other) for other in others()], len(x))

    def plain(name: str) -> Estimate:
        return estimate(name, lambda other: float(getattr(other, name)))

    return DataMoments(
        noise, len(x), plain("square_variance"), plain("covariance"), plain("product_variance"), plain("square_mean"),
        plain("product_mean"), plain("discriminant"), plain("optimum"),
        estimate("critical_temperature", lambda other: theory.critical_temperature(other, weight_decay).value),
        estimate("mode_temperature", lambda other: theory.mode_temperature(other, weight_decay).value),
        _discrete(noise, x, y, batch_size, weight_decay, min(count, FEWER)),
    )  # fmt: skip


def _without_blocks(noise: DiagonalNoise, x: Array, y: Array, count: int) -> list[DiagonalNoise]:
    """The noise of the data without each block, from sums over the blocks."""
    block = np.arange(len(x)) % max(count, 1)
    a, b = x * x - noise.square_mean, x * y - noise.product_mean
    found = []
    totals = [
        np.bincount(block, weights=part, minlength=count) for part in (np.ones_like(a), a, b, a * a, a * b, b * b)
    ]
    for left in range(count):
        size, *sums = (float(total.sum() - total[left]) for total in totals)
        of_a, of_b, aa, ab, bb = (part / size for part in sums)
        found.append(DiagonalNoise(
            max(aa - of_a * of_a, 0.0), ab - of_a * of_b, max(bb - of_b * of_b, 0.0), noise.square_mean + of_a,
            noise.product_mean + of_b,
        ))  # fmt: skip
    return found


def _discrete(noise: DiagonalNoise, x: Array, y: Array, batch_size: int, weight_decay: float, count: int) -> Estimate:
    """The threshold of real steps; without each block by one step of Newton's from that of all data.

    Its slope is that of the SDE: the growth rate of finite data has narrow windows, which make its own a lottery.
    """
    name = "discrete_critical_temperature"

    def growth(temperature: float, kept: Array | slice = slice(None)) -> float:
        return theory.growth_rate(x[kept], y[kept], lr=temperature * batch_size, batch_size=batch_size,
                                  weight_decay=weight_decay)  # fmt: skip

    def threshold() -> float:
        return theory.discrete_critical_temperature(x, y, batch_size, weight_decay).value

    def replicates() -> list[float]:
        at = threshold()
        slope = -4 * batch_size * at * noise.product_variance  # of 4 lr (β₂ − γ − T α₃) there
        block = np.arange(len(x)) % max(count, 1)
        return [at - growth(at, block != left) / slope for left in range(count)]

    return _jackknife(name, threshold, replicates, len(x))


def _jackknife(
    name: str, value: Callable[[], float], replicates: Callable[[], Sequence[float]], samples: int
) -> Estimate:
    """A value with its error from values without one block each; failed if it does not exist."""
    try:
        found = value()
    except ValueError as error:
        return Estimate.failed(name, str(error), count=samples)
    try:
        others = np.array(replicates())
    except ValueError as error:
        return Estimate(
            name, found, count=samples, status="few_samples", reason=f"not of every part of the data: {error}"
        )
    if not others.size:
        return Estimate(name, found, count=samples, status="few_samples", reason=f"fewer than {FEWEST} samples")
    spread = (len(others) - 1) / len(others) * float(np.square(others - others.mean()).sum())
    return Estimate(name, found, math.sqrt(spread), count=samples)
