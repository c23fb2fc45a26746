"""Balance: the law of balance held against a network. Where its layers stand, and where noise moves them.

Source: Ziyin, Li & Ueda 2308.06671; Ziyin, Wang, Li & Wu 2402.07193.
"""

from sgdscope.balance.drift import DriftTest, drift_test
from sgdscope.balance.drift_along import DriftAlong, drift_along
from sgdscope.balance.law import law_reasons
from sgdscope.balance.pair_drift import PairDrift
from sgdscope.balance.standing import standing

__all__ = [
    "DriftAlong",
    "DriftTest",
    "PairDrift",
    "drift_along",
    "drift_test",
    "law_reasons",
    "standing",
]
