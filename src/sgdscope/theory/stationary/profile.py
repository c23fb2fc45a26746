"""Profile: a zero-flux density seen in its coordinate, with its peaks and tails located for integration."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from sgdscope.theory.stationary.coordinates import Coordinate
from sgdscope.theory.stationary.panels import Panels
from sgdscope.theory.stationary.zero_flux import ZeroFlux

Array = npt.NDArray[np.float64]
Function = Callable[[Array], Array]

NEGLIGIBLE = 100.0
"""e^{−this}: height relative to the peak below which a tail is left to its slope."""
STRAIGHT = 4e-15
"""Change of slope per unit of x, relative, below which a tail is exponential."""
SCAN = 0.5
"""Spacing in x of the search for peaks."""


@dataclass(frozen=True)
class Profile:
    """The density of x, where v is a function of x: log-height and slope, and the polynomials that integrate it.

    Attributes:
        flux: density of v, up to a constant.
        coordinate: x ↔ v.
        least: x below which the density is cut off; None for the whole line.
    """

    flux: ZeroFlux
    coordinate: Coordinate
    least: float | None = None

    def log_height(self, x: Array) -> Array:
        """Log density of x, up to a constant; −∞ where it is lost in the range of floats."""
        with np.errstate(divide="ignore", over="ignore"):
            return self.flux.log_density(self.coordinate.value(x)) + self.coordinate.log_stretch(x)

    def slope(self, x: Array) -> Array:
        """Derivative of log_height; ±∞ where it is lost in the range of floats."""
        stretch = np.exp(self.coordinate.log_stretch(x))
        with np.errstate(divide="ignore", over="ignore"):
            return self.flux.slope(self.coordinate.value(x)) * stretch + self.coordinate.stretch_slope(x)

    def value_slope(self, x: Array) -> Array:
        """The slope of log p(v) along x: its zeros are the extrema of the density of v."""
        return self.slope(x) - self.coordinate.stretch_slope(x)

    def extrema(self) -> tuple[list[float], list[float]]:
        """Places x of the maxima and of the minima of the density of x, ascending."""
        return _turning_points(self.slope, self._scan())

    def value_extrema(self) -> tuple[list[float], list[float]]:
        """Places x of the maxima and of the minima of the density of v, ascending."""
        return _turning_points(self.value_slope, self._scan())

    def panels(self, growth: float = 0.0, typical: float = 0.0) -> tuple[Panels, float]:
        """The height times envelope ** growth, divided by e^offset, as panels; and the offset.

        Raises ValueError where it has no peak, which a normalisable density cannot be without.
        """

        def logarithm(x: Array) -> Array:
            found = self.log_height(x)
            return found + growth * self.coordinate.log_envelope(x, typical) if growth else found

        def slope(x: Array) -> Array:
            found = self.slope(x)
            return found + growth * self.coordinate.envelope_slope(x, typical) if growth else found

        peaks, _ = _turning_points(slope, self._scan())
        if self.least is not None:
            peaks = [self.least, *peaks]
        if not peaks:
            raise ValueError(
                "the bulk of the law lies beyond the range of floats: take a lower temperature or another depth"
            )
        offset = float(logarithm(np.array(peaks)).max())
        first, last = self.coordinate.reach
        high = _tail(logarithm, slope, peaks[-1], last, offset)
        low = _tail(logarithm, slope, peaks[0], first, offset) if self.least is None else self.least
        below, above = (float(found) for found in slope(np.array([low, high])))
        nudge = 1e-6
        bends = slope(np.array(peaks) - nudge) - slope(np.array(peaks) + nudge)
        widths = np.sqrt(2 * nudge / np.maximum(bends, 2 * nudge))
        breaks = _graded(low, high, [*zip(peaks, widths, strict=True), *self._dips()])
        slopes = below if self.least is None else None, above
        # at low temperature the exponent is large and its rounding shows: all that fourth differences leave of it here
        rounding = np.abs(np.diff(logarithm(peaks[-1] + 1e-4 * widths[-1] * np.arange(20)), n=4)).max() / 4
        return Panels(lambda x: np.exp(logarithm(x) - offset), breaks, slopes, float(rounding)), offset

    def _dips(self) -> list[tuple[float, float]]:
        """Where the noise has a minimum inside of the support: x, and the width of the dip, at most 1."""
        noise = self.flux.dynamics.noise
        low, high = self.coordinate.support
        if noise.discriminant == 0 or not low < (centre := noise.covariance / noise.square_variance) < high:
            return []
        x = self.coordinate.place(np.array([centre]))
        stretch = np.exp(self.coordinate.log_stretch(x))
        return [(float(x[0]), min(1.0, math.sqrt(noise.discriminant) / noise.square_variance / float(stretch[0])))]

    def _scan(self) -> Array:
        low, high = self.coordinate.reach
        low = max(low, self.least) if self.least is not None else low
        scan = np.arange(low, high, SCAN)
        for place, width in self._dips():
            steps = width / 8 * 1.5 ** np.arange(40)
            scan = np.concatenate([scan, place + steps, place - steps])
        return np.unique(scan[(scan >= low) & (scan <= high)])


def _tail(logarithm: Function, slope: Function, peak: float, end: float, offset: float) -> float:
    """The nearest x from the outermost peak towards `end` where the tail is negligible or exponential."""
    steps = 1e-8 * 1.5 ** np.arange(64)
    x = np.minimum(peak + steps, end) if end > peak else np.maximum(peak - steps, end)
    here, further = slope(x), slope(np.clip(x + math.copysign(1.0, end - peak), -abs(end), abs(end)))
    with np.errstate(invalid="ignore"):  # ∞ − ∞ is not straight
        straight = (np.abs(further - here) <= STRAIGHT * (1 + np.abs(here))) & (np.abs(x - peak) > 1)
    there = np.flatnonzero((logarithm(x) < offset - NEGLIGIBLE) | straight | (x == end))
    return float(x[there[0]])


def _turning_points(slope: Function, scan: Array) -> tuple[list[float], list[float]]:
    """Zeros of a slope between neighbours of a scan: those where it turns negative, and where it turns positive."""
    slopes = slope(scan)
    clear = np.abs(slopes) > 1e-13  # less is rounding: the density is a power of v with exponent 0 there
    scan, signs = scan[clear], np.sign(slopes[clear])

    def zero(i: int) -> float:
        return float(brentq(lambda x: float(slope(np.array([x]))[0]), scan[i], scan[i + 1], xtol=1e-14, rtol=1e-14))

    down = np.flatnonzero((signs[:-1] > 0) & (signs[1:] < 0))
    up = np.flatnonzero((signs[:-1] < 0) & (signs[1:] > 0))
    return [zero(int(i)) for i in down], [zero(int(i)) for i in up]


def _graded(low: float, high: float, places: list[tuple[float, float]]) -> Array:
    """Breaks from low to high that come closer together towards each place, down to its width."""
    breaks = [np.array([low, high])]
    for place, width in places:
        steps = width / 2 * 2.5 ** np.arange(1 + max(0, math.ceil(math.log((high - low) / width, 2.5))))
        breaks += [place + steps, place - steps, np.array([place])]
    found = np.unique(np.concatenate(breaks))
    found = found[(found >= low) & (found <= high)]
    distinct = np.diff(found, prepend=-np.inf) > 1e-13 * (1 + np.abs(found))
    kept: Array = found[distinct]
    return kept
