"""Record: what an ensemble keeps of the motion of its replicas. Nothing stores all paths.

Observables are formulas in the coordinates (``"x**2"``), or conditions (``"x > 0"``, see `simulate.region`), whose
average is the share of replicas, or of time, for which they hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sgdscope.simulate.region import Conditions

GROUPS = 16
"""Groups of replicas that a histogram is counted in, for its errors."""
MOST_PATHS = 512


@dataclass(frozen=True)
class Histogram:
    """Counts of positions at steps `after`, `after` + `every`, …, over all replicas.

    Attributes:
        low, high: ends of the range; a pair of numbers each in two dimensions. What lies beyond is counted apart.
        bins: equal parts of the range; a pair in two dimensions.
        of: the formulas that are counted, one or two; None for the coordinates.
        every: steps between counts. Neighbouring steps tell little that is new, and a count costs as much as a step.
        after: first step that is counted.

    Raises ValueError for an empty range, more than two dimensions, and numbers that are not positive.
    """

    low: float | tuple[float, float]
    high: float | tuple[float, float]
    bins: int | tuple[int, int] = 200
    of: tuple[str, ...] | None = None
    every: int = 10
    after: int = 0

    def __post_init__(self) -> None:
        lows, highs, bins = self.ranges
        if not len(lows) == len(highs) == len(bins) or len(lows) > 2:
            given = f"{self.low}, {self.high} and {self.bins}"
            raise ValueError(f"expected low, high and bins of one number each, or two each, got {given}")
        if not all(-math.inf < a < b < math.inf for a, b in zip(lows, highs, strict=True)):
            raise ValueError(f"expected low < high, got {self.low} and {self.high}")
        if min(bins) < 1:
            raise ValueError(f"expected at least one bin, got {self.bins}")
        if self.of is not None and len(self.of) != len(lows):
            raise ValueError(f"expected a formula for each of the {len(lows)} ranges, got {self.of}")
        _check_times(self.every, self.after)

    @property
    def ranges(self) -> tuple[tuple[float, ...], tuple[float, ...], tuple[int, ...]]:
        """Low, high and bins for each dimension."""
        lows, highs = (tuple(float(v) for v in np.atleast_1d(end)) for end in (self.low, self.high))
        return lows, highs, tuple(int(v) for v in np.atleast_1d(self.bins))

    @property
    def edges(self) -> tuple[np.ndarray, ...]:
        """Borders of the bins in each dimension."""
        return tuple(np.linspace(a, b, n + 1) for a, b, n in zip(*self.ranges, strict=True))


@dataclass(frozen=True)
class Average:
    """Averages over replicas and over the steps `after`, `after` + `every`, …; with errors between replicas.

    Attributes:
        of: observables.
        every: steps between looks.
        after: first step that is looked at.

    Raises ValueError for no observable and numbers that are not positive.
    """

    of: tuple[str, ...]
    every: int = 1
    after: int = 0

    def __init__(self, *of: str, every: int = 1, after: int = 0) -> None:
        _set(self, of=_observables(of), every=every, after=after)
        _check_times(every, after)


@dataclass(frozen=True)
class Course:
    """Averages over replicas as they change in time, at the steps 0, `every`, 2 `every`, … before the last.

    Attributes:
        of: observables.
        every: steps between looks.

    Raises ValueError for no observable and numbers that are not positive.
    """

    of: tuple[str, ...]
    every: int = 100

    def __init__(self, *of: str, every: int = 100) -> None:
        _set(self, of=_observables(of), every=every)
        _check_times(every, 0)


@dataclass(frozen=True)
class FirstPassage:
    """When each replica first enters a region, or first leaves one. Replicas that have not are censored.

    For a differential equation the border is moved towards the replicas by 0.5826 √(Δt · variance rate across it), as
    paths seen at steps only are seen too late (Broadie, Glasserman & Kou 1997); 0.5826 is −ζ(1/2)/√(2π). For recursions
    and smooth paths the plain count is the answer.

    Attributes:
        until: conditions of the region to enter; a number is a level to reach, in one dimension.
        leaving: conditions of the region to leave; exactly one of both.
        absorb: whether a replica that has arrived is taken out (its state is then NaN): it counts in no other record
            from then on and costs nothing more. Otherwise it goes on and counts.

    Raises ValueError for both or none.
    """

    until: Conditions | float | None = None
    leaving: Conditions | None = None
    absorb: bool = True

    def __post_init__(self) -> None:
        if (self.until is None) == (self.leaving is None):
            raise ValueError("expected either 'until', a region to enter, or 'leaving', a region to leave")


@dataclass(frozen=True)
class Paths:
    """Positions of the first replicas at the steps 0, `every`, 2 `every`, … before the last.

    Attributes:
        count: number of replicas, at most 512.
        every: steps between looks.

    Raises ValueError for numbers out of range.
    """

    count: int = 10
    every: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_PATHS:
            raise ValueError(f"expected 1 to {MOST_PATHS} paths, got {self.count}: averages are for more")
        _check_times(self.every, 0)


Record = Histogram | Average | Course | FirstPassage | Paths


def _set(record: object, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(record, name, value)


def _observables(of: Sequence[str]) -> tuple[str, ...]:
    if not of or not all(isinstance(text, str) for text in of):
        raise ValueError(f"expected observables as text, such as 'x**2' or 'x > 0', got {of}")
    return tuple(of)


def _check_times(every: int, after: int) -> None:
    if every < 1 or after < 0 or int(every) != every or int(after) != after:
        raise ValueError(f"expected whole numbers every ≥ 1 and after ≥ 0 of steps, got {every} and {after}")
