r"""SGD on a two-layer diagonal network as the differential equation that theory solves, in a coordinate of even noise.

``dv = [−4v(β₁v − β₂ + γ) + 4Tvg] dt + 4v √(Tg) dW`` (Itô; Ziyin, Li & Ueda, arXiv 2308.06671, Eq. 92 at depth 1) has
noise that grows with v², which explicit steps in v or log v do not stand. In the coordinate q ≥ 0 with
``v = α₃ / (√Δ [sinh(q + q₀) − sinh q₀])``, ``sinh q₀ = −α₂ / √Δ``, which ends at v = ∞ and has v → 0 as e^{−q}, it is

    dq = 4√α₃ {(β₁v − β₂ + γ) + T g + T v g'} / √g dt + 4√(α₃T) dW,

noise of one size everywhere. Near q = 0 the drift is 12 α₃T / q: a Bessel process of dimension 2.5, which does not
reach v = ∞.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy

from sgdscope.simulate.data.minibatch import Array
from sgdscope.simulate.process import Update, parameter, positive
from sgdscope.theory.stationary import DiagonalNoise

_STEP = 0.01
"""Of a step of unstated length: α₃ T Δt, so that q moves by 0.4, and the pull β₂ Δt."""


@dataclass(frozen=True)
class BalancedWeight:
    """The weight v > 0 of a two-layer diagonal network with balanced layers: what `WeightDiffusion` moves.

    Its state is ``log_v``, which is what to record, and ``q``; see `start`.

    Attributes:
        noise: moments of the data, with Δ > 0 and β₂ > 0.
        weight_decay: γ ≥ 0, in the loss as γ ‖θ‖².

    Raises ValueError for data whose noise vanishes at some weight or whose optimum is not positive.
    """

    noise: DiagonalNoise
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.noise.discriminant == 0:
            raise ValueError(
                "expected noise that vanishes at no weight (Δ > 0): without it there is no such coordinate"
            )
        if self.noise.product_mean <= 0:
            raise ValueError(f"expected E[xy] > 0, got {self.noise.product_mean}: flip the sign of y (noise.oriented)")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"expected a weight decay ≥ 0, got {self.weight_decay}")

    @property
    def symbols(self) -> tuple[Any, ...]:
        """Symbols of log v and q."""
        return sympy.Symbol("log_v", real=True), sympy.Symbol("q", real=True)

    def start(self, v: npt.ArrayLike) -> Array:
        """The state, of shape (..., 2), at weights v > 0. Raises ValueError for others."""
        weights = np.asarray(v, dtype=float)
        if not ((weights > 0) & (weights < math.inf)).all():
            raise ValueError("expected weights v > 0")
        a2, a3, root = self.noise.covariance, self.noise.product_variance, math.sqrt(self.noise.discriminant)
        q = np.arcsinh((a3 / weights - a2) / root) - math.asinh(-a2 / root)
        return np.stack([np.log(weights), q], axis=-1)


@dataclass(frozen=True)
class WeightDiffusion:
    """Euler's steps along q of the differential equation of `BalancedWeight`; weak order 1.

    Attributes:
        temperature: T = lr / batch size > 0.
        step: Δt > 0, in learning rate · iterations; see `usual`.

    Raises ValueError for numbers that are not positive.
    """

    temperature: float
    step: float

    def __post_init__(self) -> None:
        positive(self, temperature=self.temperature, step=self.step)

    @classmethod
    def usual(cls, noise: DiagonalNoise, temperature: float) -> WeightDiffusion:
        """With a step at which the law is right to a percent."""
        return cls(temperature, _STEP / max(noise.product_variance * temperature, abs(noise.product_mean)))

    @property
    def duration(self) -> float:
        """Δt."""
        return self.step

    @property
    def continuous(self) -> bool:
        """True: the step is only a means."""
        return True

    @property
    def curvature_limit(self) -> float:
        """2 / Δt."""
        return 2 / self.step

    def update(self, landscape: BalancedWeight) -> Update:
        """The step. Raises ValueError for another landscape than `BalancedWeight`."""
        if not isinstance(landscape, BalancedWeight):
            raise ValueError(f"expected a BalancedWeight, got {type(landscape).__name__}")
        noise = landscape.noise
        log_v, q = landscape.symbols
        names = "a1", "a2", "a3", "b1", "pull", "heat", "dt", "root", "kick", "repelled", "origin", "lead"
        a1, a2, a3, b1, pull, heat, dt, root, kick, repelled, origin, lead = map(parameter, names)
        v, g, drift, moved, after, z = (sympy.Symbol(f"_{name}", real=True) for name in ("v", "g", "f", "m", "q", "z"))
        steps = (
            (v, sympy.exp(log_v)),
            (g, v * (a1 * v - 2 * a2) + a3),
            (drift, (b1 * v - pull + heat * (g + 2 * v * (a1 * v - a2))) / sympy.sqrt(g)),
            (moved, q + dt * (root * drift - repelled / q) + kick * z),
            # the part that repels from q = 0 (v = ∞), taken at the end of the step: it cannot be stepped over
            (after, (moved + sympy.sqrt(moved**2 + 4 * dt * repelled)) / 2),
        )
        # ln v = ln(α₃ / (2 √Δ)) − ln cosh(q/2 + q₀) − ln sinh(q/2), both by exponentials that cannot overflow
        half = after / 2
        cosh = half + sympy.log(sympy.exp(origin) + sympy.exp(-origin - after))
        sinh = half + sympy.log(1 - sympy.exp(-after))
        size = math.sqrt(noise.discriminant)
        numbers = {
            a1: noise.square_variance, a2: noise.covariance, a3: noise.product_variance, b1: noise.square_mean,
            pull: noise.product_mean - landscape.weight_decay, heat: self.temperature, dt: self.step,
            root: 4 * math.sqrt(noise.product_variance),
            kick: 4 * math.sqrt(noise.product_variance * self.temperature * self.step),
            repelled: 12 * noise.product_variance * self.temperature,
            origin: math.asinh(-noise.covariance / size), lead: math.log(2 * noise.product_variance / size),
        }  # fmt: skip
        return Update((log_v, q), steps, (lead - cosh - sinh, after), (z,), parameters=numbers)

    def memory_at(self, landscape: Any, positions: Array) -> Array:
        """None."""
        return np.zeros((0, positions.shape[1]))

    def variance_rate(self, landscape: BalancedWeight) -> Any:
        """16 T g of log v, 16 T α₃ of q, and what they share."""
        log_v, _ = landscape.symbols
        noise, v = landscape.noise, sympy.exp(log_v)
        g = noise.square_variance * v**2 - 2 * noise.covariance * v + noise.product_variance
        sides = sympy.Matrix([sympy.sqrt(g), -sympy.sqrt(noise.product_variance)])
        return 16 * self.temperature * sides * sides.T
