r"""Batch sharpness as a function of the batch size, at fixed weights.

The ratio of expectations is an exact rational function of x = 1 / b. With independent samples (or without replacement,
with other coefficients) :math:`E\|g_B\|^2` is linear in x and :math:`E[g_B^\top H_B g_B]`, a mean over triples of
samples, is quadratic:

.. math:: \frac{E[g_B^\top H_B g_B]}{E\|g_B\|^2} = \frac{a_0 + a_1 x + a_2 x^2}{1 + d x},

with d the noise scale :math:`\mathrm{tr}\,\Sigma / \|g\|^2`, which the norms of the same gradients tell. Batch
sharpness proper, the expectation of the ratio, follows the same form to 1 % on small tanh, ReLU and convolutional
networks (seven batch sizes over a range of 64, each measured to 0.4 % to 3 %). So three numbers and the noise scale
carry the curve, and every draw at any batch size tells about all of it. Derived here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sgdscope.batches import Sweep
from sgdscope.estimate import Estimate
from sgdscope.measure.batch_sharpness import CURVATURE, Method, draws
from sgdscope.risk import Risk

Floats = NDArray[np.float64]
NAME = "batch_sharpness_curve"
_PILOT, _LEAST = 64, 8
"""Draws at the start: at each size as many as one of the largest batch costs, between these numbers."""
_MISFIT = 0.01
"""Relative deviation of batch sharpness from the rational form that errors allow for."""
_COEFFICIENTS = 4
_ANCHOR = 8
"""All data are measured too, which is exact and holds the upper end, if they are at most so many largest batches."""
_LEAST_SCALE, _LARGEST_SCALE = 1e-2, 1e6
"""Noise scales beyond which the curve no longer tells."""
_OWN_SCALE = 0.3
"""Least standard error of log d: the expectation of the ratio has a scale of its own, near that of the norms."""
_WITHIN = np.linspace(-3, 3, 31)
"""Values of d tried, in standard errors of its logarithm; the other coefficients follow by linear least squares."""


@dataclass
class _Point:
    """Draws at one batch size."""

    batch_size: int
    generator: torch.Generator
    sweep: Sweep | None
    ratios: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    cost: float = 0.0  # in samples
    method: str = ""
    known: Estimate | None = None

    @property
    def spread(self) -> float:
        """Relative standard deviation of one draw."""
        mean = float(np.mean(self.ratios))
        return float(np.std(self.ratios, ddof=1)) / abs(mean) if len(self.ratios) > 1 and mean else 0.0

    @property
    def worth(self) -> float:
        """Draws that what was known before is worth."""
        if self.known is None or not isinstance(self.known.standard_error, float) or not self.known.standard_error:
            return 0.0
        return (self.spread * float(self.known) / self.known.standard_error) ** 2

    @property
    def count(self) -> float:
        return len(self.ratios) + self.worth

    @property
    def mean(self) -> float:
        """Of the draws and what was known before, by weight."""
        before = float(self.known) if self.known is not None and self.worth else 0.0
        return (sum(self.ratios) + self.worth * before) / self.count


def batch_sharpness_curve(
    risk: Risk,
    batch_sizes: Sequence[int],
    *,
    tolerance: float = 0.03,
    max_cost: float = 60.0,
    known: Estimate | None = None,
    method: Method = "auto",
    lr: float | None = None,
    replacement: bool = False,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Batch sharpness :math:`E[g_B^\top H_B g_B / \|g_B\|^2]` at several batch sizes, at the present parameters.

    Units: loss per squared parameter. `value` and `standard_error` are tuples, one number per size in ascending order,
    as ``settings["batch_sizes"]`` has them; they are those of the rational function above, fitted to fresh draws at all
    sizes (with fewer than five sizes, or where it does not fit, the means at each size). Errors of different sizes are
    correlated; they allow for a misfit of 1 %. ``settings["coefficients"]`` are a₀, a₁, a₂, d of the fit, for values
    in between; `beside` holds the means that were ``measured``, before the fit.

    After a few draws everywhere, each further group goes to the size where it lowers the largest relative error most
    for its cost, until that error is below `tolerance` or `max_cost` would be passed: then status ``few_samples``.
    Draws of one size share no sample until the data are used up (with `replacement` they are independent); what that
    gains is left out of the stated errors, which drawing until they are small makes a little too small otherwise.

    `count`: draws in all; `cost`: in gradient evaluations of the *largest* batch. Measured for a range of 64 in batch
    size at 3 %: 15 to 35 on networks of linear layers, with true errors of 2 to 3 %; a small CNN far from its edge gets
    to 3.4 % with 60, true 3.1 % over 14 maps. `method` and `lr` are as for `batch_sharpness`.

    `known` is a `batch_sharpness` measured before at one of the sizes, on the same weights and batches of its own: it
    then weighs in.

    Raises ValueError for no or a repeated batch size, one that the data cannot give, or a tolerance that is not
    positive.
    """
    sizes = sorted(batch_sizes)
    if not sizes or len(set(sizes)) != len(sizes):
        raise ValueError(f"expected different batch sizes, at least one, got {list(batch_sizes)}")
    if not (tolerance > 0 and max_cost > 0):
        raise ValueError(f"expected tolerance and max_cost > 0, got {tolerance} and {max_cost}")
    for size in sizes:
        risk.source.check_batch_size(size, replacement=replacement)
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    seed = int(torch.randint(2**62, (1,), generator=generator))
    asked = len(sizes)
    whole = None if replacement or risk.random else risk.size
    anchor = [risk.size] if asked > _COEFFICIENTS and whole is not None and _affordable(risk, sizes[-1]) else []
    points = []
    for size in [*sizes, *anchor]:
        own = torch.Generator().manual_seed(seed + 7919 * size)
        points.append(_Point(size, own, None if replacement else Sweep(risk.size, size, own)))
    for point in points:
        usable = known is not None and isinstance(known.value, float)
        point.known = known if usable and known.settings.get("batch_size") == point.batch_size else None  # type: ignore[union-attr]
    largest = sizes[-1]
    settings: dict[str, Any] = {"batch_sizes": sizes, "mode": risk.mode}

    def draw(point: _Point, count: int) -> bool:
        """More draws at one size; False if they are not finite or have no gradient."""
        if point.batch_size == whole:
            count = 1 - len(point.ratios)  # all data: one batch is all there is
        for used, cost, pairs in draws(
            risk, point.batch_size, "hessian", method, lr, replacement, point.generator, max(count, 0), point.sweep
        ):
            point.method = used
            point.cost += cost * point.batch_size
            if not all(math.isfinite(c) and math.isfinite(n) for c, n in pairs):
                return False
            point.ratios += [c / n for c, n in pairs if n]
            point.norms += [n for _, n in pairs if n]
        return bool(point.ratios)

    def spent() -> float:
        return sum(point.cost for point in points) / largest

    for point in points:
        if not draw(point, max(_LEAST, min(_PILOT, largest // point.batch_size))):
            reason = f"the loss, its gradient or curvature is zero or not finite in batches of {point.batch_size}"
            return Estimate.failed(NAME, reason, status="diverged", cost=spent(), unit=CURVATURE, settings=settings)
    while True:
        curve = _Curve.through(points, exhaustive=whole)
        errors = curve.relative_errors()[:asked]
        if float(errors.max()) <= tolerance:
            break
        chosen, count = curve.best(largest, asked)
        one = points[chosen].cost / len(points[chosen].ratios) / largest
        count = min(count, int((max_cost - spent()) / one))
        if count < 1 or not draw(points[chosen], count):
            break
    worst = float(errors.max())
    enough = worst <= tolerance
    settings |= {"counts": [len(p.ratios) for p in points[:asked]], "method": points[-1].method, "tolerance": tolerance}
    if curve.coefficients is not None:
        settings["coefficients"] = curve.coefficients
    return Estimate(
        NAME, tuple(curve.values[:asked]), tuple(np.abs(curve.values[:asked]) * errors), cost=spent(),
        count=sum(len(p.ratios) for p in points), unit=CURVATURE, settings=settings,
        status="ok" if enough else "few_samples",
        reason="" if enough else f"standard error {100 * worst:.2g} % at batch size {sizes[int(errors.argmax())]} "
        f"after {spent():.3g} gradient evaluations, {100 * tolerance:.2g} % was asked for",
        beside={"measured": Estimate(
            "measured", tuple(p.mean for p in points[:asked]),
            tuple(abs(p.mean) * p.spread / math.sqrt(p.count) for p in points[:asked]), unit=CURVATURE,
            count=min(len(p.ratios) for p in points[:asked]))},
    )  # fmt: skip


def _affordable(risk: Risk, largest: int) -> bool:
    """Whether one batch of all data may be measured beside the sizes asked for."""
    few = largest < risk.size <= _ANCHOR * largest and risk.size <= risk.chunk_size
    return few and risk.source.batch_lengths is None and not risk.batch_dependent


@dataclass
class _Curve:
    """The fitted curve, and how its errors would fall with more draws."""

    batch_sizes: Floats
    values: Floats
    spreads: Floats
    counts: Floats
    costs: Floats
    """Of one draw, in samples."""
    coefficients: list[float] | None
    _slopes: Floats  # of the logarithm of the curve by a₀, a₁, a₂ and log d, (sizes, coefficients)
    _scale_error: float  # of log d, as the norms tell it
    _exhaustive: Floats

    @classmethod
    def through(cls, points: list[_Point], exhaustive: int | None) -> _Curve:
        """Fit the points by weighted least squares of relative deviations."""
        sizes = np.array([p.batch_size for p in points], dtype=np.float64)
        means = np.array([p.mean for p in points])
        counts = np.array([p.count for p in points])
        drawn = np.array([len(p.ratios) for p in points], dtype=np.float64)
        whole = np.array([p.batch_size == exhaustive for p in points], dtype=np.float64)
        spreads = np.where(whole > 0, 0.0, _smoothed(np.array([p.spread for p in points]), drawn))
        costs = np.array([p.cost / len(p.ratios) for p in points])
        values, coefficients, slopes, scale_error = means, None, np.eye(len(points)), 0.0
        if len(points) > _COEFFICIENTS and (means > 0).all():
            scale, scale_error = _noise_scale(points, drawn, whole)
            weights = 1 / np.sqrt(_MISFIT**2 + spreads**2 / counts)
            found = _fitted(1 / sizes, means, weights, scale, scale_error)
            if found is not None:
                coefficients, values, slopes = found
        return cls(sizes, values, spreads, counts, costs, coefficients, slopes, scale_error, whole)

    def relative_errors(self, extra: Floats | None = None) -> Floats:
        """Relative standard errors of the curve at each size; with `extra` draws at each."""
        counts = self.counts if extra is None else self.counts + extra
        variances = self.spreads**2 / counts
        if self.coefficients is None:
            return np.sqrt(variances)
        weights = 1 / (variances + _MISFIT**2)
        information = self._slopes.T @ (self._slopes * weights[:, None])
        information[-1, -1] += 1 / self._scale_error**2
        inverse = np.linalg.pinv(information, rcond=1e-12, hermitian=True)
        found: Floats = np.sqrt(np.einsum("ij,jk,ik->i", self._slopes, inverse, self._slopes))
        return found

    def best(self, largest: int, asked: int) -> tuple[int, int]:
        """Where one to two batches' worth of further draws lower the largest error most, and how many they are."""
        trials = []
        for index, size in enumerate(self.batch_sizes):
            if self._exhaustive[index]:
                continue
            count = max(1, int(largest / size))
            extra = np.zeros_like(self.counts)
            extra[index] = count
            before, after = (  # nearly the largest, and smooth
                float(np.sum(self.relative_errors(more)[:asked] ** 8)) for more in (None, extra)
            )
            trials.append((math.log(after / before) / (count * self.costs[index]), index, count))
        _, index, count = min(trials)
        return index, count


def _smoothed(spreads: Floats, counts: Floats) -> Floats:
    """Spreads pooled with their neighbours' by degrees of freedom: those of few draws are uncertain themselves."""
    freedom = np.maximum(counts - 1, 0)
    found = np.empty_like(spreads)
    for index in range(len(spreads)):
        near = slice(max(index - 1, 0), index + 2)
        weights = np.minimum(freedom[near], 4 * freedom[index] + 4)
        weights = weights * np.where(np.arange(len(spreads))[near] == index, 2.0, 0.5)
        found[index] = math.sqrt(float(np.average(spreads[near] ** 2, weights=weights))) if weights.sum() else 0.0
    return found


def _noise_scale(points: list[_Point], drawn: Floats, whole: Floats) -> tuple[float, float]:
    """Noise scale from the squared norms of the gradients, S (1 + d x), and the standard error of its logarithm."""
    x = np.array([1 / p.batch_size for p in points])
    means = np.array([np.mean(p.norms) for p in points])
    spreads = np.array([np.std(p.norms, ddof=1) if len(p.norms) > 1 else 0.0 for p in points]) / means
    spreads = np.where(whole > 0, 0.0, _smoothed(spreads, drawn))
    weights = 1 / (means * np.sqrt(_MISFIT**2 + spreads**2 / drawn))
    design = np.stack([np.ones_like(x), x], axis=1) * weights[:, None]
    covariance = np.linalg.pinv(design.T @ design, hermitian=True)
    signal, noise = (covariance @ (design.T @ (means * weights))).tolist()
    if signal <= 0 or noise <= 0:  # not to be told from 0
        return (_LARGEST_SCALE if signal <= 0 else _LEAST_SCALE), 3.0
    gradient = np.array([-1 / signal, 1 / noise])
    error = math.sqrt(max(float(gradient @ covariance @ gradient), 0.0))
    return min(max(noise / signal, _LEAST_SCALE), _LARGEST_SCALE), min(max(error, _OWN_SCALE), 3.0)


def _fitted(
    x: Floats, y: Floats, weights: Floats, scale: float, scale_error: float
) -> tuple[list[float], Floats, Floats] | None:
    """Coefficients a₀, a₁, a₂, d of the rational function, its values, and the slopes of its logarithm.

    `weights` are inverse relative errors; d is `scale`, within `scale_error` of its logarithm. None where the best
    function is not positive, or misses the points by far.
    """
    best: tuple[float, Floats, float] | None = None
    for away in _WITHIN:
        d = scale * math.exp(away * scale_error)
        basis = np.stack([np.ones_like(x), x, x * x], axis=1) / (1 + d * x)[:, None]
        scaled = basis * (weights / y)[:, None]
        a = np.asarray(np.linalg.lstsq(scaled, weights, rcond=None)[0], dtype=np.float64)
        misfit = float(np.sum((scaled @ a - weights) ** 2) + away**2)
        if (basis @ a > 0).all() and (best is None or misfit < best[0]):
            best = misfit, a, d
    if best is None or best[0] > 25 * len(x):
        return None
    _, a, d = best
    bottom = 1 + d * x
    values = (a[0] + a[1] * x + a[2] * x * x) / bottom
    slopes = np.stack([1 / bottom / values, x / bottom / values, x * x / bottom / values, -d * x / bottom], axis=1)
    return [float(a[0]), float(a[1]), float(a[2]), d], values, slopes
