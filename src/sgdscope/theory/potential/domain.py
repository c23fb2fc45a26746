"""Domain: where a formula is a smooth real number, and the sentence that says where it is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import sympy

from sgdscope.theory.potential.compiled import Array, Compiled
from sgdscope.theory.potential.critical_point import written


def check_domain(compiled: Compiled, points: Array) -> None:
    """Raises ValueError if between or at these points, of shape (m, n), the formula is not real or has a pole.

    A part that must not vanish is refused where it changes its sign or, along a line of points, touches zero.
    """
    for part, must, culprit in _conditions(compiled.expression):
        values = Compiled(part, compiled.symbols).value(points)
        at = int(np.argmin(values))
        if must == "stay above zero":
            broken = not values[at] > 0
        elif must == "not be negative":
            broken = not values[at] >= 0
        else:
            at = int(np.argmin(np.abs(values)))
            broken = not (np.all(values > 0) or np.all(values < 0)) or _touches(values, at)
        if broken:
            raise ValueError(
                f"expected a finite real potential, but {culprit} needs {part} to {must}, which fails near "
                f"{written(tuple(float(c) for c in points[at]))}: give a box inside its domain"
            )


def _touches(values: Array, at: int) -> bool:
    """Whether the parabola through a smallest size and its neighbours on a line reaches zero."""
    if not 0 < at < len(values) - 1:
        return False
    left, middle, right = np.abs(values[at - 1 : at + 2])
    bend = left - 2 * middle + right
    return bool(bend > 0 and middle - (left - right) ** 2 / (8 * bend) <= 1e-3 * max(left, right))


def _conditions(expression: Any) -> Iterator[tuple[Any, str, Any]]:
    """Parts of the formula, what they must do, and the function that needs it."""
    for node in sympy.preorder_traversal(expression):
        part: Any = None
        must = "stay above zero"
        if isinstance(node, sympy.log):
            part = node.args[0]
        elif isinstance(node, sympy.tan):
            part, must = sympy.cos(node.args[0]), "stay off zero"
        elif isinstance(node, sympy.asin | sympy.acos):
            part, must = 1 - node.args[0] ** 2, "not be negative"
        elif node.is_Pow and node.exp.is_number:
            if not node.exp.is_integer:
                part, must = node.base, "stay above zero" if node.exp < 0 else "not be negative"
            elif node.exp < 0:
                part, must = node.base, "stay off zero"
        if part is not None and part.free_symbols and not part.is_positive:
            yield part, must, node


def sample(box: Sequence[tuple[float, float]], number: int) -> Array:
    """Points that fill a box evenly, in order along the line in one dimension; of shape (number, n)."""
    low, high = np.array(box).T
    if len(low) == 1:
        return np.linspace(low, high, number)
    # Kronecker's sequence with the generalised golden ratio: deterministic and even in any dimension
    ratio = float(np.max(np.roots([1, *[0] * (len(low) - 1), -1, -1]).real))
    steps = np.arange(1, number + 1)[:, None] * ratio ** -np.arange(1, len(low) + 1)
    points: Array = low + (high - low) * ((0.5 + steps) % 1)
    return points
