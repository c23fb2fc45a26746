"""Result: what an ensemble recorded, as numbers with errors. Parts of an ensemble join to exactly the whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sgdscope.estimate import Estimate
from sgdscope.simulate.record import Average, Course, FirstPassage, Histogram, Paths
from sgdscope.simulate.survival import EscapeTimes

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Counted:
    """A histogram.

    Attributes:
        record: what was asked for.
        counts: of shape (groups, cells + 2), integers: the bins, row by row; then beyond the range; then of replicas
            that had been taken out or diverged. Group g holds the replicas whose number is g modulo the groups.
    """

    record: Histogram
    counts: Array

    @property
    def edges(self) -> tuple[Array, ...]:
        """Borders of the bins in each dimension."""
        return self.record.edges

    @property
    def total(self) -> int:
        """Positions counted, those beyond the range included."""
        return int(self.counts[:, :-1].sum())

    @property
    def beyond(self) -> float:
        """Share of the counted positions that lies beyond the range."""
        return float(self.counts[:, -2].sum() / max(self.total, 1))

    @property
    def density(self) -> Array:
        """Share per unit of length or area in each bin; its integral over the range is 1 − `beyond`."""
        return self._density(self.counts.sum(axis=0, keepdims=True)).reshape(self.record.ranges[2])

    @property
    def error(self) -> Array:
        """Standard error of `density`, from the spread between groups of replicas. Raises ValueError for one group."""
        groups = self.counts[self.counts[:, :-1].sum(axis=1) > 0]
        if len(groups) < 2:
            raise ValueError(f"expected counts of two groups of replicas for an error, got {len(groups)}")
        spread: Array = self._density(groups).std(axis=0, ddof=1) / math.sqrt(len(groups))
        return spread

    def _density(self, counts: Array) -> Array:
        volume = math.prod(float(edges[1] - edges[0]) for edges in self.edges)
        totals = np.maximum(counts[:, :-1].sum(axis=1), 1)
        shares: Array = counts[:, :-2] / totals[:, None] / volume
        return shares.reshape(len(counts), *self.record.ranges[2])


@dataclass(frozen=True)
class Averaged:
    """Averages over replicas and time.

    Attributes:
        record: what was asked for.
        sums: of shape (observables + 1, replicas): sums over the looks at each replica, and the number of looks.
        diverged: replicas that are left out, a mask.
    """

    record: Average
    sums: Array
    diverged: Array

    def __getitem__(self, observable: str) -> Estimate:
        """The average of one observable. Raises KeyError for one that was not recorded."""
        if observable not in self.record.of:
            raise KeyError(f"expected an observable among {', '.join(self.record.of)}, got {observable!r}")
        sums, looks = self.sums[self.record.of.index(observable)], self.sums[-1]
        kept = ~self.diverged & (looks > 0)
        sums, looks, n = sums[kept], looks[kept], int(kept.sum())
        if n == 0:
            return Estimate.failed(observable, "no replica was there to be looked at")
        value = float(sums.sum() / looks.sum())
        spread = float(np.square(sums - value * looks).sum())
        error = math.sqrt(spread / (n * (n - 1))) / float(looks.mean()) if n > 1 else None
        return Estimate(observable, value, error, count=n, settings={"looks": int(looks.sum())})

    def estimates(self) -> dict[str, Estimate]:
        """All averages by observable."""
        return {observable: self[observable] for observable in self.record.of}


@dataclass(frozen=True)
class Followed:
    """Averages over replicas as they change in time.

    Attributes:
        record: what was asked for.
        times: of the looks, of shape (looks,).
        sums: of shape (looks, parts, 1 + 2 · observables) for parts of 65536 replicas: number, then sum and sum of
            squares of each observable.
    """

    record: Course
    times: Array
    sums: Array

    @property
    def count(self) -> Array:
        """Replicas at each look that had neither been taken out nor diverged."""
        found: Array = self._totals[:, 0]
        return found

    @property
    def values(self) -> Array:
        """Averages, of shape (looks, observables); NaN where no replica is left."""
        with np.errstate(invalid="ignore"):
            found: Array = self._totals[:, 1::2] / self.count[:, None]
        return found

    @property
    def errors(self) -> Array:
        """Standard errors of `values`; NaN where fewer than two replicas are left."""
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = self._totals[:, 2::2] / self.count[:, None] - self.values**2
            found: Array = np.sqrt(np.maximum(variance, 0) / np.where(self.count > 1, self.count - 1, np.nan)[:, None])
        return found

    @property
    def _totals(self) -> Array:
        total = np.zeros((len(self.sums), self.sums.shape[2]))
        for part in range(self.sums.shape[1]):  # one after the other, so that the order is always the same
            total += self.sums[:, part]
        return total


@dataclass(frozen=True)
class Passed:
    """First passages.

    Attributes:
        record: what was asked for.
        steps: of shape (replicas,), the step at whose end each replica had arrived; −1 if it had not.
        watched: steps for which replicas were watched.
        duration: time of a step.
        diverged: replicas that are left out, a mask.
    """

    record: FirstPassage
    steps: Array
    watched: int
    duration: float
    diverged: Array

    @property
    def times(self) -> EscapeTimes:
        """Times with censoring, in the time of the process, for rates, survival curves and mean times."""
        steps = self.steps[~self.diverged]
        arrived = steps >= 0
        return EscapeTimes(np.where(arrived, steps, self.watched) * self.duration, arrived)

    @property
    def mean_time(self) -> Estimate:
        """Mean passage time; see `EscapeTimes.mean_time` for what censoring makes of it."""
        return self.times.mean_time()

    @property
    def arrived(self) -> int:
        """Number of replicas that arrived."""
        return int((self.steps >= 0).sum())


@dataclass(frozen=True)
class Kept:
    """Paths of a few replicas.

    Attributes:
        record: what was asked for.
        times: of the looks, of shape (looks,).
        positions: of shape (looks, dimension, paths).
    """

    record: Paths
    times: Array
    positions: Array


def joined_counts(parts: Sequence[Counted]) -> Counted:
    """One histogram of the replicas of all parts."""
    return Counted(parts[0].record, np.sum([part.counts for part in parts], axis=0))


def joined_averages(parts: Sequence[Averaged]) -> Averaged:
    """One record of the replicas of all parts, in their order."""
    sums = np.concatenate([part.sums for part in parts], axis=1)
    return Averaged(parts[0].record, sums, np.concatenate([part.diverged for part in parts]))


def joined_courses(parts: Sequence[Followed]) -> Followed:
    """One record of the replicas of all parts, in their order."""
    return Followed(parts[0].record, parts[0].times, np.concatenate([part.sums for part in parts], axis=1))


def joined_passages(parts: Sequence[Passed]) -> Passed:
    """One record of the replicas of all parts, in their order."""
    first = parts[0]
    steps = np.concatenate([part.steps for part in parts])
    return Passed(first.record, steps, first.watched, first.duration, np.concatenate([part.diverged for part in parts]))
