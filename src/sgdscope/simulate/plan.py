"""Plan: a process on a landscape with what is recorded, read into formulas and checked, ready to be compiled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import sympy

from sgdscope.simulate import door
from sgdscope.simulate.formula import Precision
from sgdscope.simulate.kernel import BOUND, Passage, Recorded, kernel_text, range_parameters
from sgdscope.simulate.observable import Observable
from sgdscope.simulate.process import Process, Update, parameter
from sgdscope.simulate.record import GROUPS, Average, Course, FirstPassage, Histogram, Paths, Record
from sgdscope.simulate.region import Region
from sgdscope.theory.potential import Potential

Array = np.ndarray[Any, Any]
Kind = TypeVar("Kind", Histogram, Average, Course, FirstPassage, Paths)

OVERSHOOT = 0.5825971579390107
"""−ζ(1/2) / √(2π): mean overshoot of a Gaussian walk over a distant barrier, in units of its step."""
FAR = 1e12
"""The coordinate beyond which a replica counts as diverged. Its cube still is a number in single precision."""


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        landscape, process: as given.
        records: what is recorded, by kind.
        update: the step.
        recorded: the records in formulas.
        region: of the first passage.
        numbers: values of the update's parameters and of what the records need.
    """

    landscape: Any
    process: Process
    records: Mapping[type, Record]
    update: Update
    recorded: Recorded
    region: Region | None
    numbers: Mapping[Any, float]

    @classmethod
    def of(cls, landscape: Any, process: Process, records: Sequence[Record], start: Array | None) -> Plan:
        """Reads everything. `start` are the starting positions, None when going on.

        Raises ValueError for what cannot be read or should not run.
        """
        door.check_landscape(landscape)
        by_kind = {type(record): record for record in records}
        if len(by_kind) < len(records):
            raise ValueError("expected at most one record of each kind: give several observables to one")
        update = process.update(landscape)
        numbers = dict(update.parameters)
        numbers[BOUND] = FAR
        x = update.positions
        passage, region = None, None
        if isinstance(record := by_kind.get(FirstPassage), FirstPassage):
            region = _region(record, x, start)
            passage = _passage(record, region, process, landscape, numbers)
        counted: tuple[str, ...] = ()
        bins: tuple[int, ...] = ()
        if isinstance(record := by_kind.get(Histogram), Histogram):
            lows, highs, bins = record.ranges
            counted = _counted(record, x)
            for j, (low, high, n) in enumerate(zip(lows, highs, bins, strict=True)):
                origin, density = range_parameters(j)
                numbers[origin], numbers[density] = low, n / (high - low)
        read = [Observable.read(text, x) for text in counted]
        averaged, followed, paths = (by_kind.get(kind) for kind in (Average, Course, Paths))
        recorded = Recorded(
            tuple(read), bins,
            tuple(Observable.read(text, x) for text in (averaged.of if isinstance(averaged, Average) else ())),
            tuple(Observable.read(text, x) for text in (followed.of if isinstance(followed, Course) else ())),
            paths.count if isinstance(paths, Paths) else 0, passage,
        )  # fmt: skip
        return cls(landscape, process, by_kind, update, recorded, region, numbers)

    def record(self, kind: type[Kind]) -> Kind | None:
        """The record of a kind."""
        found = self.records.get(kind)
        return found if isinstance(found, kind) else None

    def text(self, precision: Precision, fast: bool) -> str:
        """The kernel."""
        return kernel_text(self.update, self.recorded, tuple(self.numbers), precision, fast)

    @property
    def times(self) -> Array:
        """See `kernel.TIMES`."""
        counted, averaged = self.record(Histogram), self.record(Average)
        followed, paths = self.record(Course), self.record(Paths)
        return np.array([
            counted.every if counted else 1, counted.after if counted else 0,
            averaged.every if averaged else 1, averaged.after if averaged else 0,
            followed.every if followed else 1, paths.every if paths else 1,
        ], dtype=np.int64)  # fmt: skip

    @property
    def cells(self) -> int:
        """Columns of the histogram: bins, beyond, gone."""
        return math.prod(self.recorded.bins) + 2 if self.recorded.bins else 0

    @property
    def sheds(self) -> bool:
        """Whether nothing but first passages is recorded, so that replicas that have arrived need no place."""
        passage = self.record(FirstPassage)
        return passage is not None and passage.absorb and len(self.records) == 1

    def check_memory(self, replicas: int, threads: int) -> None:
        """Raises ValueError if replicas, or histograms of so many threads, take more memory than there is."""
        lane = 2 * 8 * len(self.update.new) + 2 * 16 + 24 + 8 * (len(self.recorded.averaged) + 1)
        door.check_memory(self.record(Histogram), (threads + 1) * GROUPS, replicas * lane)

    def check(self, start: Array) -> None:
        """Raises ValueError for what should not run from these positions."""
        door.check_confining(self.landscape, tuple(self.records.values()))
        door.check_step(self.landscape, self.process)
        door.check_domain(self.landscape, start)
        passage = self.record(FirstPassage)
        if passage is not None and self.region is not None:
            inside = self.region.holds(start, self.update.positions)
            entering = passage.until is not None
            door.check_inside(inside if entering else ~inside, "outside the region to enter" if entering
                              else "inside the region to leave")  # fmt: skip


