"""One coordinate under force and noise: the two measures that fix all its passage times and its stationary law.

For dθ = −L'(θ) dt + √(2 D(θ)) dW with the noise evaluated at the point α of each step (0 Itô, ½ Stratonovich,
1 anti-Itô), and Φ = ∫ L' / D: scale density ``s = e^Φ D^−α`` and speed density ``m = e^−Φ D^(α−1)``. Both are kept as
logarithms, so that barriers of hundreds of noise units cost nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sgdscope.theory.escape.panels import DERIVATIVE, INTEGRAL, TAIL, WEIGHTS, Floats, Profile, evaluate, nodes_between

_STEP_OF_PHI = 3.0  # largest change of Φ across a panel: exponentials of it are resolved to rounding by 16 nodes
_EPSILON = float(np.finfo(float).eps)
_RESOLVED = 1e-11  # tail of Φ and of ln D in a panel
_NEGLIGIBLE = 40.0  # a natural boundary is where the mass beyond is e^−40 of what was passed
_MOST_PANELS = 4_000
_MOST_PANELS_OUTWARD = 1_000


@dataclass(frozen=True)
class Sampled:
    """ln s and ln m at the nodes of panels, with Φ = 0 at the first edge. Shapes ``(panels, ORDER)``.

    `rounding` is the error of Φ from rounding of what the functions return.
    """

    widths: Floats
    log_scale: Floats
    log_speed: Floats
    rounding: float


@dataclass(frozen=True)
class Line:
    """Gradient or value of the loss, and diffusion, along a coordinate; θ is `sign` times it."""

    gradient: Profile | None
    value: Profile | None
    diffusion: Profile
    alpha: float
    sign: float = 1.0

    def mirrored(self) -> Line:
        """The same line seen in the coordinate −θ."""

        def at(profile: Profile, sign: float) -> Profile:
            return (lambda x: sign * evaluate(profile, -x)) if callable(profile) else sign * profile

        return Line(
            None if self.gradient is None else at(self.gradient, -1.0),
            None if self.value is None else at(self.value, 1.0),
            at(self.diffusion, 1.0),
            self.alpha,
            -self.sign,
        )

    def _diffusion_at(self, x: Floats) -> Floats:
        found = evaluate(self.diffusion, x)
        bad = ~(np.isfinite(found) & (found > 0))
        if bad.any():
            where = self.sign * x[bad][0]
            raise ValueError(
                f"expected a diffusion > 0 everywhere between the far end and the target, got {found[bad][0]:g} at "
                f"θ = {where:.6g}; where the noise vanishes the diffusion never passes"
            )
        return found

    def _local(self, edges: Floats) -> tuple[Floats, Floats, Floats, float]:
        """Φ at the nodes and across each panel, counted from its left edge, ln D at the nodes, and rounding of Φ."""
        x = nodes_between(edges)
        widths = np.diff(edges)[:, None]
        diffusion = self._diffusion_at(x)
        if self.gradient is not None:
            force, size = evaluate(self.gradient, x) * widths, 0.0
        else:
            assert self.value is not None
            loss = evaluate(self.value, x)
            force, size = (loss - loss[:, :1]) @ DERIVATIVE.T, float(np.abs(loss).max())
        if not np.isfinite(force).all():
            where = self.sign * x[~np.isfinite(force)][0]
            raise ValueError(
                f"expected a finite gradient and value of the loss, got one that is not at θ = {where:.6g}"
            )
        slope = force / diffusion
        rounding = _EPSILON * size / float(diffusion.min())
        return slope @ INTEGRAL.T, slope @ WEIGHTS, np.log(diffusion), rounding

    def sample(self, edges: Floats) -> Sampled:
        """Both measures at the nodes of the panels between successive edges."""
        local, across, log_diffusion, rounding = self._local(edges)
        phi_left = np.concatenate([[0.0], np.cumsum(across)[:-1]])
        if self.value is not None and not callable(self.diffusion):  # then Φ needs no integral
            loss = evaluate(self.value, nodes_between(edges))
            phi = (loss - evaluate(self.value, edges[:1])) / float(self.diffusion)
            rounding = _EPSILON * float(np.abs(loss).max()) / float(self.diffusion)
        else:
            phi = phi_left[:, None] + local
        return Sampled(
            np.diff(edges),
            phi - self.alpha * log_diffusion,
            -phi + (self.alpha - 1) * log_diffusion,
            rounding + _EPSILON * float(np.abs(phi).max()),
        )

    def _is_zero_ahead(self, left: float, span: float) -> bool:
        """Whether the diffusion, followed along its chord, is gone a little beyond `left`."""
        back = 1e-4 * span
        before, here = self._diffusion_at(np.array([left - back, left]))
        if here >= before:
            return False
        zero = left + here * back / (before - here)
        return bool(np.abs(evaluate(self.diffusion, np.array([zero])))[0] < 1e-2 * here)

    def march(self, start: float, stop: float | None, span: float) -> Floats:
        """Edges of resolved panels from `start` up to `stop`, or to where the mass beyond is negligible (None).

        `span` is the length on which things happen; panels are a quarter of it at first, then as wide as they resolve.
        Raises ValueError where the loss does not confine, and where the diffusion falls to zero.
        """
        step = span / 4
        edges = [start]
        phi = 0.0
        log_mass = -math.inf
        largest = 0.0
        while stop is None or edges[-1] < stop:
            left = edges[-1]
            floor = 8 * _EPSILON * max(abs(left), span)
            right = left + step if stop is None or left + step * (1 + 1e-9) < stop else stop
            local, across, log_diffusion, rounding = self._local(np.array([left, right]))
            reach = max(float(np.ptp(local)), abs(float(across[0])))
            tail = max(float(np.abs(local @ TAIL.T).max()), float(np.abs(log_diffusion @ TAIL.T).max()))
            if (reach > _STEP_OF_PHI or tail > _RESOLVED + 64 * rounding) and right - left > floor:
                step = (right - left) / 2
                continue
            smallest = math.exp(log_diffusion.min())
            if right - left <= floor and smallest < 1e-3 * largest and self._is_zero_ahead(left, span):
                raise ValueError(
                    f"the diffusion vanishes near θ = {self.sign * left:.6g}: there the drift is never overcome and "
                    "the diffusion never passes; use a noise that stays positive on the path"
                )
            largest = max(largest, math.exp(log_diffusion.max()))
            edges.append(right)
            if len(edges) > (_MOST_PANELS_OUTWARD if stop is None else _MOST_PANELS):
                raise ValueError(self._lost(start, stop))
            log_speed = -(phi + local[0]) + (self.alpha - 1) * log_diffusion[0]
            log_mass = np.logaddexp(log_mass, log_sum(log_speed, WEIGHTS * (right - left)))
            phi += float(across[0])
            step = 2 * (right - left)
            if stop is None:
                beyond = float(log_speed[-1]) + math.log(max(step, right - start))
                if beyond < log_mass - _NEGLIGIBLE:
                    break
                if right - start > 1e12 * span:
                    raise ValueError(self._lost(start, stop))
        return np.array(edges)

    def _lost(self, start: float, stop: float | None) -> str:
        if stop is None:
            return (
                f"expected a loss that confines beyond θ = {self.sign * start:.6g}, but the stationary mass out there "
                "does not fall off; place a reflecting end with reflecting=…"
            )
        return (
            f"the way from θ = {self.sign * start:.6g} to {self.sign * stop:.6g} climbs and falls by more than 10⁴ "
            "units of the noise; give a larger diffusion, one that does not vanish on the way, or a nearer "
            "reflecting end"
        )


def log_sum(log_values: Floats, weights: Floats) -> float:
    """``ln Σ weights · e^log_values`` without overflow."""
    top = float(log_values.max())
    return top + math.log(float((weights * np.exp(log_values - top)).sum()))


def log_integrals(log_values: Floats, widths: Floats) -> tuple[Floats, Floats]:
    """Logarithm of the integral of e^log_values from the first edge: at every node, and at every edge.

    Shapes ``(panels, ORDER)`` and ``(panels + 1,)``; the first edge holds −inf.
    """
    top = log_values.max(axis=1, keepdims=True)
    scaled = np.exp(log_values - top)
    whole = top[:, 0] + np.log(widths * (scaled @ WEIGHTS))
    at_edges = np.concatenate([[-np.inf], np.logaddexp.accumulate(whole)])
    part = np.maximum(scaled @ INTEGRAL.T, np.finfo(float).tiny) * widths[:, None]
    return np.logaddexp(at_edges[:-1, None], top + np.log(part)), at_edges
