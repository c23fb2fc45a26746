"""Stationary laws: weights that SGD ends at, laid beside the density, in Itô's sense and in Stratonovich's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sgdscope.cells import Results
from sgdscope.estimate import Estimate
from sgdscope.studies import fits
from sgdscope.studies.balance.claims.sources import LAW, noise_of, settings_of, temperature_of
from sgdscope.studies.claim import Claim
from sgdscope.theory import stationary
from sgdscope.verdict import Verdict, compare

if TYPE_CHECKING:
    from sgdscope.studies.balance.recipe import Balance

Array = NDArray[np.float64]
CLOSE = 0.03
"""Kolmogorov-Smirnov distance that counts as equal."""


def law_of(results: Results, name: str) -> stationary.DiagonalLaw:
    """The stationary law of a cell."""
    s = settings_of(results, name)
    start = s["start"][0] if s["noise_variance"] == 0 else None
    return stationary.DiagonalLaw(
        noise_of(s), temperature_of(s), s["depth"], s["width"], s["weight_decay"], start=start
    )


def distance(results: Results, name: str, cdf: Callable[[Array], Array]) -> Estimate:
    """Kolmogorov-Smirnov distance of the weights of a cell from a law; its residual is what the levels leave open."""
    levels = np.array(results[name]["quantiles"])
    n = len(levels)
    apart = float(np.abs(cdf(levels) - (np.arange(n) + 0.5) / n).max())
    count = int(results[name]["count"])
    # 0.26 / √n is the standard deviation of Kolmogorov's law
    return Estimate("distance of distributions", apart, 0.26 / math.sqrt(count), residual=0.5 / n, count=count)


def reweighted(law: stationary.DiagonalLaw, weight: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Distribution function of the density p(v) · weight(v), normalised; weight > 0."""
    ends = np.geomspace(1e-12, 0.5, 3000)
    share = np.concatenate([ends, 1 - ends[-2::-1]])
    v = np.asarray(law.quantile(share))
    height = weight(v)
    grown = np.concatenate([[0.0], np.cumsum((height[1:] + height[:-1]) / 2 * np.diff(share))])
    return lambda at: np.interp(at, v, grown / grown[-1])


def claims(study: Balance) -> Iterator[Claim]:
    """All of them."""
    names = {study.law_name(*case): case for case in study.laws}
    near = "steps of finite size, or too short a run"

    def label(results: Results, name: str) -> str:
        depth, variance, _ = names[name]
        return f"depth {depth}, noise variance {variance:g}, T = {temperature_of(settings_of(results, name)):.3g}"

    def settle(results: Results) -> Iterator[Verdict]:
        for name in names:
            yield compare(distance(results, name, law_of(results, name).cdf), CLOSE, claim=label(results, name),
                          relation="below")  # fmt: skip

    yield Claim("SGD settles in the stationary law of its depth: distance below 0.03", f"{LAW}, Theorem 4.2", settle,
                near)  # fmt: skip

    def stratonovich(results: Results) -> Iterator[Verdict]:
        for name, (depth, _, _) in names.items():
            if depth == 1:
                law = law_of(results, name)
                other = reweighted(law, lambda v, law=law: np.sqrt(v * law.noise.g(v)))  # type: ignore[misc]
                yield compare(distance(results, name, other), CLOSE, claim=label(results, name), relation="below")

    yield Claim("read in Stratonovich's sense the same equation gives the law, with p · √(v g(v)) for p",
                f"the other reading of {LAW}, Eq. 1", stratonovich,
                "the noise of a step is that of where it begins: Itô's sense")  # fmt: skip

    def interpolating(printed: bool) -> Claim:
        def judge(results: Results) -> Verdict:
            law = law_of(results, "interpolating")
            cdf: Callable[[Array], Array] = law.cdf
            if printed:
                k, noise = law.noise.optimum, law.noise
                extra = law.weight_decay * (noise.square_mean - 1) / (2 * law.temperature * noise.square_variance * k)
                cdf = reweighted(law, lambda v: np.exp(-extra / (k - v)))
            return compare(distance(results, "interpolating", cdf), CLOSE, claim=stated, relation="below")

        decay = "β₁ γ" if printed else "γ"
        stated = f"on interpolating data with weight decay the law has the exponential of {decay} / (2 T α₁ k (v − k))"
        return Claim(stated, f"{LAW}, Eq. 107" + ("" if printed else " with γ for β₁ γ"), judge,
                     "the factor β₁ does not belong there" if printed else near)  # fmt: skip

    yield interpolating(True)
    yield interpolating(False)
    yield from _tails(study)


def slope(beyond: list[Estimate], places: list[float]) -> Estimate:
    """Exponent a of p ~ v^{−a} from the shares beyond two places."""
    if min(float(e) for e in beyond) <= 0:
        raise ValueError(f"no weight was seen beyond {max(places):g}: more replicas are needed")
    found = fits.logarithm(fits.ratio(beyond[0], beyond[1], "quotient"), "exponent")
    scale = math.log(places[1] / places[0])
    error = found.standard_error
    return Estimate("exponent", 1 + float(found) / scale, error / scale if isinstance(error, float) else None)


def _tails(study: Balance) -> Iterator[Claim]:
    def laws(results: Results) -> Iterator[tuple[str, list[float], Estimate, stationary.DiagonalLaw]]:
        for variance in study.tails:
            name = f"tail-{variance:g}"
            s = settings_of(results, name)
            found = slope([Estimate.from_row(row) for row in results[name]["beyond"]], s["beyond"])
            law = stationary.DiagonalLaw(noise_of(s), s["temperature"], 1)
            first, second = s["beyond"]
            yield f"noise variance {variance:g}, between v = {first:g} and {second:g}", s["beyond"], found, law

    def universal(results: Results) -> Iterator[Verdict]:
        for case, _, found, law in laws(results):
            yield compare(found, law.tail_exponent, claim=case, tolerance=0.1)

    yield Claim("in two layers the tail is v^(−7/2), whatever the data", f"{LAW}, section 4.3", universal,
                "reached further out only", "5 − 3 / (D + 1)")  # fmt: skip

    def there(results: Results) -> Iterator[Verdict]:
        for case, places, found, law in laws(results):
            first, second = (1 - float(law.cdf(place)) for place in places)
            expected = 1 + math.log(first / second) / math.log(places[1] / places[0])
            yield compare(found, expected, claim=case, tolerance=0.1)

    yield Claim("between those weights it is as steep as the whole law says", f"{LAW}, Eq. 15", there,
                formula="from P(v > x)")  # fmt: skip
