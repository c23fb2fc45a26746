"""Growth: how fast runs leave the neighbourhood of 0, or sink into it, which decides between the phases."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from sgdscope.diagonal.motion import Motion
from sgdscope.estimate import Estimate

_NEAR = 1e-24
"""Weight v at the start: so small that the loss is quadratic in both layers for as long as the runs last."""
_FEWEST = 0.99
"""Share of the replicas that must not diverge: without the others growth would come out too small."""
_TIME = 2.0
"""Length of the runs in units of 1 / β₂."""


@dataclass(frozen=True)
class Growth:
    """Growth of ln |v| close to 0 at depth 1, from runs, per learning rate · steps.

    Attributes:
        rate: its mean; theory has 4 (β₂ − γ − T α₃) for small steps. Runs collapse where it is negative.
        spread: variance of ln |v| per time; theory has 16 T α₃ for small steps.
        exponent: θ = 2 rate / spread, with which P(|v| < x) ~ x^θ in the stationary law: below 1 the density diverges
            at 0.

    All three have failed if replicas diverged on their way.
    """

    rate: Estimate
    spread: Estimate
    exponent: Estimate


def growth_at_zero(motion: Motion, *, replicas: int = 20_000, seed: int = 0, threads: int | None = None) -> Growth:
    """Growth of ln |v| close to 0, on the side of the optimum.

    Raises ValueError at another depth than 1, and for data without mean of xy, whose runs go nowhere in particular.
    """
    setting = motion.setting
    if setting.depth != 1:
        raise ValueError(f"expected depth 1, got {setting.depth}: elsewhere runs do not leave 0 exponentially")
    if not setting.noise.sign:
        raise ValueError("expected a nonzero mean of xy: without it nothing pulls the weight away from 0")
    if setting.noise.product_variance == 0:
        raise ValueError("expected noise in xy: without it there is no spread")
    steps = motion.steps(_TIME / abs(setting.noise.product_mean))
    found = motion.run(steps=steps, start=motion.start(_NEAR), replicas=replicas, seed=seed, threads=threads)
    v = np.abs(motion.weights(found.positions[~found.diverged]))
    if len(v) < _FEWEST * replicas:
        lost = Estimate.failed("growth_rate", "replicas diverged on their way from 0", status="diverged")
        return Growth(lost, replace(lost, name="growth_spread"), replace(lost, name="exponent"))
    change = np.log(np.maximum(v, 1e-300) / _NEAR)
    mean, variance, n = float(change.mean()), float(change.var(ddof=1)), len(change)
    squares = np.square(change - mean)
    # θ = 2 m / s²: its error to first order in those of mean and variance, which are correlated where growth is skew
    exponent = 2 * mean / variance
    influence = 2 * (change - mean) / variance - exponent * (squares - variance) / variance
    unit, time = "1 / (learning rate · steps)", found.time
    return Growth(
        Estimate("growth_rate", mean / time, math.sqrt(variance / n) / time, count=n, unit=unit),
        Estimate(
            "growth_spread", variance / time, float(squares.std(ddof=1)) / math.sqrt(n) / time, count=n, unit=unit
        ),
        Estimate("exponent", exponent, float(influence.std(ddof=1)) / math.sqrt(n), count=n),
    )
