"""Region: a part of the landscape, given by conditions such as ``"x > 0"`` or ``"-1 < x < 1 and y**2 < 2"``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy

from sgdscope.theory import expression

Array = np.ndarray[Any, Any]
Conditions = str | tuple[float, float]


@dataclass(frozen=True)
class Region:
    """Where all of some functions are positive.

    Attributes:
        text: as it was given.
        margins: the functions, as SymPy expressions in the symbols of the landscape.
    """

    text: str
    margins: tuple[Any, ...]

    @classmethod
    def read(cls, conditions: Conditions, symbols: Sequence[Any]) -> Region:
        """From comparisons, chained or joined by ``and``; in one dimension also from a pair (low, high).

        Raises ValueError for anything else, and for conditions in which no coordinate occurs.
        """
        if isinstance(conditions, tuple):
            if len(symbols) != 1 or len(conditions) != 2 or not conditions[0] < conditions[1]:
                raise ValueError(
                    f"expected a pair (low, high) with low < high in one dimension, got {conditions} in {len(symbols)}"
                )
            conditions = f"{float(conditions[0])!r} < {symbols[0].name} < {float(conditions[1])!r}"
        names = [symbol.name for symbol in symbols]
        margins = []
        for chain in re.split(r"\band\b", conditions):
            parts = re.split(r"(<=|>=|<|>)", chain)
            if len(parts) < 3:
                raise ValueError(
                    f"expected conditions such as '{names[0]} > 0' or '-1 < {names[0]} < 1', joined by 'and', "
                    f"got {conditions!r}"
                )
            sides = [expression.parse(part, names) for part in parts[::2]]
            for left, sign, right in zip(sides, parts[1::2], sides[1:], strict=False):
                margins.append(left - right if sign.startswith(">") else right - left)
        for margin in margins:
            if not margin.free_symbols:
                raise ValueError(f"expected conditions on {', '.join(names)}, got {conditions!r}")
        return cls(conditions, tuple(margins))

    def holds(self, positions: Array, symbols: Sequence[Any]) -> Array:
        """Which of positions of shape (n, replicas) are inside."""
        inside = np.ones(positions.shape[1], dtype=bool)
        for margin in self.margins:
            values = sympy.lambdify(list(symbols), margin, modules="numpy")(*positions)
            inside &= np.broadcast_to(values > 0, inside.shape)
        return inside
