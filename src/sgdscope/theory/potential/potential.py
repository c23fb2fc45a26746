"""A loss landscape of few dimensions: values, derivatives, critical points, passes and barriers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import sympy
from numpy.typing import ArrayLike

from sgdscope.theory import expression as reading
from sgdscope.theory.potential import many_dimensions, one_dimension, table
from sgdscope.theory.potential.box import Box, as_box, automatic_box
from sgdscope.theory.potential.compiled import Array, Compiled
from sgdscope.theory.potential.confining import Confinement, confinement
from sgdscope.theory.potential.critical_point import CriticalPoint, written
from sgdscope.theory.potential.degree import Completeness, count_check, degree
from sgdscope.theory.potential.passages import Passage, lowest_pass, passages
from sgdscope.theory.potential.polynomial import as_polynomial

Points = CriticalPoint | ArrayLike


class Potential:
    """A landscape L(θ) given by a formula. Immutable.

    ``Potential("x**4/4 - x**2/2")`` or ``Potential("x**2 + (y - x)**4", variables=("x", "y"))``. Derivatives are taken
    symbolically and compiled to NumPy when first asked for. Points are plain arrays of x in one dimension, arrays of
    shape (..., n) in n dimensions; results follow the leading axes, and a single point gives a float. What has to look
    for critical points does so in a box, by default one found automatically (for polynomials in one variable, or sums
    of such, the whole space).
    """

    def __init__(
        self,
        formula: str | sympy.Expr,
        variables: Sequence[str] = ("x",),
        parameters: Mapping[str, float] | None = None,
        *,
        box: Sequence[Any] | None = None,
    ) -> None:
        """Reads a formula.

        Args:
            formula: text for `theory.expression.parse`, or a SymPy expression in these variables.
            variables: their names, in the order of coordinates.
            parameters: names in the formula that stand for numbers.
            box: (low, high) for each variable, where to look for critical points.

        Raises ValueError for a formula that cannot be read, holds other symbols or does not vary.
        """
        self.variables = tuple(variables) if not isinstance(variables, str) else (variables,)
        self.symbols: tuple[Any, ...] = reading.symbols(self.variables)
        if isinstance(formula, str):
            self.expression: Any = reading.parse(formula, self.variables, parameters)
        else:
            self.expression = _in_real_symbols(formula, self.symbols, parameters or {})
        if not self.expression.free_symbols:
            raise ValueError(f"expected a potential that varies with {', '.join(self.variables)}, got {formula}")
        self.box = as_box(box, self.dimension)
        self._found: dict[Box | None, tuple[tuple[CriticalPoint, ...], Completeness]] = {}

    @property
    def dimension(self) -> int:
        """Number of variables."""
        return len(self.symbols)

    def rescaled(self, k: float) -> Potential:
        """The landscape L(√k θ): barriers are kept, curvatures are k times as large. Raises ValueError unless k > 0."""
        if not 0 < k < math.inf:
            raise ValueError(f"expected a factor k > 0 of the curvatures, got {k}")
        root = sympy.sqrt(reading.number(k))
        factor = root if root.is_Rational else sympy.Float(math.sqrt(k))
        box = None if self.box is None else [(low / math.sqrt(k), high / math.sqrt(k)) for low, high in self.box]
        scaled = self.expression.xreplace({symbol: factor * symbol for symbol in self.symbols})
        return Potential(scaled, self.variables, box=box)

    # values

    def value(self, points: ArrayLike) -> Any:
        """L at points. Raises ValueError where it is not a finite real number; so do the derivatives."""
        at = self._points(points)
        return _result(self._compiled.value(at), at, "the potential")

    def gradient(self, points: ArrayLike) -> Any:
        """∇L: of shape (..., n), in one dimension L' in the shape of the points."""
        at = self._points(points)
        found = self._compiled.gradient(at)
        return _result(found[..., 0] if self.dimension == 1 else found, at, "the gradient")

    def hessian(self, points: ArrayLike) -> Any:
        """∇²L: of shape (..., n, n), in one dimension L'' in the shape of the points."""
        at = self._points(points)
        found = self._compiled.hessian(at)
        return _result(found[..., 0, 0] if self.dimension == 1 else found, at, "the Hessian")

    def derivative(self, x: ArrayLike, order: int) -> Any:
        """The derivative of an order ≥ 0 in one dimension. Raises ValueError in more."""
        if self.dimension > 1 or order < 0:
            raise ValueError(f"expected one dimension and an order ≥ 0, got {self.dimension} and {order}")
        at = self._points(x)
        return _result(self._compiled.partials(at, order)[0], at, f"the derivative of order {order}")

    # the landscape as a whole

    def confining(self) -> Confinement:
        """Whether exp(−L/D) is normalisable at every temperature D: proved for most polynomials, else numerically.

        The result is true or false as a condition, and says why. Raises ValueError if L is not real everywhere.
        """
        return self._confinement

    def require_confining(self) -> None:
        """Raises ValueError unless the potential is confining."""
        if not self._confinement:
            raise ValueError(f"expected a potential that keeps θ in, L = {self.expression} is {self._confinement}")

    def critical_points(self, box: Sequence[Any] | None = None) -> tuple[CriticalPoint, ...]:
        """Points of zero gradient, in order of their first coordinate; see `completeness` for whether these are all.

        Raises ValueError if none can be looked for: no box can be found, the formula is not real in it or has a pole
        or a kink, or critical points form a curve.
        """
        return self._search(box)[0]

    def completeness(self, box: Sequence[Any] | None = None) -> Completeness:
        """Whether `critical_points` are all: proved, consistent with the gradient on the border, or not."""
        return self._search(box)[1]

    @property
    def minima(self) -> tuple[CriticalPoint, ...]:
        """Minima of positive curvature."""
        return tuple(point for point in self.critical_points() if point.kind == "minimum")

    @property
    def saddles(self) -> tuple[CriticalPoint, ...]:
        """Critical points of index 1, over which escape goes; in one dimension these are the maxima."""
        return tuple(p for p in self.critical_points() if p.index == 1 and p.kind != "degenerate")

    def passages(self, box: Sequence[Any] | None = None) -> tuple[Passage, ...]:
        """Each pass with the minima it joins, lowest first.

        Raises ValueError as `critical_points` does, and if a side of a pass ends in a degenerate minimum.
        """
        points = self.critical_points(box)
        region = as_box(box, self.dimension) or self.box or self._region(points)
        return passages(self._compiled, points, region)

    def passage(self, start: Points, target: Points, box: Sequence[Any] | None = None) -> Passage:
        """The pass that decides the way from one minimum to another: the highest one on the chain where it is lowest.

        Args:
            start: a minimum, or a position, which means the minimum nearest to it.
            target: likewise, another one.
            box: where to look.

        Raises ValueError if there is only one minimum, both are the same, or no chain of passes joins them.
        """
        minima = [point for point in self.critical_points(box) if point.kind == "minimum"]
        if len(minima) < 2:
            flat = [str(point) for point in self.critical_points(box) if point.kind == "degenerate"]
            listed = "; ".join([str(point) for point in minima] + flat) or "none"
            raise ValueError(f"expected two minima with a barrier between them, found: {listed}")
        ends = [self._nearest(point, minima) for point in (start, target)]
        if ends[0] == ends[1]:
            listed = ", ".join(written(point.position) for point in minima)
            raise ValueError(f"expected two different minima, both are the {ends[0]}: the minima are at {listed}")
        found = lowest_pass(self.passages(box), *ends)
        if found is None:
            raise ValueError(f"expected a chain of passes from the {ends[0]} to the {ends[1]}, found none in the box")
        return found

    def barrier(self, start: Points, target: Points, box: Sequence[Any] | None = None) -> float:
        """Height above the start of the lowest way to the target, over as many passes as it takes; see `passage`."""
        lowest = self.passage(start, target, box)
        minima = [point for point in self.critical_points(box) if point.kind == "minimum"]
        return lowest.saddle.value - self._nearest(start, minima).value

    def table(self, box: Sequence[Any] | None = None) -> list[dict[str, Any]]:
        """One row of plain types for each critical point.

        Keys: kind, index, position, value, curvatures, and barriers, a list of {to, over, height} for a minimum, where
        ``to`` is None if the pass leads out of the box.
        """
        return table.rows(self.critical_points(box), self.passages(box))

    def describe(self, box: Sequence[Any] | None = None) -> str:
        """The landscape as text: formula, confinement, critical points and whether these are all."""
        lines = [f"L({', '.join(self.variables)}) = {self.expression}"]
        try:
            lines.append(str(self.confining()))
            lines.append(table.text(self.table(box)))
            lines.append(f"critical points: {self.completeness(box)}")
        except ValueError as problem:
            lines.append(str(problem))
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.describe()

    def __repr__(self) -> str:
        box = "" if self.box is None else f", box={self.box}"
        return f"Potential({str(self.expression)!r}, variables={self.variables}{box})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Potential) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> Any:
        return _rebuilt, self._key

    @property
    def _key(self) -> tuple[Any, tuple[str, ...], Box | None]:
        return self.expression, self.variables, self.box

    @cached_property
    def _compiled(self) -> Compiled:
        return Compiled(self.expression, self.symbols)

    @cached_property
    def _polynomial(self) -> Any | None:
        return as_polynomial(self.expression, self.symbols)

    @cached_property
    def _confinement(self) -> Confinement:
        return confinement(self._compiled, self._polynomial)

    def _points(self, points: ArrayLike) -> Array:
        at = np.asarray(points, dtype=float)
        if self.dimension == 1:
            return at[..., None]
        if at.ndim == 0 or at.shape[-1] != self.dimension:
            raise ValueError(f"expected points of shape (..., {self.dimension}), got {at.shape}")
        return at

    def _search(self, box: Sequence[Any] | None) -> tuple[tuple[CriticalPoint, ...], Completeness]:
        region = as_box(box, self.dimension) or self.box
        if region not in self._found:
            self._found[region] = self._look(region)
        return self._found[region]

    def _look(self, box: Box | None) -> tuple[tuple[CriticalPoint, ...], Completeness]:
        parts = None if self._polynomial is None else many_dimensions.separated(self._polynomial)
        if parts is not None:
            points = (
                one_dimension.of_polynomial(self._compiled, self._polynomial, box)
                if self.dimension == 1
                else many_dimensions.of_separable(self._compiled, parts, box)
            )
            return tuple(points), Completeness("complete", "the roots of a polynomial were isolated exactly")
        region = box or automatic_box(self._compiled)
        if self.dimension == 1:
            points = one_dimension.of_function(self._compiled, region)
            return tuple(points), count_check(points, degree(self._compiled, region))
        expected = degree(self._compiled, region)
        if expected is None and box is None and self._confinement:
            expected = 1  # around all critical points of a landscape that rises at infinity
        for density in (1, 8):
            points = many_dimensions.of_function(self._compiled, region, density)
            checked = count_check(points, expected)
            if checked.status != "count fails":
                break
        return tuple(points), checked

    def _region(self, points: Sequence[CriticalPoint]) -> Box:
        """A box around critical points with room on all sides."""
        positions = np.array([point.position for point in points]).reshape(-1, self.dimension)
        if not len(positions):
            return ((-1.0, 1.0),) * self.dimension
        low, high = positions.min(axis=0), positions.max(axis=0)
        room = max(float((high - low).max()), 1e-3 * float(np.abs(positions).max()), 1e-6)
        return tuple((float(a - room), float(b + room)) for a, b in zip(low, high, strict=True))

    def _nearest(self, point: Points, minima: Sequence[CriticalPoint]) -> CriticalPoint:
        position = point.position if isinstance(point, CriticalPoint) else np.atleast_1d(np.asarray(point, dtype=float))
        if np.shape(position) != (self.dimension,) or not np.all(np.isfinite(position)):
            raise ValueError(f"expected a minimum or {self.dimension} finite coordinates, got {point!r}")
        return min(minima, key=lambda m: float(np.linalg.norm(np.array(m.position) - position)))


