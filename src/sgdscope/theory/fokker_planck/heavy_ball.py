"""Heavy ball: SGD with momentum as a particle with friction, and what that does to both rates.

``v ← μ v − lr · g;  θ ← θ + v`` is one step √lr of ``dθ = V dt,  dV = −∇L dt − Γ V dt + √(2ΓT) dW``. Source: Dai & Zhu
2112.00987 for the model; the map of constants derived here and checked by simulation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sgdscope.theory.escape.momentum import (
    discrete_temperature_factor,
    friction,
    growth_rate,
    kinetic_escape_time,
    momentum_temperature,
)
from sgdscope.theory.escape.relaxation import between_wells_relaxation_rate, in_well_relaxation_rate
from sgdscope.theory.escape.white_noise import temperature
from sgdscope.theory.prediction import Prediction


@dataclass(frozen=True)
class HeavyBall:
    """SGD with heavy-ball momentum and isotropic noise, and the kinetic motion it is a step of.

    Rates are per unit of kinetic time, √lr · iterations; `per_iteration` converts.

    Attributes:
        lr: learning rate γ.
        momentum: μ in [0, 1).
        batch_size: M.
        noise_variance: σ² of one sample's gradient, per coordinate.

    Raises ValueError for values outside these ranges.
    """

    lr: float
    momentum: float
    batch_size: float
    noise_variance: float

    def __post_init__(self) -> None:
        momentum_temperature(self.lr, self.momentum, self.noise_variance, self.batch_size)

    @classmethod
    def of_kinetic(cls, time_step: float, friction: float, temperature: float, batch_size: float = 1.0) -> HeavyBall:
        """The heavy ball whose iteration is `time_step` of the kinetic motion with this friction and temperature.

        Raises ValueError unless all are positive and time step · friction ≤ 1.
        """
        if not (time_step > 0 and friction > 0 and temperature > 0):
            raise ValueError(f"expected all > 0, got time step {time_step}, friction {friction}, T {temperature}")
        damping = time_step * friction
        if damping > 1:
            raise ValueError(
                f"expected time step · friction ≤ 1 (momentum ≥ 0), got {damping:.3g}; take a shorter step"
            )
        lr, momentum = time_step**2, 1 - damping
        return cls(lr, momentum, batch_size, temperature / momentum_temperature(lr, momentum, 1.0, batch_size))

    @property
    def time_step(self) -> float:
        """Kinetic time of one iteration: √lr."""
        return math.sqrt(self.lr)

    @property
    def friction(self) -> float:
        """Γ = (1 − μ) / √lr."""
        return friction(self.lr, self.momentum)

    @property
    def temperature(self) -> float:
        """T = lr σ² / (2 M (1 − μ)): that of plain SGD at the effective learning rate."""
        return momentum_temperature(self.lr, self.momentum, self.noise_variance, self.batch_size)

    @property
    def effective_lr(self) -> float:
        """Learning rate lr / (1 − μ) of the plain SGD it becomes at strong friction: same law, same iterations."""
        return self.lr / (1 - self.momentum)

    @property
    def overdamped_temperature(self) -> float:
        """Temperature of that plain SGD: equal to `temperature`, as momentum leaves the stationary law of θ alone."""
        return temperature(self.effective_lr, self.noise_variance, self.batch_size)

    def per_iteration(self, rate: float | Prediction) -> float:
        """A rate per kinetic time as a rate per iteration."""
        return float(rate) * self.time_step

    def in_well_rate(self, least_curvature: float) -> Prediction:
        """Slowest rate inside a quadratic well, ``Re[(Γ − √(Γ² − 4H)) / 2]``: independent of the batch size."""
        return in_well_relaxation_rate(least_curvature, friction=self.friction)

    def between_wells_rate(
        self, curvature_minima: Sequence[float], curvature_saddle: float, barriers: Sequence[float]
    ) -> Prediction:
        """Rate at which the odds of two wells settle: ``Σ_i (λ₊ / 2π) √(H_i / |H_b|) e^(−ΔL_i / T)``.

        `barriers` are saddle minus minimum, one per well. The rate of the kinetic operator is 0.82 to 0.97 of it at
        ΔL/T from 4 to 8 on a quartic double well. Source: Kramers 1940. Raises ValueError without a barrier, or for
        curvatures of the wrong sign.
        """
        return between_wells_relaxation_rate(
            *(
                kinetic_escape_time(barrier, curvature, curvature_saddle, self.temperature, self.friction)
                for curvature, barrier in zip(curvature_minima, barriers, strict=True)
            )
        )

    def slowdown(self, curvature_saddle: float) -> float:
        """How many times more iterations an escape takes than at strong friction: ``|H_b| / (λ₊ Γ)`` ≥ 1.

        Against plain SGD at the effective learning rate, hence at the same temperature.
        """
        return -curvature_saddle / (growth_rate(self.friction, curvature_saddle) * self.friction)

    def mode_temperature(self, curvature: float) -> float:
        """Temperature of one quadratic mode at this learning rate: ``T · 2(1+μ) / (2(1+μ) − lr · h)``.

        Exact for additive noise: the mode's variance is this over h. Raises ValueError for an unstable mode.
        """
        return self.temperature * discrete_temperature_factor(self.lr, self.momentum, curvature)


def best_friction(least_curvature: float) -> float:
    """Friction at which a quadratic well relaxes fastest: ``2√H``, at the rate √H."""
    if not 0 < least_curvature < math.inf:
        raise ValueError(f"expected a curvature > 0, got {least_curvature}")
    return 2 * math.sqrt(least_curvature)
