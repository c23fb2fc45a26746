"""Figures: escape times against batch size and curvature, valleys of tables, and noise against curvature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdscope.cells import Results
from sgdscope.estimate import Estimate
from sgdscope.picture import Line, Picture, Points, Role
from sgdscope.studies.escape import claims as law
from sgdscope.studies.escape import landscapes as on
from sgdscope.studies.recipe import Figure
from sgdscope.theory import escape

if TYPE_CHECKING:
    from sgdscope.studies.escape.recipe import Escape


def figures(study: Escape, results: Results) -> Sequence[Figure]:
    """All of them."""
    return [_batch_size(study, results), _sharpness(study, results), _tables(study, results),
            _covariance(study, results)]  # fmt: skip


def _batch_size(study: Escape, results: Results) -> Figure:
    q = np.array(study.ratios)
    grid = np.linspace(q.min(), q.max(), 30)
    exact = [law.exact_time(on.DOUBLE_WELL, on.NOISE, each, -1.0, 1.0) for each in grid]
    by = {
        prefactor: [
            escape.sgd_escape_time(
                law.BARRIER, law.BOTTOM, law.TOP, 2.0, each, fraction=law.fraction(), prefactor=prefactor
            ).value
            for each in grid
        ]
        for prefactor in ("paper", "ito")
    }
    shapes: list[Any] = [
        _points(q, law.times(study, results), "simulated"), Line(grid, exact, "exact (Itô)"),
        Line(grid, by["paper"], "leading order, 2π / |H_b|", "second", dashed=True),
        Line(grid, by["ito"], "leading order, 2π / H_a", "third", dashed=True),
    ]  # fmt: skip
    picture = Picture("Escape time of SGD against batch size", "2 · batch size / lr", "lr · iterations", shapes,
                      log_up=True)  # fmt: skip
    caption = (
        "On the double well, noise 1 + x². The slope is that of the source; the prefactor tells conventions apart."
    )
    return Figure("batch-size", (picture,), caption)


def _sharpness(study: Escape, results: Results) -> Figure:
    k = np.array(study.sharpness)
    grid = np.linspace(k.min(), k.max(), 30)
    sgd = [results.estimate(f"sharp-{each:g}", "mean_time") for each in study.sharpness]
    white = [results.estimate(f"white-sharp-{each:g}", "mean_time") for each in study.sharpness]
    exact = [law.exact_time(on.DOUBLE_WELL, on.NOISE, study.middle / each, -1.0, 1.0) / each for each in grid]
    at_one = float(white[0]) * study.sharpness[0]
    shapes: list[Any] = [
        _points(k, sgd, "SGD, simulated"), Line(grid, exact, "SGD, exact"),
        _points(k, white, "white noise, simulated", "second"),
        Line(grid, at_one / grid, "1 / k", "second", dashed=True),
    ]  # fmt: skip
    picture = Picture("Escape time against curvature, barriers kept", "factor k on all curvatures", "lr · iterations",
                      shapes, log_across=True, log_up=True)  # fmt: skip
    caption = "Sharper wells are left exponentially sooner by SGD; under white noise by a power."
    return Figure("sharpness", (picture,), caption)


def _tables(study: Escape, results: Results) -> Figure:
    pictures = []
    b = np.array(study.batch_sizes, dtype=np.float64)
    for table in study.tables[:4]:
        cells = [results[f"table-{table}-0-b{size}"] for size in study.batch_sizes]
        found = [Estimate.from_row(cell["mean_time"]) for cell in cells]
        lines = {noise: [law.slab_time(c, size, c[noise]) for c, size in zip(cells, study.batch_sizes, strict=True)]
                 for noise in ("noise", "curvature")}  # fmt: skip
        shapes: list[Any] = [
            _points(b, found, "real minibatches"), Line(b, lines["noise"], "covariance as measured"),
            Line(b, lines["curvature"], "covariance = Hessian", "second", dashed=True),
        ]  # fmt: skip
        pictures.append(Picture(f"Out of the valley of logistic regression: {table}", "batch size", "lr · iterations",
                                shapes, log_up=True))  # fmt: skip
    caption = "Time to leave along the sharpest direction, barrier kept. Lines: exact integrals for Gaussian noise."
    return Figure("tables", tuple(pictures), caption)


def _covariance(study: Escape, results: Results) -> Figure:
    shapes: list[Any] = []
    ends: list[float] = []
    roles: tuple[Role, ...] = ("first", "second", "third", "ink")
    names = [(f"network-{n}-{when}", f"{name}, {when}") for n, (name, _) in enumerate(study.networks)
             for when in ("trained", "untrained")]  # fmt: skip
    for role, (cell, label) in zip(roles, names, strict=False):
        values = results.estimate(cell, "variances").value
        curvatures = results.estimate(cell, "eigenvalues").value
        assert isinstance(values, tuple)
        assert isinstance(curvatures, tuple)
        pairs = [(c, v) for c, v in zip(curvatures, values, strict=True) if c > 0 and v > 0]
        ends += [c for c, _ in pairs]
        shapes.append(Points([c for c, _ in pairs], [v for _, v in pairs], None, label, role))
    span = [min(ends), max(ends)]
    shapes.append(Line(span, span, "noise = Hessian", "soft", dashed=True))
    picture = Picture("Noise of one sample against curvature, along leading eigenvectors", "eigenvalue of the Hessian",
                      "variance of the gradient", shapes, log_across=True, log_up=True)  # fmt: skip
    return Figure("covariance", (picture,), "On the dashed line noise and curvature are one.")


def _points(x: Any, estimates: Sequence[Estimate], label: str, role: Role = "first") -> Points:
    errors = [e.standard_error if isinstance(e.standard_error, float) else 0.0 for e in estimates]
    return Points(x, [float(e) for e in estimates], errors, label, role)
