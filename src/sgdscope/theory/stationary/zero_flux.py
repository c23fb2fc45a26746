r"""Zero-flux density: solves the stationary Fokker-Planck equation, whether it can be normalised or not.

``p(v) ∝ v^{−3D/(D+1)} g(v)^{−1} exp(−(2 / (speed · T)) ∫ (β₁ s − β₂) s^{−power} / g(s) ds)`` with `speed` and `power`
of `DiagonalDynamics` (Ziyin, Li & Ueda, arXiv 2308.06671, Theorem 4.2, integrated from any v > 0 because the printed
limit 0 diverges), and for weight decay γ another factor, derived here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgdscope.theory.stationary.dynamics import DiagonalDynamics
from sgdscope.theory.stationary.potential import potential

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ZeroFlux:
    """Logarithm of the zero-flux density of the dynamics, up to a constant, on v > 0 (depth 0: on both sides)."""

    dynamics: DiagonalDynamics

    def log_density(self, v: Array) -> Array:
        """Log p(v) without its constant; v on one side of a zero of g. A few microseconds per point."""
        dynamics, noise = self.dynamics, self.dynamics.noise
        slope, constant, weight_decay = self._pull
        strength = 2 / (dynamics.speed * dynamics.temperature)
        exponent = strength * potential(noise, slope, constant, dynamics.power, v)
        if weight_decay:
            exponent += self._decay_strength * potential(noise, 0.0, -1.0, 2 * dynamics.power - 1, v)
        log_prefactor = -np.log(noise.g(v))
        if dynamics.depth:
            log_prefactor -= 1.5 * dynamics.power * np.log(v)
        found: Array = log_prefactor - exponent
        return found

    def slope(self, v: Array) -> Array:
        """Derivative of log p by v."""
        dynamics, noise = self.dynamics, self.dynamics.noise
        pull, constant, weight_decay = self._pull
        strength = 2 / (dynamics.speed * dynamics.temperature)
        force = strength * (pull * v - constant) * v**-dynamics.power
        if weight_decay:
            force += self._decay_strength * v ** (1 - 2 * dynamics.power)
        growth = 2 * (noise.square_variance * v - noise.covariance)  # of g
        found: Array = -(growth + force) / noise.g(v)
        return found - 1.5 * dynamics.power / v if dynamics.depth else found

    @property
    def _pull(self) -> tuple[float, float, float]:
        """(β₁, β₂, γ), with γ inside of the first two where it only shifts them: at depths 0 and 1."""
        dynamics, noise = self.dynamics, self.dynamics.noise
        if dynamics.depth == 0:
            return noise.square_mean + dynamics.weight_decay / dynamics.width, noise.product_mean, 0.0
        if dynamics.depth == 1:
            return noise.square_mean, noise.product_mean - dynamics.weight_decay, 0.0
        return noise.square_mean, noise.product_mean, dynamics.weight_decay

    @property
    def _decay_strength(self) -> float:
        dynamics = self.dynamics
        return 4 * (dynamics.depth + 1) * dynamics.weight_decay / (dynamics.speed**2 * dynamics.temperature)
