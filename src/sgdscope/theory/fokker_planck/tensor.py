"""Diffusion in the plane as a field of 2 × 2 tensors, however it was given, and its divergence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sgdscope.theory.fokker_planck.markov import Floats

Diffusion = Callable[[Floats, Floats], Any] | Any
"""A number, a pair (the diagonal), a symmetric 2 × 2 array, or a function of (x, y) that returns one of these."""

_SYMMETRIC = 1e-10
_DEFINITE = 1e-12  # smallest over largest eigenvalue
_STEP = 1e-5  # of the coordinate's scale, for central differences


class TensorField:
    """D(x, y): Itô diffusion tensor of dx = b dt + √(2 D) dW.

    Attributes:
        isotropic: whether it was given as one number per position.
        diagonal: whether no off-diagonal entries were given.
        constant: whether it was given without a function.
    """

    def __init__(self, given: Diffusion, probe: tuple[float, float] = (0.0, 0.0)) -> None:
        """`probe`: a position at which a function is called to learn its form."""
        self._given = given
        self.constant = not callable(given)
        entries = self._entries(np.full(3, probe[0]), np.full(3, probe[1]))
        self.isotropic, self.diagonal = len(entries) == 1, len(entries) < 4

    def __call__(self, x: Floats, y: Floats) -> Floats:
        """Tensors at positions of shape ``(n,)``, shape ``(n, 2, 2)``. Raises ValueError where one is no covariance."""
        entries = self._entries(x, y)
        found = np.zeros((len(x), 2, 2))
        if len(entries) == 4:
            found[:] = np.stack(entries, axis=1).reshape(-1, 2, 2)
        else:
            found[:, 0, 0], found[:, 1, 1] = entries[0], entries[-1]
        self._check(found, x, y)
        return found

    def divergence(self, x: Floats, y: Floats, scale: tuple[float, float]) -> Floats:
        """Σ_j ∂_j D_ij by central differences, shape ``(n, 2)``; `scale`: lengths over which D varies little."""
        if self.constant:
            return np.zeros((len(x), 2))
        dx, dy = _STEP * scale[0], _STEP * scale[1]
        along_x = (self(x + dx, y) - self(x - dx, y)) / (2 * dx)
        along_y = (self(x, y + dy) - self(x, y - dy)) / (2 * dy)
        return along_x[:, :, 0] + along_y[:, :, 1]

    def _entries(self, x: Floats, y: Floats) -> list[Floats]:
        """One entry (isotropic), two (diagonal) or four (rows one after the other), each of shape ``(n,)``."""
        value = self._given(x, y) if callable(self._given) else self._given
        nested_given = isinstance(value, (list, tuple))
        if not nested_given and (np.ndim(value) == 0 or (not self.constant and np.shape(value) == x.shape)):
            return [_filled(value, x)]
        rows = list(value)
        if len(rows) == 2:
            nested = [_is_row(row, x) for row in rows]
            if all(nested) and all(len(row) == 2 for row in rows):
                return [_filled(entry, x) for row in rows for entry in row]
            if not any(nested):
                return [_filled(entry, x) for entry in rows]
        raise ValueError(
            "expected a diffusion that is a number, a pair or a 2 × 2 array (of numbers, or of arrays of the shape of "
            f"the positions), got {type(value).__name__} of length {len(rows)}"
        )

    def _check(self, found: Floats, x: Floats, y: Floats) -> None:
        def refuse(bad: Any, wish: str) -> None:
            if bad.any():
                where = int(np.argmax(bad))
                raise ValueError(
                    f"expected a diffusion tensor that is {wish}, got {found[where].tolist()} at "
                    f"(x, y) = ({x[where]:.6g}, {y[where]:.6g})"
                )

        refuse(~np.isfinite(found).all(axis=(1, 2)), "finite")
        trace = found[:, 0, 0] + found[:, 1, 1]
        refuse(np.abs(found[:, 0, 1] - found[:, 1, 0]) > _SYMMETRIC * np.abs(trace), "symmetric")
        determinant = found[:, 0, 0] * found[:, 1, 1] - found[:, 0, 1] * found[:, 1, 0]
        wish = "positive definite (a coordinate without noise is for the kinetic equation)"
        refuse((trace <= 0) | (determinant <= _DEFINITE * trace**2), wish)


def _filled(value: Any, x: Floats) -> Floats:
    return np.broadcast_to(np.asarray(value, dtype=np.float64), x.shape)


def _is_row(row: Any, x: Floats) -> bool:
    """Whether this is a row of a 2 × 2 array rather than an entry."""
    if isinstance(row, (list, tuple)):
        return True
    return isinstance(row, np.ndarray) and bool(row.shape == (2,) or (row.ndim == 2 and row.shape == (2, *x.shape)))
