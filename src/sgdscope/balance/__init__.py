"""Balance: the law of balance held against a network. Where its layers stand, where noise moves them,
and how to be there at once.

Source: Ziyin, Li & Ueda 2308.06671; Ziyin, Wang, Li & Wu 2402.07193.
"""

from sgdscope.balance.drift import DriftTest, drift_test
from sgdscope.balance.drift_along import DriftAlong, drift_along
from sgdscope.balance.law import law_reasons
from sgdscope.balance.layer_pair import LayerPair
from sgdscope.balance.pair_drift import PairDrift
from sgdscope.balance.rescale import rescale
from sgdscope.balance.rescaled import Rescaled
from sgdscope.balance.sharpness_change import sharpness_change
from sgdscope.balance.standing import standing

__all__ = [
    "DriftAlong",
    "DriftTest",
    "LayerPair",
    "PairDrift",
    "Rescaled",
    "drift_along",
    "drift_test",
    "law_reasons",
    "rescale",
    "sharpness_change",
    "standing",
]
