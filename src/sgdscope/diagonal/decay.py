"""Balance decay: how noise makes unlike layers alike, in runs and by the law of balance along their paths."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sgdscope.diagonal.setting import Setting
from sgdscope.estimate import Estimate
from sgdscope.simulate import Average, ensemble

Array = NDArray[np.float64]

_FOLDS = 4.0
"""E-foldings of the decay that a run of unstated length lasts."""
_MOST = 20_000
"""Steps of such a run at most."""
_STRETCH = 1.5
"""By how much layers that begin alike are made unlike: one times this, its neighbour divided by it."""
_FEWEST = 30
"""Replicas below which nothing is said."""
_ALIKE = 1e-9


@dataclass(frozen=True)
class BalanceDecay:
    """Change of ln |u² − w²| of two neighbouring layers u, w: medians over the runs, as rare large weights rule means.

    Attributes:
        measured: of the runs.
        continuous: −4 ∫ (T g f² + γ) dt along each path: the law of balance of the differential equation.
        discrete: the same with the second moment of the batch gradient for its variance, T g + lr (β₁ v − β₂)², as
            steps have it.
        steps: of the runs.
        start: weights they began from.
        layers: names of u and w.
    """

    measured: Estimate
    continuous: float
    discrete: float
    steps: int
    start: Array
    layers: tuple[str, str]


def unlike(setting: Setting, weights: Array) -> tuple[Array, int]:
    """Weights with layers that are unlike, and the place of the first of the two most unlike neighbours.

    If all are alike, the first two layers are made unlike, at the same v.
    """
    layers = weights.reshape(setting.width, setting.depth + 1).copy()
    charge = np.abs(np.diff(np.square(layers), axis=1))
    if charge.max() <= _ALIKE * np.square(layers).max():
        layers[0, 0] *= _STRETCH
        layers[0, 1] /= _STRETCH
        charge = np.abs(np.diff(np.square(layers), axis=1))
    network, layer = divmod(int(charge.argmax()), setting.depth)
    return layers.ravel(), network * (setting.depth + 1) + layer


def balance_decay(
    setting: Setting, weights: Array, *, steps: int | None = None, replicas: int = 500, seed: int = 0,
    threads: int | None = None,
) -> BalanceDecay:  # fmt: skip
    """Run replicas from weights, made unlike if they are alike, and follow the largest difference u² − w².

    Args:
        setting: what to run.
        weights: to start from, shape (n,); see `unlike`.
        steps: how many. [four e-foldings, at most 20,000 steps]
        replicas: how many.
        seed: of the noise.
        threads: of the processor. [all]

    Raises ValueError at depth 0, and where all weights are 0.

    Source: Ziyin, Li & Ueda, arXiv 2308.06671, Eqs. 7 and 69 (with the factor 4 that it lacks); App. A.3 for discrete.
    """
    if setting.depth == 0:
        raise ValueError("expected depth ≥ 1: one layer has no other to be balanced with")
    start, at = unlike(setting, weights)
    if not np.any(start):
        raise ValueError("expected weights other than 0: there everything stays as it is")
    network, names = setting.network, setting.network.variables
    layers = setting.depth + 1
    first = at // layers * layers
    rest = [names[i] for i in range(first, first + layers) if i not in (at, at + 1)]
    factor, v = "*".join(rest) or "1", f"({network.weight})"
    observed = [f"({factor})**2", f"{v}*({factor})**2", f"{v}**2*({factor})**2"]
    count = _length(setting, start, at, first) if steps is None else steps
    found = ensemble(
        network, setting.process, steps=count, start=start, replicas=replicas, seed=seed, threads=threads,
        record=Average(*observed), precision="float64", fast=True,
    )  # fmt: skip
    kept = found.positions[~found.diverged]
    before = start[at] ** 2 - start[at + 1] ** 2
    after = np.abs(kept[:, at] ** 2 - kept[:, at + 1] ** 2)
    changes = np.log(np.maximum(after, 1e-300) / abs(before))
    if len(changes) < _FEWEST:
        measured = Estimate.failed("balance_decay", "nearly all replicas diverged", status="diverged")
        return BalanceDecay(measured, 0.0, 0.0, found.steps, start, (names[at], names[at + 1]))
    assert found.averages is not None
    one, mean, square = (found.averages.sums[:3, ~found.diverged] / found.averages.sums[3, ~found.diverged]).astype(
        float
    )
    noise, time = setting.noise, found.steps * setting.lr
    g = noise.square_variance * square - 2 * noise.covariance * mean + noise.product_variance * one
    b1, b2 = noise.square_mean, noise.product_mean
    slope = b1 * b1 * square - 2 * b1 * b2 * mean + b2 * b2 * one
    continuous = -4 * time * (setting.temperature * g + setting.weight_decay)
    low, middle, high = np.quantile(changes, 0.5 + np.array([-0.5, 0.0, 0.5]) / math.sqrt(len(changes)))
    return BalanceDecay(
        Estimate("balance_decay", float(middle), float(high - low) / 2, count=len(changes)),
        float(np.median(continuous)), float(np.median(continuous - 4 * time * setting.lr * slope)), found.steps, start,
        (names[at], names[at + 1]),
    )  # fmt: skip


def _length(setting: Setting, start: Array, at: int, first: int) -> int:
    """Steps of four e-foldings at the optimum, as far as that can be told beforehand."""
    layers = [start[i] for i in range(first, first + setting.depth + 1) if i not in (at, at + 1)]
    factor = math.prod(layer * layer for layer in layers)
    rate = 4 * (setting.temperature * float(setting.noise.g(setting.noise.optimum)) * factor + setting.weight_decay)
    return int(min(max(_FOLDS / (rate * setting.lr), 100), _MOST)) if rate > 0 else _MOST
