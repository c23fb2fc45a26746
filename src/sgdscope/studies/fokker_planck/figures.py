"""Figures: the law of two wells against batch size, speeds of convergence, and the minima of networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdscope.cells import Results
from sgdscope.estimate import Estimate
from sgdscope.picture import Line, Picture, Points, Role
from sgdscope.studies.fokker_planck import claims as law
from sgdscope.studies.fokker_planck.landscapes import DOUBLE_WELL, SKEWED, landscape
from sgdscope.studies.recipe import Figure
from sgdscope.theory import escape, fokker_planck

if TYPE_CHECKING:
    from sgdscope.studies.fokker_planck.recipe import FokkerPlanck

_ROLES: tuple[Role, ...] = ("first", "second", "third")


def figures(study: FokkerPlanck, results: Results) -> Sequence[Figure]:
    """All of them."""
    return [_selection(study, results), _speeds(study, results), _networks(study, results)]


def _selection(study: FokkerPlanck, results: Results) -> Figure:
    ratios = np.array([1 / t for t in study.selection])
    grid = np.linspace(ratios.min(), ratios.max(), 40)
    constant = [law.odds(results, f"skewed-{t:g}") for t in study.selection]
    noisy = [law.odds(results, f"curvature-noise-{q:g}") for q in study.ratios]
    along = np.linspace(min(study.ratios), max(study.ratios), 40)
    shapes: list[Any] = [
        _points(ratios, constant, "constant noise, simulated", "first"),
        Line(grid, [law.exact_odds(SKEWED, 1 / q) for q in grid], "constant noise, exp(−L/D)", "first"),
        _points(np.array(study.ratios), noisy, "noise as the curvature, simulated", "second"),
        Line(along, [math.exp(law.noisy_log_odds(q)) for q in along], "noise as the curvature, exact", "second"),
    ]
    picture = Picture(
        "Which noise model decides whether batch size selects", "2 · batch size / (lr · variance)",
        "odds of the flat well", shapes, log_up=True,
    )  # fmt: skip
    caption = (
        "Two wells of equal depth. With constant noise larger batches prefer the flat well as much as small ones do; "
        "with noise that follows the curvature the odds grow exponentially with batch size."
    )
    return Figure("selection", (picture,), caption)


def _speeds(study: FokkerPlanck, results: Results) -> Figure:
    well = landscape(DOUBLE_WELL)
    inverse = np.array([1 / t for t in study.temperatures])
    grid = np.linspace(inverse.min(), inverse.max(), 40)
    between = [results.estimate(f"between-wells-{t:g}", "rate") for t in study.temperatures]
    gaps = [fokker_planck.relaxation_rates(well, 1 / q).gap for q in grid]
    linear = float(between[-1]) * study.temperatures[-1] ** -1 / grid
    shapes: list[Any] = [
        _points(inverse, between, "between wells, simulated", "first"),
        Line(grid, gaps, "gap of the Fokker-Planck operator", "first"),
        Line(grid, linear, "proportional to lr / batch size", "soft", dashed=True),
    ]
    sizes = np.array([2 * b / study.lr for b in study.in_well], dtype=np.float64)
    shown = (sizes >= inverse.min() / 2) & (sizes <= inverse.max() * 4)
    inside = [results.estimate(f"in-well-{b}", "rate") for b in study.in_well]
    rate = escape.in_well_relaxation_rate([[1.0]]).value
    shapes.append(Line(grid, np.full_like(grid, -math.log1p(-study.lr * rate) / study.lr), "inside a well", "second"))
    if shown.any():
        shapes.append(_points(sizes[shown], [e for e, s in zip(inside, shown, strict=True) if s],
                              "inside a well, simulated", "second"))  # fmt: skip
    picture = Picture(
        "Batch size slows selection between wells, not settling inside one", "2 · batch size / (lr · variance)",
        "rate per lr · iterations", shapes, log_up=True,
    )  # fmt: skip
    caption = (
        "Rates of convergence on two wells and in a single one. A rate in proportion to lr / batch size would be the "
        "dashed line."
    )
    return Figure("speeds", (picture,), caption)


def _networks(study: FokkerPlanck, results: Results) -> Figure:
    pictures = []
    for what, up in (("lambda_max", "λ_max"), ("held_out", "held-out accuracy")):
        shapes: list[Any] = []
        for role, (data, model) in zip(_ROLES * 4, [(d, m) for d in study.data for m in study.models], strict=False):
            for equal in ("epochs", "updates"):
                found = [law.of_networks(study, results, data, model, size, equal, what) for size in study.batch_sizes]
                x = np.array(study.batch_sizes, dtype=np.float64)
                shapes.append(Line(x, [float(e) for e in found], f"{data} {model}, equal {equal}", role,
                                   dashed=equal == "updates"))  # fmt: skip
                shapes.append(_points(x, found, "", role))
        title = {"lambda_max": "Sharpness of the minimum against batch size",
                 "held_out": "Held-out accuracy against batch size"}[what]  # fmt: skip
        pictures.append(Picture(title, "batch size", up, shapes, log_across=True, log_up=what == "lambda_max"))
    caption = f"Means over {study.seeds} seeds with standard errors. Whole lines: equal epochs; dashed: equal updates."
    return Figure("networks", tuple(pictures), caption)


def _points(x: Any, estimates: Sequence[Estimate], label: str, role: Role) -> Points:
    errors = [e.standard_error if isinstance(e.standard_error, float) else 0.0 for e in estimates]
    return Points(x, [float(e) for e in estimates], errors, label, role)
