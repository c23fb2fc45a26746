"""Escape from minima: how long SGD stays in a valley, which way it leaves, and where it ends up.

Exact first-passage times on a line (`mean_first_passage_time`) stand beside the leading-order laws: white noise, noise
that follows the curvature, momentum, Adam, noise proportional to the loss. Each law is a `Prediction` with its source
and with a warning for each condition that the call breaks. Time is learning rate · iterations unless the unit says
otherwise; `in_iterations` converts. Sources: Xie, Sato & Sugiyama 2002.03495; Xie et al. 2006.15815; Dai & Zhu
2112.00987; Mori et al. 2105.09557; what is derived here says so.
"""

from sgdscope.theory.escape.adam import adam_escape_time, adam_exponent, adam_path_escape_time
from sgdscope.theory.escape.exact_error import with_exact_error
from sgdscope.theory.escape.first_passage import FirstPassage, first_passage, log_mass_ratio, mean_first_passage_time
from sgdscope.theory.escape.law import Interpretation, validity_warnings
from sgdscope.theory.escape.loss_proportional import loss_proportional_density_exponent, loss_proportional_escape_time
from sgdscope.theory.escape.low_noise import low_noise_escape_time
from sgdscope.theory.escape.momentum import (
    discrete_temperature_factor,
    friction,
    growth_rate,
    kinetic_escape_time,
    momentum_escape_time,
    momentum_temperature,
    sgd_momentum_exponent,
)
from sgdscope.theory.escape.noise_covariance import (
    CovarianceAgreement,
    covariance_agreement,
    diffusion_matrix,
    log_likelihood_covariance,
    magnitude,
    squared_loss_covariance,
)
from sgdscope.theory.escape.path import EscapePath, escape_path, path_escape_time
from sgdscope.theory.escape.relaxation import between_wells_relaxation_rate, in_well_relaxation_rate
from sgdscope.theory.escape.rescaling import minus_log_rate, sharpened_sgd_time, sharpened_white_noise_time
from sgdscope.theory.escape.selection import sgd_mass_ratio, white_noise_mass_ratio
from sgdscope.theory.escape.sgd import Prefactor, sgd_escape_time, sgd_exponent, switch_fraction
from sgdscope.theory.escape.slopes import log_slopes
from sgdscope.theory.escape.transverse import transverse_factor
from sgdscope.theory.escape.units import ITERATIONS, KINETIC_TIME, TIME, in_iterations, in_time, time_ratio
from sgdscope.theory.escape.valleys import Valleys
from sgdscope.theory.escape.vanishing_noise import vanishing_noise_escape_time, vanishing_noise_exponent
from sgdscope.theory.escape.white_noise import (
    eyring_kramers_escape_time,
    minimum_anharmonicity,
    saddle_anharmonicity,
    temperature,
    white_noise_escape_time,
)

__all__ = [
    "ITERATIONS",
    "KINETIC_TIME",
    "TIME",
    "CovarianceAgreement",
    "EscapePath",
    "FirstPassage",
    "Interpretation",
    "Prefactor",
    "Valleys",
    "adam_escape_time",
    "adam_exponent",
    "adam_path_escape_time",
    "between_wells_relaxation_rate",
    "covariance_agreement",
    "diffusion_matrix",
    "discrete_temperature_factor",
    "escape_path",
    "eyring_kramers_escape_time",
    "first_passage",
    "friction",
    "growth_rate",
    "in_iterations",
    "in_time",
    "in_well_relaxation_rate",
    "kinetic_escape_time",
    "log_likelihood_covariance",
    "log_mass_ratio",
    "log_slopes",
    "loss_proportional_density_exponent",
    "loss_proportional_escape_time",
    "low_noise_escape_time",
    "magnitude",
    "mean_first_passage_time",
    "minimum_anharmonicity",
    "minus_log_rate",
    "momentum_escape_time",
    "momentum_temperature",
    "path_escape_time",
    "saddle_anharmonicity",
    "sgd_escape_time",
    "sgd_exponent",
    "sgd_mass_ratio",
    "sgd_momentum_exponent",
    "sharpened_sgd_time",
    "sharpened_white_noise_time",
    "squared_loss_covariance",
    "switch_fraction",
    "temperature",
    "time_ratio",
    "transverse_factor",
    "validity_warnings",
    "vanishing_noise_escape_time",
    "vanishing_noise_exponent",
    "white_noise_escape_time",
    "white_noise_mass_ratio",
    "with_exact_error",
]
