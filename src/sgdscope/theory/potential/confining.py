"""Confining: does the landscape rise at infinity faster than any logarithm, so that exp(−L/D) has a finite integral?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy
from scipy.optimize import minimize

from sgdscope.theory.potential.box import directions
from sgdscope.theory.potential.compiled import Array, Compiled
from sgdscope.theory.potential.critical_point import written
from sgdscope.theory.potential.domain import check_domain
from sgdscope.theory.potential.many_dimensions import separated

OCTAVES = range(3, 28)
"""Radii of the spheres looked at, as powers of two."""


@dataclass(frozen=True)
class Confinement:
    """Whether exp(−L/D) is normalisable at every temperature D; true or false as a condition.

    Attributes:
        confining: the answer.
        exact: whether it is proved; else it was read off growing spheres.
        reason: in one sentence.
    """

    confining: bool
    exact: bool
    reason: str

    def __bool__(self) -> bool:
        return self.confining

    def __str__(self) -> str:
        return f"{'confining' if self.confining else 'not confining'} ({self.reason})"


def confinement(compiled: Compiled, polynomial: Any | None) -> Confinement:
    """Decides by the terms of highest degree where those suffice, else numerically."""
    proved = None if polynomial is None else _by_leading_terms(compiled, polynomial)
    return _by_spheres(compiled) if proved is None else proved


def _by_leading_terms(compiled: Compiled, polynomial: Any) -> Confinement | None:
    """Exact answer for a polynomial; None where its leading form is zero along a direction, or may be."""
    parts = separated(polynomial)
    if parts is not None:
        for part in parts:
            if part.degree() < 1 or part.degree() % 2 or part.LC() < 0:
                return Confinement(False, True, f"it does not rise towards both ends of {part.gens[0]}")
        return Confinement(True, True, "its highest power of each variable is even with a positive factor")
    order = polynomial.total_degree()
    if order % 2:
        return Confinement(False, True, f"its degree {order} is odd: it falls where its leading terms do")
    terms = [term for term in polynomial.terms() if sum(term[0]) == order]
    leading = sympy.Poly.from_dict(dict(terms), *polynomial.gens, domain="QQ")
    form = Compiled(leading.as_expr(), polynomial.gens)
    direction, lowest = _lowest_direction(form)
    rational = [sympy.Rational(float(c)) for c in direction]
    if lowest < 0 and leading.eval(dict(zip(leading.gens, rational, strict=True))) < 0:
        at = written(tuple(float(c) for c in direction))
        return Confinement(False, True, f"its terms of degree {order} are negative along {at}")
    if compiled.dimension == 2 and _positive_in_the_plane(leading):
        return Confinement(True, True, f"its terms of degree {order} are positive along every direction")
    return None


def _positive_in_the_plane(form: Any) -> bool:
    """Whether a form in two variables is positive off the origin: no real root on the line y = 1, nor at y = 0."""
    x, y = form.gens
    line = sympy.Poly(form.as_expr().subs(y, 1), x, domain="QQ")
    end = form.as_expr().subs({x: 1, y: 0})
    return bool(end > 0 and line.eval(0) > 0 and line.count_roots() == 0)


def _by_spheres(compiled: Compiled) -> Confinement:
    """Lowest values on growing spheres: rising by ever more per doubling of the radius is faster than a logarithm."""
    lowest: list[float] = []
    for octave in OCTAVES:
        radius = 2.0**octave
        lowest.append(_lowest(compiled, radius))
        if not np.isfinite(lowest[-1]):
            break
    seen = f"seen numerically on spheres up to radius {radius:.2g}"
    if lowest[-1] == np.inf:
        return Confinement(True, False, f"{seen}: it overflows in all directions")
    rises = np.diff(lowest[:-1] if lowest[-1] == -np.inf else lowest)
    half = len(rises) // 2
    if lowest[-1] > -np.inf and np.all(rises[half:] > 0):
        if rises[-1] > 1.5 * rises[half]:
            return Confinement(True, False, seen)
        if rises[-1] > 0.9 * rises[half]:
            return Confinement(False, False, f"{seen}: it rises like a logarithm, enough at low temperature only")
    return Confinement(False, False, f"{seen}: its lowest value there does not keep rising")


def _lowest(compiled: Compiled, radius: float) -> float:
    """The lowest value found on a sphere. Raises ValueError if the formula is not real all over it."""
    rays = directions(compiled.dimension, 200 * compiled.dimension)
    check_domain(compiled, radius * rays)
    values = compiled.value(radius * rays)
    if np.any(np.isnan(values)):
        where = written(tuple(float(c) for c in radius * rays[np.argmin(values)]))
        raise ValueError(f"expected a potential that is real everywhere, found it is not at {where}")
    low = float(values.min())
    if compiled.dimension == 1 or not np.isfinite(low):
        return low
    return min(low, *(_descended(compiled, radius, rays[at]) for at in np.argsort(values)[: 2 * compiled.dimension]))


def _lowest_direction(form: Compiled) -> tuple[Array, float]:
    """Where a form is lowest on the unit sphere, and its value there."""
    rays = directions(form.dimension, 200 * form.dimension)
    best = [_slid(form, 1.0, rays[at]) for at in np.argsort(form.value(rays))[: 2 * form.dimension]]
    ray = min(best, key=lambda ray: float(form.value(ray)))
    return ray, float(form.value(ray))


def _descended(compiled: Compiled, radius: float, ray: Array) -> float:
    value = float(compiled.value(radius * _slid(compiled, radius, ray)))
    return value if np.isfinite(value) else np.inf


def _slid(compiled: Compiled, radius: float, ray: Array) -> Array:
    """The direction where sliding down along a sphere from one direction ends."""
    scale = max(abs(float(compiled.value(radius * ray))), 1e-300)

    def on_sphere(u: Array) -> tuple[float, Array]:
        length = float(np.linalg.norm(u))
        point = radius * u / length
        value, slope = float(compiled.value(point)) / scale, compiled.gradient(point) * (radius / scale / length)
        if not np.isfinite(value) or not np.all(np.isfinite(slope)):
            return np.finfo(float).max, np.zeros_like(u)  # overflow: never downhill
        return value, slope - u * (u @ slope) / length**2

    with np.errstate(all="ignore"):
        found: Array = minimize(on_sphere, ray, jac=True, method="L-BFGS-B").x
    unit: Array = found / np.linalg.norm(found)
    return unit
