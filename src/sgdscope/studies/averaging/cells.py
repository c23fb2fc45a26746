"""Cells: what a path, a fixed batch, averages and schedules do in a network, and in a quadratic drawn anew each step.

Settings of networks: ``config`` (of a `RunConfig`, as JSON), ``label_noise``, ``warm``, ``span`` and ``stride`` in
steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sgdscope import average as kept
from sgdscope.estimate import Estimate
from sgdscope.measure import batch_line, chord
from sgdscope.measure.loss_curves import LossCurves
from sgdscope.risk import Risk
from sgdscope.studies.averaging.walk import Point, combined, followed, point, ready, walk
from sgdscope.theory.averaging import Average, averages, exact_schedule, frozen_schedule
from sgdscope.train import Training
from sgdscope.trajectory import gain, half_learning_rate

Settings = Mapping[str, Any]


def path(settings: Settings, folder: Path) -> dict[str, Any]:
    """A settled path: averages predicted and measured, a fixed batch along its gradient and the chord, half steps."""
    training = ready(settings)
    warm, span, stride = settings["warm"], settings["span"], settings["stride"]
    points = followed(training, warm, span, stride)
    config = training.config
    assert config.lr is not None
    assert config.batch_size is not None
    found: dict[str, Any] = {"lr": config.lr, "averages": _averages(training, points, settings)}
    generator = torch.Generator().manual_seed(config.seed)
    batch = training.risk.draw(min(64, training.risk.size // 4), generator)
    found["line"] = _line(training.risk, batch, generator)
    older = points[-2 - settings["chord"] // stride]
    found["chord"] = _fits(chord(training.risk, older, points[-1], batch, generator=generator))
    found["layers"] = {
        kind: _fits(chord(training.risk, _only(older, points[-1], chosen), points[-1], batch, generator=generator))
        for kind, chosen in _kinds(training).items()
    }
    replacement = config.sampling == "replacement"
    half = half_learning_rate(
        training.risk, config.batch_size, config.lr, points=points[:-2][:: max(1, len(points) // 40)], batches=8,
        momentum=config.momentum if config.optimizer == "momentum" else 0.0, replacement=replacement,
        generator=generator,
    )  # fmt: skip
    found["half"] = half.verdict.measured
    return found


def _averages(training: Training, points: list[Point], settings: Settings) -> dict[str, Any]:
    """Losses of averages, predicted and measured, and of what they average; held-out losses measured."""
    stride, last = settings["stride"], len(points) - 1
    apart = held_out(training)
    wanted: dict[str, Average] = {"two points 1 step apart": averages.two_point(1)}
    for gap in settings["gaps"]:  # the last but one step lies between, without weight
        wanted[f"two points {gap} steps apart"] = _skipping(averages.two_point(gap // stride))
    for length in settings["windows"]:
        wanted[f"window of {length} steps"] = _skipping(averages.window(length // stride))
    for decay in settings["decays"]:
        count = settings["span"] // stride
        wanted[f"EMA {decay:g}"] = _skipping(averages.ema(decay**stride, count, start_corrected=True))
    made = {name: replace(each.over(last), name=name) for name, each in wanted.items()}
    predicted = gain(training.risk, points, list(made.values()), evaluate=True)
    losses = np.array([float(loss) for loss in predicted.losses])
    found = {}
    for each in predicted.averages:
        weights = made[each.average.name].weights
        assert each.measured is not None
        found[each.average.name] = {
            "points": float(weights @ losses), "last": float(losses[-1]), "predicted": float(each.loss),
            "measured": float(losses[-1]) - float(each.measured),
            "held_out": apart.value(at=combined(points, list(weights))),
        }  # fmt: skip
    late = points[:: max(1, len(points) // 20)]
    found["late iterates"] = {"measured": float(losses.mean()),
                              "held_out": float(np.mean([apart.value(at=p) for p in late]))}  # fmt: skip
    return found


def _skipping(average: Average) -> Average:
    """The same average of points among which the last but one is not meant."""
    weights = np.insert(average.weights, len(average.weights) - 1, 0.0)
    return Average(average.name, weights)


def held_out(training: Training) -> Risk:
    """The loss on data that are not trained on. Raises ValueError if the data set has none."""
    if training.held_out is None:
        raise ValueError(f"expected held-out samples in {training.config.data}, there are none")
    return Risk(training.model, training.loss_fn, training.held_out, mode="eval", seed=0)


def _fits(curves: LossCurves) -> dict[str, Any]:
    if curves.failure:
        raise ValueError(curves.failure)
    fit = curves.fits.get("batch")
    return {"r_squared": None if fit is None else fit.r_squared}


def _line(risk: Risk, batch: Any, generator: torch.Generator) -> dict[str, Any]:
    """R² of the batch's parabola to twice its Newton step; and losses up to six of them, of itself, others and all."""
    near = batch_line(risk, batch, unseen=4, full=False, generator=generator)
    found = _fits(near)
    x = np.linspace(0, 6 * float(near.beside["newton_step"]), 37)
    far = batch_line(risk, batch, steps=x.tolist(), unseen=4, generator=generator)
    rows = {"batch": far.batch, "unseen": far.unseen_mean, "full": far.full}
    if far.failure or any(None in row for row in rows.values()):
        raise ValueError(far.failure or "a loss along the line is not finite")
    losses = {name: np.array(row, dtype=np.float64) for name, row in rows.items()}
    best = int(losses["batch"].argmin())
    for name, row in losses.items():
        found[name] = {"start": float(row[0]), "best": float(row[best]), "losses": row.tolist()}
    return found | {"best_step": float(x[best]), "steps": x.tolist()}


