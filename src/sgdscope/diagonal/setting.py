"""Setting: one diagonal network under SGD on given data, as theory and simulation take it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sgdscope.diagonal.data import RegressionData
from sgdscope.simulate.data import SGD, DiagonalNetwork
from sgdscope.theory.stationary import DiagonalDynamics, DiagonalLaw, DiagonalNoise

Array = NDArray[np.float64]

_FAST, _SLOW = 40.0, 6.0
"""Relaxation times, around the optimum and close to 0, after which a run counts as settled."""
_LONGEST = 1e12
_CLOSE = 0.01
"""(1 − T / T_c)² below which runs are not made longer."""


@dataclass(frozen=True)
class Setting:
    """SGD on ``ℓ = (v x − y)² + γ ‖θ‖²``, v a sum over subnetworks of products of weights.

    Attributes:
        data: what batches are drawn from.
        lr: learning rate > 0.
        batch_size: S ≥ 1.
        depth: D ≥ 0; subnetworks of D + 1 layers.
        width: number of subnetworks.
        weight_decay: γ ≥ 0; PyTorch's ``weight_decay`` is 2 γ.

    Raises ValueError for numbers out of range.
    """

    data: RegressionData
    lr: float
    batch_size: int = 1
    depth: int = 1
    width: int = 1
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _ = self.network, self.process

    @cached_property
    def network(self) -> DiagonalNetwork:
        """What is trained."""
        return DiagonalNetwork(self.depth, self.data.source, self.width, self.weight_decay)

    @cached_property
    def process(self) -> SGD:
        """How."""
        return SGD(self.lr, self.batch_size)

    @property
    def noise(self) -> DiagonalNoise:
        """Moments of the data."""
        return self.data.noise

    @property
    def temperature(self) -> float:
        """T = lr / batch size."""
        return self.lr / self.batch_size

    @property
    def unit(self) -> float:
        """Size of weights: that of the optimum; if that is 0, where the mean gradient is as large as its noise."""
        return abs(self.noise.optimum) or math.sqrt(self.noise.product_variance) / self.noise.square_mean or 1.0

    @property
    def relative_temperature(self) -> float | None:
        """T / T_c at depth 1; None where there is no T_c."""
        if self.depth != 1 or self.noise.product_variance == 0:
            return None
        critical = self.noise.critical_temperature(self.weight_decay)
        return self.temperature / critical if critical else None

    def weights(self, start: Sequence[float] = ()) -> Array:
        """Weights, of shape (n,), that a start means.

        Args:
            start: nothing for the optimum (`unit`, if that is 0), a number for the weight v of the whole network, a
                number for each subnetwork (both with balanced layers), or all weights, one subnetwork after the other.

        Raises ValueError for another number of numbers, and for numbers that are not finite.
        """
        given = [self.noise.optimum or self.unit] if not len(start) else [float(number) for number in start]
        if not np.isfinite(given).all():
            raise ValueError(f"expected finite starting weights, got {tuple(start)}")
        layers, count = self.depth + 1, len(self.network.symbols)
        if len(given) == count and count > 1:
            return np.array(given)
        if len(given) == 1:
            return self.network.balanced(given[0])
        if len(given) == self.width:
            one = DiagonalNetwork(self.depth, self.data.source)
            return np.concatenate([one.balanced(v) for v in given])
        expected = dict.fromkeys((1, self.width, self.width * layers))
        raise ValueError(f"expected a start of {' or '.join(map(str, expected))} numbers, got {len(given)}")

    def subnetworks(self, weights: Array) -> Array:
        """v_i of each subnetwork, of shape (..., width), for weights of shape (..., n)."""
        found: Array = weights.reshape((*weights.shape[:-1], self.width, self.depth + 1)).prod(-1)
        return found

    def living(self, weights: Array) -> int:
        """Subnetworks that theory expects to live on: at depth ≥ 1 those on the side of the optimum."""
        if self.depth == 0:
            return self.width
        return int((self.subnetworks(weights) * self.noise.sign > 0).sum())

    def law(self, weights: Array) -> DiagonalLaw:
        """The stationary law that runs from these weights should settle in.

        With weight decay at depth > 1 it is the metastable one, if there is one. Raises ValueError where theory has no
        law.
        """
        living, start = self.living(weights), None
        if self.depth and self.noise.sign:
            v = abs(float(self.subnetworks(weights).sum()))
            start = self.noise.sign * (v if living else -v)
        width = max(living, 1)
        if self.depth > 1 and self.weight_decay > 0 and living:
            try:
                return DiagonalLaw(self.noise, self.temperature, self.depth, width, self.weight_decay, metastable=True)
            except ValueError:  # there is no state to be held in
                pass
        return DiagonalLaw(self.noise, self.temperature, self.depth, width, self.weight_decay, start=start)

    def settling_steps(self, law: DiagonalLaw) -> int:
        """Steps after which a run from the optimum should have settled in the law.

        Depth 1 relaxes in ``1 / (4 β₂)`` around the optimum, and what comes near 0 in ``2 r / ((1 − r)² β₂)`` with
        r = T / T_c: the gap of a random walk of ln v that drifts towards a wall.
        """
        noise, pull = self.noise.oriented, abs(self.noise.product_mean) - self.weight_decay
        if self.depth == 0:
            time = _FAST / (2 * noise.square_mean)
        elif self.depth == 1 and pull > 0:
            ratio = self.relative_temperature or 0.0
            time = (_FAST / 4 + _SLOW * 2 * ratio / max((1 - ratio) ** 2, _CLOSE)) / pull
        elif self.depth == 1:  # it sinks to 0 at this rate
            time = _FAST / 4 / (noise.product_variance * self.temperature - pull or 1.0)
        else:
            dynamics, low = DiagonalDynamics(noise, self.temperature, self.depth), self.unit
            if not law.collapsed:
                low = min(low, *(abs(float(law.quantile(share))) for share in (0.05, 0.95)))
            force = abs(noise.product_mean) or noise.square_mean * self.unit
            time = _FAST * max(low, 1e-12) ** (1 - dynamics.power) / (dynamics.speed * force)
        return math.ceil(min(time / self.lr, _LONGEST))
