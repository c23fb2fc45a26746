"""Line: the Fokker–Planck equation of one variable with any drift and diffusion, and everything one asks of it.

Source of the scheme: Scharfetter & Gummel 1969, Chang & Cooper 1970, here with masses and resistances integrated
(`cells`); derived here otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from sgdscope.theory.fokker_planck import modes, propagation
from sgdscope.theory.fokker_planck.cells import Cells
from sgdscope.theory.fokker_planck.chain import Chain
from sgdscope.theory.fokker_planck.interval import confining_interval
from sgdscope.theory.fokker_planck.pieces import Piece, Region, pieces, spans
from sgdscope.theory.fokker_planck.stretches import Array, Function

Boundary = Literal["reflecting", "absorbing"]
Interpretation = Literal["ito", "stratonovich", "anti-ito"]

SHARES = {"ito": 0.0, "stratonovich": 0.5, "anti-ito": 1.0}
"""α: where within its step the noise is evaluated; the drift of the same process in Itô's sense is a + α D'."""


class Potential(Protocol):
    """A loss of one variable with its derivative, both vectorised."""

    def value(self, x: Array, /) -> Array:
        """The loss."""

    def gradient(self, x: Array, /) -> Array:
        """Its derivative."""


class Line:
    """The process ``dx = a(x) dt + √(2D(x)) dW`` on an interval, as a Markov process between cells.

    Its masses obey dp/dt = Q p with `matrix` Q, tridiagonal, rates ≥ 0 off the diagonal, columns that sum to zero (but
    at boundaries that absorb). Stationary masses and the resistance of barriers are exact to quadrature; all else is of
    second order in the cell. Answers are sums of positive terms: nothing is lost to rounding at barriers of hundreds of
    noise units. Everything costs O(cells).

    Args:
        drift: a(x), e.g. minus the derivative of the loss; an array in, an array out.
        diffusion: D(x) > 0, a function or a number; for SGD lr · variance of the batch gradient / 2.
        interval: left and right end.
        cells: how many equal cells, or the rising positions of all faces.
        boundaries: "reflecting" or "absorbing", for both ends or as a pair.
        interpretation: where the noise of the equation is evaluated: "ito" (before the step, as SGD does),
            "stratonovich" or "anti-ito" (flux a p − D ∂p). The same for a constant diffusion.

    Attributes:
        faces: positions, shape (cells + 1,); the ends of the interval are the first and last.
        centres, volumes: middles and widths of the cells, shape (cells,).

    Raises ValueError for an empty interval, a drift or diffusion that is not finite, a diffusion that is not positive,
    and a grid too coarse for the wells and barriers, with the number of cells that would do.
    """

    def __init__(
        self,
        drift: Function,
        diffusion: Function | float,
        interval: tuple[float, float],
        cells: int | ArrayLike = 2000,
        boundaries: Boundary | tuple[Boundary, Boundary] = "reflecting",
        interpretation: Interpretation = "ito",
    ) -> None:
        self.faces = _faces(interval, cells)
        self.centres = (self.faces[1:] + self.faces[:-1]) / 2
        self.volumes = np.diff(self.faces)
        self.drift = drift
        self.diffusion = diffusion if callable(diffusion) else _constant(diffusion)
        self.open_ends = _open_ends(boundaries)
        self._share = _share(interpretation)
        self._cells = self._cut(self.faces)
        if (needed := self._cells.needed()) > len(self.centres):
            raise ValueError(
                f"the grid is too coarse: {len(self.centres)} cells leave wells or barriers unresolved; take at least "
                f"{needed} cells on ({self.faces[0]:.6g}, {self.faces[-1]:.6g})"
            )

    @classmethod
    def of_potential(
        cls,
        potential: Potential,
        temperature: Function | float,
        interval: tuple[float, float] | None = None,
        cells: int | ArrayLike = 2000,
        boundaries: Boundary | tuple[Boundary, Boundary] = "reflecting",
        interpretation: Interpretation = "ito",
    ) -> Line:
        """SGD on a potential: drift −gradient, diffusion `temperature`, a number or a function of position.

        Without `interval`, the line ends 40 noise units up the outer slopes. Raises ValueError for a potential that
        does not confine (then give an interval), and as `Line`.
        """

        def drift(x: Array) -> Array:
            return -np.asarray(potential.gradient(x), dtype=np.float64)

        diffusion = temperature if callable(temperature) else _constant(temperature)
        if interval is None:
            interval = confining_interval(drift, diffusion, _share(interpretation))
        return cls(drift, diffusion, interval, cells, boundaries, interpretation)

    @cached_property
    def chain(self) -> Chain:
        """The cells as masses and resistances."""
        left, right = self.open_ends
        return self._cells.chain(0, len(self.centres), open_left=left, open_right=right)

    @cached_property
    def matrix(self) -> Any:
        """The rates Q, a SciPy sparse array in column form, shape (cells, cells)."""
        left, right = self.chain.rates()
        return sparse.diags_array([right[:-1], -left - right, left[1:]], offsets=[-1, 0, 1]).tocsc()

    # -- laws ------------------------------------------------------------------------------------------------------

    def stationary(self) -> Array:
        """Masses that do not change, of sum 1. Raises ValueError if a boundary absorbs."""
        if not self.chain.closed:
            raise ValueError("no mass stays where a boundary absorbs; ask for quasi_stationary()")
        return self.chain.stationary()

    def density(self, masses: ArrayLike) -> Array:
        """Masses over volumes."""
        return np.asarray(np.asarray(masses, dtype=np.float64) / self.volumes)

    def point(self, position: float) -> Array:
        """Unit mass at a position, shared by the two nearest cells so that its mean is right."""
        self._inside(position)
        last = len(self.centres) - 1
        where = np.interp(position, self.centres, np.arange(last + 1))
        left = min(int(where), max(last - 1, 0))
        masses = np.zeros(last + 1)
        masses[left] = 1 - (where - left)
        if last:
            masses[left + 1] = where - left
        return masses

    def mass_in(self, masses: ArrayLike, interval: tuple[float, float]) -> float:
        """How much of the masses lies in an interval, whose ends need not be faces and may be infinite."""
        left, right = interval
        if not left <= right:
            raise ValueError(f"expected an interval (left, right) with left ≤ right, got {interval}")
        overlap = np.minimum(self.faces[1:], right) - np.maximum(self.faces[:-1], left)
        return float(self.density(masses) @ np.maximum(overlap, 0))

    # -- time ------------------------------------------------------------------------------------------------------

    def evolve(self, masses: ArrayLike, times: ArrayLike, *, tolerance: float = 1e-8) -> Array:
        """Masses at the given times, shape (len(times), cells); the start is at time 0.

        Masses are ≥ 0, their sum is kept between reflecting ends, and their error in L1 is below `tolerance` times the
        start: values below it are noise. Each time is computed from the start, whatever the others. Cost: 16 complex
        tridiagonal solves per time (as 30 implicit steps), or a few modes for all late times together.

        Raises ValueError for negative masses or times, and a tolerance that rounding does not allow.
        """
        moments = np.asarray(times, dtype=np.float64)
        if moments.ndim != 1 or not np.isfinite(moments).all() or (moments < 0).any():
            raise ValueError(f"expected a list of finite times ≥ 0, got {times!r:.80}")
        if not 1e-12 <= tolerance < 1:
            raise ValueError(f"expected a tolerance between 1e-12 and 1, got {tolerance}")
        return propagation.evolved(self.chain, self._masses(masses), moments, tolerance)

    def implicit_steps(self, masses: ArrayLike, steps: Iterable[float]) -> Array:
        """Masses after implicit Euler steps of these sizes: exactly positive, of first order in the step.

        For those who need tails down to the smallest numbers; else `evolve` is faster and more accurate.
        """
        sizes = np.asarray(list(steps), dtype=np.float64)
        if not (np.isfinite(sizes).all() and (sizes >= 0).all()):
            raise ValueError("expected finite steps ≥ 0")
        return propagation.implicit_steps(self.chain, self._masses(masses), sizes)

    def spectral_gap(self) -> float:
        """Slowest decay rate other than 0, per unit time, accurate in the relative sense however small."""
        return float(modes.decay_rates(self.chain, 1)[0])

    def slow_modes(self, count: int) -> tuple[Array, Array]:
        """Rates, shape (count,), and functions, shape (count, cells), of the slowest decays, without the rate 0.

        Means of function j decay as ``E[φ_j(x_t)] = e^(−rate_j t) φ_j(x_0)``; Σ π φ² = 1 with π the stationary masses,
        and φ > 0 at the right end. Masses decay in the shapes π φ_j.
        """
        return modes.slow_functions(self.chain, count)

    # -- passage ---------------------------------------------------------------------------------------------------

    def mean_first_passage_time(self, target: Region | None = None, start: ArrayLike | None = None) -> Any:
        """Mean time to meet the target, from every cell, shape (cells,); a float from a start.

        `target`: an interval, a point, a condition on positions, or a mask of the cells; None for boundaries that
        absorb. Ends of intervals need not be faces. `start`: a position, or masses. Raises ValueError for a target
        outside the line or all of it, and a time beyond 1e308.
        """
        x, mean, _ = self._first_passage(target)
        return self._from(start, x, mean)

    def passage_time_variance(self, target: Region | None = None, start: ArrayLike | None = None) -> Any:
        """Variance of the time to meet the target; arguments as `mean_first_passage_time`.

        From spread-out masses it includes the variance of the mean over them.
        """
        x, mean, variance = self._first_passage(target, spread=True)
        within = self._from(start, x, variance)
        if start is None or np.ndim(start) == 0:
            return within
        weights = self._masses(start)
        means = np.interp(self.centres, x, mean)
        return float(within + weights @ np.square(means - self._from(start, x, mean)) / weights.sum())

    def _first_passage(self, target: Region | None, *, spread: bool = False) -> tuple[Array, Array, Array]:
        """Places from left to right, walls among them, with mean and, if asked for, variance of the time left there."""
        ends = self._spans(target, "target")
        found = [np.vstack([np.array(ends).ravel(), np.zeros((2, 2 * len(ends)))])]  # at the target no time is left
        for piece in pieces(ends, self.faces, self.open_ends):
            _, chain, faces = self._part(piece)
            mean, drops = chain.passage()
            variance = chain.passage_variance(drops) if spread else np.zeros_like(mean)
            if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
                raise ValueError(
                    "a passage time or its variance exceeds 1e308: barriers of over 700 noise units, or 350 for the "
                    "variance"
                )
            walls = piece.walls()
            found += [np.vstack([(faces[1:] + faces[:-1]) / 2, mean, variance])]
            found += [np.vstack([walls, np.zeros((2, len(walls)))])]
        table = np.hstack(found)
        x, mean, variance = table[:, np.argsort(table[0], kind="stable")]
        return x, mean, variance

    def _from(self, start: ArrayLike | None, x: Array, values: Array) -> Any:
        """Values given at places x: in every cell, at a position, or on average over masses."""
        if start is not None and np.ndim(start) == 0:
            position = float(np.asarray(start))
            self._inside(position)
            return float(np.interp(position, x, values))
        everywhere = np.interp(self.centres, x, values)
        if start is None:
            return everywhere
        weights = self._masses(start)
        return float(weights @ everywhere / weights.sum())

    def committor(self, source: Region, target: Region) -> Array:
        """Probability to meet the target before the source, from every cell, shape (cells,). Regions as for passages.

        What a boundary absorbs first meets neither. Raises ValueError if the two overlap.
        """
        zero, one = self._spans(source, "source"), self._spans(target, "target")
        if any(a < d and c < b for a, b in zero for c, d in one):
            raise ValueError("expected source and target apart, got regions that overlap")
        x, q = [np.array(zero).ravel(), np.array(one).ravel()], [np.zeros(2 * len(zero)), np.ones(2 * len(one))]
        for piece in pieces(sorted(zero + one), self.faces, self.open_ends):
            _, chain, faces = self._part(piece)
            left, right = (any(wall in span for span in one) for wall in (piece.left, piece.right))
            arrive_left, arrive_right = (np.exp(chance) for chance in chain.log_arrival())
            x.append((faces[1:] + faces[:-1]) / 2)
            q.append(left * arrive_left + right * arrive_right)
        places = np.concatenate(x)
        order = np.argsort(places, kind="stable")
        return np.interp(self.centres, places[order], np.concatenate(q)[order])

    def quasi_stationary(self, absorbing: Region | None = None) -> tuple[Array, float]:
        """Law to which what has not met the absorbing region settles, and the rate at which it still meets it.

        Masses of sum 1, zero in the region; regions as for passages. Raises ValueError where the region cuts the rest
        of the line into parts, each of which has a law of its own.
        """
        left = pieces(self._spans(absorbing, "absorbing region"), self.faces, self.open_ends)
        if len(left) != 1:
            raise ValueError(
                f"expected an absorbing region that leaves the rest in one piece, got {len(left)} pieces; let it reach "
                "to one end, as in (0, inf)"
            )
        cells, chain, faces = self._part(left[0])
        found, rate = modes.principal_masses(chain), float(modes.decay_rates(chain, 1)[0])
        masses = np.zeros(len(self.centres))
        if cells is not None:
            masses[cells] = found
        else:
            masses = np.diff(np.interp(self.faces, faces, np.append(0.0, np.cumsum(found))))
        return masses / masses.sum(), rate

    # -- parts -----------------------------------------------------------------------------------------------------

    def _inside(self, position: float) -> None:
        if not self.faces[0] <= position <= self.faces[-1]:
            raise ValueError(f"expected a position in ({self.faces[0]:.6g}, {self.faces[-1]:.6g}), got {position}")

    def _cut(self, faces: Array) -> Cells:
        return Cells.between(faces, self.drift, self.diffusion, self._share)

    def _spans(self, region: Region | None, what: str) -> list[tuple[float, float]]:
        return spans(region, self.faces, self.open_ends, what)

    def _part(self, piece: Piece) -> tuple[slice | None, Chain, Array]:
        """A piece as a chain with its faces; and which cells these are, if it ends on faces of the line."""
        cells = piece.cells(self.faces)
        if cells is not None:
            chain = self._cells.chain(
                cells.start, cells.stop, open_left=piece.open_left, open_right=piece.open_right
            )  # fmt: skip
            return cells, chain, self.faces[cells.start : cells.stop + 1]
        faces = piece.recut(self.faces)
        cut = self._cut(faces)
        return None, cut.chain(0, len(faces) - 1, open_left=piece.open_left, open_right=piece.open_right), faces

    def _masses(self, masses: ArrayLike) -> Array:
        given = np.asarray(masses, dtype=np.float64)
        if given.shape != self.centres.shape or not (np.isfinite(given).all() and (given >= 0).all() and given.any()):
            raise ValueError(
                f"expected masses ≥ 0 of {len(self.centres)} cells, not all zero, got shape {given.shape}; a start at "
                "a position is point(x)"
            )
        return given


def _faces(interval: tuple[float, float], cells: int | ArrayLike) -> Array:
    left, right = map(float, interval)
    if not (np.isfinite([left, right]).all() and left < right):
        raise ValueError(f"expected an interval (left, right) with left < right, both finite, got {interval}")
    if np.ndim(cells) == 0:
        if not (isinstance(cells, int | np.integer) and cells >= 3):
            raise ValueError(f"expected at least 3 cells, got {cells!r}")
        return np.linspace(left, right, int(cells) + 1)
    faces = np.array(cells, dtype=np.float64)
    if faces.ndim != 1 or len(faces) < 4 or not (np.diff(faces) > 0).all() or (faces[0], faces[-1]) != (left, right):
        raise ValueError("expected faces that rise from the left to the right end of the interval, at least 4 of them")
    return faces


def _constant(value: Any) -> Callable[[Array], Array]:
    if not (np.ndim(value) == 0 and np.isfinite(value) and value > 0):
        raise ValueError(f"expected a diffusion > 0, or a function of position, got {value!r}")
    return lambda x: np.full(x.shape, float(value))


def _open_ends(boundaries: Boundary | tuple[Boundary, Boundary]) -> tuple[bool, bool]:
    pair = (boundaries, boundaries) if isinstance(boundaries, str) else tuple(boundaries)
    if len(pair) != 2 or not set(pair) <= {"reflecting", "absorbing"}:
        raise ValueError(f'expected boundaries "reflecting" or "absorbing", or a pair of these, got {boundaries!r}')
    return pair[0] == "absorbing", pair[1] == "absorbing"


def _share(interpretation: str) -> float:
    if interpretation not in SHARES:
        raise ValueError(f"expected an interpretation among {', '.join(SHARES)}, got {interpretation!r}")
    return SHARES[interpretation]
