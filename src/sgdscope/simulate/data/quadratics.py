r"""Quadratics: a finite set of losses :math:`\frac12 (\theta - c_b)^\top H_b (\theta - c_b)` of unequal curvature."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.simulate.data.minibatch import Array, Minibatch, Sampling
from sgdscope.simulate.process import symbols
from sgdscope.theory import expression
from sgdscope.theory.potential import Potential

if TYPE_CHECKING:
    from torch import Tensor

    from sgdscope.risk import Risk

MOST = 12
"""Dimensions; a step is written out entry by entry."""


class Quadratics:
    """A set of quadratic losses of equal weight, the samples that batches are drawn from. Immutable.

    Coordinates are ``x`` in one dimension, else ``x0, x1, …``.

    Attributes:
        hessians: H_b, of shape (losses, n, n).
        centres: c_b, of shape (losses, n).
    """

    def __init__(self, hessians: ArrayLike, centres: ArrayLike = 0.0) -> None:
        """Takes copies.

        Args:
            hessians: symmetric, of shape (losses, n, n) with n ≤ 12, or (losses,) in one dimension.
            centres: one for all or one for each loss: broadcast to (losses, n), in one dimension to (losses,).

        Raises ValueError for other shapes, matrices that are not symmetric, and numbers that are not finite.
        """
        H = np.array(hessians, dtype=np.float64)
        flat = H.ndim == 1
        H = H[:, None, None] if flat else H
        if H.ndim != 3 or H.shape[1] != H.shape[2] or not H.size or H.shape[1] > MOST:
            raise ValueError(
                f"expected Hessians of shape (losses, n, n) with n ≤ {MOST}, or (losses,), got {np.shape(hessians)}"
            )
        if not np.isfinite(H).all() or not np.allclose(H, H.transpose(0, 2, 1), rtol=1e-10, atol=1e-14):
            raise ValueError("expected finite, symmetric Hessians")
        given = np.asarray(centres, dtype=np.float64)
        given = given[:, None] if flat and given.ndim == 1 else given
        try:
            c = np.array(np.broadcast_to(given, H.shape[:2]))
        except ValueError:
            raise ValueError(f"expected centres of shape {H.shape[:2]}, got {np.shape(centres)}") from None
        if not np.isfinite(c).all():
            raise ValueError("expected finite centres")
        self.hessians: Array = H
        self.centres: Array = c
        for array in (H, c):
            array.setflags(write=False)

    @property
    def dimension(self) -> int:
        """Number of coordinates, n."""
        return int(self.hessians.shape[1])

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the coordinates."""
        return ("x",) if self.dimension == 1 else tuple(f"x{i}" for i in range(self.dimension))

    @cached_property
    def symbols(self) -> tuple[Any, ...]:
        """Symbols of the coordinates."""
        return expression.symbols(self.variables)

    @cached_property
    def potential(self) -> Potential:
        """The mean of all losses, as a formula."""
        H, c, theta = self.hessians, self.centres, self.symbols
        pull = np.einsum("bij,bj->i", H, c) / len(H)
        offset = np.einsum("bi,bij,bj->", c, H, c) / len(H) / 2
        mean, n = H.mean(0), self.dimension
        loss = expression.number(float(offset)) - sum(expression.number(float(pull[i])) * theta[i] for i in range(n))
        for i in range(n):
            for j in range(n):
                loss += expression.number(float(mean[i, j])) * theta[i] * theta[j] / 2
        return Potential(loss, self.variables)

    @property
    def expression(self) -> Any:
        """The mean of all losses in the symbols of the coordinates."""
        return self.potential.expression

    def value(self, points: ArrayLike) -> Any:
        """Mean of all losses; see `Potential.value`."""
        return self.potential.value(points)

    def gradient(self, points: ArrayLike) -> Any:
        """Its gradient; see `Potential.gradient`."""
        return self.potential.gradient(points)

    def minibatch(self) -> Minibatch:
        """The gradient of a batch: the mean of H_b θ − H_b c_b over the losses in it."""
        n, theta = self.dimension, self.symbols
        rows, columns = np.triu_indices(n)
        entries, pulls, means = symbols("_h", len(rows)), symbols("_pull", n), symbols("_mean", n)
        entry = {(int(i), int(j)): h for i, j, h in zip(rows, columns, entries, strict=True)}
        averaged = tuple(
            (means[i], sum(entry[min(i, j), max(i, j)] * theta[j] for j in range(n)) - pulls[i]) for i in range(n)
        )
        table = np.concatenate(
            [self.hessians[:, rows, columns], np.einsum("bij,bj->bi", self.hessians, self.centres)], 1
        )
        return Minibatch(Sampling((*entries, *pulls), "sample", table), (), averaged, (), tuple(means))

    def risk(self, theta: ArrayLike) -> Risk:
        """The losses at θ of shape (n,), each one a sample, for `sgdscope.measure`. Raises ValueError for another."""
        from sgdscope.simulate.data.point import risk_at

        def output(theta: Tensor, centres: Tensor) -> Tensor:
            return theta - centres

        def loss(distances: Tensor, hessians: Tensor) -> Tensor:
            return ((hessians @ distances[:, :, None])[:, :, 0] * distances).sum(1) / 2

        return risk_at(theta, self.dimension, output, loss, (self.centres, self.hessians))

    def __repr__(self) -> str:
        return f"Quadratics({len(self.hessians)} losses, {self.dimension} dimensions)"
