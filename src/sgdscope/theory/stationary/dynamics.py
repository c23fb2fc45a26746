r"""The equation that the weight of a deep diagonal linear network obeys under SGD, once its layers are balanced.

A network of depth D has D + 1 factors and d parallel subnetworks, ``v = Σ_i Π_k u_i^(k)``. The law of balance makes all
factors of a subnetwork, and at depth ≥ 1 all subnetworks, alike; what is left is one Itô equation for v. Depth 0 is
linear regression. Source: Ziyin, Li & Ueda, arXiv 2308.06671, Eq. 92 and Theorem 4.1; weight decay derived here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sgdscope.theory.stationary.noise import DiagonalNoise


@dataclass(frozen=True)
class DiagonalDynamics:
    """``dv = drift(v) dt + diffusion(v) dW``, Itô, in time t = lr · iterations. Immutable.

    Attributes:
        noise: moments of the data.
        temperature: T = lr / batch size > 0.
        depth: D: 0, 1, any number ≥ 1.01 (whole ones are networks), or ``math.inf``.
        width: d ≥ 1, number of subnetworks that are alive; at depth ``math.inf`` leave it 1.
        weight_decay: γ ≥ 0, in the loss as γ ‖θ‖².
        width_per_depth: d / D > 0 at infinite depth, where only this ratio counts; None at finite depth.

    Raises ValueError for values outside of these ranges, and for weight decay at infinite depth, where its pull on v
    grows without bound.
    """

    noise: DiagonalNoise
    temperature: float
    depth: float
    width: float = 1.0
    weight_decay: float = 0.0
    width_per_depth: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"expected a temperature (learning rate / batch size) > 0, got {self.temperature}")
        if not (self.depth in (0, 1) or self.depth >= 1.01):
            # just above 1 the closed form of the exponent loses its digits
            raise ValueError(f"expected depth 0, depth 1, a depth ≥ 1.01 or math.inf, got {self.depth}")
        if not 1 <= self.width < math.inf:
            raise ValueError(f"expected a width ≥ 1, got {self.width}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"expected a weight decay ≥ 0, got {self.weight_decay}")
        if math.isinf(self.depth):
            if self.width_per_depth is None or not 0 < self.width_per_depth < math.inf or self.width != 1:
                raise ValueError(
                    "at infinite depth only width / depth counts: expected width_per_depth > 0 and no width, "
                    f"got width_per_depth {self.width_per_depth} and width {self.width}"
                )
            if self.weight_decay:
                raise ValueError("expected no weight decay at infinite depth: its pull on v grows with the depth")
        elif self.width_per_depth is not None:
            raise ValueError(f"width_per_depth belongs to infinite depth: give width at depth {self.depth}")

    @property
    def power(self) -> float:
        """2 D / (D + 1): the power of |v| by which depth slows the motion near 0."""
        return 2.0 if math.isinf(self.depth) else 2 * self.depth / (self.depth + 1)

    @property
    def speed(self) -> float:
        """Factor of ``|v| ** power``: 2 (D + 1) d^{2 / (D + 1) − 1}, at infinite depth 2 D / d."""
        if self.width_per_depth is not None:
            return 2 / self.width_per_depth
        factors = self.depth + 1
        return float(2 * factors * self.width ** (2 / factors - 1))

    def drift(self, v: Any) -> Any:
        """Mean velocity dv/dt at v (scalar or array).

        Descent of the loss, the Itô term of the product of factors (it pushes away from 0), and weight decay.
        """
        v = np.asarray(v, dtype=float)
        descent = -self.speed * np.abs(v) ** self.power * self.noise.mean_gradient(v) / 2
        shrink = -2 * (self.depth + 1) * self.weight_decay * v if self.weight_decay else 0.0
        if self.depth == 0:
            return plain(descent + shrink)
        # D / (2 (D + 1)) · diffusion² / v
        scale = self.power / 4 * self.temperature * self.speed**2
        product = scale * np.abs(v) ** (2 * self.power - 1) * np.sign(v) * self.noise.g(v)
        return plain(descent + product + shrink)

    def diffusion(self, v: Any) -> Any:
        """Factor of dW at v (scalar or array), in units of v / sqrt(lr · iterations)."""
        v = np.asarray(v, dtype=float)
        return plain(self.speed * np.abs(v) ** self.power * np.sqrt(self.temperature * self.noise.g(v)))


def plain(values: Any) -> Any:
    """A Python float for a scalar, the array otherwise."""
    return float(values) if np.ndim(values) == 0 else values
