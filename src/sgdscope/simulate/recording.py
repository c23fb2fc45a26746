"""Recording: the part of a kernel that reduces positions to what was asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sgdscope.simulate.buffers import Buffers, indented, lanes
from sgdscope.simulate.observable import Observable
from sgdscope.simulate.process import parameter

BOUND = parameter("bound")
"""The coordinate beyond which a replica counts as diverged."""


def range_parameters(dimension: int) -> tuple[Any, Any]:
    """Low end, and bins per unit, of a histogram along its first or second observable."""
    return parameter(f"low{dimension}"), parameter(f"density{dimension}")


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


def records(b: Buffers, r: Recorded) -> list[str]:
    """Lines that record lanes at `step`, before it is done."""
    found: list[str] = []
    if r.counted:
        found += [f"if {_due('count')}:", *indented(_count(b, r))]
    if r.averaged:
        found += [f"if {_due('average')}:", *indented(lanes(_average(b, r)))]
    if r.followed:
        found += ["if step % course_every == 0:", *indented(_follow(b, r))]
    if r.paths:
        found += [f"if at < {r.paths} and step % paths_every == 0:", *indented(_keep_paths(b, r))]
    return found


def _observed(b: Buffers, observables: Sequence[Observable]) -> list[str]:
    """Lines that bring observables into names o0, o1, …; conditions are one or zero."""
    found = b.read([e for o in observables for e in o.expressions], at=b.update.positions[:1])
    for j, o in enumerate(observables):
        texts = [b.text(e) for e in o.expressions]
        if o.condition:
            zero, one = b.writer.constant(0.0), b.writer.constant(1.0)
            found.append(f"o{j} = {one} if {' & '.join(f'({text} > {zero})' for text in texts)} else {zero}")
        else:
            found.append(f"o{j} = {texts[0]}")
    return found


def _alive(b: Buffers) -> str:
    first = b.name(b.update.positions[0])
    return f"{first} == {first}"


def _count(b: Buffers, r: Recorded) -> list[str]:
    counted = r.counted
    cells = math.prod(r.bins)
    cell, inside = "", []
    for j, bins in enumerate(r.bins):
        low, density = (b.name(symbol) for symbol in range_parameters(j))
        scaled = f"(o{j} - {low}) * {density}"
        zero, end = b.writer.constant(0.0), b.writer.constant(float(bins))
        inside += [f"u{j} = {scaled}", f"u{j} = u{j} if (u{j} >= {zero}) & (u{j} < {end}) else -{end}"]
        cell = f"({cell}) * int32({bins}) + int32(u{j})" if cell else f"int32(u{j})"
    every = " & ".join(f"(u{j} >= {b.writer.constant(0.0)})" for j in range(len(counted)))
    return [
        *lanes([
            *_observed(b, counted),
            *inside,
            f"beyond = int32({cells}) if {_alive(b)} else int32({cells + 1})",
            f"bin_of[i] = int32({cell}) if {every} else beyond",
        ]),
        *lanes(["cells[i & 15, bin_of[i]] += 1"]),
    ]  # fmt: skip


def _average(b: Buffers, r: Recorded) -> list[str]:
    observables = r.averaged
    found = _observed(b, observables)
    for j in range(len(observables)):
        found.append(f"a[{j} * W + i] += np.float64(o{j}) if {_alive(b)} else 0.0")
    return [*found, f"a[{len(observables)} * W + i] += 1.0 if {_alive(b)} else 0.0"]


def _follow(b: Buffers, r: Recorded) -> list[str]:
    """Sums over the block, lane by lane in order: number, then value and square of each observable."""
    observables = r.followed
    bound = b.name(BOUND)
    positions = [b.name(s) for s in b.update.positions]
    near = " & ".join(f"(abs({name}) <= {bound})" for name in positions)
    lines = _observed(b, observables)
    lines += [line for line in b.read(b.update.positions) if line not in lines]
    lines += [f"if {near}:", "    n += 1.0"]
    for j in range(len(observables)):
        lines += [f"    v{j} += np.float64(o{j})", f"    q{j} += np.float64(o{j}) * np.float64(o{j})"]
    found = ["n = 0.0", *(f"v{j} = 0.0" for j in range(len(observables)))]
    found += [f"q{j} = 0.0" for j in range(len(observables))]
    found += [*lanes(lines), _row("course"), "course[row, block, 0] = n"]
    for j in range(len(observables)):
        found += [f"course[row, block, {1 + 2 * j}] = v{j}", f"course[row, block, {2 + 2 * j}] = q{j}"]
    return found


def _keep_paths(b: Buffers, r: Recorded) -> list[str]:
    n = len(b.update.positions)
    return [
        _row("paths"),
        f"for i in range({r.paths}):",
        *indented([f"paths[row, {j}, i] = f[{j} * W + i]" for j in range(n)]),
    ]


def _due(what: str) -> str:
    """The condition that a step is recorded."""
    return f"step >= {what}_after and (step - {what}_after) % {what}_every == 0"


def _row(what: str) -> str:
    """The row of a step among those that are recorded from the first step of this call on."""
    return f"row = step // {what}_every - (first + {what}_every - 1) // {what}_every"
