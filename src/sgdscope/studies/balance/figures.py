"""Figures: charges under three kinds of noise, noise of two layers, stationary densities, and phases in temperature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdscope.cells import Results
from sgdscope.estimate import Estimate
from sgdscope.picture import Line, Mark, Picture, Points, Role
from sgdscope.studies.balance.claims import charges
from sgdscope.studies.balance.claims.laws import law_of, reweighted
from sgdscope.studies.balance.claims.phases import discrete_limit, phase, share_of_critical
from sgdscope.studies.balance.claims.sources import noise_of, settings_of
from sgdscope.studies.recipe import Figure
from sgdscope.theory import stationary

if TYPE_CHECKING:
    from sgdscope.studies.balance.recipe import Balance

_GROUPED = 20
"""Levels of a sample that make one point of a density."""


def figures(study: Balance, results: Results) -> Sequence[Figure]:
    """All of them."""
    return [_charges(results), _traces(study, results), _densities(study, results), _phases(study, results),
            _diagram(study, results)]  # fmt: skip


def _charges(results: Results) -> Figure:
    shapes: list[Any] = []
    kinds: list[tuple[str, str, Role]] = [
        ("charge-isotropic", "isotropic noise", "third"), ("charge-none-0.01", "gradient descent", "second"),
        ("charge-minibatch", "SGD", "first"),
    ]  # fmt: skip
    last = 0.0
    for name, label, role in kinds:
        course = results[name]["course"]
        times, size = np.array(course["times"]), np.sqrt(np.array(course["square"]))
        thin = max(1, len(times) // 40)
        last = max(last, float(times[-1]))
        shapes.append(Points(times[::thin], size[::thin], None, label, role))
    rate = charges.predicted(results, "charge-minibatch") / float(results["charge-minibatch"]["time"])
    grid = np.linspace(0, last, 50)
    shapes.append(Line(grid, np.exp(rate * grid), "law of balance: exp(−4 T ∫ g dt)", "first", dashed=True))
    picture = Picture("Size of u² − w² under three kinds of noise", "learning rate · steps",
                      "u² − w² / start, root mean square", shapes, log_up=True)  # fmt: skip
    caption = "Two layers u, w of (u w x − y)². The dashed line has the average of g along the paths of SGD."
    return Figure("charges", (picture,), caption)


def _traces(study: Balance, results: Results) -> Figure:
    looks = results[f"relu-{study.seed}"]["looks"]
    steps = [look["step"] for look in looks]
    noise = [Line(steps, [look["noise_u"] for look in looks], "second layer"),
             Line(steps, [look["noise_w"] for look in looks], "first layer", "second")]  # fmt: skip
    ratios = [Line(steps, [math.exp(float(Estimate.from_row(look["noise_ratio"]))) for look in looks],
                   "noise, second / first"),
              Line(steps, [look["norm_ratio"] for look in looks], "squared norm, first / second", "second"),
              Line(steps, np.ones(len(steps)), "equal", "soft", dashed=True)]  # fmt: skip
    width = study.relu[0]
    pictures = (
        Picture(f"Noise of both layers, ReLUs 20 → {width} → 20", "steps", "trace of the gradient covariance", noise,
                log_up=True),
        Picture("Their ratio, and that of the norms", "steps", "ratio", ratios, log_up=True),
    )  # fmt: skip
    return Figure("traces", pictures, "Label noise, batch size 1; the first layer began larger. From one seed.")


def _density(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places and heights of the density of a sample from its levels at equal shares."""
    edges = levels[::_GROUPED]
    widths = np.diff(edges)
    return (edges[1:] + edges[:-1]) / 2, _GROUPED / len(levels) / widths


