"""Balance: the law of balance held against a network. Where its layers stand, and where noise moves them.

Source: Ziyin, Li & Ueda 2308.06671; Ziyin, Wang, Li & Wu 2402.07193.
"""

from sgdscope.balance.law import law_reasons
from sgdscope.balance.standing import standing

__all__ = ["law_reasons", "standing"]
