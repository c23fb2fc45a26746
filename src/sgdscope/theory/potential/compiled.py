"""A formula as fast functions of arrays: value and derivatives, unchecked. Overflow gives inf, a missing domain NaN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import sympy

MAX_OPERATIONS = 3000
"""Longest expression that is differentiated, in operations."""

Array = np.ndarray[Any, Any]


class Compiled:
    """Value, gradient and Hessian of an expression at points of shape (..., n), compiled when first asked for."""

    def __init__(self, expression: Any, symbols: Sequence[Any]) -> None:
        self.expression = expression
        self.symbols = tuple(symbols)
        self._partial = cache(self._compile)

    @property
    def dimension(self) -> int:
        """Number of variables, n."""
        return len(self.symbols)

    def value(self, points: Array) -> Array:
        """Values, of shape (...)."""
        return self._partial(0)(points)[0]

    def gradient(self, points: Array) -> Array:
        """First derivatives, of shape (..., n)."""
        return np.stack(self._partial(1)(points), axis=-1)

    def hessian(self, points: Array) -> Array:
        """Second derivatives, of shape (..., n, n)."""
        n = self.dimension
        result = np.empty((*points.shape[:-1], n, n))
        for (i, j), entry in zip(combinations_with_replacement(range(n), 2), self._partial(2)(points), strict=True):
            result[..., i, j] = result[..., j, i] = entry
        return result

    def derivatives(self, order: int) -> tuple[Any, ...]:
        """All partial derivatives of an order as expressions, each mixed one once. Kinks of abs have no curvature."""
        if order == 0:
            return (self.expression,)
        found = []
        lower = dict(zip(self._orders(order - 1), self.derivatives(order - 1), strict=True))
        if any(sympy.count_ops(derivative) > MAX_OPERATIONS for derivative in lower.values()):
            raise ValueError(
                f"expected a formula of at most {MAX_OPERATIONS} operations up to its derivative of order {order - 1}, "
                "got a longer one: write it more simply"
            )
        for wrt in self._orders(order):
            derivative = sympy.diff(lower[wrt[:-1]], self.symbols[wrt[-1]])
            found.append(derivative.replace(sympy.DiracDelta, lambda *_: sympy.S.Zero))
        return tuple(found)

    def partials(self, points: Array, order: int) -> list[Array]:
        """All partial derivatives of an order, in the order of `derivatives`, each of shape (...)."""
        return self._partial(order)(points)

    def _orders(self, order: int) -> list[tuple[int, ...]]:
        return list(combinations_with_replacement(range(self.dimension), order))

    def _compile(self, order: int) -> Callable[[Array], list[Array]]:
        function = sympy.lambdify(self.symbols, list(self.derivatives(order)), modules="numpy", cse=self.dimension > 1)

        def evaluate(points: Array) -> list[Array]:
            shape = points.shape[:-1]
            with np.errstate(all="ignore"):
                entries = function(*np.moveaxis(points, -1, 0))
            return [np.broadcast_to(np.asarray(entry, dtype=float), shape) for entry in entries]

        return evaluate
