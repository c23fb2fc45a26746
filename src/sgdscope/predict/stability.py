"""Prediction of stability: which level holds for a learning rate, and where a measured curvature stands to it."""

from __future__ import annotations

import numpy as np

from sgdscope.picture import Line, Mark, Picture
from sgdscope.predict.answer import Answer, Table, notes_of, number
from sgdscope.theory import stability as theory

_NAMES = {"batch_sharpness": "batch sharpness", "lambda_max": "λ_max"}


def stability(
    lr: float, momentum: float = 0.0, nesterov: bool = False, curvature: float | None = None,
    relative_variance: float | None = None,
) -> Answer:  # fmt: skip
    """At which curvature does a step size stop being stable?

    Args:
        lr: learning rate.
        momentum: as PyTorch defines it (the gradient is not multiplied by 1 − momentum).
        nesterov: Nesterov's momentum.
        curvature: batch sharpness (or λ_max, for full batch) that was measured: says where it stands.
        relative_variance: Var(h_B) / E[h]² of the curvature that batches see, for the level between small and large
            batches under momentum.
    """
    if curvature is not None and not curvature > 0:
        raise ValueError(f"expected a curvature > 0, got {curvature}")
    levels = [("SGD, any batch size" if momentum == 0 else "small batch", theory.threshold(lr, momentum))]
    if relative_variance is not None:
        name = f"relative variance {relative_variance:g}"
        levels.append((name, theory.momentum_threshold(lr, momentum, relative_variance)))
    levels.append(("full batch", theory.full_batch_threshold(lr, momentum, nesterov=nesterov)))
    columns = ["case", "held against it", "level", "formula"]
    rows = [[case, _NAMES[level.quantity], number(level.value), level.formula] for case, level in levels]
    if curvature is not None:
        columns += ["measured in edge units", "learning rate at its edge"]
        for row, (_, level) in zip(rows, levels, strict=True):
            row += [number(curvature / level.value), number(lr * level.value / curvature)]
    title = f"Stability at learning rate {lr:g}" + (f", momentum {momentum:g}" if momentum else "")
    notes = notes_of([level for _, level in levels])
    if curvature is not None and momentum == 0:
        growth = theory.gradient_growth_bound(lr, curvature)
        if growth > 1:
            notes.insert(0, f"batch gradients grow by a factor of at least {growth:.3g} per step in mean square")
    return Answer([Table(title, columns, rows)], notes, lambda: [_picture(lr, momentum, nesterov, curvature)])


def _picture(lr: float, momentum: float, nesterov: bool, curvature: float | None) -> Picture:
    """Levels against the learning rate, around the one asked for."""
    rates = lr * np.geomspace(0.1, 10, 101)
    small = np.array([theory.threshold(float(rate), momentum).value for rate in rates])
    full = np.array([theory.full_batch_threshold(float(rate), momentum, nesterov=nesterov).value for rate in rates])
    shapes: list[Line | Mark] = [Line(rates, small, "batch sharpness settles here, small batch")]
    if momentum:
        shapes.append(Line(rates, full, "λ_max may reach this, full batch", "second"))
    if curvature is not None:
        shapes.append(Line(rates, np.full(rates.shape, curvature), "measured", "ink", dashed=True))
    shapes.append(Mark(lr, f"lr {lr:g}"))
    return Picture("Below the line a step size is stable, above it not", "learning rate", "curvature",
                   shapes, log_across=True, log_up=True)  # fmt: skip