def as_landscape(landscape: Any) -> Any:
    """A landscape as it is, or the potential that a formula in x means."""
    return Potential(landscape) if isinstance(landscape, str) else landscape


def _region(record: FirstPassage, x: Sequence[Any], start: Array | None) -> Region:
    """The region of a first passage; a level is to be reached from where the replicas start."""
    conditions = record.leaving if record.until is None else record.until
    assert conditions is not None
    if isinstance(conditions, str | tuple):
        return Region.read(conditions, x)
    if len(x) > 1:
        raise ValueError(f"expected conditions such as '{x[0].name} > 0' in {len(x)} dimensions, got {conditions}")
    if start is None:
        raise ValueError(f"expected conditions such as '{x[0].name} > {conditions}' when going on, got a level")
    level = float(conditions)
    if not (np.all(start < level) or np.all(start > level)):
        raise ValueError(f"expected all replicas to start on one side of the level {level:g}")
    sign = "<" if np.all(start > level) else ">"
    return Region.read(f"{x[0].name} {sign} {level!r}", x)


def _passage(
    record: FirstPassage, region: Region, process: Process, landscape: Any, numbers: dict[Any, float]
) -> Passage:
    """The first passage with the shifts of its border; constant ones go to the numbers."""
    rate = process.variance_rate(landscape)
    x = landscape.symbols
    shifts: list[Any] = []
    for j, margin in enumerate(region.margins):
        if rate is None:
            shifts.append(sympy.S.Zero)
            continue
        slope = sympy.Matrix([sympy.diff(margin, symbol) for symbol in x])
        across = (slope.T * rate * slope)[0, 0]
        if len(x) == 1 and slope[0].is_number:
            across = across.xreplace({x[0]: x[0] - margin / slope[0]})  # at the border
        shift = OVERSHOOT * sympy.sqrt(process.duration * across)
        known = shift.xreplace({symbol: sympy.Float(value) for symbol, value in numbers.items()})
        if known.free_symbols:
            shifts.append(shift)
        else:
            shifts.append(parameter(f"shift{j}"))
            numbers[shifts[-1]] = float(known)
    return Passage(region.margins, tuple(shifts), record.until is not None, record.absorb)


def _counted(record: Histogram, x: Sequence[Any]) -> tuple[str, ...]:
    """Formulas of the histogram."""
    of = record.of or tuple(symbol.name for symbol in x)
    if len(of) != len(record.ranges[2]):
        raise ValueError(f"expected ranges for {', '.join(of)}, got {len(record.ranges[2])}: say which with of=…")
    return of
