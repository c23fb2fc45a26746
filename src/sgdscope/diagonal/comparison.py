"""Comparison: the weights that replicas ended at, laid beside the stationary law."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sgdscope.estimate import Estimate
from sgdscope.theory.stationary import DiagonalLaw
from sgdscope.verdict import Verdict, compare

Array = NDArray[np.float64]

TOLERANCE = 0.05
"""Relative difference of simulation and theory that counts as agreement."""
LOOSE = 0.25
"""The same for what heavy tails make uncertain: standard deviation and slope of the tail."""
DISTANCE = 0.03
"""Kolmogorov-Smirnov distance up to which distributions count as equal, however many replicas there are."""
NEAR = 0.01
"""Share of the optimum below which a weight counts as near 0."""
SHARE = 0.02
"""Difference of probabilities that counts as agreement."""
LEAST = 1e-9
"""Size below which the sign of a weight says nothing."""
_TAIL = 0.99
"""Quantile from which on the slope of the tail is taken."""
_CHANCE = 1.36
"""Quantile of 95 % of Kolmogorov's law."""
_GROUPS = 20


@dataclass(frozen=True)
class Row:
    """One quantity, simulated beside predicted.

    Attributes:
        verdict: with claim and measured; of distances and rare shares the claim is that they are below a bound.
        predicted: what theory says.
        chance: what chance alone makes of it in 5 % of cases, where that is not a standard error.
        shown: what was measured, where the verdict is on what follows from it.
    """

    verdict: Verdict
    predicted: float
    chance: float | None = None
    shown: Estimate | None = None


def chance_distance(*counts: int) -> float:
    """The Kolmogorov-Smirnov distance that chance exceeds in 5 % of cases, for a sample or two of these sizes."""
    return _CHANCE * math.sqrt(sum(1 / count for count in counts))


def distance(v: Array, law: DiagonalLaw) -> float:
    """Kolmogorov-Smirnov distance of a sample from a law with a density."""
    ordered = np.sort(v)
    share, ranks = law.cdf(ordered), np.arange(len(v) + 1) / len(v)
    return float(max((ranks[1:] - share).max(), (share - ranks[:-1]).max()))


