"""Stationary laws: where SGD settles in the long run, in closed form where there is one.

`DiagonalLaw` is the law of the weight of deep diagonal linear networks under SGD (Ziyin, Li & Ueda, arXiv 2308.06671),
with its phases, its equation of motion and the threshold of real, discrete steps. The functions on minima say how mass
is shared between wells (Dai & Zhu, arXiv 2112.00987; Xie, Sato & Sugiyama, arXiv 2002.03495).
"""

from sgdscope.theory.stationary.closed_form_mode import nonzero_mode
from sgdscope.theory.stationary.discrete_threshold import (
    discrete_correction,
    discrete_critical_temperature,
    growth_rate,
)
from sgdscope.theory.stationary.dynamics import DiagonalDynamics
from sgdscope.theory.stationary.fluctuations import (
    CriticalAmplitudes,
    FluctuationPeak,
    critical_amplitudes,
    fluctuation_peak,
)
from sgdscope.theory.stationary.gaussian_threshold import gaussian_discrete_critical_temperature, gaussian_growth_rate
from sgdscope.theory.stationary.law import DiagonalLaw
from sgdscope.theory.stationary.minima import (
    anharmonic_correction,
    effective_depth,
    masses_by_quadrature,
    masses_of_minima,
    sgd_noise_ratio,
    white_noise_ratio,
)
from sgdscope.theory.stationary.noise import DiagonalNoise
from sgdscope.theory.stationary.phases import (
    Regime,
    coalescence_temperature,
    critical_temperature,
    divergence_temperature,
    mode_temperature,
    moment_identity,
    regime,
)
from sgdscope.theory.stationary.splitting import probability_of_learning

__all__ = [
    "CriticalAmplitudes",
    "DiagonalDynamics",
    "DiagonalLaw",
    "DiagonalNoise",
    "FluctuationPeak",
    "Regime",
    "anharmonic_correction",
    "coalescence_temperature",
    "critical_amplitudes",
    "critical_temperature",
    "discrete_correction",
    "discrete_critical_temperature",
    "divergence_temperature",
    "effective_depth",
    "fluctuation_peak",
    "gaussian_discrete_critical_temperature",
    "gaussian_growth_rate",
    "growth_rate",
    "masses_by_quadrature",
    "masses_of_minima",
    "mode_temperature",
    "moment_identity",
    "nonzero_mode",
    "probability_of_learning",
    "regime",
    "sgd_noise_ratio",
    "white_noise_ratio",
]
