"""Sweep: one network at rising temperatures, and what that says of the critical one and of the largest fluctuations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sgdscope.diagonal.growth import Growth, growth_at_zero
from sgdscope.diagonal.motion import Motion, Process
from sgdscope.diagonal.setting import Setting
from sgdscope.estimate import Estimate
from sgdscope.simulate import Average
from sgdscope.theory import stationary as theory
from sgdscope.theory.stationary import DiagonalLaw
from sgdscope.verdict import Verdict, compare

Array = NDArray[np.float64]

RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)
"""Of T to T_c at depth 1, or to twice the temperature of the fluctuation peak at greater depth."""
PEAK, CRITICAL = 0.05, 0.03
"""Relative differences of the peak's and the critical temperature that count as agreement."""
_CLOSE = (0.55, 0.95)
"""T / T_c between which the mean of v is extended to 0 by a parabola."""
_HIGH = 0.6
"""Variances above this share of the largest are fitted by a cubic for the place of the peak."""
_DRAWS = 100
_AROUND = np.linspace(0.7, 1.3, 7)
_LOOKS = 400
_GROWING = 16
"""Replicas close to 0 for one from the optimum."""
_SURE = 0.1
"""Relative error of a variance from which on it is left out: a rare large weight has made it."""


@dataclass(frozen=True)
class Point:
    """One temperature.

    Attributes:
        temperature: T.
        mean: of |v|.
        variance: of v; its error is uncertain itself, as there is no fourth moment.
        diverged: share of the runs.
        law: predicted.
    """

    temperature: float
    mean: Estimate
    variance: Estimate
    diverged: float
    law: DiagonalLaw


@dataclass(frozen=True)
class Sweep:
    """Means and variances at rising temperatures, of runs.

    Attributes:
        setting: whose learning rate is changed.
        kind: sgd or diffusion.
        points: by temperature.
        growths: (T, growth close to 0) around T_c, at depth 1.
    """

    setting: Setting
    kind: Process
    points: tuple[Point, ...]
    growths: tuple[tuple[float, Growth], ...]

    @property
    def peak(self) -> Estimate:
        """Temperature of the largest variance, from a cubic through the variances around it; failed at an end."""
        name = "peak_temperature"
        temperatures, variances, errors = self._series("variance")
        sure = errors < _SURE * variances
        temperatures, variances, errors = temperatures[sure], variances[sure], errors[sure]
        if len(temperatures) < 5:
            return Estimate.failed(name, "fewer than five temperatures at which the variance is sure to a tenth")
        high = variances > _HIGH * variances.max()
        first, last = np.flatnonzero(high)[[0, -1]]
        inside = slice(first, last + 1)
        x, y, e = temperatures[inside], variances[inside], errors[inside]
        if len(x) < 5:
            return Estimate.failed(name, f"fewer than five temperatures around the peak: {len(x)}")
        draws = y + e * np.random.default_rng(0).standard_normal((_DRAWS, len(y)))
        places = np.array([_summit(x, draw, e) for draw in [y, *draws]])
        if not np.isfinite(places[0]) or not np.isfinite(places).mean() > 0.9:
            return Estimate.failed(name, "the variance has no peak inside the sweep")
        return Estimate(name, float(places[0]), float(np.nanstd(places[1:])), count=len(x))

    @property
    def critical_from_mean(self) -> Estimate:
        """T_c, where the parabola through the means at 0.55 to 0.95 T_c reaches 0."""
        name = "critical_temperature_from_mean"
        temperatures, means, errors = self._series("mean")
        critical = unit_of_temperature(self.setting)
        chosen = (temperatures > _CLOSE[0] * critical) & (temperatures < _CLOSE[1] * critical)
        return _crossing(name, temperatures[chosen], means[chosen], errors[chosen])

    @property
    def critical_from_growth(self) -> Estimate:
        """T_c, where the growth of ln |v| close to 0 turns negative, by a parabola through it."""
        known = [(at, growth.rate) for at, growth in self.growths if growth.rate.value is not None]
        temperatures, rates = np.array([at for at, _ in known]), [rate for _, rate in known]
        errors = np.array([rate.standard_error for rate in rates])
        return _crossing("critical_temperature_from_growth", temperatures, np.array([*map(float, rates)]), errors)

    @property
    def verdicts(self) -> list[Verdict]:
        """Peak and critical temperatures beside theory."""
        setting, noise = self.setting, self.setting.noise
        decay = setting.weight_decay
        peak = theory.fluctuation_peak(noise, setting.depth, setting.width, decay).temperature
        found = [
            compare(self.peak, peak.value, claim="fluctuations are largest at", tolerance=PEAK, source=peak.source)
        ]
        if setting.depth == 1:
            claim = "all mass is at 0 from"
            critical = theory.critical_temperature(noise, decay)
            for measured in (self.critical_from_mean, self.critical_from_growth):
                found.append(compare(measured, critical.value, claim=claim, tolerance=CRITICAL, source=critical.source))
            if self.kind == "sgd":
                try:
                    real = setting.data.discrete_critical_temperature(setting.batch_size, decay)
                except ValueError:
                    return found
                claim = "steps of finite size collapse from"
                found.append(compare(self.critical_from_growth, real.value, claim=claim, tolerance=CRITICAL,
                                     source=real.source))  # fmt: skip
        return found

    def _series(self, name: str) -> tuple[Array, Array, Array]:
        """Temperatures, values and errors of the points that have any."""
        kept = [point for point in self.points if getattr(point, name).value is not None]
        estimates = [getattr(point, name) for point in kept]
        return (
            np.array([point.temperature for point in kept]), np.array([float(found) for found in estimates]),
            np.array([found.standard_error for found in estimates], dtype=float),
        )  # fmt: skip


