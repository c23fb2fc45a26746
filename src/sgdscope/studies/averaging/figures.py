"""Figures: a batch along its gradient, gain against gap, and schedules against averages mode by mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdscope.cells import Results
from sgdscope.estimate import Estimate
from sgdscope.picture import Line, Mark, Picture, Points, Role
from sgdscope.studies.averaging.claims import LR, drop, over_seeds, quotient
from sgdscope.studies.recipe import Figure
from sgdscope.theory.averaging import averages, noise_ratios

if TYPE_CHECKING:
    from sgdscope.studies.averaging.recipe import Averaging


def figures(study: Averaging, results: Results) -> Sequence[Figure]:
    """All of them."""
    return [_step(study, results), _gaps(study, results), _modes(study, results)]


def _step(study: Averaging, results: Results) -> Figure:
    pictures = []
    for each in study.networks[:2]:
        cell = next(iter(results.where(network=each["name"], when="settled").values()))
        line, lr = cell["line"], cell["lr"]
        x = np.array(line["steps"]) / lr
        least = min(found["measured"] for found in cell["averages"].values())
        shapes: list[Any] = [
            Line(x, line["batch"]["losses"], "the batch itself"),
            Line(x, line["unseen"]["losses"], "unseen batches", "second"),
            Line(x, line["full"]["losses"], "all data", "third"),
            Line(x[[0, -1]], [least, least], "best average, all data", "soft", dashed=True),
            Mark(1.0, "learning rate"),
        ]
        pictures.append(Picture(f"One step along one batch's gradient: {each['name']}", "step, in learning rates",
                                "loss", shapes))  # fmt: skip
    caption = "What one long step on one batch does to that batch, to others and to all data. From one seed."
    return Figure("one-step", tuple(pictures), caption)


def _gaps(study: Averaging, results: Results) -> Figure:
    gaps = [1, *study.gaps]
    pictures = []
    for each in study.networks[:2]:

        def of(gap: int, what: str, network: str = each["name"]) -> Estimate:
            name = f"two points {gap} step{'' if gap == 1 else 's'} apart"
            return over_seeds(results, network, "settled", lambda cell: drop(cell, name, what), name)

        measured = [of(gap, "measured") for gap in gaps]
        predicted = [float(of(gap, "predicted")) for gap in gaps]
        x = np.array(gaps, dtype=np.float64)
        shapes: list[Any] = [Line(x, predicted, "predicted from losses and gradients", dashed=True),
                             _points(x, measured, "measured")]  # fmt: skip
        pictures.append(Picture(f"Gain of two points against their distance: {each['name']}", "steps apart",
                                "drop below their mean loss", shapes, log_across=True))  # fmt: skip
    return Figure("gaps", tuple(pictures), "Means over seeds, with standard errors.")


def _modes(study: Averaging, results: Results) -> Figure:
    h = np.array(study.modes)
    grid = np.geomspace(h.min(), h.max(), 30)
    measured = [quotient(results, f"mode-ema-{c:g}", "frozen", "average") for c in study.modes]
    shapes: list[Any] = [
        Line(LR * grid, noise_ratios(averages.ema(0.9, 400), LR, grid), "exact recursion"),
        _points(LR * h, measured, "simulated"),
        Line(LR * grid, np.ones_like(grid), "if schedule and average were the same", "soft", dashed=True),
    ]
    picture = Picture("Noise left by the schedule over noise left by the EMA 0.9", "learning rate · curvature",
                      "quotient of mean squares", shapes, log_across=True)  # fmt: skip
    return Figure(
        "modes", (picture,), "In slow modes a schedule stands for an average; in fast ones averages leave less."
    )


def _points(x: Any, estimates: Sequence[Estimate], label: str, role: Role = "first") -> Points:
    errors = [e.standard_error if isinstance(e.standard_error, float) else 0.0 for e in estimates]
    return Points(x, [float(e) for e in estimates], errors, label, role)
