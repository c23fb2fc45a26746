"""Valleys: a landscape reduced to jumps between its minima, with the rates that escape theory gives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import connected_components

from sgdscope.theory.escape import elimination
from sgdscope.theory.escape.panels import Floats
from sgdscope.theory.escape.units import TIME, common_unit, rate_unit, time_unit
from sgdscope.theory.prediction import Prediction

_SCOPE = "low noise: each valley is forgotten before the next jump"
_SOURCE = "Markov chain of the valleys, Xie, Sato & Sugiyama 2002.03495 (second-hand)"


@dataclass(frozen=True, eq=False)
class Valleys:
    """Continuous-time Markov chain between valleys. Made by `Valleys.from_escape_times` or from a matrix of rates.

    Attributes:
        names: one label per valley.
        rates: rate of the jump from valley i (row) to valley j (column); the diagonal is ignored. ``(n, n)``.
        unit: unit of the times, learning rate · iterations unless the rates say otherwise.

    Times and probabilities are accurate to rounding however far apart the rates are. Cost: n³. Raises ValueError for
    rates that are negative or not finite, and names that do not match.
    """

    names: tuple[str, ...]
    rates: Floats
    unit: str = TIME

    def __post_init__(self) -> None:
        rates = np.array(self.rates, dtype=np.float64)
        names = tuple(self.names)
        if rates.shape != (len(names), len(names)) or len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(
                f"expected rates of shape (n, n) for n ≥ 2 different names, got {rates.shape} for {list(names)}"
            )
        np.fill_diagonal(rates, 0.0)
        if not (np.isfinite(rates) & (rates >= 0)).all():
            raise ValueError("expected rates ≥ 0 and finite")
        rates.flags.writeable = False
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "rates", rates)

    @classmethod
    def from_escape_times(
        cls, times: Mapping[tuple[str, str], Prediction | float | Sequence[Prediction | float]], *, unit: str = TIME
    ) -> Valleys:
        """Chain from the mean time of each exit: ``{("flat", "sharp"): τ, …}``, or a list of τ, one per saddle.

        Each τ is the mean time over that saddle were it the only one; rates add. Predictions must share one unit
        (times, not rates); plain numbers are taken in `unit`. Raises ValueError for mixed units and times that are not
        positive.
        """
        exits = [
            (home, away, time)
            for (home, away), found in times.items()
            for time in (found if isinstance(found, Sequence) else [found])
        ]
        predictions = [time for *_, time in exits if isinstance(time, Prediction)]
        if predictions:
            if len(predictions) < len(exits):
                raise ValueError("expected either predictions or plain numbers for the times, got both")
            common_unit(*predictions)
            unit, form = time_unit(predictions[0])
            if form != 1:
                raise ValueError(f"expected times, got {predictions[0].quantity} in {predictions[0].unit}")
        names = tuple(dict.fromkeys(name for home, away, _ in exits for name in (home, away)))
        rates = np.zeros((len(names), len(names)))
        for home, away, time in exits:
            value = float(time)
            if home == away or not 0 < value < math.inf:
                raise ValueError(f"expected a time > 0 between two valleys, got {value} from {home!r} to {away!r}")
            rates[names.index(home), names.index(away)] += 1 / value
        return cls(names, rates, unit)

    def generator(self) -> Floats:
        """Transition rate matrix Q: rates off the diagonal, rows that sum to zero. Shape ``(n, n)``."""
        return self.rates - np.diag(self.rates.sum(axis=1))

    def mean_time_in(self, name: str) -> Prediction:
        """Mean time before a valley is left, 1 over the sum of its exit rates."""
        total = float(self.rates[self._index(name)].sum())
        if total == 0:
            raise ValueError(f"{name!r} is never left: none of its exits has a rate")
        return self._time(1 / total, "mean escape time", "1 / Σ rates")

    def exit_probabilities(self, name: str) -> dict[str, float]:
        """Probability of each valley to be the next one."""
        rates = self.rates[self._index(name)]
        if rates.sum() == 0:
            raise ValueError(f"{name!r} is never left: none of its exits has a rate")
        return {
            other: float(rate / rates.sum()) for other, rate in zip(self.names, rates, strict=True) if other != name
        }

    def stationary(self) -> dict[str, float]:
        """Share of the time spent in each valley in the long run.

        Raises ValueError unless every valley can be reached from every other.
        """
        count, labels = connected_components(self.rates > 0, directed=True, connection="strong")
        if count > 1:
            alone = [name for name, label in zip(self.names, labels, strict=True) if label != labels[0]]
            raise ValueError(
                f"expected every valley within reach of every other; there is no way to and from {', '.join(alone)}"
            )
        return dict(zip(self.names, elimination.stationary_probabilities(self.rates).tolist(), strict=True))

    def mean_time_to_reach(self, start: str, targets: Iterable[str]) -> Prediction:
        """Mean time from a valley to the first visit of any of the targets; 0 from a target itself.

        Raises ValueError where the targets can be missed for ever.
        """
        goal = self._indices(targets)
        free = self._reachable(self._index(start), goal)
        for state in free:
            if not goal & set(self._reachable(state, goal, stop=False)):
                raise ValueError(
                    f"from {self.names[state]!r} none of the targets can be reached, so the mean time is infinite"
                )
        times = elimination.solve(self.rates, free, np.zeros(len(self.names)), np.ones(len(self.names)))
        value = float(times[self._index(start)])
        return self._time(value, "mean time to reach a set", "Σ_j rate_ij (τ_i − τ_j) = 1")

    def probability_to_reach_first(self, start: str, targets: Iterable[str], others: Iterable[str]) -> float:
        """Probability that, from a valley, one of `targets` is visited before any of `others`.

        Raises ValueError where neither need ever be visited.
        """
        goal, rest = self._indices(targets), self._indices(others)
        if goal & rest:
            raise ValueError("expected targets and others without a valley in common")
        known = np.zeros(len(self.names))
        known[list(goal)] = 1.0
        free = self._reachable(self._index(start), goal | rest)
        for state in free:
            if not (goal | rest) & set(self._reachable(state, goal | rest, stop=False)):
                raise ValueError(f"from {self.names[state]!r} neither targets nor others can be reached")
        return float(
            elimination.solve(self.rates, free, known, np.zeros(len(self.names)))[self._index(start)]
        )  # fmt: skip

    def gap(self) -> Prediction:
        """Slowest rate of relaxation of the chain, from the eigenvalues of its generator; rounding limits it to 1e-15
        of the largest rate.

        Raises ValueError where it falls below that.
        """
        values = np.sort(np.linalg.eigvals(-self.generator()).real)
        if values[1] <= 1e-13 * values[-1]:
            raise ValueError("the slowest rate is below rounding of the fastest; look at mean times to reach instead")
        unit = rate_unit(self.unit)
        return Prediction(float(values[1]), "spectral gap", "second eigenvalue of −Q", _SCOPE, _SOURCE, unit)

    def _time(self, value: float, quantity: str, formula: str) -> Prediction:
        return Prediction(value, quantity, formula, _SCOPE, _SOURCE, self.unit)

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(f"expected a valley among {', '.join(self.names)}, got {name!r}")
        return self.names.index(name)

    def _indices(self, names: Iterable[str]) -> set[int]:
        found = {self._index(name) for name in ((names,) if isinstance(names, str) else names)}
        if not found:
            raise ValueError("expected at least one valley as target, got none")
        return found

    def _reachable(self, start: int, goal: set[int], *, stop: bool = True) -> list[int]:
        """Valleys that can be visited from `start` before the goal (without the goal if `stop`)."""
        seen, ahead = {start}, [start]
        while ahead:
            state = ahead.pop()
            if state in goal:
                continue
            for other in np.flatnonzero(self.rates[state] > 0).tolist():
                if other not in seen:
                    seen.add(other)
                    ahead.append(other)
        return sorted(seen - goal) if stop else sorted(seen)
