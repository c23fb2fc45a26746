"""Kinetic: position and velocity of SGD with momentum, as a generator on a grid and as an expansion in velocity.

``dx = v dt, dv = −L'(x) dt − Γ v dt + √(2 Γ T) dW``, stationary law ∝ e^(−(L + v²/2)/T). Two forms for two uses:

- *Grid of cells* (densities, evolution, passage times, committors): positive, and the stationary law is at rest
  exactly. The circling flow is taken from the stream function T e^(−H/T) at the corners of the cells, so that what
  flows into a cell flows out of it; across velocities it is fitted together with friction and noise
  (Scharfetter-Gummel). Across positions there is no noise to lean on, and only upwinding is positive: its error is of
  first order, an added diffusion |v| · width / 2 (gap: +1.5 % at Γ = 1 and +18 % at Γ = 0.1 on 200 × 200 cells).
  `Kinetic.extrapolated` removes its leading parts.
- *Hermite functions* (`hermite`) for the spectrum: of second order on the grid and spectral in velocity, right to 1e-4
  or better, but without positivity. Central differences on cells instead would have a spurious slow mode that
  alternates from cell to cell.

For heavy ball with learning rate η, momentum μ and gradient variance C per batch: one iteration is √η of this time,
Γ = (1 − μ)/√η, T = η C / (2 (1 − μ)); derived here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from sgdscope.theory.fokker_planck.bernoulli import bernoulli
from sgdscope.theory.fokker_planck.generator import Generator
from sgdscope.theory.fokker_planck.hermite import HermiteExpansion
from sgdscope.theory.fokker_planck.markov import Floats, checked
from sgdscope.theory.fokker_planck.rectangle import Rectangle

_NODES = 0.5 + np.sqrt(0.15) * np.array([-1.0, 0.0, 1.0])  # Gauss-Legendre, exact up to degree 5
_GAUSS = np.array([5.0, 8.0, 5.0]) / 18
_COARSE, _TOO_COARSE = 0.25, 1.0  # squared cell widths, in variances of the law at an extremum
_WALL = 1e-3  # density at an end of the interval, in units of the largest, that is no longer "confined"
_STEEPEST = 300.0  # change of L / T across a cell


class Kinetic(Generator):
    """Position × velocity of SGD with momentum on ``n × m`` cells: positions first, velocities second.

    Time unit: that of the kinetic equation, √lr · iterations. Conditions on cells are functions of (x, v); positions
    for `point` are pairs (x, v), or x alone, which then has the velocities of equilibrium.

    Args:
        temperature: T > 0, the stationary variance of the velocity.
        friction: Γ > 0.
        interval: of positions, ``(a, b)``, wide enough that the law is negligible at its ends; they reflect.
        cells: how many positions and velocities; of the latter an even number, so that v = 0 is a face.
        potential: L(x), vectorised; or
        gradient: L'(x), vectorised, integrated by Gauss quadrature. Exactly one of the two.
        velocities: largest velocity on the grid, in units of √T.

    Raises ValueError for a potential that does not confine on the interval, a grid that cannot resolve a well or a
    barrier (with the number of cells needed) and parameters out of range; warns where the grid resolves barely.
    """

    def __init__(
        self,
        temperature: float,
        friction: float,
        interval: tuple[float, float],
        cells: tuple[int, int] = (200, 200),
        *,
        potential: Callable[[Floats], Any] | None = None,
        gradient: Callable[[Floats], Any] | None = None,
        velocities: float = 6.0,
    ) -> None:
        for name, value in (("temperature", temperature), ("friction", friction)):
            if not 0 < value < math.inf:
                raise ValueError(f"expected a {name} > 0, got {value}")
        if not 4 <= velocities <= 12:
            raise ValueError(f"expected the largest velocity between 4 and 12 thermal ones, got {velocities}")
        if (potential is None) == (gradient is None):
            raise ValueError("expected exactly one of potential and gradient")
        self.temperature, self.friction = float(temperature), float(friction)
        fastest = velocities * math.sqrt(temperature)
        self.grid = Rectangle((interval, (-fastest, fastest)), cells)
        if self.grid.cells[1] % 2:
            raise ValueError(f"expected an even number of velocities, got {self.grid.cells[1]}")
        self._arguments = {"potential": potential, "gradient": gradient, "velocities": velocities}
        self._level = self._levels(potential, gradient) / temperature
        self._require_confined()
        self._require_resolved()
        self.centres, self.volumes = self.grid.centres, self.grid.volumes

    @cached_property
    def hermite(self) -> HermiteExpansion:
        """The expansion in velocity on the same positions: the spectrum comes from it."""
        width = self.grid.widths[0]
        return HermiteExpansion(self._level[1::2], self._level[2:-1:2], width, self.temperature, self.friction)

    # -- from the grid of cells --------------------------------------------------------------------------------------

    @cached_property
    def _grid_matrix(self) -> Any:
        return self._rates()

    @property
    def matrix(self) -> Any:
        """The rates Q between cells, a SciPy sparse array in column form; made at first use."""
        return self._grid_matrix

    @cached_property
    def _stationary(self) -> Floats:
        """∝ e^(−H/T) at the centres, which the fluxes leave at rest by construction."""
        x, v = self._levels_of(self._level[1::2], self.grid.along(1))
        masses = np.exp(-(x - x.min())) * np.exp(-v)
        return np.asarray((masses / masses.sum()).ravel())

    def point(self, position: ArrayLike) -> Floats:
        """Unit mass at (x, v), shared by the nearest cells; or at x, with the velocities of equilibrium."""
        if np.ndim(position) > 0:
            return self.grid.point(position)
        masses = self.grid.point((float(np.asarray(position)), 0.0)).reshape(self.grid.cells)
        velocities = self._stationary.reshape(self.grid.cells).sum(axis=0)
        return np.outer(masses.sum(axis=1), velocities).ravel()

    def refined(self, factor: int) -> Kinetic:
        """The same problem on `factor` times as many positions."""
        n, m = self.grid.cells
        return Kinetic(self.temperature, self.friction, self.grid.box[0], (factor * n, m), **self._arguments)  # type: ignore[arg-type]

    def extrapolated(self, measure: Callable[[Kinetic], float]) -> tuple[float, float]:
        """A number of the grid form without the leading errors of its width in position, and an estimate of the error.

        Evaluates `measure`, e.g. ``lambda k: k.mean_first_passage_time(lambda x, v: x > 1, -1.0)``, on n, 2 n and 4 n
        positions and removes the first and second power of the width (Richardson). Conditions on positions should
        change at faces of the coarsest grid, or they move with the width. Cost: seven times that of `measure`.
        """
        coarse, middle, fine = (float(measure(self.refined(factor))) for factor in (1, 2, 4))
        once = 2 * middle - coarse, 2 * fine - middle
        value = (4 * once[1] - once[0]) / 3
        return value, abs(value - once[1])

    # -- from the expansion in velocity ------------------------------------------------------------------------------

    def spectral_gap(self, tolerance: float = 1e-4) -> float:
        """Slowest rate of decay, by Hermite functions, to `tolerance` in velocity and second order in position.

        Modes that are not real are looked for near the frequencies of the wells where they could be the slowest
        (`HermiteExpansion.gap`, which also tells the error and the number of modes). Cost: some 10 ms at 200 positions.
        The modes of the grid form, with its upwind error, are ``Generator.slow_modes(kinetic, count)``.
        """
        return self.hermite.gap(tolerance).rate

    def slow_modes(self, count: int, frequency: float = 0.0, tolerance: float = 1e-4) -> tuple[Any, Any]:
        """Slowest rates, shape ``(count,)``, and functions, shape ``(count, n · m)``, by Hermite functions.

        As `Generator.slow_modes`; the functions converge in the mean with the stationary law, slowly beyond four
        thermal velocities.
        """
        rates, _, modes = self.hermite.rates(count, tolerance, frequency)
        _, coefficients = self.hermite.modes(count, modes, frequency)
        functions = self.hermite.functions(coefficients, modes, self.grid.along(1)).reshape(count, -1)
        weight = np.sqrt(self._stationary)
        if np.abs(rates.imag).max() <= 1e-9 * np.abs(rates).max():
            rates = rates.real
        peak = np.take_along_axis(functions, np.abs(functions * weight).argmax(axis=1)[:, None], axis=1)
        functions = functions * (np.abs(peak) / peak) / np.linalg.norm(functions * weight, axis=1)[:, None]
        return rates, functions.real if np.isrealobj(rates) else functions

    # -- the matrix ------------------------------------------------------------------------------------------------

    def _rates(self) -> Any:
        (n, m), (h, k) = self.grid.cells, self.grid.widths
        centre = np.add(*self._levels_of(self._level[1::2], self.grid.along(1)))
        corner = np.add(*self._levels_of(self._level[::2], self.grid.edges(1)))
        inside = np.zeros_like(corner)
        inside[1:-1, 1:-1] = 1  # the stream function vanishes on the sides: nothing flows through them

        def stream(i: slice, j: slice, of: Floats) -> Floats:
            """T e^(−H/T) at corners, in units of the mass of cells."""
            return np.asarray(self.temperature / (h * k) * inside[i, j] * np.exp(of - corner[i, j]))

        later, earlier, inner = slice(1, None), slice(None, -1), slice(1, -1)
        index = np.arange(n * m).reshape(n, m)
        left, right, low, high = index[:-1], index[1:], index[:, :-1], index[:, 1:]
        # v times the density at faces, out of the cell behind and, with the other sign, out of the cell ahead
        forwards = stream(inner, earlier, centre[:-1]) - stream(inner, later, centre[:-1])
        backwards = stream(inner, later, centre[1:]) - stream(inner, earlier, centre[1:])
        noise = self.friction * self.temperature / k**2
        climb = np.diff(centre, axis=1)
        upwards = stream(later, inner, centre[:, :-1]) - stream(earlier, inner, centre[:, :-1])
        pull = upwards / (noise * bernoulli(climb))
        entries = (
            (right, left, np.maximum(forwards, 0)),
            (left, right, np.maximum(backwards, 0)),
            (high, low, noise * bernoulli(climb) * bernoulli(-pull)),
            (low, high, noise * bernoulli(-climb) * bernoulli(pull)),
        )
        flat = (np.concatenate([part.ravel() for part in parts]) for parts in zip(*entries, strict=True))
        rows, columns, values = flat
        matrix = sparse.csc_array((values, (rows, columns)), shape=(n * m, n * m))
        return checked(matrix - sparse.diags_array(np.asarray(matrix.sum(axis=0)).ravel()))

    def _levels_of(self, level: Floats, velocities: Floats) -> tuple[Floats, Floats]:
        """L/T as a column and v²/(2T) as a row."""
        return level[:, None], (velocities**2 / (2 * self.temperature))[None, :]

    def _levels(self, potential: Callable[[Floats], Any] | None, gradient: Callable[[Floats], Any] | None) -> Floats:
        """L at faces and centres, from end to end: shape ``(2 n + 1,)``."""
        x = np.linspace(*self.grid.box[0], 2 * self.grid.cells[0] + 1)
        if potential is not None:
            found = _evaluated(potential, x, "potential")
        else:
            assert gradient is not None
            at = x[:-1, None] + np.diff(x)[:, None] * _NODES
            slope = _evaluated(gradient, at, "gradient") @ _GAUSS
            found = np.concatenate([[0.0], np.cumsum(slope * np.diff(x))])
        return np.asarray(found - found.min())

    def _require_confined(self) -> None:
        for end, name in ((0, "lower"), (-1, "upper")):
            share = float(np.exp(self._level.min() - self._level[end]))
            if share > _WALL:
                raise ValueError(
                    f"at the {name} end of the interval, x = {self.grid.box[0][end]:.6g}, the stationary density is "
                    f"{100 * share:.2g} % of its peak: the potential does not confine, or the interval is too short"
                )
        steepest = float(np.abs(np.diff(self._level)).max())
        if steepest > _STEEPEST:
            raise ValueError(
                f"L / T changes by {steepest:.3g} across half a cell: take a shorter interval or more positions"
            )

    def _require_resolved(self) -> None:
        """Widths in standard deviations of the law at extrema of the potential, and of the Maxwell law."""
        cell = self._level[1::2]
        step = np.diff(cell)
        turns = np.flatnonzero(step[1:] * step[:-1] <= 0)
        n, m = self.grid.cells
        widths = [(math.sqrt(np.abs(np.diff(cell, 2)[turns]).max(initial=0.0)), "positions", n)]
        widths.append((self.grid.widths[1] / math.sqrt(self.temperature), "velocities", m))
        for width, name, count in widths:
            if width**2 <= _COARSE:
                continue
            needed = math.ceil(count * width / math.sqrt(_COARSE))
            said = (
                f"a cell is {width:.2g} standard deviations of the law wide: at least {needed} {name} are needed, "
                f"got {count}"
            )
            if width**2 > _TOO_COARSE:
                raise ValueError(said)
            warnings.warn(said, stacklevel=3)


def _evaluated(function: Callable[[Floats], Any], x: Floats, what: str) -> Floats:
    found = np.broadcast_to(np.asarray(function(x), dtype=np.float64), x.shape)
    if not np.isfinite(found).all():
        where = x[~np.isfinite(found)][0]
        raise ValueError(f"expected a finite {what}, got {float(np.asarray(function(where)))} at x = {where:.6g}")
    return found
