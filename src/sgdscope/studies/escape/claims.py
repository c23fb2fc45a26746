"""Claims of the diffusion theory: noise against curvature, escape by SGD, by white noise, and which valley is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdscope.cells import Results
from sgdscope.estimate import Estimate
from sgdscope.studies import fits
from sgdscope.studies.claim import Claim
from sgdscope.studies.escape import landscapes as on
from sgdscope.studies.escape.landscapes import landscape
from sgdscope.theory import escape
from sgdscope.verdict import Verdict, compare

if TYPE_CHECKING:
    from sgdscope.studies.escape.recipe import Escape

PAPER, HERE = "Xie, Sato & Sugiyama 2002.03495", "derived here"
SGD_LAW, WHITE_LAW = f"{PAPER}, theorem on SGD", f"{PAPER}, theorem on SGLD"
BARRIER, BOTTOM, TOP = 0.25, 2.0, -1.0
"""Of the double well: height, curvature of the minima, curvature of the saddle."""
OVERSHOOT = 0.5826
"""−ζ(1/2)/√(2π): recursions see a border this many standard deviations of a step late (Siegmund 1985)."""


def claims(study: Escape) -> Sequence[Claim]:
    """All of them."""
    return [*_covariance(study), *_sgd(study), *_white(study), *_tables(study), *_selection(study), *_limits(study)]


# -- noise against curvature ----------------------------------------------------------------------------------------


def _covariance(study: Escape) -> Iterator[Claim]:
    near = f"{PAPER}, abstract: noise covariance close to the Hessian near minima"

    def slopes(kind: str) -> Callable[[Results], Iterator[Verdict]]:
        def judge(results: Results) -> Iterator[Verdict]:
            for n in study.samples:
                cell = f"logistic-{kind}-{n}"
                measured, count = results.estimate(cell, "slope"), results.estimate(cell, "variances").count
                # the data are all taken, so that the error left is that of data sets of n: about √(2 / n p) for p modes
                error = math.sqrt(2 / (10 * n))
                measured = Estimate("slope", float(measured), error, count=count)
                yield compare(measured, 1.0, tolerance=0.02, claim=f"{n:,} samples", scope="error: other data sets")

        return judge

    yield Claim("at the optimum of a right log-likelihood the noise of one sample is the Hessian: slope 1", near,
                slopes("well"), formula="1")  # fmt: skip
    yield Claim("the same at the optimum of a wrong one", near, slopes("misspecified"),
                "Fisher information and Hessian part where the model did not make the data", "1")  # fmt: skip

    def squared(predict: Callable[[float, float], float]) -> Callable[[Results], Iterator[Verdict]]:
        def judge(results: Results) -> Iterator[Verdict]:
            for deviation in (0.5, 1.0):
                cell = f"linear-{deviation:g}"
                n = results.estimate(cell, "variances").count
                slope = float(results.estimate(cell, "slope"))
                measured = Estimate("slope", slope, slope * math.sqrt(2 / (10 * n)), count=n)
                yield compare(measured, predict(deviation, results[cell]["loss"]), tolerance=0.04,
                              claim=f"residuals of {deviation:g}")  # fmt: skip

        return judge

    yield Claim("for squared errors too", near, squared(lambda deviation, loss: 1.0),
                "the noise carries the variance of the residuals", "1")  # fmt: skip
    yield Claim("for squared errors the noise of one sample is 2 L times the Hessian", HERE,
                squared(lambda deviation, loss: float(escape.squared_loss_covariance([[1.0]], loss, 1.0)[0, 0])),
                formula="2 L")  # fmt: skip

    def networks(when: str) -> Callable[[Results], Iterator[Verdict]]:
        def judge(results: Results) -> Iterator[Verdict]:
            for number, (name, _) in enumerate(study.networks):
                measured = results.estimate(f"network-{number}-{when}", "slope")
                yield compare(measured, 1.0, tolerance=0.2, claim=f"{name}, {when}")

        return judge

    yield Claim("in a trained network the noise of one sample is close to the Hessian: slope 1 along its leading "
                "eigenvectors", near, networks("trained"),
                "a network that fits its data has less noise than curvature: its outputs leave no likelihood to "
                "fluctuate", "1")  # fmt: skip

    def proportional(results: Results) -> Iterator[Verdict]:
        for number, (name, _) in enumerate(study.networks):
            for when in ("trained", "untrained"):
                measured = results.estimate(f"network-{number}-{when}", "correlation")
                yield compare(measured, 0.9, relation="above", claim=f"{name}, {when}")

    yield Claim("the noise is proportional to the Hessian: correlation over 0.9 along its leading eigenvectors",
                f"{PAPER}, figure on the covariance", proportional,
                "leading eigenvalues are too much alike to show more than scatter")  # fmt: skip

    def inverse(results: Results) -> Iterator[Verdict]:
        for number, (name, _) in enumerate(study.networks):
            for when in ("trained", "untrained"):
                measured = results.estimate(f"network-{number}-{when}", "batch_scaling")
                yield compare(measured, 4.0, tolerance=0.3, claim=f"{name}, {when}")

    yield Claim("the noise of a batch falls as one over its size: batch 8 over batch 32", PAPER, inverse, formula="4")


# -- SGD on the double well -----------------------------------------------------------------------------------------


def exact_time(potential: str, variance: str, ratio: float, start: float, target: float) -> float:
    """Mean passage time of the differential equation (Itô) at q = `ratio`, by quadrature."""
    loss, noise = landscape(potential), landscape(variance)
    return escape.first_passage(
        loss.gradient, lambda x: np.asarray(noise.value(x)) / ratio, start, target, value=loss.value
    ).mean


def exponent(ratio: float) -> float:
    """Of the source at q: the part of the climb up to the inflection with the noise of the minimum."""
    return float(escape.sgd_exponent(BARRIER, BOTTOM, TOP, 2.0, ratio, fraction=fraction()))


def fraction() -> float:
    """s: where the climb passes the inflection point of the double well."""
    well = landscape(on.DOUBLE_WELL)
    return float(escape.switch_fraction(0.0, well.value(1 / math.sqrt(3)), BARRIER))


def times(study: Escape, results: Results) -> list[Estimate]:
    """Mean escape times at the ratios of the study."""
    return [results.estimate(f"sgd-{q:g}", "mean_time") for q in study.ratios]


def log_slope(x: Sequence[float], found: Sequence[Estimate], name: str) -> Estimate:
    """Slope of ln time."""
    return fits.line(x, [fits.logarithm(e) for e in found], name)[0]


def _sgd(study: Escape) -> Iterator[Claim]:
    def in_batch_size(predicted: Callable[[], float], tolerance: float) -> Callable[[Results], Verdict]:
        def judge(results: Results) -> Verdict:
            slope = log_slope(study.ratios, times(study, results), "slope of ln escape time in 2 · batch size / lr")
            return compare(slope, predicted(), claim=SLOPE, tolerance=tolerance, scope=f"learning rate {study.lr:g}")

        return judge

    SLOPE = "escape times of SGD are exponential in batch size"
    yield Claim(SLOPE, SGD_LAW, in_batch_size(lambda: exponent(1.0), 0.1),
                formula="ΔL (s / H_a + (1 − s) / |H_b|)")  # fmt: skip

    def integral() -> float:
        low, high = (exact_time(on.DOUBLE_WELL, on.NOISE, q, -1.0, 1.0) for q in (study.ratios[0], study.ratios[-1]))
        return math.log(high / low) / (study.ratios[-1] - study.ratios[0])

    yield Claim(SLOPE + ", with the slope of the exact passage time", HERE, in_batch_size(integral, 0.03))

    def prefactors(predict: Callable[[float], float], tolerance: float) -> Callable[[Results], Iterator[Verdict]]:
        def judge(results: Results) -> Iterator[Verdict]:
            for q, measured in zip(study.ratios, times(study, results), strict=True):
                yield compare(measured, predict(q), tolerance=tolerance, claim=f"2 · batch size / lr = {q:g}")

        return judge

    def by_law(prefactor: Any) -> Callable[[float], float]:
        return lambda q: escape.sgd_escape_time(
            BARRIER, BOTTOM, TOP, 2.0, q, fraction=fraction(), prefactor=prefactor
        ).value  # fmt: skip

    # a third: both are of leading order, and differ by a factor of two
    yield Claim("escape times of SGD have the prefactor 2π / |H_b|", SGD_LAW, prefactors(by_law("paper"), 0.33),
                "this is the law of noise taken after the step; SGD's is taken before it (Itô)",
                "2π / |H_b| · exp(…)")  # fmt: skip
    yield Claim("escape times of SGD have the prefactor 2π / H_a", HERE, prefactors(by_law("ito"), 0.33),
                "leading order", "2π / H_a · exp(…)")  # fmt: skip
    yield Claim("escape times of SGD are those of the differential equation (Itô), exactly", HERE, prefactors(
        lambda q: exact_time(on.DOUBLE_WELL, on.NOISE, q, -1.0, 1.0), 0.05), "steps of finite size")  # fmt: skip

    def learning_rate(results: Results) -> Iterator[Verdict]:
        for lr in study.rates:
            ratio = study.middle * study.lr / lr
            if ratio < 1.8 * max(study.ratios):
                measured = results.estimate(f"rate-{lr:g}", "mean_time")
                yield compare(measured, exact_time(on.DOUBLE_WELL, on.NOISE, ratio, -1.0, 1.0), tolerance=0.05,
                              claim=f"lr = {lr:g} at one batch size")  # fmt: skip

    yield Claim("escape times of SGD are exponential in one over the learning rate", SGD_LAW, learning_rate,
                "steps of finite size")  # fmt: skip

    def flat(results: Results) -> Verdict:
        found = [results.estimate(f"sharp-{k:g}", "mean_time").scaled(k) for k in study.sharpness]
        slope = log_slope([1 / k for k in study.sharpness], found, "slope of ln(k · escape time) in 1 / k")
        exact = [math.log(exact_time(on.DOUBLE_WELL, on.NOISE, study.middle / k, -1.0, 1.0)) for k in study.sharpness]
        inverse = [1 / k for k in study.sharpness]
        predicted = float(np.polyfit(inverse, exact, 1)[0])
        return compare(slope, predicted, tolerance=0.05, claim=FLAT)

    FLAT = "SGD stays exponentially longer in flat minima: ln escape time is linear in one over the curvature"
    yield Claim(FLAT, f"{SGD_LAW}; with the −ln k that the rescaled time brings, derived here", flat,
                "steps of finite size", "slope of the exact times, with ln k taken out")  # fmt: skip

    def memoryless(results: Results) -> Verdict:
        return compare(results.estimate(f"sgd-{study.ratios[-1]:g}", "hazard_ratio"), 1.0, tolerance=0.1, claim=RATE)

    RATE = "escape is at a constant rate: as frequent late as early"
    yield Claim(RATE, f"{PAPER}, quasi-equilibrium", memoryless, formula="1")


# -- white noise ----------------------------------------------------------------------------------------------------


def _white(study: Escape) -> Iterator[Claim]:
    well = landscape(on.DOUBLE_WELL)

    def law(results: Results) -> Iterator[Verdict]:
        for t in study.temperatures:
            predicted = escape.white_noise_escape_time(BARRIER, BOTTOM, TOP, t).value
            yield compare(results.estimate(f"white-{t:g}", "mean_time"), predicted, tolerance=0.05, claim=f"D = {t:g}")

    yield Claim("escape times under white noise are those of Kramers", WHITE_LAW, law,
                "right as D → 0: quartic terms add a share of order D", "2π / √(H_a |H_b|) · exp(ΔL / D)")  # fmt: skip

    def exact(results: Results) -> Iterator[Verdict]:
        for t in study.temperatures:
            predicted = escape.first_passage(well.gradient, _constant(t), -1.0, 1.0, value=well.value).mean
            yield compare(results.estimate(f"white-{t:g}", "mean_time"), predicted, tolerance=0.05, claim=f"D = {t:g}")

    yield Claim("escape times under white noise are the exact integral", HERE, exact, "steps of finite size")

    def polynomial(results: Results) -> Verdict:
        found = [results.estimate(f"white-sharp-{k:g}", "mean_time") for k in study.sharpness]
        slope = log_slope([math.log(k) for k in study.sharpness], found, "slope of ln escape time in ln k")
        return compare(slope, -1.0, tolerance=0.1, claim=POLYNOMIAL)

    POLYNOMIAL = "under white noise curvature counts as a power only: the time goes as 1 / k"
    yield Claim(POLYNOMIAL, WHITE_LAW, polynomial, formula="−1")

    def styblinski(results: Results) -> Verdict:
        loss = landscape(on.STYBLINSKI_TANG)
        t = results.cells["styblinski-tang"].settings["temperature"]
        predicted = escape.first_passage(loss.gradient, _constant(t), 2.746803, -2.903534, value=loss.value).mean
        return compare(results.estimate("styblinski-tang", "mean_time"), predicted, tolerance=0.05, claim=TANG)

    TANG = "on the Styblinski–Tang function white noise escapes as the exact integral says"
    yield Claim(TANG, f"{PAPER}, its landscape; integral derived here", styblinski, "steps of finite size")


# -- tables ---------------------------------------------------------------------------------------------------------


def slab_time(cell: Any, batch_size: int, noise: float) -> float:
    """Mean time out of ±reach in one direction of a quadratic valley, at this per-sample variance; of a recursion."""
    curvature, lr = cell["curvature"], cell["lr"]
    temperature = lr * noise / (2 * batch_size) / (1 - lr * curvature / 2)
    reach = cell["reach"] + OVERSHOOT * lr * math.sqrt(noise / batch_size)
    return escape.first_passage(
        lambda x: curvature * x, _constant(temperature), 0.0, reach, value=lambda x: 0.5 * curvature * x * x,
        reflecting=0.0,
    ).mean  # fmt: skip


def _tables(study: Escape) -> Iterator[Claim]:
    def leave(noise: str) -> Callable[[Results], Iterator[Verdict]]:
        def judge(results: Results) -> Iterator[Verdict]:
            for table in study.tables:
                for direction in (0, 1):
                    cells = [results[f"table-{table}-{direction}-b{b}"] for b in study.batch_sizes]
                    found = [Estimate.from_row(cell["mean_time"]) for cell in cells]
                    slope = log_slope(study.batch_sizes, found, "slope of ln escape time in batch size")
                    at = [math.log(slab_time(c, b, c[noise])) for c, b in zip(cells, study.batch_sizes, strict=True)]
                    predicted = (at[-1] - at[0]) / (study.batch_sizes[-1] - study.batch_sizes[0])
                    yield compare(slope, predicted, tolerance=0.1,
                                  claim=f"{table}, eigenvector {direction + 1}")  # fmt: skip

        return judge

    yield Claim("out of the valley of a logistic regression, real minibatches take exponentially long in batch size, "
                "at the slope of noise = Hessian", SGD_LAW, leave("curvature"),
                "labels are more certain than the model says: noise is smaller than the Hessian")  # fmt: skip
    yield Claim("… at the slope of the covariance measured at the minimum", HERE, leave("noise"),
                "away from the minimum the covariance changes, and noise of few samples is not Gaussian")  # fmt: skip


# -- which valley ---------------------------------------------------------------------------------------------------


def _selection(study: Escape) -> Iterator[Claim]:
    minima = sorted(landscape(on.SKEWED).minima, key=lambda point: point.x)
    flat, sharp = (point.eigenvalues[0] for point in minima)

    def odds(results: Results) -> Estimate:
        left, right = (results.estimate(f"skewed-{side}", "mean_time") for side in ("left", "right"))
        return fits.ratio(left, right, "escape time from the flat well over that from the sharp one")

    def exact(results: Results) -> Verdict:
        there = [exact_time(on.SKEWED, on.SKEWED_NOISE, 16.0, a, b) for a, b in ((-1.0, 1.0), (1.0, -1.0))]
        return compare(odds(results), there[0] / there[1], tolerance=0.1, claim=STAYS)

    STAYS = "of two wells of equal depth SGD keeps to the flat one, by the quotient of escape times"
    yield Claim(STAYS, f"{PAPER}; quotient of exact passage times derived here", exact, "steps of finite size")

    def power_only(results: Results) -> Verdict:
        return compare(odds(results), math.sqrt(sharp / flat), tolerance=0.1, claim=WHITE)

    WHITE = "it keeps to the flat one as white noise would, by √(H₂ / H₁) only"
    yield Claim(WHITE, "the alternative that the source rejects", power_only, "it is exponential", "√(H₂ / H₁)")


# -- limits of the theory -------------------------------------------------------------------------------------------


def _limits(study: Escape) -> Iterator[Claim]:
    third = 6 / math.sqrt(3)
    inflection = abs(landscape(on.DOUBLE_WELL).gradient(1 / math.sqrt(3)))

    def literal(results: Results) -> list[Estimate]:
        return [results.estimate(f"literal-{lr:g}", "mean_time") for lr in study.literal]

    def constant(results: Results) -> Iterator[Verdict]:
        predicted = escape.sgd_escape_time(
            BARRIER, BOTTOM, TOP, 2.0, study.literal_ratio, fraction=fraction(), prefactor="paper"
        ).value
        for lr, measured in zip(study.literal, literal(results), strict=True):
            yield compare(measured, predicted, tolerance=0.33, claim=f"lr = {lr:g}, batch size / lr kept")

    yield Claim("noise that is the size of the curvature at every point escapes in the time of the two-point formula",
                f"{SGD_LAW}, noise read as |L''| everywhere", constant,
                "it vanishes at the inflection, which only steps of finite size can jump over",
                "2π / |H_b| · exp(…)")  # fmt: skip

    def power(results: Results) -> Verdict:
        slope = log_slope([math.log(lr) for lr in study.literal], literal(results), "slope of ln time in ln lr")
        predicted = -escape.vanishing_noise_exponent(inflection, third, 2.0, study.literal_ratio)
        return compare(slope, predicted, tolerance=0.2, claim=POWER)

    POWER = "such noise never escapes in continuous time: the time grows as a power of 1 / lr at one batch size / lr"
    yield Claim(POWER, HERE, power, "the power is reached slowly as lr → 0", "−2 q |L'| / |L'''| at the inflection")

    if study.size != "toy":

        def across(predicted: float) -> Callable[[Results], Verdict]:
            def judge(results: Results) -> Verdict:
                alone = exact_time(on.DOUBLE_WELL, on.NOISE, 24.0, -1.0, 1.0)
                measured = results.estimate("valley-2d", "mean_time").scaled(1 / alone, name="time over that in 1-D")
                return compare(
                    measured, predicted, tolerance=0.1, claim="a direction across that is sharper in the well"
                )

            return judge

        yield Claim("directions across the way do not count", f"{SGD_LAW}: determinants cancel", across(1.0),
                    "their fluctuations push along the way where their curvature changes", "1")  # fmt: skip
        x = np.linspace(-1, 0, 2001)
        factor = escape.transverse_factor(x, 1 + 2 * x * x, 1 + x * x)
        yield Claim("they count by the work of their fluctuations, to lowest order", HERE, across(float(factor)),
                    "lowest order: the change of curvature is not small", "exp(½ ∫ H_⊥' / h dx)")  # fmt: skip

    def gaussian(noise: str) -> Callable[[Results], Iterator[Verdict]]:
        def judge(results: Results) -> Iterator[Verdict]:
            for c in study.discrete:
                settings = results.cells[f"{noise}-{c:g}"].settings
                ratio = 2 * settings["batch_size"] / settings["lr"]
                measured = results.estimate(f"{noise}-{c:g}", "mean_time")
                yield compare(measured, exact_time(on.DOUBLE_WELL, on.NOISE, ratio, -1.0, 1.0), tolerance=0.1,
                              claim=f"lr · H_a = {c:g}, batch size {settings['batch_size']}")  # fmt: skip

        return judge

    yield Claim("Gaussian noise in steps of finite size escapes as the differential equation", PAPER,
                gaussian("gaussian"), "steps as long as the well is curved")  # fmt: skip
    yield Claim("noise of few bounded samples escapes as the differential equation", f"{PAPER}, Gaussian noise",
                gaussian("two-point"), "bounded noise lacks the tails that carry it out: escape is slower")  # fmt: skip

    def momentum(results: Results) -> Iterator[Verdict]:
        for lr, beta in study.momenta:
            measured = results.estimate(f"momentum-{beta:g}", "mean_time")
            predicted = escape.momentum_escape_time(BARRIER, BOTTOM, TOP, 1 / 16, lr, beta).value
            yield compare(measured, predicted, tolerance=0.15, claim=f"lr {lr:g}, momentum {beta:g}")

    yield Claim("momentum SGD escapes by the kinetic law", "derived here; not in 2002.03495", momentum,
                "leading order in the temperature", "2π / λ₊ · √(|H_b| / H_a) · exp(ΔL / T)")  # fmt: skip


def _constant(value: float) -> Callable[[Any], Any]:
    return lambda x: np.full_like(np.asarray(x, dtype=np.float64), value)
