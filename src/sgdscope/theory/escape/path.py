"""The path out of a valley with the noise measured along it: effective barrier, implied fraction, vanishing noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.optimize import minimize_scalar

from sgdscope.theory.escape.law import Interpretation, require_curvatures, require_positive
from sgdscope.theory.escape.low_noise import low_noise_escape_time
from sgdscope.theory.escape.panels import NODES, WEIGHTS, Floats, Profile, evaluate
from sgdscope.theory.prediction import Prediction

_NEVER = (
    "the noise vanishes at {where} between the minimum and the saddle: the diffusion never escapes there, and what "
    "discrete steps do depends on their size (vanishing_noise_exponent)"
)


@dataclass(frozen=True, eq=False)
class EscapePath:
    """Slope of the loss and gradient noise along the path from a minimum to the saddle. Made by `escape_path`.

    Attributes:
        positions: arc length along the path, increasing. Shape ``(points,)``.
        slope: derivative of the loss along the path. Same shape.
        noise: variance of the gradient of ONE sample along the path. Same shape.
        zeros: positions where the noise vanishes.
        warnings: one sentence for each reason to doubt the integrals.
    """

    positions: Floats
    slope: Floats
    noise: Floats
    zeros: tuple[float, ...]
    warnings: tuple[str, ...]

    def _integral(self, power: float, every: int = 1) -> float:
        x, slope, noise = self.positions[::every], self.slope[::every], self.noise[::every]
        nodes = x[:-1, None] + np.diff(x)[:, None] * NODES
        return float(
            (np.diff(x)[:, None] * WEIGHTS * _between(x, slope)(nodes) / _between(x, noise)(nodes) ** power).sum()
        )

    @property
    def barrier(self) -> float:
        """ΔL, the integral of the slope."""
        return self._integral(0.0)

    def integral(self, power: float = 1.0) -> float:
        """``∫ L' / h^power`` from minimum to saddle: power 1 for SGD, ½ for Adam with the ideal second moment.

        Raises ValueError where the noise vanishes on the path.
        """
        self._require_noise()
        return self._integral(power)

    def relative_error(self, power: float = 1.0) -> float | None:
        """Change of the integral when every second point is left out, relative; None for an even number of points."""
        self._require_noise()
        if len(self.positions) % 2 == 0 or len(self.positions) < 5:
            return None
        return abs(self._integral(power, every=2) / self._integral(power) - 1)

    def exponent(self, lr: float, batch_size: float) -> float:
        """Effective barrier ``Φ = ∫ L' / D = (2 B / lr) ∫ L' / h``. Raises ValueError where the noise vanishes."""
        require_positive(lr=lr, batch_size=batch_size)
        return 2 * batch_size / lr * self.integral()

    def implied_fraction(self, curvature_minimum: float, curvature_saddle: float) -> float:
        """The s with which ``ΔL (s / H_a + (1 − s) / |H_b|)`` equals the integral. It may lie outside [0, 1].

        Raises ValueError where H_a = |H_b|, for then every s gives the same, and where the noise vanishes.
        """
        require_curvatures(curvature_minimum, curvature_saddle)
        flat, sharp = 1 / -curvature_saddle, 1 / curvature_minimum
        if math.isclose(flat, sharp, rel_tol=1e-6):
            raise ValueError("expected different curvatures at minimum and saddle: at equal ones every fraction fits")
        return (self.integral() / self.barrier - flat) / (sharp - flat)

    def _require_noise(self) -> None:
        if self.zeros:
            raise ValueError(_NEVER.format(where=_places(self.zeros)))


def _between(x: Floats, y: Floats) -> PchipInterpolator:
    return PchipInterpolator(x, y)


def _places(zeros: tuple[float, ...]) -> str:
    return "x = " + ", ".join(f"{zero:.6g}" for zero in zeros)


def escape_path(
    positions: ArrayLike,
    noise: Profile | ArrayLike,
    *,
    slope: Profile | ArrayLike | None = None,
    loss: ArrayLike | None = None,
) -> EscapePath:
    """Slope and noise along the path from a minimum to the saddle, from functions or from measurements at points.

    Args:
        positions: arc length of the points, increasing from the minimum to the saddle, at least 3.
        noise: variance of one sample's gradient along the path: values at the points, or a function, whose zeros are
            then looked for between the points as well.
        slope: derivative of the loss along the path, likewise.
        loss: values of the loss at the points, in place of the slope; differentiated by a cubic spline.

    Measurements are joined by monotone cubic interpolation, which keeps the noise positive. Where the noise vanishes
    (as |L''| does at an inflection point) the path says so in `zeros` and `warnings` and refuses its integrals; a dip
    below a tenth of both ends is a warning. Raises ValueError for shapes that do not match, negative noise, or a loss
    that does not rise from minimum to saddle.
    """
    x = np.asarray(positions, dtype=np.float64)
    if x.ndim != 1 or len(x) < 3 or not np.isfinite(x).all() or not (np.diff(x) > 0).all():
        raise ValueError("expected at least 3 increasing positions from the minimum to the saddle")
    if (slope is None) == (loss is None):
        raise ValueError("expected either the slope or the loss along the path")
    variance = _at(noise, x, "noise")
    along = _at(slope, x, "slope") if slope is not None else CubicSpline(x, _at(loss, x, "loss"))(x, 1)
    if (variance < 0).any():
        raise ValueError(
            f"expected the noise as a variance ≥ 0, got {variance.min():.6g}; for a curvature pass its absolute value"
        )
    zeros = _zeros(noise, x, variance)
    path = EscapePath(x, along, variance, zeros, _doubts(x, variance, zeros))
    if path.barrier <= 0:
        raise ValueError(f"expected a loss that rises from the minimum to the saddle, got a change of {path.barrier:g}")
    return path


def _at(profile: Any, x: Floats, name: str) -> Floats:
    found = evaluate(profile, x) if callable(profile) or np.ndim(profile) == 0 else np.asarray(profile, float)
    if found.shape != x.shape or not np.isfinite(found).all():
        raise ValueError(f"expected {name} finite at each of the {len(x)} positions, got shape {found.shape}")
    return found


def _zeros(noise: Profile | ArrayLike, x: Floats, variance: Floats) -> tuple[float, ...]:
    """Where the noise is zero: at a point, or, for a function, at the bottom of a dip between points."""
    top = variance.max()
    found = [float(place) for place in x[variance <= 1e-12 * top]]
    if callable(noise):
        inner = np.flatnonzero((variance[1:-1] <= variance[:-2]) & (variance[1:-1] <= variance[2:])) + 1
        for i in inner[variance[inner] > 1e-12 * top]:
            bottom = minimize_scalar(
                lambda place: evaluate(noise, np.array([place]))[0],
                bounds=(x[i - 1], x[i + 1]),
                method="bounded",
                options={"xatol": 1e-10 * (x[-1] - x[0])},
            )
            if bottom.fun < 1e-8 * top:
                found.append(float(bottom.x))
    return tuple(sorted(found))


def _doubts(x: Floats, variance: Floats, zeros: tuple[float, ...]) -> tuple[str, ...]:
    if zeros:
        return (_NEVER.format(where=_places(zeros)),)
    lowest = int(np.argmin(variance))
    share = variance[lowest] / min(variance[0], variance[-1])
    if share >= 0.1:
        return ()
    return (
        f"the noise falls to {100 * share:.2g} % of that at the ends near x = {x[lowest]:.6g}: the time hangs on how "
        "deep the dip is, measure more points there",
    )


def path_escape_time(
    path: EscapePath,
    curvature_minimum: float,
    curvature_saddle: float,
    lr: float,
    batch_size: float,
    *,
    interpretation: Interpretation = "ito",
    transverse_factor: float = 1.0,
    logarithm: bool = False,
) -> Prediction:
    """Mean escape time of SGD with the noise measured along the path: `low_noise_escape_time` with D = lr h / (2 B).

    In learning rate · iterations. Warnings of the path are handed on. Raises ValueError where the noise vanishes.
    """
    exponent = path.exponent(lr, batch_size)
    per_noise = lr / (2 * batch_size)
    found = low_noise_escape_time(
        exponent,
        curvature_minimum,
        curvature_saddle,
        per_noise * float(path.noise[0]),
        per_noise * float(path.noise[-1]),
        interpretation=interpretation,
        transverse_factor=transverse_factor,
        lr=lr,
        logarithm=logarithm,
    )
    return replace(found, warnings=found.warnings + path.warnings)
