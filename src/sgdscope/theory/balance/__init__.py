"""Law of balance: what minibatch noise does to the charges of rescaling symmetries.

Source: Ziyin, Li & Ueda 2308.06671; Ziyin, Wang, Li & Wu 2402.07193.
"""

from sgdscope.theory.balance import two_layer
from sgdscope.theory.balance.bounds import Bounds, drift_bounds, interaction_covariances, stationary_ratio_bounds
from sgdscope.theory.balance.charge import charge_after_step, drift, expected_change
from sgdscope.theory.balance.diagonal import (
    competition_rate,
    decay_rate,
    log_charge_along,
    log_charge_factor,
    second_order_noise,
    slowest_decay_rate,
)
from sgdscope.theory.balance.equilibrium import (
    Equilibrium,
    equilibrium,
    log_ratio_to_equilibrium,
    rescaling_equilibrium,
)

__all__ = [
    "Bounds",
    "Equilibrium",
    "charge_after_step",
    "competition_rate",
    "decay_rate",
    "drift",
    "drift_bounds",
    "equilibrium",
    "expected_change",
    "interaction_covariances",
    "log_charge_along",
    "log_charge_factor",
    "log_ratio_to_equilibrium",
    "rescaling_equilibrium",
    "second_order_noise",
    "slowest_decay_rate",
    "stationary_ratio_bounds",
    "two_layer",
]  # fmt: skip
