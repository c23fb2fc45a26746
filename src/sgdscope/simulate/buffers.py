"""Buffers: where a kernel keeps the lanes of a block, and the words its text is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy

from sgdscope.simulate.formula import Precision, Writer
from sgdscope.simulate.process import Update


class Buffers:
    """Rows of the arrays that hold a block, and lines that read them.

    Rows of the buffer f: positions, memory, noise, what odd draws leave over, sums. Rows of k: key or state of the
    generator, and where samples are drawn the word for one and what is left over. Rows of j: samples drawn in a step.
    """

    def __init__(self, update: Update, precision: Precision, fast: bool) -> None:
        self.update, self.precision, self.fast = update, precision, fast
        self.writer = Writer(precision)
        self.state = (*update.positions, *update.memory)
        self.samples = update.draw == "sample"
        self.odd = 0 if self.samples else len(update.noise) % 2
        self.noise_row = len(self.state)
        self.spare_row = self.noise_row + len(update.noise)
        self.sums_row = self.spare_row + self.odd
        self.rows = self.sums_row + len(update.sums)
        self.word_rows = 4 if fast else 2

    def read(self, expressions: Sequence[Any], *, at: Sequence[Any] = ()) -> list[str]:
        """Lines that bring what expressions use of state, noise and sums into names."""
        used = set(at).union(*(e.free_symbols for e in expressions))
        found = [(s, f"f[{i} * W + i]") for i, s in enumerate((*self.state, *self.update.noise))]
        found += [(s, f"f[{self.sums_row + i} * W + i]") for i, (s, _) in enumerate(self.update.sums)]
        return [f"{self.name(s)} = {place}" for s, place in found if s in used]

    def text(self, expression: Any) -> str:
        """An expression as code."""
        return self.writer.text(sympy.sympify(expression))

    def name(self, symbol: Any) -> str:
        """The name of a symbol in the code."""
        return self.writer.text(symbol)


def lanes(body: Sequence[str]) -> list[str]:
    """A loop over the lanes of the block."""
    return ["for i in range(W):", *indented(body)]


def indented(lines: Sequence[str]) -> list[str]:
    """Lines one level in."""
    return [f"    {line}" for line in lines]
