r"""What the data must say about themselves: five numbers that fix the noise and the slope of SGD on one input.

All solved models of Ziyin, Li & Ueda (arXiv 2308.06671) have the loss ``ℓ = (v x − y)²`` (no factor ½), where v is
the product of the weights along the network. The derivative of one sample, ψ = 2 (v x² − x y), is linear in v, so the
means, variances and covariance of x² and xy carry everything that the stationary law needs (their Eqs. 8, 10, 11).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

ROUNDING = 1e-12
"""Relative size below which a difference of moments counts as zero."""
TINY = 1e-300
"""Products of moments below this have lost their digits."""


def _deviations(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Values minus their mean; exactly 0 where only rounding separates them, so that constants have no variance."""
    constant = np.ptp(values) <= 1e-14 * np.abs(values).max()
    return np.zeros_like(values) if constant else values - values.mean()


@dataclass(frozen=True)
class DiagonalNoise:
    """Mean and covariance of (x², xy): noise and landscape of regression on one input. Immutable.

    Attributes:
        square_variance: α₁ = Var[x²] ≥ 0.
        covariance: α₂ = Cov(x², xy).
        product_variance: α₃ = Var[xy] ≥ 0.
        square_mean: β₁ = E[x²] > 0, half the curvature of the loss.
        product_mean: β₂ = E[xy], half the pull at v = 0.

    Raises ValueError for numbers that no data can have: not finite, β₁ ≤ 0, or α₁ α₃ < α₂².

    Source: Ziyin, Li & Ueda, arXiv 2308.06671, Eqs. 8 and 10.
    """

    square_variance: float
    covariance: float
    product_variance: float
    square_mean: float
    product_mean: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value = float(getattr(self, field.name))
            if not math.isfinite(value):
                raise ValueError(f"expected a finite {field.name.replace('_', ' ')}, got {value}")
            object.__setattr__(self, field.name, value)
        if self.square_mean <= 0:
            raise ValueError(f"expected E[x²] > 0, got {self.square_mean}: are all inputs zero?")
        slack = ROUNDING * self.square_variance * self.product_variance + TINY
        if min(self.square_variance, self.product_variance) < 0 or self._raw_discriminant < -slack:
            raise ValueError(
                f"expected Var[x²] and Var[xy] ≥ 0 with product ≥ Cov(x², xy)², got {self.square_variance}, "
                f"{self.product_variance} and covariance {self.covariance}: no data have these moments"
            )

    @classmethod
    def of_data(cls, x: npt.ArrayLike, y: npt.ArrayLike) -> DiagonalNoise:
        """The noise of SGD that draws samples with equal weight from these data.

        Args:
            x: inputs, shape (samples,).
            y: targets, same shape.

        Raises ValueError unless both are one-dimensional, of one length ≥ 1, and finite.
        """
        inputs, targets = (np.asarray(array, dtype=float) for array in (x, y))
        if inputs.ndim != 1 or inputs.shape != targets.shape or not inputs.size:
            raise ValueError(f"expected x and y of one shape (samples,), got {inputs.shape} and {targets.shape}")
        if not (np.isfinite(inputs).all() and np.isfinite(targets).all()):
            raise ValueError("expected finite x and y: drop or fill missing samples")
        square, product = inputs**2, inputs * targets
        of_square, of_product = _deviations(square), _deviations(product)
        return cls(
            float(np.mean(of_square**2)),
            float(np.mean(of_square * of_product)),
            float(np.mean(of_product**2)),
            float(square.mean()),
            float(product.mean()),
        )

    @classmethod
    def of_moments(cls, *, x2: float, xy: float, x4: float, x3y: float, x2y2: float) -> DiagonalNoise:
        """From raw moments: ``x3y`` is E[x³y], and so on. Raises ValueError for moments that no data have."""
        return cls(x4 - x2 * x2, x3y - x2 * xy, x2y2 - xy * xy, x2, xy)

    @classmethod
    def gaussian(cls, slope: float, noise_variance: float, input_variance: float = 1.0) -> DiagonalNoise:
        """For ``y = slope · x + ε`` with x and ε Gaussian, centred and independent.

        Args:
            slope: k, the weight that generates the data.
            noise_variance: σ² = Var ε ≥ 0.
            input_variance: s = Var x > 0.
        """
        if not noise_variance >= 0:
            raise ValueError(f"expected a noise variance ≥ 0, got {noise_variance}")
        square = 2 * input_variance * input_variance
        product = slope * slope * square + input_variance * noise_variance
        return cls(square, slope * square, product, input_variance, slope * input_variance)

    @property
    def optimum(self) -> float:
        """Weight v* = β₂ / β₁ of least expected loss."""
        return self.product_mean / self.square_mean

    def g(self, v: Any) -> Any:
        """α₁ v² − 2 α₂ v + α₃: a quarter of the variance of the sample derivative at weight v (scalar or array)."""
        if self.square_variance == 0:
            return self.product_variance + 0 * v
        distance = v - self.covariance / self.square_variance
        return self.square_variance * distance * distance + self.discriminant / self.square_variance

    def mean_gradient(self, v: Any) -> Any:
        """E ψ = 2 (β₁ v − β₂): derivative of the expected loss at weight v (scalar or array)."""
        return 2 * (self.square_mean * v - self.product_mean)

    def gradient_variance(self, v: Any) -> Any:
        """Var ψ = 4 g(v): variance of the derivative of one sample at weight v (scalar or array)."""
        return 4 * self.g(v)

    @property
    def discriminant(self) -> float:
        """Δ = α₁ α₃ − α₂² ≥ 0; exactly 0 where rounding alone separates it from 0.

        It is 0 when ``xy + c = k x²`` for all samples; the least gradient variance is 4 Δ / α₁. The covariance in
        Eq. 11 of Ziyin, Li & Ueda (arXiv 2308.06671) lacks its square.
        """
        raw = self._raw_discriminant
        return raw if raw > ROUNDING * self.square_variance * self.product_variance + TINY else 0.0

    @property
    def _raw_discriminant(self) -> float:
        return self.square_variance * self.product_variance - self.covariance * self.covariance

    @property
    def noiseless_weight(self) -> float | None:
        """The weight k at which all samples have the same derivative, g(k) = 0; None if there is no such weight.

        Where the noise vanishes everywhere (x² and xy constant), k is the optimum.
        """
        if self.square_variance == 0:
            return self.optimum if self.product_variance == 0 else None
        return self.covariance / self.square_variance if self.discriminant == 0 else None

    @property
    def interpolating(self) -> bool:
        """Whether one weight fits every sample: the optimum is free of noise, so SGD that reaches it stays.

        It takes Δ = 0 and a noiseless weight equal to the optimum (``y = k x``). With Δ = 0 alone
        (``xy + c = k x²``, c ≠ 0) the noise vanishes at a weight that the mean gradient leaves.
        """
        k = self.noiseless_weight
        return k is not None and abs(self.square_mean * k - self.product_mean) <= 1e-9 * max(
            abs(self.product_mean), self.square_mean * abs(k)
        )

    def critical_temperature(self, weight_decay: float = 0.0) -> float:
        """T_c = (|β₂| − γ) / α₃ at depth 1: at and above it, η/S drives the weight to 0. 0 if decay alone does.

        Args:
            weight_decay: γ ≥ 0, in the loss as γ ‖θ‖².

        Raises ValueError if Var[xy] = 0: then no temperature collapses the weight.

        Source: Ziyin, Li & Ueda, arXiv 2308.06671, section 4.2.
        """
        if not 0 <= weight_decay < math.inf:
            raise ValueError(f"expected a weight decay ≥ 0, got {weight_decay}")
        if self.product_variance == 0:
            raise ValueError("expected Var[xy] > 0, got 0: at v = 0 there is no noise, hence no critical temperature")
        return max(abs(self.product_mean) - weight_decay, 0.0) / self.product_variance

    @property
    def flipped(self) -> DiagonalNoise:
        """The same data with y → −y, that is v → −v: α₂ and β₂ change sign."""
        return DiagonalNoise(
            self.square_variance, -self.covariance, self.product_variance, self.square_mean, -self.product_mean
        )

    @property
    def sign(self) -> int:
        """Sign of the optimum, +1 or −1; 0 if xy has no mean."""
        return (self.product_mean > 0) - (self.product_mean < 0)

    @property
    def oriented(self) -> DiagonalNoise:
        """Itself, or `flipped` if β₂ < 0: formulas for v > 0 then hold as printed, and v takes `sign` afterwards."""
        return self.flipped if self.product_mean < 0 else self
