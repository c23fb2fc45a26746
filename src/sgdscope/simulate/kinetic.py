r"""Kinetic Langevin: SGD with momentum as a differential equation of position and velocity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sgdscope.simulate.process import Array, Update, gradient, parameter, positive, symbols


@dataclass(frozen=True)
class Kinetic:
    r""":math:`d\theta = v\,dt,\; dv = -\nabla L\,dt - \gamma v\,dt + \sqrt{2\gamma T}\,dW`, in steps of a given time.

    Stationary law exp(−(L + v²/2)/T). The noise is additive, so that Itô and Stratonovich are the same. Heavy ball with
    learning rate lr, momentum μ and batch noise of variance C is this in time √lr · iterations; see `of_momentum`.

    Attributes:
        friction: γ > 0.
        temperature: T > 0.
        step: Δt > 0.
        scheme: ``"baoab"`` (Leimkuhler & Matthews 2013): half a kick, half a drift, friction and noise exactly, half a
            drift, half a kick. Configurations of the stationary law to order 2, on quadratics exactly.

    Raises ValueError for numbers that are not positive and for other schemes.
    """

    friction: float
    temperature: float
    step: float
    scheme: Literal["baoab"] = "baoab"

    def __post_init__(self) -> None:
        positive(self, friction=self.friction, temperature=self.temperature, step=self.step)
        if self.scheme != "baoab":
            raise ValueError(f"expected scheme 'baoab', got {self.scheme!r}")

    @classmethod
    def of_momentum(cls, lr: float, momentum: float, variance: float) -> Kinetic:
        """The equation of heavy ball with constant noise: Δt = √lr, γ = (1 − μ)/√lr, T = lr · variance / (2 (1 − μ)).

        Args:
            lr: learning rate.
            momentum: μ with 0 ≤ μ < 1.
            variance: of the batch gradient, along each coordinate.

        Raises ValueError for numbers out of range.
        """
        if not 0 <= momentum < 1 or not 0 < lr < math.inf or not 0 < variance < math.inf:
            raise ValueError(f"expected lr, variance > 0 and 0 ≤ momentum < 1, got {lr}, {variance} and {momentum}")
        step = math.sqrt(lr)
        return cls((1 - momentum) / step, lr * variance / (2 * (1 - momentum)), step)

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
        """4 / Δt²."""
        return 4 / self.step**2

    def update(self, landscape: Any) -> Update:
        """BAOAB, with the last gradient kept for the next step."""
        x = landscape.symbols
        n = len(x)
        z, v, slope, there, middle, kicked = (symbols(f"_{p}", n) for p in ("z", "v", "s", "x", "m", "u"))
        half, keep, kick = parameter("half_step"), parameter("keep"), parameter("kick")
        steps: list[tuple[Any, Any]] = []
        for i in range(n):
            steps.append((middle[i], v[i] - half * slope[i]))
            steps.append((kicked[i], keep * middle[i] + kick * z[i]))
            steps.append((there[i], x[i] + half * (middle[i] + kicked[i])))
        gradients, after = gradient(landscape, "_g", there)
        velocities = tuple(kicked[i] - half * after[i] for i in range(n))
        decay = math.exp(-self.friction * self.step)
        numbers = {half: self.step / 2, keep: decay, kick: math.sqrt(self.temperature * (1 - decay**2))}
        return Update(
            x, (*steps, *gradients), (*there, *velocities, *after), tuple(z), (*v, *slope), parameters=numbers
        )

    def memory_at(self, landscape: Any, positions: Array) -> Array:
        """Velocities zero, and the gradients at the start."""
        slopes = np.asarray(landscape.gradient(positions[0] if len(positions) == 1 else positions.T))
        return np.concatenate([np.zeros_like(positions), np.reshape(slopes.T, positions.shape)])

    def variance_rate(self, landscape: Any) -> None:
        """None: paths are smooth in θ."""
        return None
