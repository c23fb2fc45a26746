"""Generator: a Markov process on cells, and everything one asks of it, from its sparse matrix of rates."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from sgdscope.theory.fokker_planck import markov, passage, spectrum
from sgdscope.theory.fokker_planck.evolution import Evolution
from sgdscope.theory.fokker_planck.markov import Floats, Mask

Cells = Callable[..., Any] | ArrayLike
"""Which cells: a condition on the coordinates, called with one array per coordinate, or a mask of the cells."""

_SHIFT = 1e-12  # of the largest rate
_SETTLED = 1e-13
_MOST_ITERATIONS = 60


class Generator:
    """A continuous-time Markov process on cells: dp/dt = Q p for the masses p of the cells.

    Entry (i, j) of Q is the rate from cell j to cell i: columns sum to zero. All answers are of this process; how near
    it is to a diffusion is the affair of the scheme that made it. Systems are solved by one sparse factorisation each
    (0.1 s for 200 × 200 cells), positive in rounding too. Where rates in one matrix span many decades, answers about
    the slowest exchange have a relative error of about 1e-16 · largest rate / slowest rate.

    Args:
        matrix: rates, sparse or dense, shape ``(n, n)``.
        centres: positions of the cells, shape ``(n,)`` or ``(n, d)``.
        volumes: sizes of the cells, shape ``(n,)``; 1 by default.

    Raises ValueError for a matrix that is no generator (negative rates, columns that do not sum to zero), or shapes
    that do not fit.
    """

    frequencies: tuple[float, ...] = ()
    """Angular frequencies near which `spectral_gap` searches too; a drift that circles sets them."""

    def __init__(self, matrix: Any, centres: ArrayLike, volumes: ArrayLike | None = None) -> None:
        self._matrix = markov.checked(matrix)
        size = self._matrix.shape[0]
        self.centres = np.asarray(centres, dtype=np.float64)
        self.volumes = np.ones(size) if volumes is None else np.asarray(volumes, dtype=np.float64)
        if self.centres.ndim not in (1, 2) or len(self.centres) != size or self.volumes.shape != (size,):
            raise ValueError(
                f"expected {size} centres and volumes for {size} cells, got shapes {self.centres.shape} and "
                f"{self.volumes.shape}"
            )
        if not (self.volumes > 0).all():
            raise ValueError("expected volumes > 0")

    @property
    def matrix(self) -> Any:
        """The rates Q, a SciPy sparse array in column form, shape ``(n, n)``."""
        return self._matrix

    @property
    def size(self) -> int:
        """Number of cells."""
        return len(self.volumes)

    # -- laws ------------------------------------------------------------------------------------------------------

    def stationary(self) -> Floats:
        """Masses that do not change, of sum 1.

        In detailed balance from ratios of rates, to rounding whatever the barriers; else by inverse iteration. Raises
        ValueError if there are several such laws (closed classes), or exchange is too slow to tell.
        """
        return np.array(self._stationary)

    @cached_property
    def _stationary(self) -> Floats:
        matrix = self.matrix
        classes = markov.closed_classes(matrix)
        if classes > 1:
            raise ValueError(
                f"the chain is reducible: {classes} closed classes of cells, each with a stationary law of its own; "
                "treat each alone, or add the rates between them"
            )
        weights = markov.balanced_weights(matrix)
        if weights is not None:
            masses = np.exp(weights)
            return np.asarray(masses / masses.sum())
        shift = _SHIFT * float(-matrix.diagonal().min())
        inverse = markov.factored(shift * sparse.eye_array(self.size) - matrix)
        masses = np.full(self.size, 1 / self.size)
        for _ in range(_MOST_ITERATIONS):
            after = inverse.solve(masses)
            after /= after.sum()
            change = float(np.abs(after - masses).sum())
            masses = after
            if change < _SETTLED:
                return np.asarray(np.maximum(masses, 0))
        raise ValueError(
            f"regions exchange at less than about {shift:.1g}, which rounding hides: the balance between them is not "
            "known; use a coarser grid or treat each region alone"
        )

    def density(self, masses: ArrayLike) -> Floats:
        """Masses over volumes."""
        return np.asarray(np.asarray(masses, dtype=np.float64) / self.volumes)

    def point(self, position: ArrayLike) -> Floats:
        """Unit mass at a position: in the cell of the nearest centre."""
        centres = self.centres.reshape(self.size, -1)
        wanted = np.atleast_1d(np.asarray(position, dtype=np.float64))
        if wanted.shape != centres.shape[1:]:
            raise ValueError(f"expected a position of {centres.shape[1]} coordinates, got {position!r}")
        masses = np.zeros(self.size)
        masses[np.square(centres - wanted).sum(axis=1).argmin()] = 1
        return masses

    # -- time ------------------------------------------------------------------------------------------------------

    def evolve(self, masses: ArrayLike, times: ArrayLike, *, tolerance: float = 1e-4) -> Floats:
        """Masses at the given times, shape ``(len(times), n)``; the start is at time 0.

        Every state is ≥ 0 and has the mass of the start to rounding; the error in L1 is below `tolerance` times that
        mass, by the sum of the estimated errors of all steps (`evolution`). Cost: some factorisations and five solves
        per step; a mass in one cell comes to rest in one to some hundred steps.

        Raises ValueError for masses or times that are negative, not finite or of the wrong shape.
        """
        start = self._masses(masses)
        moments = np.atleast_1d(np.asarray(times, dtype=np.float64))
        if moments.ndim != 1 or not np.isfinite(moments).all() or (moments < 0).any():
            raise ValueError(f"expected a list of finite times ≥ 0, got {times!r:.80}")
        states = np.empty((len(moments), self.size))
        if len(moments):
            order = np.argsort(moments)
            states[order] = Evolution(self.matrix, tolerance).run(start, moments[order])
        return states

    def spectral_gap(self) -> float:
        """Least real part of the nonzero rates: how fast the last memory of the start fades, per unit time.

        Of an irreversible process the eigenvalues nearest to 0 and to i · `frequencies` are searched: a mode that turns
        fast at another frequency and decays slower is not seen. Raises ValueError as `stationary` and where rounding
        hides the gap.
        """
        searched = [self.slow_modes(min(2, self.size - 1), frequency)[0] for frequency in (0.0, *self.frequencies)]
        return float(np.concatenate(searched).real.min())

    def slow_modes(self, count: int, frequency: float = 0.0) -> tuple[Any, Any]:
        """Rates, shape ``(count,)``, and functions, shape ``(count, n)``, of the slowest decays, without the rate 0.

        Means of function j decay as ``E[φ_j(x_t)] = e^(−rate_j t) φ_j(x_0)``; Σ π |φ|² = 1 with π the stationary
        masses. Real where all are, else complex; sorted by real part. Searched among the eigenvalues nearest to
        i · frequency. Cost: one factorisation and some 30 solves.
        """
        return spectrum.slow_functions(self.matrix, self._stationary, count, frequency)

    # -- passage ---------------------------------------------------------------------------------------------------

    def mean_first_passage_time(self, target: Cells, start: ArrayLike | None = None) -> Any:
        """Mean time to enter the target's cells, from every cell, shape ``(n,)``; a float from a start.

        `start` is a position as in `point`, or masses. Raises ValueError for a target that is empty, whole or out of
        reach.
        """
        return self._from(passage.mean_time(self.matrix, self.cells(target)), start)

    def passage_time_variance(self, target: Cells, start: ArrayLike | None = None) -> Any:
        """Variance of the time to enter the target's cells; arguments as `mean_first_passage_time`.

        From spread-out masses it includes the variance of the mean over them.
        """
        cells = self.cells(target)
        mean = passage.mean_time(self.matrix, cells)
        variance = passage.time_variance(self.matrix, cells, mean)
        if start is None:
            return variance
        masses = self._start(start)
        middle = masses @ mean
        return float(masses @ (variance + np.square(mean - middle)))

    def committor(self, source: Cells, target: Cells) -> Floats:
        """Probability to enter the target before the source, from every cell, shape ``(n,)``."""
        return passage.committor(self.matrix, self.cells(source), self.cells(target))

    def quasi_stationary(self, absorbing: Cells) -> tuple[Floats, float]:
        """Law to which what has not entered the absorbing cells settles, and the rate at which it still enters.

        Masses of sum 1, zero on the absorbing cells. Raises ValueError where these cut the others into parts.
        """
        return passage.quasi_stationary(self.matrix, self.cells(absorbing))

    def cells(self, which: Cells) -> Mask:
        """Mask of the cells whose centres fulfil a condition, or a mask as it is."""
        if callable(which):
            coordinates = self.centres.reshape(self.size, -1).T
            found = np.asarray(which(*coordinates))
        else:
            found = np.asarray(which)
        if found.shape != (self.size,) or found.dtype != np.bool_:
            raise ValueError(
                f"expected a condition, or a mask of {self.size} booleans, got {found.dtype} of shape {found.shape}"
            )
        return found

    def _from(self, values: Floats, start: ArrayLike | None) -> Any:
        return values if start is None else float(self._start(start) @ values)

    def _start(self, start: ArrayLike) -> Floats:
        if np.shape(start) != (self.size,):
            return self.point(start)
        masses = self._masses(start)
        return np.asarray(masses / masses.sum())

    def _masses(self, masses: ArrayLike) -> Floats:
        given = np.asarray(masses, dtype=np.float64)
        if given.shape != (self.size,) or not (np.isfinite(given).all() and (given >= 0).all() and given.any()):
            raise ValueError(f"expected masses ≥ 0 of {self.size} cells, not all zero, got shape {given.shape}")
        return given