def _densities(study: Balance, results: Results) -> Figure:
    shapes: list[Any] = []
    roles: tuple[Role, ...] = ("first", "second", "third")
    shown = [case for case in study.laws if case[1] == 1.0 and case[0] > 0]
    for role, case in zip(roles, shown, strict=False):
        name = study.law_name(*case)
        law = law_of(results, name)
        grid = np.linspace(float(law.quantile(0.002)), float(law.quantile(0.995)), 200)
        shapes.append(Line(grid, law.density(grid), f"depth {case[0]}, T = {law.temperature:g}", role))
        shapes.append(Points(*_density(np.array(results[name]["quantiles"])), None, "", role))
    pictures = [Picture("Densities of the weight by depth", "weight v", "density", shapes)]
    hot = [case for case in study.laws if case[0] == 1 and case[2] < 0]
    for case in hot[:1]:
        name = study.law_name(*case)
        law, levels = law_of(results, name), np.array(results[name]["quantiles"])
        other = reweighted(law, lambda v, g=law.noise.g: np.sqrt(v * g(v)))  # type: ignore[misc]
        grid = np.geomspace(max(levels[2], 1e-8), levels[-2], 200)
        n = len(levels)
        share = (np.arange(n) + 0.5) / n
        few = slice(n // 40, None, n // 40)
        title = f"Two layers close to collapse, T = {share_of_critical(results, name):.2g} T_c"
        pictures.append(Picture(
            title, "weight v", "share below v",
            [Line(grid, law.cdf(grid), "Itô"), Line(grid, other(grid), "Stratonovich", "soft", dashed=True),
             Points(levels[few], share[few], None, "SGD", "first")], log_across=True,
        ))  # fmt: skip
    return Figure("densities", tuple(pictures), "Points: SGD, batch size 1. Lines: stationary laws, nothing fitted.")


def _phases(study: Balance, results: Results) -> Figure:
    names = [f"phase-{ratio:g}" for ratio in study.ratios]
    noise = noise_of(settings_of(results, names[0]))
    critical = stationary.critical_temperature(noise).value
    x = np.array([share_of_critical(results, name) for name in names])
    grid = np.linspace(0.05, 0.995, 30)
    laws = [stationary.DiagonalLaw(noise, ratio * critical, 1) for ratio in grid]
    pictures = []
    for key, title, up in (("mean", "Mean weight against temperature", "E[v]"),
                           ("variance", "Fluctuations against temperature", "Var[v]")):  # fmt: skip
        measured = [results.estimate(name, key) for name in names]
        errors = [e.standard_error if isinstance(e.standard_error, float) else 0.0 for e in measured]
        line = [law.mean if key == "mean" else law.variance for law in laws]
        shapes: list[Any] = [
            Line(np.append(grid, [1.0, x.max()]), [*line, 0.0, 0.0], "stationary law"),
            Points(x, [float(e) for e in measured], errors, "SGD"),
            Mark(1 / 3, "T_c / 3"), Mark(1.0, "T_c"),
        ]  # fmt: skip
        if key == "variance":
            shapes.append(Mark(stationary.fluctuation_peak(noise).temperature.value / critical, "peak", "first"))
        top = 1.2 * max(line)  # names of marks stand above the curve
        pictures.append(Picture(title, "T / T_c", up, shapes, span_up=(-0.03 * top, top)))
    return Figure("phases", tuple(pictures), "Two layers, noise variance 900, batch size 1; T_c = β₂ / α₃ from theory.")


def _diagram(study: Balance, results: Results) -> Figure:
    kinds: tuple[tuple[str, str, Role], ...] = (
        ("I", "I: all mass at 0", "third"), ("II", "II: density diverges at 0", "second"),
        ("III", "III: density vanishes at 0", "first"),
    )  # fmt: skip
    found = [
        (deviation, level, phase(float(Estimate.from_row(row)))) for deviation in study.deviations
        for level, row in zip(study.levels, results[f"diagram-{deviation:g}"]["exponents"], strict=True)
    ]  # fmt: skip
    grid = np.geomspace(study.deviations[0], study.deviations[-1], 30)
    shapes: list[Any] = [
        Line(grid, np.ones(30), "T_c", "ink"), Line(grid, np.full(30, 1 / 3), "T_c / 3", "ink", dashed=True),
        Line(grid, [discrete_limit(float(at)) for at in grid], "T_c of real steps", "soft"),
    ]  # fmt: skip
    for kind, label, role in kinds:
        places = [(deviation, level) for deviation, level, what in found if what == kind]
        if places:
            across, up = np.array(places).T
            shapes.append(Points(across, up, None, label, role))
    picture = Picture(
        "Phases of two layers, as measured close to 0", "σ of the targets", "T / T_c", shapes, log_across=True
    )
    caption = "Points: by the measured growth of ln v near 0, batch size 1. Lines: theory of the equation and of steps."
    return Figure("diagram", (picture,), caption)
