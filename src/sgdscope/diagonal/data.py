"""Data on one input that diagonal networks are trained on: Gaussian ones, drawn afresh, or a table of pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sgdscope.simulate.data import Pairs, Stream
from sgdscope.theory import stationary as theory
from sgdscope.theory.prediction import Prediction
from sgdscope.theory.stationary import DiagonalNoise

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GaussianData:
    """``y = slope · x + ε`` with x and ε Gaussian, centred and independent, each sample drawn afresh.

    Attributes:
        slope: k.
        noise_variance: σ² = Var ε ≥ 0.
        input_variance: s = Var x > 0.

    Raises ValueError for numbers out of range.
    """

    slope: float = 1.0
    noise_variance: float = 1.0
    input_variance: float = 1.0

    def __post_init__(self) -> None:
        _ = self.source, self.noise

    @cached_property
    def source(self) -> Stream:
        """What SGD draws from."""
        return Stream.gaussian(self.slope, self.noise_variance, self.input_variance)

    @cached_property
    def noise(self) -> DiagonalNoise:
        """The five moments that theory takes."""
        return DiagonalNoise.gaussian(self.slope, self.noise_variance, self.input_variance)

    @property
    def deviation(self) -> float:
        """σ: standard deviation of the targets about the best line."""
        return math.sqrt(self.noise_variance)

    def with_deviation(self, deviation: float) -> GaussianData:
        """The same with another σ."""
        return replace(self, noise_variance=deviation**2)

    def growth_rate(self, lr: float, batch_size: int, weight_decay: float) -> float:
        """Mean change of ln |v| per step close to 0, two layers; see `theory.stationary.growth_rate`."""
        return theory.gaussian_growth_rate(
            self.slope, self.noise_variance, self.input_variance, lr=lr, batch_size=batch_size,
            weight_decay=weight_decay,
        )  # fmt: skip

    def discrete_critical_temperature(self, batch_size: int, weight_decay: float) -> Prediction:
        """T_c of real steps, two layers. Raises ValueError where there is none."""
        return theory.gaussian_discrete_critical_temperature(
            self.slope, self.noise_variance, self.input_variance, batch_size=batch_size, weight_decay=weight_decay
        )

    def __str__(self) -> str:
        inputs = "" if self.input_variance == 1 else f", inputs of variance {self.input_variance:g}"
        return f"y = {self.slope:g} x + noise of variance {self.noise_variance:g}{inputs}, drawn afresh"


@dataclass(frozen=True, eq=False)
class SampledData:
    """Pairs of equal weight that batches are drawn from with replacement.

    Attributes:
        x: inputs, shape (samples,).
        y: targets, same shape.
        name: what they are called.

    Raises ValueError unless both are of one shape, with a sample at least, and finite.
    """

    x: Array
    y: Array
    name: str = "data"

    def __post_init__(self) -> None:
        _ = self.source

    @cached_property
    def source(self) -> Pairs:
        """What SGD draws from."""
        return Pairs(self.x, self.y)

    @property
    def noise(self) -> DiagonalNoise:
        """The five moments that theory takes."""
        return self.source.noise

    @cached_property
    def deviation(self) -> float:
        """σ: root mean square of the targets about the best line."""
        return float(np.sqrt(np.mean(np.square(self.source.y - self.noise.optimum * self.source.x))))

    def with_deviation(self, deviation: float) -> SampledData:
        """The same with what the best line leaves over made larger or smaller. Raises ValueError if nothing is left."""
        if self.deviation == 0:
            raise ValueError("expected targets off the best line: nothing is left over that could be made larger")
        line = self.noise.optimum * self.source.x
        return replace(self, y=line + (self.source.y - line) * (deviation / self.deviation))

    def growth_rate(self, lr: float, batch_size: int, weight_decay: float) -> float:
        """Mean change of ln |v| per step close to 0, two layers; see `theory.stationary.growth_rate`."""
        return theory.growth_rate(self.x, self.y, lr=lr, batch_size=batch_size, weight_decay=weight_decay)

    def discrete_critical_temperature(self, batch_size: int, weight_decay: float) -> Prediction:
        """T_c of real steps, two layers. Raises ValueError where there is none."""
        return theory.discrete_critical_temperature(self.x, self.y, batch_size, weight_decay)

    def __str__(self) -> str:
        return f"{len(self.x):,} pairs of {self.name}, drawn with replacement"


RegressionData = GaussianData | SampledData
