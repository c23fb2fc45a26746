"""Layer balance: what a run recorded of the balance of its layers, checked, in words, and held against theory.

Read without torch from the rows ``balance`` and ``charges`` that the monitor writes.
"""

from sgdscope.layer_balance.charge_verdict import SOURCE
from sgdscope.layer_balance.layer_balance import LayerBalance, charges_in_words, short_name, standing_in_words
from sgdscope.layer_balance.rows import error_of

__all__ = ["SOURCE", "LayerBalance", "charges_in_words", "error_of", "short_name", "standing_in_words"]
