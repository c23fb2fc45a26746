"""Steps: the motion of a chunk of lanes as a function of tensors, which torch may compile as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sgdscope.simulate.formula import Precision
from sgdscope.simulate.kernel import Passage
from sgdscope.simulate.process import Update, symbols
from sgdscope.simulate.torch_backend import numbers
from sgdscope.simulate.torch_backend.formulas import function
from sgdscope.simulate.torch_backend.words import Schedule, signed, xoshiro

Table = Sequence[Any] | Tensor
"""Of whole numbers, by row; a tensor where they must not become constants of compiled code."""


@dataclass
class Moving:
    """What moves in a chunk of lanes.

    Attributes:
        rows: positions, then memory.
        words: key of each trajectory, or state of its fast generator.
        spare: the number that an odd draw left over, a word where samples are drawn.
        passage: step of first passage, or −1.
    """

    rows: list[Tensor]
    words: list[Tensor]
    spare: Tensor
    passage: Tensor


class Source:
    """Where the words of a chunk come from: counters under the keys of trajectories, or the fast generator's state."""

    def __init__(self, schedule: Schedule | None, state: list[Tensor], spare: Tensor) -> None:
        self.schedule, self.state, self.spare = schedule, state, spare

    def words(self, low: Any, high: Any) -> tuple[Tensor, Tensor]:
        """Two words for each lane."""
        if self.schedule is not None:
            return self.schedule.words(low, high)
        first, state = xoshiro(self.state)
        second, self.state = xoshiro(state)
        return first, second


class Steps:
    """The step of a process, in torch operations.

    Args:
        update: the step as formulas.
        passage: first passage to look for, or None.
        parameters: symbols of the numbers a step is called with.
        precision: of the state.
        fast: xoshiro128+ instead of Threefry.
    """

    def __init__(
        self, update: Update, passage: Passage | None, parameters: Sequence[Any], precision: Precision, fast: bool
    ) -> None:
        self.update, self.passage, self.fast = update, passage, fast
        self.dtype = getattr(torch, precision)
        self.samples = update.draw == "sample"
        self.odd = not self.samples and len(update.noise) % 2 == 1
        old = [*update.positions, *update.memory]
        new = symbols("_new", len(old))
        there = dict(zip(update.positions, new, strict=False))
        self._margins = len(passage.margins) if passage else 0
        borders = [e.xreplace(there) for e in (*passage.margins, *passage.shifts)] if passage else []
        self._step = function(
            [*old, *update.noise, *(symbol for symbol, _ in update.sums), *parameters], [*new, *borders], precision,
            [*update.step, *zip(new, update.new, strict=True)],
        )  # fmt: skip
        self._sums = function([*old, *update.noise, *parameters], [e for _, e in update.sums], precision)

    def counters(self, step: int, count: int, rounds: int) -> list[tuple[int, ...]]:
        """For each draw of these steps the words of its counter, and of the one that odd draws share by twos."""
        draws = range(step * rounds, (step + count) * rounds)
        return [tuple(word for n in (draw, draw >> 1) for word in (signed(n), signed(n >> 32 << 16))) for draw in draws]

    def advance(
        self, lanes: Moving, given: Sequence[Any], counters: Table, ends: Table, rounds: int, signs: int, second: bool,
        table: Tensor | None,
    ) -> Moving:  # fmt: skip
        """Lanes after some steps; those given stay as they are.

        Args:
            lanes: before.
            given: the numbers of the parameters, tensors without dimension.
            counters: see `counters`.
            ends: the number of the step that follows each of these steps.
            rounds: draws in a step.
            signs: random signs in a step.
            second: whether the first draw is the second of two that share an odd number.
            table: samples to draw from, of shape (samples, numbers of one).
        """
        rows, arrived = lanes.rows, lanes.passage
        source = Source(None if self.fast else Schedule(lanes.words), lanes.words, lanes.spare)
        for step in range(len(ends)):
            sums: list[Tensor] = []
            noise: list[Tensor] = []
            drawn: list[Tensor] = []
            for r in range(rounds):
                draw = step * rounds + r
                again = (draw % 2 == 1) != second
                if table is None:
                    left = [min(24, signs - 24 * later) for later in (r, (r + 1) % rounds)]
                    noise = self._noise(source, counters[draw], again, *left)
                else:
                    last = len(table) - (rounds - r - 1 if self.update.distinct else 0)
                    drawn.append(self._sample(source, counters[draw], again, last, drawn))
                    noise = list(table[drawn[-1]].unbind(1))
                if self.update.sums:
                    added = self._sums(*rows, *noise, *given)
                    sums = [a + b for a, b in zip(sums, added, strict=True)] if sums else added
            found = self._step(*rows, *noise, *sums, *given)
            rows, borders = [_lanes(row, rows[0]) for row in found[: len(rows)]], found[len(rows) :]
            if self.passage:
                rows, arrived = self._arrival(self.passage, rows, borders, arrived, ends[step])
        return Moving(rows, source.state, source.spare, arrived)

    def _noise(self, source: Source, counter: Any, again: bool, signs: int, signs_next: int) -> list[Tensor]:
        """The numbers of one draw; an odd one is left over for the next draw, or was left by the last.

        Each sums so many random signs, if signs are drawn, and so many in the next draw.
        """
        noise: list[Tensor] = []
        for stream in range(len(self.update.noise) // 2):
            noise += self._numbers(*source.words(counter[0], counter[1] + stream), signs, signs)
        if self.odd and again:
            noise.append(source.spare)
        elif self.odd:
            words = source.words(counter[2], counter[3] + len(self.update.noise) // 2)
            first, source.spare = self._numbers(*words, signs, signs_next)
            noise.append(first)
        return noise

    def _sample(self, source: Source, counter: Any, again: bool, last: int, others: list[Tensor]) -> Tensor:
        """Rows of samples below `last`; by Floyd's method other than those of this step if they must differ."""
        word = source.spare
        if not again:
            word, source.spare = (drawn.clone() for drawn in source.words(counter[2], counter[3]))
        row: Tensor = (word.long() & 0xFFFFFFFF) * last >> 32
        for other in others if self.update.distinct else ():
            row = torch.where(row == other, last - 1, row)
        return row

    def _numbers(self, x0: Tensor, x1: Tensor, signs: int, other: int) -> tuple[Tensor, Tensor]:
        if self.update.draw == "signs":
            a, b = numbers.sums_of_signs(x0, x1, signs, other)
        else:
            a, b = numbers.normals(x0, x1) if self.update.draw == "normal" else numbers.uniforms(x0, x1)
        return a.to(self.dtype), b.to(self.dtype)

    def _arrival(
        self, passage: Passage, rows: list[Tensor], borders: list[Any], arrived: Tensor, end: Any
    ) -> tuple[list[Tensor], Tensor]:
        """First passages in the step that ends now; lanes that have arrived are taken out if so asked."""
        hit: Tensor | None = None
        for margin, shift in zip(borders[: self._margins], borders[self._margins :], strict=True):
            there = margin >= -shift if passage.entering else margin <= shift
            hit = there if hit is None else hit & there if passage.entering else hit | there
        assert hit is not None
        arrived = torch.where(hit & (arrived < 0), end, arrived)
        if passage.absorb:
            n = len(self.update.positions)
            rows = [*(row.masked_fill(hit, torch.nan) for row in rows[:n]), *rows[n:]]
        return rows, arrived


def _lanes(value: Any, like: Tensor) -> Tensor:
    """A number for each lane."""
    if isinstance(value, Tensor) and value.ndim:
        return value
    found: Tensor = torch.zeros_like(like) + value
    return found
