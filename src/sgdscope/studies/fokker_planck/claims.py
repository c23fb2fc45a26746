"""Claims of the Fokker–Planck view, in the order: equation, stationary law, convergence, momentum, networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sgdscope.cells import Results
from sgdscope.estimate import Estimate
from sgdscope.studies import fits
from sgdscope.studies.claim import Claim
from sgdscope.studies.fokker_planck.landscapes import DOUBLE_WELL, SKEWED, SKEWED_NOISE, SPLIT, TILTED, landscape
from sgdscope.theory import escape, fokker_planck
from sgdscope.verdict import Verdict, compare

if TYPE_CHECKING:
    from sgdscope.studies.fokker_planck.recipe import FokkerPlanck

PAPER, EARLIER, HERE = "Dai & Zhu 2112.00987", "Dai & Zhu 1812.00542", "derived here"


def claims(study: FokkerPlanck) -> Sequence[Claim]:
    """All of them."""
    return [*_equation(study), *_stationary(study), *_convergence(study), *_momentum(study), *_networks(study)]


# -- the equation -------------------------------------------------------------------------------------------------


def weak_errors(study: FokkerPlanck, results: Results) -> list[tuple[float, Estimate]]:
    """For each learning rate |E x² of SGD − E x² of its equation| at time 2, from −1, with noise that varies."""
    potential = landscape(DOUBLE_WELL)
    equation = fokker_planck.Line.of_potential(potential, lambda x: 0.1 * (1 + x * x) / 2, cells=6000)
    (law,) = equation.evolve(equation.point(-1.0), (2.0,))
    exact = float(law @ equation.centres**2)
    found = []
    for lr in study.steps_of_sgd:
        means = results[f"weak-{lr:g}"]["means"]
        simulated = Estimate.from_row(means["x²"])
        found.append((lr, Estimate("weak error", abs(float(simulated) - exact), simulated.standard_error)))
    return found


def _equation(study: FokkerPlanck) -> Iterator[Claim]:
    def order(results: Results) -> Verdict:
        errors = weak_errors(study, results)
        logs = [fits.logarithm(e) for _, e in errors]
        slope, _ = fits.line([math.log(lr) for lr, _ in errors], logs, "order of the weak error")
        # 0.15: at these learning rates the next order still shows
        return compare(slope, 1.0, claim=stated, tolerance=0.15, scope="double well, temperature fixed, time 2")

    stated = "the differential equation stands for SGD to first order in the learning rate"
    yield Claim(
        stated, f"{PAPER}, the model; order of the error derived here", order, formula="slope of ln error in ln lr"
    )


# -- the stationary law -------------------------------------------------------------------------------------------


def odds(results: Results, name: str) -> Estimate:
    """Mass in the flat (left) well over that in the sharp one."""
    share = Estimate.from_row(results[name]["averages"][f"x < {SPLIT}"])
    p, error = float(share), share.standard_error
    assert isinstance(error, float)
    if not 0 < p < 1:
        raise ValueError(f"expected both wells to be visited in {name}, got a share of {p:g}")
    return Estimate("mass ratio, flat over sharp", p / (1 - p), error / (1 - p) ** 2, count=share.count)


def exact_odds(formula: str, temperature: float) -> float:
    """The same of the stationary law at constant noise, by quadrature."""
    potential = landscape(formula)
    found = escape.log_mass_ratio(potential.gradient, _constant(temperature), SPLIT, value=potential.value)
    return math.exp(found)


def _stationary(study: FokkerPlanck) -> Iterator[Claim]:
    minima = sorted(landscape(SKEWED).minima, key=lambda point: point.x)
    flat, sharp = (point.eigenvalues[0] for point in minima)

    def independent(results: Results) -> Verdict:
        cold, hot = (odds(results, f"skewed-{t:g}") for t in (study.selection[0], study.selection[-1]))
        measured = fits.ratio(cold, hot, "mass ratio at the largest over that at the smallest batch")
        factor = study.selection[-1] / study.selection[0]
        return compare(measured, 1.0, claim=one, tolerance=0.1, scope=f"batch sizes a factor {factor:.3g} apart")

    one = "with wells of equal depth and constant noise, the preference for the flat one does not depend on batch size"
    yield Claim(one, PAPER, independent, "the next order in the temperature", "1")

    def leading(results: Results) -> Iterator[Verdict]:
        predicted = escape.white_noise_mass_ratio([[flat]], [[sharp]], study.selection[0]).value
        for t in study.selection:
            yield compare(odds(results, f"skewed-{t:g}"), predicted, claim=f"D = {t:g}", tolerance=0.03)

    yield Claim("its odds are √(det H of the sharp well / det H of the flat one)", PAPER, leading,
                "right as D → 0; at finite D quartic terms take part", "√(H₂ / H₁)")  # fmt: skip

    def exact(results: Results) -> Iterator[Verdict]:
        for t in study.selection:
            yield compare(odds(results, f"skewed-{t:g}"), exact_odds(SKEWED, t), claim=f"D = {t:g}", tolerance=0.03)

    yield Claim("its odds are those of exp(−L / D) integrated over the wells", HERE, exact, "steps of finite size")

    def regardless(results: Results) -> Iterator[Verdict]:
        for t in (study.selection[0], study.selection[-1]):
            yield compare(odds(results, f"tilted-{t:g}"), 1.0, claim=f"D = {t:g}", relation="above",
                          scope=f"sharp well deeper; exact odds {exact_odds(TILTED, t):.3g}")  # fmt: skip

    yield Claim("the flat well is preferred whatever the batch size, also where the sharp one is deeper", PAPER,
                regardless, "at low temperature depth decides: large batches settle in the deepest well")  # fmt: skip

    def same_for_all_noise(results: Results) -> Verdict:
        first, last = (odds(results, f"curvature-noise-{q:g}") for q in (study.ratios[0], study.ratios[-1]))
        measured = fits.ratio(last, first, "mass ratio at the largest over that at the smallest batch")
        factor = study.ratios[-1] / study.ratios[0]
        return compare(measured, 1.0, claim=three, tolerance=0.1, scope=f"batch sizes a factor {factor:.3g} apart")

    three = "the preference does not depend on batch size where noise follows the curvature either"
    yield Claim(three, f"{PAPER}, read for noise that varies", same_for_all_noise,
                "with noise in proportion to curvature the odds are exponential in batch size / lr", "1")  # fmt: skip

    def slope(results: Results) -> Verdict:
        logs = [fits.logarithm(odds(results, f"curvature-noise-{q:g}")) for q in study.ratios]
        found, _ = fits.line(study.ratios, logs, "slope of ln odds in 2 · batch size / lr")
        low, high = (noisy_log_odds(q) for q in (study.ratios[0], study.ratios[-1]))
        return compare(found, (high - low) / (study.ratios[-1] - study.ratios[0]), claim=four, tolerance=0.06)

    four = "where noise follows the curvature, ln odds grow linearly in batch size / lr"
    yield Claim(four, f"{HERE}; Xie, Sato & Sugiyama 2002.03495 for the noise", slope, "steps of finite size",
                "∫ L'/variance from the flat well less that from the sharp one")  # fmt: skip


def noisy_log_odds(ratio: float) -> float:
    """Exact ln odds at 2 · batch size / lr = `ratio` with noise that follows the curvature."""
    potential, variance = landscape(SKEWED), landscape(SKEWED_NOISE)
    return escape.log_mass_ratio(potential.gradient, lambda x: variance.value(x) / ratio, SPLIT, value=potential.value)


# -- convergence --------------------------------------------------------------------------------------------------


def _convergence(study: FokkerPlanck) -> Iterator[Claim]:
    well = landscape(DOUBLE_WELL)
    bottom, top = well.minima[0].eigenvalues[0], -1.0
    barrier = well.value(0.0) - well.value(-1.0)

    def times(results: Results) -> list[tuple[float, Estimate]]:
        return [(t, results.estimate(study.escape_name(t), "mean_time")) for t in study.temperatures]

    def kramers(results: Results) -> Iterator[Verdict]:
        for t, measured in times(results):
            predicted = escape.white_noise_escape_time(barrier, bottom, top, t).value
            yield compare(measured, predicted, claim=f"D = {t:g}", tolerance=0.05)

    yield Claim("the mean escape time is that of Eyring and Kramers", EARLIER, kramers,
                "right as D → 0: quartic terms add a share of order D", "2π / √(H_a |H_b|) · exp(ΔL / D)")  # fmt: skip

    def exact(results: Results) -> Iterator[Verdict]:
        for t, measured in times(results):
            predicted = escape.first_passage(well.gradient, _constant(t), -1.0, 1.0, value=well.value).mean
            yield compare(measured, predicted, claim=f"D = {t:g}", tolerance=0.05)

    yield Claim("the mean escape time is the integral over the stationary law", HERE, exact, "steps of finite size")

    def exponential(results: Results) -> Verdict:
        logs = [fits.logarithm(measured) for _, measured in times(results)]
        found, _ = fits.line([1 / t for t in study.temperatures], logs, "slope of ln escape time in 1 / D")
        return compare(found, barrier, claim=grows, tolerance=0.05)

    grows = "escape times grow exponentially with batch size / lr, at the height of the barrier"
    yield Claim(grows, EARLIER, exponential, "the slope comes to ΔL from below as D → 0", "ΔL")

    def inside(results: Results) -> Iterator[Verdict]:
        predicted = escape.in_well_relaxation_rate([[1.0]]).value
        for size in study.in_well:
            discrete = -math.log1p(-study.lr * predicted) / study.lr
            measured = results.estimate(f"in-well-{size}", "rate")
            yield compare(measured, discrete, claim=f"batch size {size}", tolerance=0.03)

    yield Claim("inside a well batch size does not act on convergence: the rate is the least curvature", HERE, inside,
                formula="−ln(1 − lr H) / lr")  # fmt: skip

    def between(results: Results) -> Iterator[Verdict]:
        for t in study.temperatures:
            predicted = fokker_planck.relaxation_rates(well, t).selection.value
            measured = results.estimate(f"between-wells-{t:g}", "rate")
            yield compare(measured, predicted, claim=f"D = {t:g}", tolerance=0.05)

    yield Claim(
        "between wells the rate is the gap of the Fokker-Planck operator", PAPER, between, "steps of finite size"
    )

    def linear(results: Results) -> Verdict:
        logs = [fits.logarithm(results.estimate(f"between-wells-{t:g}", "rate")) for t in study.temperatures]
        found, _ = fits.line([math.log(t) for t in study.temperatures], logs, "slope of ln rate in ln(lr / batch size)")
        return compare(found, 1.0, claim=stated, tolerance=0.1)

    stated = "the rate of convergence is proportional to lr / batch size"
    yield Claim(stated, f"{PAPER}, the bound λ₁ ≥ C_P · lr σ² / (2 · batch size) read with C_P fixed", linear,
                "the Poincaré constant C_P falls exponentially with batch size itself", "1")  # fmt: skip

    def trade(results: Results) -> Iterator[Verdict]:
        cold, hot = study.temperatures[0], study.temperatures[-1]
        rates = [results.estimate(f"between-wells-{t:g}", "rate") for t in (hot, cold)]
        yield compare(fits.ratio(rates[0], rates[1], "rate, hot over cold"), 1.0, claim="faster", relation="above")
        noise = fokker_planck.selection_trade(well, [cold, hot])
        measured = Estimate("excess loss, hot over cold", float(noise.excess_losses[1] / noise.excess_losses[0]))
        yield compare(measured, 1.0, claim="and ends higher (stationary law, by quadrature)", relation="above")

    yield Claim("larger lr / batch size reaches the flat minimum sooner and ends at a higher loss", EARLIER, trade)


# -- momentum -----------------------------------------------------------------------------------------------------


def _momentum(study: FokkerPlanck) -> Iterator[Claim]:
    well = landscape(DOUBLE_WELL)
    bottom, barrier = well.minima[0].eigenvalues[0], well.value(0.0) - well.value(-1.0)

    def cases(results: Results) -> Iterator[tuple[str, float, float, float, Estimate]]:
        for lr, momentum, t in study.momenta:
            cell = results[f"momentum-{lr:g}-{momentum:g}-{t:.4g}"]
            yield (
                f"lr {lr:g}, momentum {momentum:g}, T = {t:.4g}",
                lr,
                momentum,
                t,
                Estimate.from_row(cell["mean_time"]),
            )

    def kinetic(results: Results) -> Iterator[Verdict]:
        for case, lr, momentum, t, measured in cases(results):
            predicted = escape.momentum_escape_time(barrier, bottom, -1.0, t, lr, momentum)
            # 15 %: the formula is of leading order, and at ΔL / T = 4 to 6 the exact rate lies 5 to 15 % lower
            yield compare(measured, predicted.value, claim=case, tolerance=0.15)

    yield Claim("momentum SGD escapes as the kinetic equation says, with its temperature and friction", PAPER, kinetic,
                "leading order in the temperature", "2π / λ₊ · √(|H_b| / H_a) · exp(ΔL / T)")  # fmt: skip

    def exact(results: Results) -> Iterator[Verdict]:
        for case, lr, momentum, t, measured in cases(results):
            ball = fokker_planck.HeavyBall.of_kinetic(math.sqrt(lr), (1 - momentum) / math.sqrt(lr), t)
            motion = fokker_planck.Kinetic(t, ball.friction, (-2.2, 2.2), potential=well.value)
            predicted = float(motion.mean_first_passage_time(lambda x, v: x > 1, -1.0)) * math.sqrt(lr)
            yield compare(measured, predicted, claim=case, tolerance=0.05)

    yield Claim("its escape time is that of the kinetic equation, solved", HERE, exact, "steps of finite size")

    def overdamped(results: Results) -> Iterator[Verdict]:
        for case, _lr, momentum, t, measured in cases(results):
            predicted = escape.white_noise_escape_time(barrier, bottom, -1.0, t).value * (1 - momentum)
            yield compare(measured, predicted, claim=case, tolerance=0.15)

    yield Claim("momentum SGD escapes as plain SGD at lr / (1 − momentum)", f"{PAPER}, overdamped limit", overdamped,
                "inertia: the way over the barrier takes |H_b| / (λ₊ Γ) times longer", "(1 − β) · 2π / √(H_a |H_b|) · "
                "exp(ΔL / T)")  # fmt: skip


# -- networks -----------------------------------------------------------------------------------------------------


def of_networks(
    study: FokkerPlanck, results: Results, data: str, model: str, size: int, equal: str, what: str
) -> Estimate:
    """Mean over seeds of a measurement at the end of training."""
    if size == min(study.batch_sizes):
        equal = "epochs"  # for the smallest batch both are the same runs
    found = results.where(data=data, model=model, batch_size=size, equal=equal)
    rows = [cell["measured"][what] for cell in found.values() if "measured" in cell]
    if len(rows) < len(found):
        raise ValueError(f"{len(found) - len(rows)} of {len(found)} runs did not finish")
    return fits.mean([Estimate.from_row(row) for row in rows], what)


def _networks(study: FokkerPlanck) -> Iterator[Claim]:
    small, large = min(study.batch_sizes), max(study.batch_sizes)

    def sharper(equal: str, what: str) -> Claim:
        def judge(results: Results) -> Iterator[Verdict]:
            for data in study.data:
                for model in study.models:
                    ends = [of_networks(study, results, data, model, b, equal, what) for b in (large, small)]
                    measured = fits.ratio(ends[0], ends[1], f"{what}, batch {large} over batch {small}")
                    yield compare(measured, 1.0, claim=f"{data}, {model}", relation="above",
                                  scope=f"batch {large} over batch {small}, {study.seeds} seeds")  # fmt: skip

        word = {"lambda_max": "sharpness λ_max", "hessian_norm": "Hessian norm ‖H‖_F"}[what]
        reason = {
            "epochs": "with fewer updates the run of large batches is younger: curvature has not yet grown",
            "updates": "at equal updates curvature grows alike; noise is too weak to tell",
        }[equal]
        return Claim(f"at equal {equal}, larger batches end with larger {word}", f"{PAPER}, after Keskar et al. 2017",
                     judge, reason)  # fmt: skip

    yield sharper("epochs", "lambda_max")
    yield sharper("updates", "lambda_max")
    yield sharper("updates", "hessian_norm")

    def accuracy(equal: str) -> Claim:
        def judge(results: Results) -> Iterator[Verdict]:
            for data in study.data:
                for model in study.models:
                    better, worse = (
                        of_networks(study, results, data, model, b, equal, "held_out") for b in (small, large)
                    )
                    errors = [e.standard_error or 0.0 for e in (better, worse)]
                    gap = Estimate("held-out accuracy lost", float(better) - float(worse), math.hypot(*errors))  # type: ignore[arg-type]
                    yield compare(gap, 0.0, claim=f"{data}, {model}", relation="above")

        return Claim(f"at equal {equal}, larger batches generalise worse", f"{PAPER}, after Keskar et al. 2017", judge,
                     "with as many updates the gap of these networks closes")  # fmt: skip

    yield accuracy("epochs")
    yield accuracy("updates")


def _constant(value: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    return lambda x: np.full_like(x, value, dtype=np.float64)
