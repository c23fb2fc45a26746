r"""Fluctuations: at depth ≥ 1 the variance of the weight first rises with temperature, then falls as v shrinks to 0.

Derived here from the stationary law of Ziyin, Li & Ueda (arXiv 2308.06671), who state the inversion in section 4.2.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from sgdscope.theory.prediction import Prediction
from sgdscope.theory.stationary.coordinates import HalfLine
from sgdscope.theory.stationary.dynamics import DiagonalDynamics
from sgdscope.theory.stationary.law import DiagonalLaw
from sgdscope.theory.stationary.noise import DiagonalNoise
from sgdscope.theory.stationary.phases import UNIT, critical_temperature
from sgdscope.theory.stationary.profile import Profile
from sgdscope.theory.stationary.zero_flux import ZeroFlux


class FluctuationPeak(NamedTuple):
    """Temperature at which the variance of the stationary law is largest, and that variance."""

    temperature: Prediction
    variance: Prediction


def fluctuation_peak(
    noise: DiagonalNoise,
    depth: float = 1,
    width: float = 1.0,
    weight_decay: float = 0.0,
    width_per_depth: float | None = None,
) -> FluctuationPeak:
    """Where Var[v] stops growing with temperature. Below T_c at depth 1; there is one at greater depth, too.

    Arguments as for `DiagonalLaw`. Costs about forty laws, 0.3 s.

    Raises ValueError at depth 0, where the variance only grows, for data whose noise vanishes at some weight, and for
    weight decay at depth > 1 (no stationary law).
    """
    if depth == 0:
        raise ValueError("expected depth ≥ 1: without hidden layers the variance grows with temperature throughout")
    if noise.noiseless_weight is not None:
        raise ValueError(f"the noise vanishes at v = {noise.noiseless_weight:g}: the variance has no peak of this kind")
    if depth > 1 and weight_decay:
        raise ValueError("expected no weight decay at depth > 1: the stationary law is a point mass at 0")

    def minus_variance(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        return -DiagonalLaw(noise, temperature, depth, width, weight_decay, width_per_depth).variance

    scale = math.log(critical_temperature(noise, weight_decay).value)
    # bracket on a grid first: at depth > 1 the peak may lie decades off this scale
    grid = scale + (np.linspace(-5, -0.002, 14) if depth == 1 else np.linspace(-6, 9, 16))
    best = int(np.argmin([minus_variance(at) for at in grid]))
    if best in (0, grid.size - 1):
        raise ValueError("found no peak of the variance between 0.002 and 8000 times T_c (1 at depth 1)")
    found = minimize_scalar(
        minus_variance, bracket=(grid[best - 1], grid[best], grid[best + 1]), method="brent", options={"xtol": 1e-7}
    )
    scope = f"stationary law of depth {depth:g}"
    return FluctuationPeak(
        Prediction(
            math.exp(found.x), "temperature of the fluctuation peak", "argmax Var[v]", scope, "derived here", UNIT
        ),
        Prediction(-found.fun, "variance at the fluctuation peak", "max Var[v]", scope, "derived here"),
    )


class CriticalAmplitudes(NamedTuple):
    """Slopes of mean and variance at the critical temperature: E[v] → mean · (1 − T/T_c), and so for Var[v]."""

    mean: Prediction
    variance: Prediction


def critical_amplitudes(noise: DiagonalNoise, weight_decay: float = 0.0) -> CriticalAmplitudes:
    """How mean and variance vanish at T_c (depth 1): linearly, with a_n = ½ ∫ h(v) v^{n−1} dv / h(0), n = 1, 2.

    h = v · p is the density of log v at T_c, which no longer vanishes at 0 and so is not normalisable. Both amplitudes
    carry the sign of the optimum where it matters. Derived here. Raises ValueError where T_c does, and for data whose
    noise vanishes at some weight.
    """
    critical = critical_temperature(noise, weight_decay).value
    if noise.noiseless_weight is not None:
        raise ValueError(
            f"the noise vanishes at v = {noise.noiseless_weight:g}: the mean does not vanish linearly at T_c"
        )
    first, second = (_amplitude(noise.oriented, weight_decay, critical, n) for n in (1, 2))
    formula, scope = "½ ∫ h v^(n−1) dv / h(0)", "depth 1, T → T_c from below"
    return CriticalAmplitudes(
        Prediction(noise.sign * first, "amplitude of the mean at T_c", formula, scope, "derived here"),
        Prediction(second, "amplitude of the variance at T_c", formula, scope, "derived here"),
    )


def _amplitude(noise: DiagonalNoise, weight_decay: float, critical: float, n: int) -> float:
    dynamics = DiagonalDynamics(noise, critical, 1, weight_decay=weight_decay)
    profile = Profile(ZeroFlux(dynamics), HalfLine())
    panels, offset = profile.panels(growth=n, typical=-math.inf)  # of h vⁿ over log v
    near_zero = np.array([math.log(noise.optimum) - 50])
    return 0.5 * panels.total * math.exp(offset - float(profile.log_height(near_zero)[0]))
