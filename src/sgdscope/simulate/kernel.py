"""Kernel: the text of the loop that moves replicas, put together from a process, its landscape and what is recorded.

Replicas are *lanes*, worked on in blocks of 512 that stay in the nearest cache. For each block and each step, plain
loops over the lanes follow one another: draw, (sum up,) step, and now and then record. Each is branch-free, its
arrays are rows of one buffer at fixed distances, and so the compiler turns it into vector instructions. A lane that
has left, or diverged, is NaN: it goes on being NaN at no cost and counts nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sgdscope.simulate.buffers import Buffers, indented, lanes
from sgdscope.simulate.drawing import draws
from sgdscope.simulate.formula import Precision
from sgdscope.simulate.process import Update, symbols
from sgdscope.simulate.recording import BOUND, Passage, Recorded, range_parameters, records

__all__ = ["ARGUMENTS", "BLOCK", "BOUND", "TIMES", "Passage", "Recorded", "kernel_text", "range_parameters"]

BLOCK = 512
"""Lanes of a block. A part of an ensemble begins at a multiple of it."""
ARGUMENTS = (
    "state", "words", "spare", "passage", "sums", "cells", "course", "paths", "numbers", "times", "rounds", "signs",
    "first", "steps", "begin", "end",
)  # fmt: skip
"""Of every kernel: arrays of lanes (rows, lanes), records, parameters, and which steps of which blocks to do.

One that draws samples has the table of them, row by row in one dimension, as a last argument.
"""
TIMES = ("count_every", "count_after", "average_every", "average_after", "course_every", "paths_every")
"""Entries of the argument `times`, in steps."""

_IMPORTS = [
    "import math",
    "import numpy as np",
    "from numba import int32, uint32",
    "from sgdscope.simulate.functions import cos32, exp32, log32, sin32, tanh32",
    "from sgdscope.simulate.generators import threefry, xoshiro",
    "from sgdscope.simulate.normals import normals, sum_of_signs, uniforms",
]


def kernel_text(update: Update, recorded: Recorded, parameters: Sequence[Any], precision: Precision, fast: bool) -> str:
    """A Python module with the function ``kernel`` of `ARGUMENTS`.

    `parameters` are the symbols whose values are passed in `numbers`: those of the update, `BOUND`, the shifts of the
    passage, and `range_parameters`.
    """
    b = Buffers(update, precision, fast)
    numbers = [f"{b.name(symbol)} = numbers[{i}]" for i, symbol in enumerate(parameters)]
    numbers += [f"{name} = times[{i}]" for i, name in enumerate(TIMES)]
    function = [
        f"def kernel({', '.join([*ARGUMENTS, *(['table'] if b.samples else [])])}):",
        *indented([
            f"f = np.empty({b.rows} * W, np.{precision})",
            f"k = np.empty({b.word_rows + 2 * b.samples} * W, np.uint32)",
            *(["j = np.empty(max(rounds, 1) * W, np.int32)"] if b.samples else []),
            "t, bin_of = np.empty(W, np.int32), np.empty(W, np.int32)",
            f"a = np.empty({len(recorded.averaged) + 1} * W, np.float64)",
            *numbers,
            "for block in range(begin, end):",
            *indented([
                "at = block * W",
                *lanes(_load(b, recorded)),
                "for s in range(steps):",
                *indented(["step = first + s", *records(b, recorded), *_draw_and_step(b, recorded.passage)]),
                *lanes(_store(b, recorded)),
            ]),
        ]),
    ]  # fmt: skip
    constants = [f"{name} = {value}" for name, value in b.writer.constants.items()]
    return "\n".join([*_IMPORTS, *constants, f"W = {BLOCK}", "", *function, ""])


def _load(b: Buffers, recorded: Recorded) -> list[str]:
    found = [f"f[{i} * W + i] = state[{i}, at + i]" for i in range(len(b.state))]
    found += [f"k[{i} * W + i] = words[{i}, at + i]" for i in range(b.word_rows)]
    if b.odd:
        found += [f"f[{b.spare_row} * W + i] = spare[at + i]"]
    if b.samples:
        found += [f"k[{b.word_rows + 1} * W + i] = uint32(np.int64(spare[at + i]))"]
    if recorded.passage:
        found += ["t[i] = int32(-1) if passage[at + i] < 0 else int32(-2)"]
    return found + [f"a[{j} * W + i] = sums[{j}, at + i]" for j in _accumulators(recorded)]


def _store(b: Buffers, recorded: Recorded) -> list[str]:
    found = [f"state[{i}, at + i] = f[{i} * W + i]" for i in range(len(b.state))]
    if b.fast:
        found += [f"words[{i}, at + i] = k[{i} * W + i]" for i in range(4)]
    if b.odd:
        found += [f"spare[at + i] = f[{b.spare_row} * W + i]"]
    if b.samples:
        found += [f"spare[at + i] = np.float64(k[{b.word_rows + 1} * W + i])"]
    if recorded.passage:
        found += ["if t[i] >= 0:", "    passage[at + i] = first + t[i] + 1"]
    return found + [f"sums[{j}, at + i] = a[{j} * W + i]" for j in _accumulators(recorded)]


def _accumulators(recorded: Recorded) -> range:
    """Rows of averages: one for each observable and one for the number of looks."""
    return range(len(recorded.averaged) + 1) if recorded.averaged else range(0)


def _draw_and_step(b: Buffers, passage: Passage | None) -> list[str]:
    if not b.update.sums:
        return ["draw, r = step, 0", *draws(b), *lanes(_step(b, passage))]
    zero = b.writer.constant(0.0)
    added = [expression for _, expression in b.update.sums]
    sum_up = [f"f[{b.sums_row + j} * W + i] += {b.text(e)}" for j, e in enumerate(added)]
    return [
        *lanes([f"f[{row} * W + i] = {zero}" for row in range(b.sums_row, b.rows)]),
        "for r in range(rounds):",
        *indented(["draw = step * rounds + r", *draws(b), *lanes([*b.read(added), *sum_up])]),
        *lanes(_step(b, passage)),
    ]


def _step(b: Buffers, passage: Passage | None) -> list[str]:
    new = symbols("_new", len(b.state))
    assigned = [*b.update.step, *zip(new, b.update.new, strict=True)]
    found = [*b.read([e for _, e in assigned]), *b.writer.lines(assigned)]
    if passage:
        found += _arrival(b, passage, new)
    return found + [f"f[{i} * W + i] = {symbol}" for i, symbol in enumerate(new)]


def _arrival(b: Buffers, passage: Passage, new: list[Any]) -> list[str]:
    """Whether the new position has arrived; the step is noted, and the lane taken out if so asked."""
    there = dict(zip(b.update.positions, new, strict=False))
    conditions = []
    for margin, shift in zip(passage.margins, passage.shifts, strict=True):
        inside, moved = b.text(margin.xreplace(there)), b.text(shift.xreplace(there))
        conditions.append(f"({inside} >= -{moved})" if passage.entering else f"({inside} <= {moved})")
    found = [f"hit = {(' & ' if passage.entering else ' | ').join(conditions)}"]
    if passage.absorb:
        nan = b.writer.constant(float("nan"))
        return [
            *found,
            "t[i] = int32(s) if hit else t[i]",
            *(f"{symbol} = {nan} if hit else {symbol}" for symbol in new[: len(b.update.positions)]),
        ]
    return [*found, "t[i] = int32(s) if hit & (t[i] == int32(-1)) else t[i]"]
