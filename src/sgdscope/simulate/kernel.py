"""Kernel: the text of the loop that moves replicas, put together from a process, its landscape and what is recorded.

Replicas are *lanes*, worked on in blocks of 512 that stay in the nearest cache. For each block and each step, plain
loops over the lanes follow one another: draw, (sum up,) step, and now and then record. Each is branch-free, its
arrays are rows of one buffer at fixed distances, and so the compiler turns it into vector instructions. A lane that
has left, or diverged, is NaN: it goes on being NaN at no cost and counts nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sympy

from sgdscope.simulate.formula import Precision, Writer
from sgdscope.simulate.observable import Observable
from sgdscope.simulate.process import Update, parameter, symbols

BLOCK = 512
"""Lanes of a block. A part of an ensemble begins at a multiple of it."""
ARGUMENTS = (
    "state", "words", "spare", "passage", "sums", "cells", "course", "paths", "numbers", "times", "rounds", "signs",
    "first", "steps", "begin", "end",
)  # fmt: skip
"""Of every kernel: arrays of lanes (rows, lanes), records, parameters, and which steps of which blocks to do.

One that draws samples has the table of them, row by row in one dimension, as a last argument.
"""


@dataclass(frozen=True)
class Passage:
    """First passage in formulas: margins at the position, how far the border is moved for each, and what to do.

    Attributes:
        margins: positive inside the region.
        shifts: lengths in the unit of the margins, formulas too.
        entering: whether to wait for all margins to be positive, else for one not to be.
        absorb: whether lanes that have arrived become NaN.
    """

    margins: tuple[Any, ...]
    shifts: tuple[Any, ...]
    entering: bool
    absorb: bool


@dataclass(frozen=True)
class Recorded:
    """What a kernel records; empty or None is not recorded.

    Attributes:
        counted: observables of the histogram.
        bins: of each of them.
        averaged: observables of averages over time.
        followed: observables of the course.
        paths: number of lanes whose positions are kept.
        passage: first passage.
    """

    counted: tuple[Observable, ...] = ()
    bins: tuple[int, ...] = ()
    averaged: tuple[Observable, ...] = ()
    followed: tuple[Observable, ...] = ()
    paths: int = 0
    passage: Passage | None = None


TIMES = ("count_every", "count_after", "average_every", "average_after", "course_every", "paths_every")
"""Entries of the argument `times`, in steps."""
BOUND = parameter("bound")
"""The coordinate beyond which a replica counts as diverged."""


def range_parameters(dimension: int) -> tuple[Any, Any]:
    """Low end, and bins per unit, of a histogram along its first or second observable."""
    return parameter(f"low{dimension}"), parameter(f"density{dimension}")


def kernel_text(update: Update, recorded: Recorded, parameters: Sequence[Any], precision: Precision, fast: bool) -> str:
    """A Python module with the function ``kernel`` of `ARGUMENTS`.

    `parameters` are the symbols whose values are passed in `numbers`: those of the update, `BOUND`, the shifts of the
    passage, and `range_parameters`.
    """
    return _Text(update, recorded, parameters, precision, fast).whole()


class _Text:
    """The parts of one kernel.

    Rows of the buffer f: positions, memory, noise, what odd draws leave over, sums. Rows of k: key or state of the
    generator, and where samples are drawn the word for one and what is left over. Rows of j: samples drawn in a step.
    """

    def __init__(
        self, update: Update, recorded: Recorded, parameters: Sequence[Any], precision: Precision, fast: bool
    ) -> None:
        self.update, self.recorded, self.parameters = update, recorded, parameters
        self.precision, self.fast = precision, fast
        self.writer = Writer(precision)
        self.state = (*update.positions, *update.memory)
        self.samples = update.draw == "sample"
        drawn = 0 if self.samples else len(update.noise)
        self.odd = drawn % 2
        self.noise_row = len(self.state)
        self.spare_row = self.noise_row + drawn
        self.sums_row = self.spare_row + self.odd
        self.rows = self.sums_row + len(update.sums)
        self.word_rows = 4 if fast else 2

    def whole(self) -> str:
        body = self.function()
        constants = [f"{name} = {value}" for name, value in self.writer.constants.items()]
        imports = [
            "import math",
            "import numpy as np",
            "from numba import int32, uint32",
            "from sgdscope.simulate.functions import cos32, exp32, log32, sin32, tanh32",
            "from sgdscope.simulate.generators import threefry, xoshiro",
            "from sgdscope.simulate.normals import normals, sum_of_signs, uniforms",
        ]
        return "\n".join([*imports, *constants, f"W = {BLOCK}", "", *body, ""])

    def function(self) -> list[str]:
        numbers = [f"{self.name(symbol)} = numbers[{i}]" for i, symbol in enumerate(self.parameters)]
        numbers += [f"{name} = times[{i}]" for i, name in enumerate(TIMES)]
        return [
            f"def kernel({', '.join([*ARGUMENTS, *(['table'] if self.samples else [])])}):",
            *indented([
                f"f = np.empty({self.rows} * W, np.{self.precision})",
                f"k = np.empty({self.word_rows + 2 * self.samples} * W, np.uint32)",
                *(["j = np.empty(max(rounds, 1) * W, np.int32)"] if self.samples else []),
                "t, bin_of = np.empty(W, np.int32), np.empty(W, np.int32)",
                f"a = np.empty({len(self.recorded.averaged) + 1} * W, np.float64)",
                *numbers,
                "for block in range(begin, end):",
                *indented([
                    "at = block * W",
                    *self.lanes(self.load()),
                    "for s in range(steps):",
                    *indented(["step = first + s", *self.records(), *self.draw_and_step()]),
                    *self.lanes(self.store()),
                ]),
            ]),
        ]  # fmt: skip

    # -- lanes in and out ------------------------------------------------------------------------------------------

    def load(self) -> list[str]:
        found = [f"f[{i} * W + i] = state[{i}, at + i]" for i in range(len(self.state))]
        found += [f"k[{i} * W + i] = words[{i}, at + i]" for i in range(self.word_rows)]
        if self.odd:
            found += [f"f[{self.spare_row} * W + i] = spare[at + i]"]
        if self.samples:
            found += [f"k[{self.word_rows + 1} * W + i] = uint32(np.int64(spare[at + i]))"]
        if self.recorded.passage:
            found += ["t[i] = int32(-1) if passage[at + i] < 0 else int32(-2)"]
        return found + [f"a[{j} * W + i] = sums[{j}, at + i]" for j in self.accumulators()]

    def store(self) -> list[str]:
        found = [f"state[{i}, at + i] = f[{i} * W + i]" for i in range(len(self.state))]
        if self.fast:
            found += [f"words[{i}, at + i] = k[{i} * W + i]" for i in range(4)]
        if self.odd:
            found += [f"spare[at + i] = f[{self.spare_row} * W + i]"]
        if self.samples:
            found += [f"spare[at + i] = np.float64(k[{self.word_rows + 1} * W + i])"]
        if self.recorded.passage:
            found += ["if t[i] >= 0:", "    passage[at + i] = first + t[i] + 1"]
        return found + [f"sums[{j}, at + i] = a[{j} * W + i]" for j in self.accumulators()]

    def accumulators(self) -> range:
        """Rows of averages: one for each observable and one for the number of looks."""
        return range(len(self.recorded.averaged) + 1) if self.recorded.averaged else range(0)

    # -- draws -----------------------------------------------------------------------------------------------------

    def draw_and_step(self) -> list[str]:
        if not self.update.sums:
            return ["draw, r = step, 0", *self.draws(), *self.lanes(self.step())]
        zero = self.writer.constant(0.0)
        rows = range(self.sums_row, self.rows)
        return [
            *self.lanes([f"f[{row} * W + i] = {zero}" for row in rows]),
            "for r in range(rounds):",
            *indented(["draw = step * rounds + r", *self.draws(), *self.lanes(self.sum_up())]),
            *self.lanes(self.step()),
        ]

    def draws(self) -> list[str]:
        if self.samples:
            return self.sample()
        count = len(self.update.noise)
        found = self.mask() if self.update.draw == "signs" else []
        if not self.fast:
            found += self.counter("draw")
        for stream in range(count // 2):
            rows = (self.noise_row + 2 * stream, self.noise_row + 2 * stream + 1)
            found += self.lanes(self.pair(stream, *rows))
        if self.odd:
            row, stream = self.spare_row - 1, count // 2
            first = [] if self.fast else self.counter("(draw >> 1)")
            found += [
                "if draw % 2 == 0:",
                *indented([*first, *self.lanes(self.pair(stream, row, self.spare_row))]),
                "else:",
                *indented(self.lanes([f"f[{row} * W + i] = f[{self.spare_row} * W + i]"])),
            ]
        return found

    def sample(self) -> list[str]:
        """Draws the row of a sample, by Floyd's method where rows of one step must differ. A word gives one row."""
        row, spare = f"k[{self.word_rows} * W + i]", f"k[{self.word_rows + 1} * W + i]"
        columns = len(self.update.noise)
        last = f"len(table) // {columns}" + (" - rounds + r + 1" if self.update.distinct else "")
        found = [
            "if draw % 2 == 0:",
            *indented([
                *([] if self.fast else self.counter("(draw >> 1)")),
                *self.lanes([*self.words(0), f"{row} = w0", f"{spare} = w1"]),
            ]),
            "else:",
            *indented(self.lanes([f"{row} = {spare}"])),
            f"last = {last}",
            *self.lanes([f"j[r * W + i] = int32((np.uint64({row}) * np.uint64(last)) >> np.uint64(32))"]),
        ]  # fmt: skip
        if self.update.distinct:
            again = "int32(last - 1) if j[q * W + i] == j[r * W + i] else j[r * W + i]"
            found += ["for q in range(r):", *indented(self.lanes([f"j[r * W + i] = {again}"]))]
        return found

    def counter(self, number: str) -> list[str]:
        return [f"low = uint32({number} & 0xFFFFFFFF)", f"high = uint32(({number} >> 32) << 16)"]

    def mask(self) -> list[str]:
        """As many bits as signs are left to sum up in this round, and in the one that shares an odd draw with it."""
        return [
            "mask = uint32((1 << min(24, signs - 24 * r)) - 1)",
            "next_mask = uint32((1 << min(24, signs - 24 * ((r + 1) % rounds))) - 1)",
        ]

    def pair(self, stream: int, row: int, other: int) -> list[str]:
        """Draws two numbers into two rows."""
        found = self.words(stream)
        if self.update.draw == "signs":
            of_other = "next_mask" if other == self.spare_row and self.odd else "mask"
            found += [f"n0, n1 = sum_of_signs(w0, mask), sum_of_signs(w1, {of_other})"]
        else:
            found += [f"n0, n1 = {self.update.draw}s(w0, w1)"]
        return [*found, f"f[{row} * W + i] = n0", f"f[{other} * W + i] = n1"]

    def words(self, stream: int) -> list[str]:
        """Draws two words."""
        if self.fast:
            return [
                "w0, s0, s1, s2, s3 = xoshiro(k[i], k[W + i], k[2 * W + i], k[3 * W + i])",
                "w1, s0, s1, s2, s3 = xoshiro(s0, s1, s2, s3)",
                *(f"k[{j} * W + i] = s{j}" for j in range(4)),
            ]
        return [f"w0, w1 = threefry(k[i], k[W + i], low, uint32(high | uint32({stream})))"]

    # -- the step --------------------------------------------------------------------------------------------------

    def read(self, expressions: Sequence[Any], *, at: Sequence[Any] = ()) -> list[str]:
        """Lines that bring what expressions use of state, noise and sums into names."""
        used = set(at).union(*(e.free_symbols for e in expressions))
        rows = [*self.state, *(() if self.samples else self.update.noise)]
        found = [(s, f"f[{i} * W + i]") for i, s in enumerate(rows)]
        found += [(s, f"f[{self.sums_row + i} * W + i]") for i, (s, _) in enumerate(self.update.sums)]
        if self.samples:
            columns = self.update.noise
            found += [(s, f"table[j[r * W + i] * {len(columns)} + {c}]") for c, s in enumerate(columns)]
        return [f"{self.name(s)} = {place}" for s, place in found if s in used]

    def sum_up(self) -> list[str]:
        added = [expression for _, expression in self.update.sums]
        return [*self.read(added), *(f"f[{self.sums_row + j} * W + i] += {self.text(e)}" for j, e in enumerate(added))]

    def step(self) -> list[str]:
        new = symbols("_new", len(self.state))
        assigned = [*self.update.step, *zip(new, self.update.new, strict=True)]
        found = [*self.read([e for _, e in assigned]), *self.writer.lines(assigned)]
        if self.recorded.passage:
            found += self.arrival(self.recorded.passage, new)
        return found + [f"f[{i} * W + i] = {symbol}" for i, symbol in enumerate(new)]

    def arrival(self, passage: Passage, new: list[Any]) -> list[str]:
        """Whether the new position has arrived; the step is noted, and the lane taken out if so asked."""
        there = dict(zip(self.update.positions, new, strict=False))
        conditions = []
        for margin, shift in zip(passage.margins, passage.shifts, strict=True):
            inside, moved = self.text(margin.xreplace(there)), self.text(shift.xreplace(there))
            conditions.append(f"({inside} >= -{moved})" if passage.entering else f"({inside} <= {moved})")
        found = [f"hit = {(' & ' if passage.entering else ' | ').join(conditions)}"]
        if passage.absorb:
            nan = self.writer.constant(float("nan"))
            return [
                *found,
                "t[i] = int32(s) if hit else t[i]",
                *(f"{symbol} = {nan} if hit else {symbol}" for symbol in new[: len(self.update.positions)]),
            ]
        return [*found, "t[i] = int32(s) if hit & (t[i] == int32(-1)) else t[i]"]

    # -- records ---------------------------------------------------------------------------------------------------

    def records(self) -> list[str]:
        r = self.recorded
        found: list[str] = []
        if r.counted:
            found += [f"if {_due('count')}:", *indented(self.count())]
        if r.averaged:
            found += [f"if {_due('average')}:", *indented(self.lanes(self.average()))]
        if r.followed:
            found += ["if step % course_every == 0:", *indented(self.follow())]
        if r.paths:
            found += [f"if at < {r.paths} and step % paths_every == 0:", *indented(self.keep_paths())]
        return found

    def observed(self, observables: Sequence[Observable]) -> list[str]:
        """Lines that bring observables into names o0, o1, …; conditions are one or zero."""
        found = self.read([e for o in observables for e in o.expressions], at=self.update.positions[:1])
        for j, o in enumerate(observables):
            texts = [self.text(e) for e in o.expressions]
            if o.condition:
                zero, one = self.writer.constant(0.0), self.writer.constant(1.0)
                found.append(f"o{j} = {one} if {' & '.join(f'({text} > {zero})' for text in texts)} else {zero}")
            else:
                found.append(f"o{j} = {texts[0]}")
        return found

    def alive(self) -> str:
        first = self.name(self.update.positions[0])
        return f"{first} == {first}"

    def count(self) -> list[str]:
        counted = self.recorded.counted
        cells = math.prod(self.recorded.bins)
        cell, inside = "", []
        for j, bins in enumerate(self.recorded.bins):
            low, density = (self.name(symbol) for symbol in range_parameters(j))
            scaled = f"(o{j} - {low}) * {density}"
            zero, end = self.writer.constant(0.0), self.writer.constant(float(bins))
            inside += [f"u{j} = {scaled}", f"u{j} = u{j} if (u{j} >= {zero}) & (u{j} < {end}) else -{end}"]
            cell = f"({cell}) * int32({bins}) + int32(u{j})" if cell else f"int32(u{j})"
        every = " & ".join(f"(u{j} >= {self.writer.constant(0.0)})" for j in range(len(counted)))
        return [
            *self.lanes([
                *self.observed(counted),
                *inside,
                f"beyond = int32({cells}) if {self.alive()} else int32({cells + 1})",
                f"bin_of[i] = int32({cell}) if {every} else beyond",
            ]),
            *self.lanes(["cells[i & 15, bin_of[i]] += 1"]),
        ]  # fmt: skip

    def average(self) -> list[str]:
        observables = self.recorded.averaged
        found = self.observed(observables)
        for j in range(len(observables)):
            found.append(f"a[{j} * W + i] += np.float64(o{j}) if {self.alive()} else 0.0")
        return [*found, f"a[{len(observables)} * W + i] += 1.0 if {self.alive()} else 0.0"]

    def follow(self) -> list[str]:
        """Sums over the block, lane by lane in order: number, then value and square of each observable."""
        observables = self.recorded.followed
        bound = self.name(BOUND)
        positions = [self.name(s) for s in self.update.positions]
        near = " & ".join(f"(abs({name}) <= {bound})" for name in positions)
        lines = self.observed(observables)
        lines += [line for line in self.read(self.update.positions) if line not in lines]
        lines += [f"if {near}:", "    n += 1.0"]
        for j in range(len(observables)):
            lines += [f"    v{j} += np.float64(o{j})", f"    q{j} += np.float64(o{j}) * np.float64(o{j})"]
        found = ["n = 0.0", *(f"v{j} = 0.0" for j in range(len(observables)))]
        found += [f"q{j} = 0.0" for j in range(len(observables))]
        found += [*self.lanes(lines), _row("course"), "course[row, block, 0] = n"]
        for j in range(len(observables)):
            found += [f"course[row, block, {1 + 2 * j}] = v{j}", f"course[row, block, {2 + 2 * j}] = q{j}"]
        return found

    def keep_paths(self) -> list[str]:
        n = len(self.update.positions)
        return [
            _row("paths"),
            f"for i in range({self.recorded.paths}):",
            *indented([f"paths[row, {j}, i] = f[{j} * W + i]" for j in range(n)]),
        ]

    # -- words -----------------------------------------------------------------------------------------------------

    def lanes(self, body: list[str]) -> list[str]:
        return ["for i in range(W):", *indented(body)]

    def text(self, expression: Any) -> str:
        return self.writer.text(sympy.sympify(expression))

    def name(self, symbol: Any) -> str:
        return self.writer.text(symbol)


def indented(lines: Sequence[str]) -> list[str]:
    """Lines one level in."""
    return [f"    {line}" for line in lines]


def _due(what: str) -> str:
    """The condition that a step is recorded."""
    return f"step >= {what}_after and (step - {what}_after) % {what}_every == 0"


def _row(what: str) -> str:
    """The row of a step among those that are recorded from the first step of this call on."""
    return f"row = step // {what}_every - (first + {what}_every - 1) // {what}_every"