def temperature_sweep(
    setting: Setting, *, kind: Process = "sgd", ratios: Sequence[float] = RATIOS, replicas: int = 2048, seed: int = 0,
    threads: int | None = None, progress: Callable[[float], None] | None = None,
) -> Sweep:  # fmt: skip
    """Run the network of a setting at rising temperatures, its batch size kept and its learning rate changed.

    Args:
        setting: network and data; depth ≥ 1.
        kind: sgd, or its differential equation (depth 1).
        ratios: temperatures, in units of T_c at depth 1, of twice that of the fluctuation peak at greater depth.
        replicas: runs at each.
        seed: of the noise, the same at all temperatures.
        threads: of the processor. [all]
        progress: hears the share done.

    Raises ValueError at depth 0, for weight decay at depth above 1, and where the noise vanishes at some weight. Cost:
    a second for each temperature, more where noise is strong.
    """
    if setting.depth == 0:
        raise ValueError("expected depth ≥ 1: without hidden layers fluctuations only grow")
    if not len(ratios) or not all(0 < ratio < math.inf for ratio in ratios):
        raise ValueError(f"expected ratios > 0, got {tuple(ratios)}")
    theory.fluctuation_peak(setting.noise, setting.depth, setting.width, setting.weight_decay)  # refuses what has none
    scale = unit_of_temperature(setting)
    around = scale * _AROUND if setting.depth == 1 else np.empty(0)
    total, points, growths = len(ratios) + len(around), [], []

    def at(temperature: float) -> Motion:
        return Motion(replace(setting, lr=temperature * setting.batch_size), kind)

    for ratio in sorted(ratios):
        points.append(_point(at(ratio * scale), replicas, seed, threads))
        if progress is not None:
            progress(len(points) / total)
    for temperature in around:
        growth = growth_at_zero(at(float(temperature)), replicas=_GROWING * replicas, seed=seed, threads=threads)
        growths.append((float(temperature), growth))
        if progress is not None:
            progress((len(points) + len(growths)) / total)
    return Sweep(setting, kind, tuple(points), tuple(growths))


