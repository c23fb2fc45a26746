"""Kinetic equation in Hermite functions of the velocity: the slow rates of SGD with momentum.

``∂_t p + v ∂_x p − L' ∂_v p = Γ ∂_v (v p + T ∂_v p)``. With p = √ρ(x) Σ_n g_n(x, t) h_n(v/√T) M(v), ρ = e^(−L/T), h_n
the normalised Hermite polynomials and M the Maxwell law, it reads

    ∂_t g_n = −n Γ g_n − √(n T) A g_{n−1} + √((n+1) T) A* g_{n+1},   A = ∂_x + L'/(2T),

friction on the diagonal beside an antisymmetric rest. Even modes live on cells and odd ones on the faces between them,
so that A is a difference of neighbours (no spurious oscillation from cell to cell), A √ρ = 0 exactly and the matrix
keeps its form: changing the sign of odd modes transposes it.

Two consequences, derived here, are used. An eigenvalue that is not real has as much weight on odd as on even modes, so
that its decay rate Γ Σ n |g_n|² / Σ |g_n|² is at least Γ/2: a real rate below Γ/2 is the slowest of all. And truncation
after an even number of modes gives a rate too large, after an odd number one too small, seen in every case tried: their
mean converges much faster than either.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial import hermite_e
from scipy.linalg import lapack
from scipy.sparse.linalg import LinearOperator, eigs

from sgdscope.theory.fokker_planck.markov import Floats

_FEWEST, _MOST = 8, 512
_SHIFT = 1e-10  # of the friction
_INVERSE_STEPS = 4
_SAME = 1e-4  # relative distance of rates that are one
_ROUNDING = 1e-12
_DOUBT = 1.1  # a coarse rate this much above the slowest is not the slowest
_LEAST_WEIGHT = 1e-10  # of √ρ, below which functions are continued from inside


class Gap(NamedTuple):
    """Slowest rate of decay, an estimate of its relative error from truncation in velocity, and the modes used."""

    rate: float
    error: float
    modes: int


@dataclass(frozen=True)
class HermiteExpansion:
    """The operator on n cells of one width, truncated after any number of modes.

    Attributes:
        cells: L/T at the centres, shape ``(n,)``.
        faces: L/T at the faces between them, shape ``(n − 1,)``.
        width: of a cell.
        temperature: T, the variance of the velocity.
        friction: Γ.
    """

    cells: Floats
    faces: Floats
    width: float
    temperature: float
    friction: float

    def gap(self, tolerance: float = 1e-4) -> Gap:
        """Slowest rate of decay. The number of modes is doubled until it moves by less than `tolerance`, relatively.

        Rates that are not real are looked for near the frequencies of the minima, and only where they could be the
        slowest; none decays slower than Γ/2. The error of the grid is of second order and comes on top. Cost: 10 ms
        for 200 cells and 33 modes. Raises ValueError if 513 modes are too few (friction below some 0.005).
        """
        # The eigenvalue of least modulus is real and the slowest of the real ones, or not real and all real ones faster
        slowest = self._converged(1, tolerance, 0.0)
        if slowest.rate > self.friction / 2:
            for frequency in self._frequencies:
                coarse = self.modes(1, slowest.modes // 2, frequency, 1e-3)[0].real.min()
                if coarse < slowest.rate * _DOUBT:
                    slowest = min(slowest, self._converged(2, tolerance, frequency))
        return slowest

    def _converged(self, count: int, tolerance: float, frequency: float) -> Gap:
        rates, error, modes = self.rates(count, tolerance, frequency)
        return Gap(float(rates[0].real), error, modes)

    def rates(self, count: int, tolerance: float = 1e-4, frequency: float = 0.0) -> tuple[Any, float, int]:
        """The `count` slowest rates among those nearest to i · frequency, their largest relative error, and the modes.

        Mean of the truncations after N and N + 1 modes, N = 8, 16, 32, … The changes d from N/2 to N fall ever faster,
        so that the error left is estimated as 2 d² / (the change before), at most d; and as the square of the distance
        between the two truncations where that is more. The rates of N modes are followed to N + 1, and accepted if they
        are the slowest there too: at weak friction a faster mode converges first.
        """
        before, change, modes = None, None, _FEWEST
        error = np.inf
        while modes <= _MOST:
            even, coefficients = self.modes(count, modes, frequency)
            odd = [self._followed(g, rate, modes) for g, rate in zip(coefficients, even, strict=True)]
            now = (even + np.array(odd)) / 2
            if before is not None:
                after = np.abs(now - before) / np.abs(now)
                left = after if change is None else after * np.minimum(1, 2 * after / np.maximum(change, _ROUNDING))
                apart = np.abs(even - np.array(odd)) / np.abs(now)
                error, change = max(float(left.max()), float(apart.max()) ** 2, _ROUNDING), after
            if error < tolerance and self._slowest_are(odd, modes + 1, frequency):
                return now, error, modes + 1
            before, modes = now, 2 * modes
        raise ValueError(
            f"the rates still move by {100 * error:.2g} % at {_MOST + 1} velocity modes: friction {self.friction:.3g} "
            "is too weak for the expansion, raise it or the tolerance"
        )

    def _slowest_are(self, rates: list[Any], modes: int, frequency: float) -> bool:
        """Whether no other rate of this truncation is slower."""
        found = self.modes(len(rates), modes, frequency)[0]
        return bool((found.real > np.sort(np.real(rates)) * (1 - _SAME)).all())

    def _followed(self, coefficients: Any, rate: Any, modes: int) -> Any:
        """The rate that becomes of one of `modes` modes when one mode more is kept: inverse iteration from there.

        With J the signs of the modes Kᵀ = J K J, so that the quotient uᵀ J K u / uᵀ J u errs in second order only.
        """
        more = modes + 1
        vector = np.zeros(self._unknowns(more), dtype=coefficients.dtype)
        sign = np.zeros(len(vector))
        for mode in range(more):
            position = np.arange(len(self.cells) - mode % 2)
            there = self._place(mode, position, more)
            sign[there] = 1 - 2 * (mode % 2)
            if mode < modes:
                vector[there] = coefficients[self._place(mode, position, modes)]
        if np.isrealobj(rate) or abs(rate.imag) <= 1e-9 * abs(rate):
            rate, vector = float(np.real(rate)), vector.real / np.abs(vector.real).max()
        solve = self._resolvent(more, -rate)
        for _ in range(_INVERSE_STEPS):
            before, vector = vector, solve(vector)
            quotient = (before * sign) @ vector / ((before * sign) @ before)
            vector = vector / np.abs(vector).max()
        return rate - 1 / quotient

    def modes(self, count: int, modes: int, frequency: float = 0.0, precision: float = 1e-8) -> tuple[Any, Any]:
        """Rates, shape ``(count,)``, and coefficients g, shape ``(count, unknowns)``, after truncation.

        Of the eigenvalues nearest to i · frequency those that decay slowest, the stationary law left out.
        `precision`: relative, of 1 / (eigenvalue − i · frequency).
        """
        shift = _SHIFT * self.friction + (1j * frequency if frequency else 0.0)
        solve = self._resolvent(modes, shift)
        still = np.zeros(self._unknowns(modes))
        still[self._place(0, np.arange(len(self.cells)), modes)] = self._root
        still /= np.linalg.norm(still)

        def apply(vector: Any) -> Any:
            moved = solve(vector - still * (still @ vector))
            return moved - still * (still @ moved)

        size, wanted = len(still), count + 1  # one more: the other of a pair
        start = np.cos(np.arange(size) * 0.7)
        kind = np.complex128 if frequency else np.float64
        operator = LinearOperator((size, size), matvec=apply, dtype=kind)
        inverses, vectors = eigs(operator, k=wanted, ncv=2 * wanted + 6, v0=start.astype(kind), tol=precision)
        rates = -(shift + 1 / inverses)
        order = np.lexsort((rates.imag, np.round(rates.real / np.abs(rates).max(), 10)))[:count]
        return rates[order], vectors[:, order].T

    def functions(self, coefficients: Any, modes: int, velocities: Floats) -> Any:
        """The functions φ(x, v) whose means decay, from coefficients in rows: shape ``(count, n, len(velocities))``.

        φ = Σ_n (−1)^n g_n h_n(v/√T) / √ρ, odd modes averaged from the faces, Σ π φ² to be normalised by the caller. The
        series converges in the mean with the stationary law, slowly beyond four thermal velocities.
        """
        n = len(self.cells)
        basis = hermite_e.hermevander(velocities / np.sqrt(self.temperature), modes - 1)
        basis = basis / np.sqrt(np.cumprod(np.maximum(np.arange(modes), 1.0)))
        held = np.flatnonzero(self._root > _LEAST_WEIGHT * self._root.max())
        found = np.zeros((len(coefficients), n, len(velocities)), dtype=coefficients.dtype)
        for mode in range(modes):
            if mode % 2:
                part = np.zeros((len(coefficients), n + 1), dtype=coefficients.dtype)
                part[:, 1:-1] = coefficients[:, self._place(mode, np.arange(n - 1), modes)]
                part = -(part[:, 1:] + part[:, :-1]) / 2
            else:
                part = coefficients[:, self._place(mode, np.arange(n), modes)]
            found += (part / self._root)[:, :, None] * basis[:, mode]
        found[:, : held[0]], found[:, held[-1] + 1 :] = found[:, held[:1]], found[:, held[-1:]]
        return found

    # -- the matrix ------------------------------------------------------------------------------------------------

    @cached_property
    def _root(self) -> Floats:
        """√ρ on cells, 1 at the minimum."""
        return np.asarray(np.exp(-(self.cells - self.cells.min()) / 2))

    @cached_property
    def _frequencies(self) -> tuple[float, ...]:
        """Of oscillations: at the minima, and with the mean curvature of the stationary law."""
        curvature = self.temperature * np.diff(self.cells, 2) / self.width**2
        weight = self._root[1:-1] ** 2
        bottom = (self.cells[1:-1] <= self.cells[:-2]) & (self.cells[1:-1] <= self.cells[2:])
        squares = np.append(curvature[bottom], curvature @ weight / weight.sum()) - self.friction**2 / 4
        return tuple(sorted({float(f"{np.sqrt(square):.2g}") for square in squares if square > 0}))

    def _unknowns(self, modes: int) -> int:
        return len(self.cells) * modes - modes // 2

    def _place(self, mode: Any, position: Any, modes: int) -> Any:
        """Index of a mode at a cell (even) or at the face to the right of it (odd): from place to place, then modes."""
        return position * modes + mode // 2 + (mode % 2) * ((modes + 1) // 2)

    def _resolvent(self, modes: int, shift: complex) -> Any:
        """Solver of (K − shift) u = f: K is banded, with modes / 2 diagonals on either side."""
        n, size = len(self.cells), self._unknowns(modes)
        rows, columns, values = [], [], []
        face = np.arange(n - 1)[:, None]
        for parity in (0, 1):  # A from cells to faces for even modes, from faces to cells for odd ones
            mode = np.arange(parity, modes - 1, 2)[None, :]
            strength = np.sqrt((mode + 1) * self.temperature) / self.width
            for side in (0, 1):  # the cell to the left and to the right of the face
                towards = self.faces - self.cells[side : n - 1 + side]
                entry = (1 - 2 * (side == parity)) * np.exp((parity - 0.5) * towards)[:, None] * strength
                places = face + side, face
                lower = self._place(mode, places[parity], modes)
                upper = self._place(mode + 1, places[1 - parity], modes)
                rows += [upper.ravel(), lower.ravel()]
                columns += [lower.ravel(), upper.ravel()]
                values += [-entry.ravel(), entry.ravel()]
        row, column, value = (np.concatenate(part) for part in (rows, columns, values))
        band = int(np.abs(row - column).max())
        kind = np.complex128 if isinstance(shift, complex) else np.float64
        banded = np.zeros((3 * band + 1, size), dtype=kind, order="F")
        banded[2 * band + row - column, column] = value
        for level in range(modes):
            banded[2 * band, self._place(level, np.arange(n - level % 2), modes)] = -level * self.friction - shift
        factor, solve = (lapack.zgbtrf, lapack.zgbtrs) if kind is np.complex128 else (lapack.dgbtrf, lapack.dgbtrs)
        factors, pivots, _ = factor(banded, band, band, overwrite_ab=True)
        return lambda right_side: solve(factors, band, band, right_side, pivots)[0]
