"""Diffusion: how noise depends on position, given as formulas, and a root of it for the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy

from sgdscope.simulate.process import Assignments
from sgdscope.theory import expression

Shape = str | float | Sequence[Any] | None
"""None is the unit matrix. One formula is a multiple of it, a sequence of n the diagonal, n sequences of n a matrix.
``"hessian"`` is the size of the Hessian, for landscapes whose Hessian is diagonal."""


def matrix(shape: Shape, landscape: Any) -> Any:
    """The n × n matrix of formulas that a shape means on a landscape, as a SymPy matrix.

    Raises ValueError for another number of formulas, a matrix that is not symmetric, and formulas that cannot be read.
    """
    n = len(landscape.symbols)
    if shape is None:
        return sympy.eye(n)
    if isinstance(shape, str) and shape == "hessian":
        return _size_of_hessian(landscape)
    if isinstance(shape, str | float | int | sympy.Expr):
        return _read(shape, landscape) * sympy.eye(n)
    rows = list(shape)
    if len(rows) != n:
        raise ValueError(f"expected a diffusion of one formula, {n}, or {n} × {n}, got {len(rows)}")
    if all(isinstance(row, str | float | int | sympy.Expr) for row in rows):
        return sympy.diag(*(_read(row, landscape) for row in rows))
    if any(isinstance(row, str) or len(row) != n for row in rows):
        raise ValueError(f"expected a diffusion of one formula, {n}, or {n} × {n}, got rows of other lengths")
    found = sympy.Matrix([[_read(entry, landscape) for entry in row] for row in rows])
    if sympy.simplify(found - found.T) != sympy.zeros(n):
        raise ValueError("expected a symmetric matrix of diffusion, got another")
    return found


def constant(diffusion: Any) -> bool:
    """Whether a matrix of formulas is the same everywhere."""
    return not diffusion.free_symbols


def root(diffusion: Any, prefix: str) -> tuple[Assignments, Any]:
    """Assignments, and a lower triangular matrix R in terms of them with R Rᵀ the diffusion (Cholesky)."""
    n = diffusion.shape[0]
    found = sympy.zeros(n)
    steps: list[tuple[Any, Any]] = []

    def named(row: int, column: int, value: Any) -> Any:
        if value.is_number:
            return value
        name = sympy.Symbol(f"{prefix}{row}_{column}", real=True)
        steps.append((name, value))
        return name

    for j in range(n):
        if j > 0 and diffusion[j, j] == diffusion[0, 0] and diffusion.is_diagonal():
            found[j, j] = found[0, 0]  # isotropic: one root for all
            continue
        found[j, j] = named(j, j, sympy.sqrt(diffusion[j, j] - sum(found[j, k] ** 2 for k in range(j))))
        for i in range(j + 1, n):
            part = diffusion[i, j] - sum(found[i, k] * found[j, k] for k in range(j))
            found[i, j] = named(i, j, part / found[j, j]) if part != 0 else part
    return tuple(steps), found


def _read(formula: Any, landscape: Any) -> Any:
    if isinstance(formula, str):
        return expression.parse(formula, [symbol.name for symbol in landscape.symbols])
    if isinstance(formula, sympy.Expr):
        return formula
    return expression.number(float(formula))


def _size_of_hessian(landscape: Any) -> Any:
    hessian = sympy.hessian(landscape.expression, landscape.symbols)
    if not hessian.is_diagonal():
        raise ValueError(
            "expected a landscape with a diagonal Hessian for diffusion 'hessian', got one with mixed derivatives: "
            "give the matrix of diffusion"
        )
    return sympy.diag(*(sympy.Abs(entry) for entry in hessian.diagonal()))