def unit_of_temperature(setting: Setting) -> float:
    """T_c at depth 1, else twice the temperature at which theory has the largest fluctuations."""
    noise, decay = setting.noise, setting.weight_decay
    if setting.depth == 1:
        return theory.critical_temperature(noise, decay).value
    return 2 * theory.fluctuation_peak(noise, setting.depth, setting.width, decay).temperature.value


def _point(motion: Motion, replicas: int, seed: int, threads: int | None) -> Point:
    """Runs at one temperature, averaged over replicas and the second half of the time."""
    setting = motion.setting
    start = motion.start(abs(setting.noise.optimum))
    law = DiagonalLaw(setting.noise, setting.temperature, setting.depth, setting.width, setting.weight_decay,
                      start=setting.noise.optimum)  # fmt: skip
    steps = 2 * motion.steps(setting.lr * setting.settling_steps(law) / 2)
    size = motion.size
    observed = (size, f"({size})**2")
    record = Average(*observed, every=max(1, steps // (2 * _LOOKS)), after=steps // 2)
    found = motion.run(steps=steps, start=start, replicas=replicas, record=record, seed=seed, threads=threads)
    assert found.averages is not None
    kept = ~found.diverged
    diverged = float(found.diverged.mean())
    if kept.sum() < 2:
        lost = Estimate.failed("mean", "all replicas diverged", status="diverged")
        return Point(setting.temperature, lost, replace(lost, name="variance"), diverged, law)
    means, squares = (found.averages.sums[:2, kept] / found.averages.sums[2, kept]).astype(float)
    mean, n = float(means.mean()), int(kept.sum())
    influence = squares - 2 * mean * means  # of one replica on the variance
    variance = float(squares.mean()) - mean * mean
    return Point(
        setting.temperature, Estimate("mean", mean, float(means.std(ddof=1)) / math.sqrt(n), count=n),
        Estimate("variance", variance, float(influence.std(ddof=1)) / math.sqrt(n), count=n), diverged, law,
    )  # fmt: skip


def _summit(x: Array, y: Array, error: Array) -> float:
    """Place of the maximum of the cubic of least squares, between the ends; NaN if there is none."""
    middle, width = (x[0] + x[-1]) / 2, (x[-1] - x[0]) / 2
    curve = np.polynomial.Polynomial(np.polynomial.polynomial.polyfit((x - middle) / width, y, 3, w=1 / error))
    bend = curve.deriv(2)
    inside = [at for at in _real_roots(curve.deriv()) if abs(at) < 1 and float(bend(at)) < 0]
    return float(middle + width * inside[0]) if inside else math.nan


def _real_roots(curve: np.polynomial.Polynomial) -> list[float]:
    return [float(np.real(root)) for root in curve.roots() if abs(np.imag(root)) < 1e-9]


def _crossing(name: str, x: Array, y: Array, error: Array) -> Estimate:
    """Where a parabola of least squares through points with errors reaches 0; the nearest such place."""
    x, y, error = (values[error > 0] for values in (x, y, error))  # no error: all runs are at 0
    if len(x) < 4:
        return Estimate.failed(name, f"fewer than four temperatures to tell from, {len(x)}")
    scale = float(x.mean())

    def root(values: Array) -> float:
        fitted = np.polynomial.polynomial.polyfit(x / scale, values, 2, w=1 / error)
        found = [at for at in _real_roots(np.polynomial.Polynomial(fitted)) if at > 0]
        return scale * min(found, key=lambda r: abs(r - 1)) if found else math.nan

    draws = y + error * np.random.default_rng(0).standard_normal((_DRAWS, len(y)))
    places = np.array([root(values) for values in [y, *draws]])
    if not np.isfinite(places[0]) or not np.isfinite(places).mean() > 0.9:
        return Estimate.failed(name, "it reaches 0 nowhere")
    return Estimate(name, float(places[0]), float(np.nanstd(places[1:])), count=len(x))
