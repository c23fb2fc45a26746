"""Steps: what each operation of torch asks of the exponents of its operands, and gives its result."""

from collections.abc import Callable

from sgdscope.measure.symmetries.book import Book
from sgdscope.measure.symmetries.call import Call
from sgdscope.measure.symmetries.steps.arithmetic import ARITHMETIC, pointwise
from sgdscope.measure.symmetries.steps.convolutions import CONVOLUTIONS
from sgdscope.measure.symmetries.steps.layout import LAYOUT
from sgdscope.measure.symmetries.steps.norms import NORMS
from sgdscope.measure.symmetries.steps.products import PRODUCTS

RULES: dict[str, Callable[[Book, Call], None]] = {**LAYOUT, **ARITHMETIC, **PRODUCTS, **CONVOLUTIONS, **NORMS}

__all__ = ["RULES", "pointwise"]
