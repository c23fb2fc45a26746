"""Phases of two layers in temperature: where the mean vanishes, where fluctuations peak, where the density diverges."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sgdscope.cells import Results
from sgdscope.estimate import Estimate
from sgdscope.studies import fits
from sgdscope.studies.balance.claims.sources import HERE, LAW, error_of, noise_of, settings_of, temperature_of
from sgdscope.studies.claim import Claim
from sgdscope.theory import balance, stationary
from sgdscope.verdict import Verdict, compare

if TYPE_CHECKING:
    from sgdscope.studies.balance.recipe import Balance

_DRAWS = 400


def zero(x: Sequence[float], y: Sequence[Estimate], name: str) -> Estimate:
    """Where a straight line through estimates crosses 0, to first order in their errors."""
    slope, level = fits.line(x, y, name)
    at = -float(level) / float(slope)
    _, there = fits.line([place - at for place in x], y, name)
    return Estimate(name, at, error_of(there) / abs(float(slope)), count=len(x))


def peak(x: Sequence[float], y: Sequence[Estimate], name: str) -> Estimate:
    """Where a parabola through estimates is highest; its error from drawing them anew within theirs."""
    places, values, errors = np.array(x), np.array([float(e) for e in y]), np.array([error_of(e) for e in y])

    def highest(heights: np.ndarray) -> float:
        a, b, _ = np.polyfit(places, heights, 2, w=1 / errors)
        return float(-b / (2 * a))

    random = np.random.default_rng(0)
    drawn = [highest(values + errors * random.standard_normal(len(values))) for _ in range(_DRAWS)]
    return Estimate(name, highest(values), float(np.std(drawn)), count=len(x))


def critical(results: Results, name: str) -> float:
    """T_c of the data of a cell, in theory."""
    return stationary.critical_temperature(noise_of(settings_of(results, name))).value


def share_of_critical(results: Results, name: str) -> float:
    """T / T_c of a cell, with T_c from theory."""
    return temperature_of(settings_of(results, name)) / critical(results, name)


def claims(study: Balance) -> Iterator[Claim]:
    """All of them."""
    cold = [ratio for ratio in study.ratios if ratio < 1]
    hot = [ratio for ratio in study.ratios if ratio >= 1]

    def found(results: Results, ratios: Sequence[float], key: str) -> tuple[list[float], list[Estimate]]:
        names = [f"phase-{ratio:g}" for ratio in ratios]
        return [share_of_critical(results, name) for name in names], [results.estimate(name, key) for name in names]

    def vanishes(results: Results) -> Verdict:
        measured = zero(*found(results, [r for r in cold if r > 0.5], "mean"), "temperature of zero mean / T_c")
        return compare(measured, 1.0, claim=stated, tolerance=0.03, scope="noise variance 900, batch size 1")

    stated = "the mean weight vanishes at the critical temperature"
    yield Claim(stated, f"{LAW}, section 4.2", vanishes, "steps of finite size, or too short a run", "T_c = β₂ / α₃")

    def nothing(results: Results) -> Iterator[Verdict]:
        for ratio, measured in zip(hot, found(results, hot, "mean")[1], strict=True):
            yield compare(measured, 0.01, claim=f"T = {ratio:g} T_c", relation="below")

    yield Claim(
        "above it SGD learns nothing: the mean weight is below 1 % of the optimum", f"{LAW}, section 4.2", nothing
    )

    def inversion(results: Results) -> Verdict:
        around = [r for r in cold if 0.25 < r < 0.75]
        measured = peak(*found(results, around, "variance"), "temperature of largest variance / T_c")
        name = f"phase-{cold[0]:g}"
        noise = noise_of(settings_of(results, name))
        expected = stationary.fluctuation_peak(noise).temperature.value / critical(results, name)
        return compare(measured, expected, claim=inverted, tolerance=0.05)

    inverted = "fluctuations are largest below T_c and fall from there on: fluctuation inversion"
    yield Claim(
        inverted, f"{LAW}, section 4.2; place of the peak derived here", inversion, formula="argmax Var[v] / T_c"
    )

    def diverges(results: Results) -> Iterator[Verdict]:
        for ratio in (0.25, 0.5):
            name = f"exponent-{ratio:g}"
            settings = settings_of(results, name)
            law = stationary.DiagonalLaw(noise_of(settings), temperature_of(settings), 1)
            near = np.asarray(law.log_density([1e-8, 1e-6]))
            expected = 1 + float(near[1] - near[0]) / math.log(100)
            yield compare(results.estimate(name, "exponent"), expected, tolerance=0.05,
                          claim=f"T = {ratio:g} T_c: density {'vanishes' if expected > 1 else 'diverges'}")  # fmt: skip

    yield Claim("the density vanishes at 0 below T_c / 3 and diverges above: P(v < x) ~ x^θ with θ = 1 there",
                f"{LAW}, section 4.2", diverges, "steps of finite size", "T_c / (2 T) − 1 / 2")  # fmt: skip
    yield from _diagram(study)
    yield from _thresholds(study)


def phase(exponent: float) -> str:
    """Which phase it is, by the exponent of P(v < x) near 0."""
    return "I" if exponent < 0 else "II" if exponent < 1 else "III"


def discrete_limit(deviation: float) -> float:
    """T of no growth / T_c for steps of single samples, at this σ of the targets."""
    noise = stationary.DiagonalNoise.gaussian(1.0, deviation**2)
    limit = stationary.gaussian_discrete_critical_temperature(1.0, deviation**2, batch_size=1).value
    return limit / noise.critical_temperature()


def _diagram(study: Balance) -> Iterator[Claim]:
    def share(results: Results, discrete: bool, deviations: Sequence[float]) -> Estimate:
        hits = []
        for deviation in deviations:
            name = f"diagram-{deviation:g}"
            settings = settings_of(results, name)
            for temperature, row in zip(settings["temperatures"], results[name]["exponents"], strict=True):
                expected = stationary.regime(noise_of(settings), temperature).label.rstrip("ab")
                if discrete and expected != "III":
                    expected = "I" if temperature / critical(results, name) > discrete_limit(deviation) else "II"
                hits.append(phase(float(Estimate.from_row(row))) == expected)
        return Estimate("share of cells in the phase of theory", float(np.mean(hits)), 0.0, count=len(hits))

    strong = [deviation for deviation in study.deviations if deviation >= 30]
    if strong:

        def continuous(results: Results) -> Iterator[Verdict]:
            yield compare(share(results, False, strong), 0.95, claim="strong noise, σ ≥ 30", relation="above")
            yield compare(share(results, False, study.deviations), 0.95, claim="all noise", relation="above")

        yield Claim("in the plane of noise and temperature, phases change at T_c and T_c / 3", f"{LAW}, Fig. 4",
                    continuous, "steps of finite size move T_c where noise is weak and steps are large")  # fmt: skip

    def discrete(results: Results) -> Verdict:
        return compare(share(results, True, study.deviations), 0.95, claim=stated, relation="above")

    stated = "with T_c of real steps the plane is divided as it is measured"
    yield Claim(stated, HERE, discrete, "T_c / 3 moves too")


def _thresholds(study: Balance) -> Iterator[Claim]:
    def threshold(results: Results, batch_size: int) -> tuple[Estimate, stationary.DiagonalNoise]:
        names = [f"growth-{batch_size}-{ratio:g}" for ratio in (0.85, 0.95, 1.05)]
        places = [share_of_critical(results, name) for name in names]
        measured = zero(places, [results.estimate(name, "rate") for name in names], "temperature of no growth / T_c")
        return measured, noise_of(settings_of(results, names[0]))

    def modified(results: Results) -> Iterator[Verdict]:
        for batch_size in study.batches:
            measured, noise = threshold(results, batch_size)
            expected = balance.second_order_noise(noise, batch_size).critical_temperature()
            yield compare(measured, expected / noise.critical_temperature(), claim=f"batch size {batch_size}",
                          tolerance=0.005)  # fmt: skip

    yield Claim("steps of finite size collapse at the T_c of the modified loss", f"{LAW}, Eq. 54, with S lr for lr",
                modified, "to first order in lr the shift is three times as large: −3 lr β₂",
                "1 / (1 + S β₂² / α₃)")  # fmt: skip

    def discrete(results: Results) -> Iterator[Verdict]:
        for batch_size in study.batches:
            measured, noise = threshold(results, batch_size)
            settings = settings_of(results, f"growth-{batch_size}-0.85")
            expected = stationary.gaussian_discrete_critical_temperature(
                settings["slope"], settings["noise_variance"], settings["input_variance"], batch_size=batch_size
            ).value
            yield compare(measured, expected / noise.critical_temperature(), claim=f"batch size {batch_size}",
                          tolerance=0.005)  # fmt: skip

    yield Claim("they collapse where E ln |1 + 2 lr m̄| = 0, m̄ the mean of xy over the batch", HERE, discrete,
                formula="T of no growth / T_c")  # fmt: skip
