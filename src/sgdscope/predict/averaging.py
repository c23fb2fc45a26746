"""Prediction of averaging: what each average of the weights is worth, and the schedule that stands for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sgdscope.picture import Line, Picture, Role
from sgdscope.predict.answer import Answer, Table, notes_of, number
from sgdscope.theory import averaging as theory
from sgdscope.theory.averaging import Average, NoisyQuadratic, averages
from sgdscope.theory.prediction import Prediction


def averaging(
    lr: float, curvatures: tuple[float, ...], noise: tuple[float, ...], steps: int, start: tuple[float, ...] = (),
    momentum: float = 0.0, decay: float | None = None, window: int | None = None, gap: int | None = None,
) -> Answer:  # fmt: skip
    """What is each average of the weights worth, and which schedule stands for it?

    The model is SGD on one quadratic per batch: a curvature and the variance of the batches' minima for every mode.

    Args:
        lr: constant learning rate of the run.
        curvatures: of the modes, loss / parameter².
        noise: variance of the batch minimum in each mode, parameter²; one number serves all modes.
        steps: length of the run.
        start: distance of the start from the minimum in each mode; left out, the run is stationary from the beginning.
        momentum: as PyTorch defines it.
        decay: of the EMA. [the best]
        window: length of the window of last iterates. [the best]
        gap: steps between the two points. [the best]
    """
    if not curvatures:
        raise ValueError("expected at least one curvature, got none")
    variances = noise * len(curvatures) if len(noise) == 1 else noise
    model = NoisyQuadratic(np.array(curvatures), np.array(variances), np.array(start) if start else None)
    chosen = _averages(model, lr, steps, momentum, decay, window, gap)
    last = model.last(lr, steps, momentum=momentum)
    rows, said = [["last iterate", number(last.value), "1", "–", "–"]], [last]
    for average in chosen:
        worth = model.averaged(average, lr, steps, momentum=momentum)
        said.append(worth)
        by_schedule = "–"
        if momentum == 0 and average.weights.min() >= 0:
            rates = theory.frozen_schedule(average.over(steps), lr)
            by_schedule = number(_with_schedule(model, rates, lr).value)
            said.append(theory.interchangeable(average, lr, model.curvatures))
        rows.append([average.name, number(worth.value), number(worth.value / last.value), by_schedule,
                     number(average.effective_samples)])  # fmt: skip
    columns = ["average", "excess loss", "of the last iterate's", "its schedule instead", "effective samples"]
    title = f"Expected excess loss after {steps} steps at learning rate {lr:g}"
    return Answer([Table(title, columns, rows)], notes_of(said),
                  lambda: _pictures(chosen, lr, steps, model, momentum))  # fmt: skip


def _averages(
    model: NoisyQuadratic, lr: float, steps: int, momentum: float, decay: float | None, window: int | None,
    gap: int | None,
) -> list[Average]:  # fmt: skip
    """The averages asked for, the best of each family where it was left open; a stationary run has no best EMA."""
    found = [
        theory.best_gap(model, lr, steps, momentum=momentum).average if gap is None else averages.two_point(gap),
        theory.best_window(model, lr, steps, momentum=momentum).average if window is None else averages.window(window),
    ]
    if decay is not None:
        found.append(averages.ema(decay, steps))
    elif model.start is not None:
        found.append(theory.best_ema(model, lr, steps, momentum=momentum).average)
    return [*found, averages.uniform(steps)]


def _with_schedule(model: NoisyQuadratic, rates: np.ndarray, lr: float) -> Prediction:
    """Last iterate of the schedule; a stationary run is stationary at the learning rate before it decays."""
    return model.last(rates if model.start is not None else np.append(lr, rates))


def _pictures(
    chosen: Sequence[Average], lr: float, steps: int, model: NoisyQuadratic, momentum: float
) -> list[Picture]:
    """Each average as a schedule: frozen, and exact in the slowest and the fastest mode."""
    if momentum:
        return []
    pictures = []
    slow, fast = float(model.curvatures.min()), float(model.curvatures.max())
    for average in chosen:
        at = np.arange(1, steps + 1)
        shapes = [Line(at, theory.frozen_schedule(average.over(steps), lr), "all gradients alike", "ink")]
        modes: tuple[tuple[float, Role], ...] = ((slow, "first"), (fast, "second"))
        for curvature, role in modes:
            if lr * curvature <= 1:
                rates = theory.exact_schedule(average.over(steps), lr, curvature)
                shapes.append(Line(at, rates, f"exact at curvature {curvature:g}", role, dashed=True))
        pictures.append(Picture(f"{average.name}: the schedule that stands for it", "step", "learning rate", shapes,
                                span_up=(0, 1.08 * lr)))  # fmt: skip
    return pictures
