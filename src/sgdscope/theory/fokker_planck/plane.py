"""Plane: the Fokker-Planck equation of two coordinates with any diffusion tensor, as a generator on a grid.

For dx = b dt + √(2 D) dW (Itô) the flux is ``J = b p − ∇·(D p)``. At every cell D is a sum of positive weights on
lattice directions, ``D = Σ_e λ_e e eᵀ`` (`selling`), and along each direction the flux is exponentially fitted: from x
to x + e the rate is ``λ_e(x) B(−ζ)``, back ``λ_e(x + e) B(ζ)``, with B Bernoulli's function and ``ζ = ∫ ⟨D⁻¹ b, dl⟩``
along the edge. Rates are ≥ 0 for any correlation; the error is of second order; with b = −D ∇Φ and constant D the law
e^−Φ is at rest exactly. Sides of the box reflect.

Source: Scharfetter & Gummel 1969 for the flux, Selling 1874 for the directions; the combination derived here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.sparse import csgraph

from sgdscope.theory.escape.law import Interpretation, point_of_the_step
from sgdscope.theory.fokker_planck.bernoulli import bernoulli
from sgdscope.theory.fokker_planck.generator import Generator
from sgdscope.theory.fokker_planck.markov import Floats, Mask
from sgdscope.theory.fokker_planck.rectangle import Rectangle
from sgdscope.theory.fokker_planck.selling import Integers, selling
from sgdscope.theory.fokker_planck.tensor import Diffusion, TensorField

Edges = tuple[Integers, Integers, Floats]
"""Ends, starts and rates of jumps."""

_NODES = 0.5 + np.sqrt(0.15) * np.array([-1.0, 0.0, 1.0])  # Gauss-Legendre, exact up to degree 5
_GAUSS = np.array([5.0, 8.0, 5.0]) / 18
_COARSE, _TOO_COARSE = 0.25, 1.0  # squared cell widths, in variances of the law at a minimum
_WALL = 1e-3  # density at a side of the box, in units of the largest, that is no longer "confined"
_REACH = 4  # a direction spans at most this part of the cells of an axis


class Plane(Generator):
    """Two coordinates under force and noise, on ``n × m`` cells. Time unit: learning rate · iterations.

    Exactly one of `potential`, `gradient` and `drift` is given; all are functions of arrays (x, y).

    Args:
        diffusion: D of dx = b dt + √(2 D) dW, learning rate · (covariance of the batch gradient) / 2 for SGD: a number,
            a pair (its diagonal), a symmetric 2 × 2 array, or a function of (x, y) that returns one of these. Positive
            definite everywhere.
        box: ``((x0, x1), (y0, y1))``, wide enough that the law is negligible at its sides.
        cells: how many along x and along y. A direction of strong diffusion across the grid is followed best where
            cell widths are in the ratio of the standard deviations.
        potential: L(x, y); needs a diffusion that is one constant number, and makes e^(−L / D) exact on the cells.
        gradient: ∇L(x, y), two arrays.
        drift: b(x, y), two arrays, for a force that is no gradient.
        interpretation: where in a step the noise is evaluated; Itô for SGD. Stratonovich needs a diagonal diffusion.
        walls: the sides of the box belong to the problem; no complaint where the law does not vanish there.

    Raises ValueError where the diffusion is no covariance (with the position), the drift points out of a side of the
    box or the grid cannot resolve a minimum (with the number of cells needed); warns where it resolves one barely.

    Accuracy: with cells of half a standard deviation of the law in a well rates are right to some percent, and four
    times better with half the width.
    """

    def __init__(
        self,
        diffusion: Diffusion,
        box: tuple[tuple[float, float], tuple[float, float]],
        cells: tuple[int, int] = (200, 200),
        *,
        potential: Callable[[Floats, Floats], Any] | None = None,
        gradient: Callable[[Floats, Floats], Any] | None = None,
        drift: Callable[[Floats, Floats], Any] | None = None,
        interpretation: Interpretation = "ito",
        walls: bool = False,
    ) -> None:
        self.grid = Rectangle(box, cells)
        self.walls = walls
        self._alpha = point_of_the_step(interpretation)
        middle = self.grid.centres.mean(axis=0)
        self.diffusion = TensorField(diffusion, (float(middle[0]), float(middle[1])))
        if sum(given is not None for given in (potential, gradient, drift)) != 1:
            raise ValueError("expected exactly one of potential, gradient and drift")
        if potential is not None and not (self.diffusion.isotropic and self.diffusion.constant):
            raise ValueError("expected one constant number as diffusion beside a potential: give the gradient instead")
        if self._alpha == 0.5 and not self.diffusion.diagonal:
            raise ValueError(
                "the Stratonovich form of a full tensor depends on its square root: give the Itô drift instead"
            )
        self._potential, self._gradient, self._drift = potential, gradient, drift
        peclet = self._peclet(0), self._peclet(1)
        if not walls:
            self._require_confined(peclet)
        resting = self._critical_cells(peclet)
        self._require_resolved(resting)
        super().__init__(self._rates(), self.grid.centres, self.grid.volumes)
        if drift is not None:
            self.frequencies = self._turning(resting)

    def stationary(self) -> Floats:
        """Masses that do not change, of sum 1. Raises ValueError where the box cuts them off, unless it has walls."""
        masses = super().stationary()
        if not self.walls:
            shape = masses.reshape(self.grid.cells)
            sides = {"x": (shape[0], shape[-1]), "y": (shape[:, 0], shape[:, -1])}
            for axis, name in enumerate(("x", "y")):
                for end, side in enumerate(sides[name]):
                    if (share := float(side.max() / masses.max())) > _WALL:
                        raise ValueError(
                            f"at the side {name} = {self.grid.box[axis][end]:.6g} of the box the stationary density is "
                            f"{100 * share:.2g} % of its peak: enlarge the box, or pass walls=True if it is a wall"
                        )
        return masses

    def point(self, position: ArrayLike) -> Floats:
        """Unit mass at a position (x, y), shared by the nearest cells so that its mean is there."""
        return self.grid.point(position)

    # -- forces ----------------------------------------------------------------------------------------------------

    def drift(self, x: Floats, y: Floats) -> Floats:
        """Itô drift at positions of shape ``(n,)``, shape ``(n, 2)``: with the correction of the interpretation."""
        if self._drift is not None:
            found = _pair(self._drift(x, y), x, "drift")
        elif self._gradient is not None:
            found = -_pair(self._gradient(x, y), x, "gradient")
        else:
            raise ValueError("a plane with a potential has no drift: it works with differences of the potential")
        if self._alpha and not self.diffusion.constant:
            return found + self._alpha * self.diffusion.divergence(x, y, self.grid.widths)
        return found

    def _tilt(self, x: Floats, y: Floats, step: tuple[float, float]) -> Floats:
        """ζ along the edges from (x, y) to (x, y) + step: how much the drift favours the jump over the one back."""
        if self._potential is not None:
            level = float(self.diffusion(x[:1], y[:1])[0, 0, 0])
            return np.asarray((self._level(x, y) - self._level(x + step[0], y + step[1])) / level)
        total = np.zeros(len(x))
        for node, weight in zip(_NODES, _GAUSS, strict=True):
            at = x + node * step[0], y + node * step[1]
            pull = np.linalg.solve(self.diffusion(*at), self.drift(*at)[:, :, None])[:, :, 0]
            total += weight * (pull @ np.asarray(step))
        return total

    def _level(self, x: Floats, y: Floats) -> Floats:
        assert self._potential is not None
        found = np.broadcast_to(np.asarray(self._potential(x, y), dtype=np.float64), x.shape)
        _require_finite(found, x, y, "potential")
        return found

    # -- rates -----------------------------------------------------------------------------------------------------

    def _rates(self) -> Any:
        """The matrix, diagonal included."""
        n, m = self.grid.cells
        hx, hy = self.grid.widths
        x, y = self.grid.centres.T
        scaled = self.diffusion(x, y) / np.array([[hx * hx, hx * hy], [hx * hy, hy * hy]])
        edges = [self._edges(step, weight) for step, weight in self._directions(scaled)]
        shape = (n * m, n * m)
        parts, part = csgraph.connected_components(sparse.csr_array(_flat(edges), shape=shape), directed=False)
        if parts > 1:  # oblique directions leave corners of the box without neighbours: there, also along the axes
            cut_off = part != np.bincount(part).argmax()
            for step, weight in (((1, 0), scaled[:, 0, 0]), ((0, 1), scaled[:, 1, 1])):
                edges.append(self._edges(step, weight, cut_off))
        rates = sparse.csc_array(_flat(edges), shape=shape)
        return rates - sparse.diags_array(np.asarray(rates.sum(axis=0)).ravel())

    def _edges(self, step: tuple[int, int], weight: Floats, only: Mask | None = None) -> Edges:
        """Ends, starts and rates of the jumps along a direction, both ways; `only`: those that touch such cells."""
        n, m = self.grid.cells
        i, j = step
        source = np.arange(n * m).reshape(n, m)[: n - i, max(0, -j) : m - max(0, j)].ravel()
        target = source + i * m + j
        used = (weight[source] > 0) | (weight[target] > 0)
        if only is not None:
            used &= only[source] | only[target]
        source, target = source[used], target[used]
        x, y = self.grid.centres[source].T
        tilt = self._tilt(x, y, (i * self.grid.widths[0], j * self.grid.widths[1]))
        there, back = weight[source] * bernoulli(-tilt), weight[target] * bernoulli(tilt)
        return np.append(target, source), np.append(source, target), np.append(there, back)

    def _directions(self, scaled: Floats) -> list[tuple[tuple[int, int], Floats]]:
        """Each lattice direction in use, with i > 0 or i = 0 < j, and its weight at every cell."""
        weights, vectors = selling(scaled)
        flip = (vectors[..., 0] < 0) | ((vectors[..., 0] == 0) & (vectors[..., 1] < 0))
        vectors = np.where(flip[..., None], -vectors, vectors)
        self._require_reach(vectors[weights > 0])
        found = []
        for i, j in np.unique(vectors[weights > 0], axis=0).tolist():
            here = (vectors[..., 0] == i) & (vectors[..., 1] == j)
            found.append(((i, j), np.where(here, weights, 0.0).sum(axis=1)))
        return found

    def _require_reach(self, vectors: Integers) -> None:
        for axis, name in enumerate(("x", "y")):
            reach = int(np.abs(vectors[:, axis]).max())
            if reach * _REACH > self.grid.cells[axis]:
                raise ValueError(
                    f"the noise is so correlated that a direction spans {reach} of {self.grid.cells[axis]} cells along "
                    f"{name}: use at least {_REACH * reach} cells, or cell widths in the ratio of the deviations"
                )

    # -- what the grid must see --------------------------------------------------------------------------------------

    def _peclet(self, axis: int) -> Floats:
        """Drift · width / diffusion along an axis at the faces between cells, shape (n − 1, m) or (n, m − 1)."""
        along = [self.grid.along(0), self.grid.along(1)]
        width = self.grid.widths[axis]
        along[axis] = self.grid.edges(axis)[1:-1]
        x, y = (part.ravel() for part in np.meshgrid(*along, indexing="ij"))
        shape = (len(along[0]), len(along[1]))
        if self._potential is not None:
            step = (width, 0.0) if axis == 0 else (0.0, width)
            return self._tilt(x - step[0] / 2, y - step[1] / 2, step).reshape(shape)
        return np.asarray((self.drift(x, y)[:, axis] * width / self.diffusion(x, y)[:, axis, axis]).reshape(shape))

    def _require_confined(self, peclet: tuple[Floats, Floats]) -> None:
        for axis, name in enumerate(("x", "y")):
            inwards = np.moveaxis(peclet[axis], axis, 0)
            for end, push in enumerate((inwards[0].mean(), -inwards[-1].mean())):
                if push <= 0:
                    raise ValueError(
                        f"the drift does not point inwards at the side {name} = {self.grid.box[axis][end]:.6g} of the "
                        "box: the potential does not confine there; enlarge the box, or pass walls=True if it is a wall"
                    )

    def _critical_cells(self, peclet: tuple[Floats, Floats]) -> Any:
        """Indices (i, j) of inner cells that hold a zero of the drift, by one Newton step from their centres."""
        pull = (peclet[0][1:] + peclet[0][:-1])[:, 1:-1] / 2, (peclet[1][:, 1:] + peclet[1][:, :-1])[1:-1] / 2
        xx, yy = np.diff(peclet[0], axis=0)[:, 1:-1], np.diff(peclet[1], axis=1)[1:-1]
        xy = (peclet[0][1:] + peclet[0][:-1])[:, 2:] / 4 - (peclet[0][1:] + peclet[0][:-1])[:, :-2] / 4
        yx = (peclet[1][:, 1:] + peclet[1][:, :-1])[2:] / 4 - (peclet[1][:, 1:] + peclet[1][:, :-1])[:-2] / 4
        determinant = xx * yy - xy * yx
        to_x, to_y = yy * pull[0] - xy * pull[1], xx * pull[1] - yx * pull[0]
        inside = np.abs(determinant) * (0.5 + 1e-9)
        return np.argwhere((determinant != 0) & (np.abs(to_x) <= inside) & (np.abs(to_y) <= inside)) + 1

    def _require_resolved(self, resting: Any) -> None:
        """Cell widths at zeros of the drift, in deviations of the law along an axis, the other coordinate fixed."""
        if not len(resting):
            return
        x, y = self.grid.along(0)[resting[:, 0]], self.grid.along(1)[resting[:, 1]]
        for axis, name in enumerate(("x", "y")):
            step = (self.grid.widths[0], 0.0) if axis == 0 else (0.0, self.grid.widths[1])
            squares = np.abs(self._tilt(x, y, step) - self._tilt(x - step[0], y - step[1], step))
            worst = int(squares.argmax())
            if squares[worst] <= _COARSE:
                continue
            needed = int(np.ceil(self.grid.cells[axis] * np.sqrt(squares[worst] / _COARSE)))
            said = (
                f"near (x, y) = ({x[worst]:.3g}, {y[worst]:.3g}) a cell is {np.sqrt(squares[worst]):.2g} standard "
                f"deviations of the law wide along {name}: at least {needed} cells are needed along {name}, got "
                f"{self.grid.cells[axis]}"
            )
            if squares[worst] > _TOO_COARSE:
                raise ValueError(said)
            warnings.warn(said, stacklevel=3)

    def _turning(self, resting: Any) -> tuple[float, ...]:
        """Angular frequencies of the linear drift at its zeros: where a circling drift has its slow eigenvalues."""
        if not len(resting):
            return ()
        x, y = self.grid.along(0)[resting[:, 0]], self.grid.along(1)[resting[:, 1]]
        dx, dy = (0.5 * width for width in self.grid.widths)
        along_x = (self.drift(x + dx, y) - self.drift(x - dx, y)) / (2 * dx)
        along_y = (self.drift(x, y + dy) - self.drift(x, y - dy)) / (2 * dy)
        turning = np.abs(np.linalg.eigvals(np.stack([along_x, along_y], axis=-1)).imag).max(axis=1)
        return tuple(sorted({float(f"{rate:.2g}") for rate in turning if rate > 0}))


def _flat(edges: list[Edges]) -> tuple[Floats, tuple[Integers, Integers]]:
    """Values and (rows, columns) of all edges, as SciPy takes them."""
    rows, columns, values = (np.concatenate(part) for part in zip(*edges, strict=True))
    return values, (rows, columns)


def _pair(found: Any, x: Floats, what: str) -> Floats:
    if len(found) != 2:
        raise ValueError(f"expected a {what} of two components, got {len(found)}")
    pair = np.stack([np.broadcast_to(np.asarray(part, dtype=np.float64), x.shape) for part in found], axis=1)
    return pair


def _require_finite(found: Floats, x: Floats, y: Floats, what: str) -> None:
    if not np.isfinite(found).all():
        where = int(np.argmin(np.isfinite(found)))
        raise ValueError(f"expected a finite {what}, got {found[where]} at (x, y) = ({x[where]:.6g}, {y[where]:.6g})")
