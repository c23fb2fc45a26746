"""Averaging: averages of iterates as numbers, their expected loss, and the schedules they amount to.

`averages` makes them; `NoisyQuadratic` says what each is worth; `conversion` turns them into schedules and back;
`chord`, `harm` and `simplex` predict from a few measured losses and gradients; `power_ema` and `reconstruction` are
post hoc.
"""

from sgdscope.theory.averaging import averages, variance_ratios
from sgdscope.theory.averaging.average import Average
from sgdscope.theory.averaging.best import (
    BestAverage,
    best_ema,
    best_gap,
    best_two_point_weight,
    best_weights,
    best_weights_per_mode,
    best_window,
)
from sgdscope.theory.averaging.chord import average_loss, chord_curvatures, chord_losses, two_point_loss
from sgdscope.theory.averaging.conversion import exact_average, exact_schedule, frozen_average, frozen_schedule
from sgdscope.theory.averaging.fixed_batch import (
    batch_losses_along_gradient,
    best_batch_loss,
    best_batch_step,
    best_full_loss_step,
    full_losses_along_batch_gradient,
    gap_to_batch_minimum,
    gradient_alignment,
    squared_distance_between_runs,
    squared_distance_of_average,
)
from sgdscope.theory.averaging.harm import Judgement, best_newer_weight, two_point_gain
from sgdscope.theory.averaging.interchange import (
    fast_ema_ratio,
    fast_two_point_ratio,
    fast_window_ratio,
    interchangeable,
    noise_ratios,
    schedule_mismatch,
)
from sgdscope.theory.averaging.matrices import second_moment_matrices, stationary_covariance
from sgdscope.theory.averaging.mode_schedules import ema_schedule, two_point_schedule, window_schedule
from sgdscope.theory.averaging.noisy_quadratic import NoisyQuadratic
from sgdscope.theory.averaging.path import Path
from sgdscope.theory.averaging.power_ema import power_decay, power_exponent, power_mean_position, power_width
from sgdscope.theory.averaging.reconstruction import Reconstruction, profile_products, reconstruct
from sgdscope.theory.averaging.simplex import SimplexWeights, best_simplex_weights

__all__ = [
    "Average",
    "BestAverage",
    "Judgement",
    "NoisyQuadratic",
    "Path",
    "Reconstruction",
    "SimplexWeights",
    "average_loss",
    "averages",
    "batch_losses_along_gradient",
    "best_batch_loss",
    "best_batch_step",
    "best_ema",
    "best_full_loss_step",
    "best_gap",
    "best_newer_weight",
    "best_simplex_weights",
    "best_two_point_weight",
    "best_weights",
    "best_weights_per_mode",
    "best_window",
    "chord_curvatures",
    "chord_losses",
    "ema_schedule",
    "exact_average",
    "exact_schedule",
    "fast_ema_ratio",
    "fast_two_point_ratio",
    "fast_window_ratio",
    "frozen_average",
    "frozen_schedule",
    "full_losses_along_batch_gradient",
    "gap_to_batch_minimum",
    "gradient_alignment",
    "interchangeable",
    "noise_ratios",
    "power_decay",
    "power_exponent",
    "power_mean_position",
    "power_width",
    "profile_products",
    "reconstruct",
    "schedule_mismatch",
    "second_moment_matrices",
    "squared_distance_between_runs",
    "squared_distance_of_average",
    "stationary_covariance",
    "two_point_gain",
    "two_point_loss",
    "two_point_schedule",
    "variance_ratios",
    "window_schedule",
]