def _rebuilt(formula: Any, variables: tuple[str, ...], box: Box | None) -> Potential:
    return Potential(formula, variables, box=box)


def _in_real_symbols(formula: Any, symbols: Sequence[Any], parameters: Mapping[str, float]) -> Any:
    """A SymPy expression with its symbols replaced by real ones of the same name, and parameters by numbers."""
    if not isinstance(formula, sympy.Expr):
        raise ValueError(f"expected a formula as text or a SymPy expression, got {type(formula).__name__}")
    meanings = {name: reading.number(value) for name, value in parameters.items()}
    meanings |= {symbol.name: symbol for symbol in symbols}
    unknown = sorted(symbol.name for symbol in formula.free_symbols if symbol.name not in meanings)
    if unknown:
        listed = ", ".join(repr(symbol.name) for symbol in symbols)
        raise ValueError(f"expected a formula in {listed}, found {', '.join(map(repr, unknown))}: name all variables")
    return formula.xreplace({symbol: meanings[symbol.name] for symbol in formula.free_symbols})


def _result(values: Array, points: Array, quantity: str) -> Any:
    """Values as they are, a single one as a float; raises ValueError if one is not finite."""
    if not np.all(np.isfinite(values)):
        bad = ~np.isfinite(values.reshape(*points.shape[:-1], -1)).all(axis=-1)
        at = written(tuple(float(c) for c in points[bad][0]))
        raise ValueError(f"expected points where the potential is a finite real number, {quantity} is not at {at}")
    return float(values) if values.ndim == 0 else np.array(values)