def _kinds(training: Training) -> dict[str, list[bool]]:
    """Which parameters belong to each kind of layer; biases to their layer. Nothing where there is one kind only."""
    names = {nn.Linear: "linear", nn.Conv2d: "convolution"}
    kinds: dict[int, str] = {}
    for module in training.model.modules():
        for p in module.parameters(recurse=False):
            kinds[id(p)] = names.get(type(module), "norm")
    found = sorted(set(kinds.values()))
    if len(found) < 2:
        return {}
    return {kind: [kinds[id(p)] == kind for p in training.risk.parameters] for kind in found}


def _only(older: Point, newer: Point, chosen: list[bool]) -> Point:
    """The newer point with the chosen parameters as they were."""
    return [a if own else b for a, b, own in zip(older, newer, chosen, strict=True)]


def schedule(settings: Settings, folder: Path) -> dict[str, Any]:
    """An average of a constant learning rate beside the schedule that stands for it, from one start, on one order."""
    warm, span = settings["warm"], settings["span"]
    constant = ready(settings)
    lr = constant.config.lr
    assert lr is not None
    kind = settings["average"]
    running = kept.EMA(kind["decay"], start=warm) if "decay" in kind else kept.Window(kind["window"], start=warm)
    made = averages.ema(kind["decay"], span) if "decay" in kind else averages.window(kind["window"])
    walk(constant, warm)
    start = point(constant)
    running.update(constant.model, warm)
    walk(constant, span, first=warm, seen=_updating(running, constant))
    last = point(constant)
    state = running.averaged_state_dict()
    averaged = [state[name].to(p) for name, p in zip(constant.risk.names, last, strict=True)]
    scheduled = ready(settings)
    walk(scheduled, warm)
    walk(scheduled, span, first=warm, schedule=frozen_schedule(made.over(span), lr).tolist())
    ended = point(scheduled)
    apart = held_out(constant)
    ways = {"last": last, "average": averaged, "schedule": ended}
    return {
        "train": {name: constant.risk.value(at=at) for name, at in ways.items()},
        "held_out": {name: apart.value(at=at) for name, at in ways.items()},
        "cosine": _cosine(averaged, ended, last), "start": constant.risk.value(at=start),
    }  # fmt: skip


def _updating(running: kept.RunningAverage, training: Training) -> Callable[[int], None]:
    def update(step: int) -> None:
        running.update(training.model, step)

    return update


def _cosine(one: Point, other: Point, origin: Point) -> float:
    """Between the displacements of two points from a third."""
    a, b = (torch.cat([(x - y).double().flatten() for x, y in zip(p, origin, strict=True)]) for p in (one, other))
    return float(a @ b / (a.norm() * b.norm()))


def batch_norm(settings: Settings, folder: Path) -> dict[str, Any]:
    """Held-out loss of the last weights and of an EMA, with last, averaged and recomputed running statistics."""
    training = ready(settings)
    warm, span = settings["warm"], settings["span"]
    running = kept.EMA(settings["decay"], start=warm, buffers="average")
    walk(training, warm)
    running.update(training.model, warm)
    walk(training, span, first=warm, seen=_updating(running, training))
    assert training.held_out is not None
    evaluation = [training.held_out]
    batches = list(training.risk.chunks())
    found = kept.buffer_losses(training.model, running, batches, evaluation, training.loss_fn)
    plain = kept.buffer_losses(training.model, training.model.state_dict(), batches, evaluation, training.loss_fn)
    return {"average": {"last": found.last, "averaged": found.averaged, "recomputed": found.recomputed},
            "no_average": {"last": plain.last, "recomputed": plain.recomputed}}  # fmt: skip


def quadratic(settings: Settings, folder: Path) -> dict[str, Any]:
    """Mean squares of an average and of schedules in one mode, ½ h (x − c)² with c drawn anew at each step.

    All chains of ``chains`` begin settled at learning rate ``lr``, and see the same c under all ways. The average is
    kept by this package's own running averages, chains being the entries of a tensor.
    """
    h, lr, steps, chains = settings["curvature"], settings["lr"], settings["steps"], settings["chains"]
    generator = torch.Generator().manual_seed(settings["seed"])
    settled = torch.randn(chains, dtype=torch.float64, generator=generator) * (lr * h / (2 - lr * h)) ** 0.5
    kind = settings["average"]
    running, made = _in_a_mode(kind, steps)
    frozen, exact = frozen_schedule(made, lr), exact_schedule(made, lr, h)
    constant, by_frozen, by_exact = (nn.Parameter(settled.clone()) for _ in range(3))
    running.update([constant], 0)
    with torch.no_grad():
        for t in range(steps):
            c = torch.randn(chains, dtype=torch.float64, generator=generator)
            for x, rate in ((constant, lr), (by_frozen, float(frozen[t])), (by_exact, float(exact[t]))):
                x.sub_(x - c, alpha=rate * h)
            running.update([constant], t + 1)
    (average,) = running.averaged_state_dict().values()
    ways = {"last": constant, "average": average, "frozen": by_frozen, "exact": by_exact}
    squares = {name: x.detach().square().numpy() for name, x in ways.items()}
    return {name: Estimate(name, float(s.mean()), float(s.std() / chains**0.5), count=chains)
            for name, s in squares.items()}  # fmt: skip


def _in_a_mode(kind: Mapping[str, Any], steps: int) -> tuple[Any, Average]:
    if "decay" in kind:
        return kept.EMA(kind["decay"], dtype=torch.float64), averages.ema(kind["decay"], steps)
    if "window" in kind:
        running = kept.Window(kind["window"], start=0, dtype=torch.float64)
        return running, averages.window(kind["window"]).over(steps)
    return kept.TwoPoint(kind["gap"], start=steps - kind["gap"], dtype=torch.float64), averages.two_point(
        kind["gap"]
    ).over(steps)