def distance_of_samples(first: Array, second: Array) -> float:
    """Kolmogorov-Smirnov distance of two samples."""
    places = np.concatenate([first, second])
    shares = [np.searchsorted(np.sort(values), places, side="right") / len(values) for values in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


def portion(name: str, hits: NDArray[np.bool_] | float, of: int = 0) -> Estimate:
    """Share of replicas for which something holds, from a mask, or as a number of so many."""
    n, found = of or len(hits), float(np.mean(hits))  # type: ignore[arg-type]
    return Estimate(name, found, math.sqrt(max(found * (1 - found), 1 / n) / n), count=n)


def beside_law(v: Array, law: DiagonalLaw, optimum: float) -> list[Row]:
    """A sample of independent weights beside a law with a density.

    Args:
        v: weights, shape (replicas,).
        law: with a density.
        optimum: weight of least loss, the unit of nearness to 0.
    """
    distances = distance(v, law)
    chance = chance_distance(len(v))
    rows = [Row(
        compare(Estimate("distance", distances, count=len(v)), max(chance, DISTANCE), relation="below",
                claim="the weights follow the stationary law"), 0.0, chance,
    )]  # fmt: skip
    rows += _exists(lambda: law.mean, _mean("mean", v), TOLERANCE)
    rows += [_quantile(name, v, level, law) for name, level in (("median", 0.5), ("5 % quantile", 0.05),
                                                                ("95 % quantile", 0.95))]  # fmt: skip
    rows += _exists(lambda: math.sqrt(law.variance), _deviation(v), LOOSE)
    near = NEAR * abs(optimum)
    mass = float(law.cdf(near) - law.cdf(-near))
    rows.append(_probability(portion("share near 0", np.abs(v) < near), mass))
    side = -1 if optimum > 0 else 1
    other = float(law.cdf(0.0)) if optimum > 0 else 1 - float(law.cdf(0.0))
    rows.append(_probability(portion("share on the other side of 0", side * v > LEAST), other))
    rows += _exists(lambda: _tail_of_law(law), _tail_slope(v), LOOSE)
    return rows


def beside_places(v: Array, law: DiagonalLaw, optimum: float) -> list[Row]:
    """A sample of weights beside a collapsed law: the share of replicas near each of its places."""
    scale = NEAR * max(abs(optimum), max(map(abs, law.places)))
    rows = []
    for place, mass in zip(law.places, law.masses, strict=True):
        rows.append(_probability(portion(f"share within {scale:.2g} of {place:.4g}", np.abs(v - place) < scale), mass))
    return rows


def _equal(measured: Estimate, predicted: float, tolerance: float) -> Row:
    if predicted == 0:
        return _probability(measured, 0.0)
    return Row(compare(measured, predicted, claim=f"{measured.name} of the law", tolerance=tolerance), predicted)


def _probability(measured: Estimate, predicted: float) -> Row:
    """A share, which may differ by two in a hundred."""
    if predicted > SHARE:
        tolerance = SHARE / predicted
        return Row(compare(measured, predicted, claim=f"{measured.name} of the law", tolerance=tolerance), predicted)
    claim = f"{measured.name} at most {100 * SHARE:g} % above that of the law"
    return Row(compare(measured, predicted + SHARE, claim=claim, relation="below"), predicted)


def _exists(predicted: Callable[[], float], measured: Estimate, tolerance: float) -> list[Row]:
    """Nothing where the law has no such number."""
    try:
        return [_equal(measured, predicted(), tolerance)]
    except ValueError:
        return []


def _mean(name: str, values: Array) -> Estimate:
    return Estimate(name, float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)), count=len(values))


def _quantile(name: str, v: Array, level: float, law: DiagonalLaw) -> Row:
    """A quantile, held against the law by the probability that the law has below it."""
    spread = math.sqrt(level * (1 - level) / len(v))
    low, found, high = np.quantile(v, np.clip([level - spread, level, level + spread], 0, 1))
    below = Estimate(f"share of the law below the {name}", float(law.cdf(found)), spread, count=len(v))
    verdict = compare(below, level, claim=f"{name} of the law", tolerance=SHARE / level)
    return Row(
        verdict, float(law.quantile(level)), shown=Estimate(name, float(found), float(high - low) / 2, count=len(v))
    )


def _deviation(v: Array) -> Estimate:
    """Standard deviation, with its spread between groups of replicas: there is no fourth moment to state one from."""
    groups = np.array([part.std(ddof=1) for part in np.array_split(v, _GROUPS)])
    error = float(groups.std(ddof=1)) / math.sqrt(_GROUPS)
    return Estimate("standard deviation", float(v.std(ddof=1)), error, count=len(v))


def _tail_slope(v: Array) -> Estimate:
    """Exponent a of the density |v|^{−a} beyond a high quantile, by Hill's estimator."""
    size = np.sort(np.abs(v))
    beyond = size[int(_TAIL * len(size)) :]
    mean = float(np.log(beyond[1:] / beyond[0]).mean())
    return Estimate("slope of the tail", 1 + 1 / mean, 1 / mean / math.sqrt(len(beyond)), count=len(beyond))


def _tail_of_law(law: DiagonalLaw) -> float:
    """What Hill's estimator should find at the same quantile: steeper than the final power law, if that is far off."""
    sign = 1 if law.quantile(0.5) > 0 else -1
    u = 1 - (1 - _TAIL) * (np.arange(400) + 0.5) / 400
    places = np.abs(np.asarray(law.quantile(u if sign > 0 else 1 - u)))
    start = abs(float(law.quantile(_TAIL if sign > 0 else 1 - _TAIL)))
    return 1 + 1 / float(np.log(places / start).mean())
