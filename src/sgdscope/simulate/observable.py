"""Observable: a formula in the coordinates, or a condition on them, which is one where it holds and zero elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sgdscope.simulate.region import Region
from sgdscope.theory import expression


@dataclass(frozen=True)
class Observable:
    """What is averaged or counted.

    Attributes:
        text: as it was given.
        expressions: the formula, or the margins that are all positive where the condition holds.
        condition: which of both.
    """

    text: str
    expressions: tuple[Any, ...]
    condition: bool

    @classmethod
    def read(cls, text: str, symbols: Sequence[Any]) -> Observable:
        """From a formula or conditions in these symbols. Raises ValueError for anything else."""
        if "<" in text or ">" in text:
            return cls(text, Region.read(text, symbols).margins, True)
        return cls(text, (expression.parse(text, [symbol.name for symbol in symbols]),), False)
