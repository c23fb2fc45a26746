"""Paths: losses along lines against a plain loop, predicted gains against evaluating, bands in gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

import sgdscope as sg
from benchmarks.harness import (
    Ratio,
    Row,
    class_images,
    cnn,
    interleaved,
    mlp,
    plain_gradient,
    risk_of,
    sgd,
    squared_error,
)  # fmt: skip
from sgdscope.measure.common_losses import common_losses
from sgdscope.measure.elastic_band import relaxed_band

SAMPLES, STEPS, CHECKPOINTS = 256, 17, 16
BAND_SAMPLES = 1024
LINE_BAR, BAND_BAR = 1.2, 1.3
TWO_POINTS_BAR, WINDOW_BAR = 5.0, 15.0


def checkpoints(model: nn.Module, data: tuple[Tensor, Tensor], every: int = 20) -> list[list[Tensor]]:
    """Copies of the weights every some steps of SGD with small batches, after a start."""
    sgd(model, data, steps=200, lr=0.1, batch_size=8)
    found = []
    for index in range(CHECKPOINTS):
        sgd(model, data, steps=every, lr=0.1, batch_size=8, seed=index + 1)
        found.append([p.detach().clone() for p in model.parameters()])
    return found


def plain_line(model: nn.Module, data: tuple[Tensor, Tensor], start: Sequence[Tensor], end: Sequence[Tensor]) -> object:
    """Losses on the chord as one would write them: set the weights, run the model."""
    losses = []
    with torch.no_grad():
        for i in range(STEPS):
            a = -0.5 + 2 * i / (STEPS - 1)
            for p, s, e in zip(model.parameters(), start, end, strict=True):
                p.copy_(s).lerp_(e, a)
            losses.append(float(squared_error(model, data)))
    return losses


def line(name: str, model: nn.Module) -> Row:
    """Seventeen losses on a chord and its D, against the losses by a plain loop and two gradients."""
    data = class_images(SAMPLES)
    start, *_, end = checkpoints(model, data)
    risk = risk_of(model, data)
    gradient = plain_gradient(model, data)

    def plain() -> object:
        return plain_line(model, data, start, end), gradient(), gradient()

    times = interleaved({
        "ours": lambda: sg.measure.chord(risk, start, end, resolution=STEPS), "plain": plain,
    })  # fmt: skip
    ours = Ratio.of(times["ours"], times["plain"])
    figure = f"losses on a chord of {STEPS} points and D, {name}, over a plain loop and two gradients"
    return Row(figure, str(ours), "1", f"≤ {LINE_BAR}", ours.median <= LINE_BAR)


def gain(name: str, model: nn.Module) -> Row:
    """All averages of the checkpoints predicted, in gradients per checkpoint, and how far two of them are off."""
    data = class_images(SAMPLES)
    points = checkpoints(model, data)
    risk = risk_of(model, data)
    times = interleaved({
        "ours": lambda: sg.trajectory.gain(risk, points), "gradient": plain_gradient(model, data),
    }, rounds=5)  # fmt: skip
    ours = Ratio.of([t / CHECKPOINTS for t in times["ours"]], times["gradient"])
    averages = sg.theory.averaging.averages
    given = [averages.two_point(CHECKPOINTS - 1), averages.window(CHECKPOINTS)]
    found = sg.trajectory.gain(risk, points, given, evaluate=True)
    by_name = {p.average.name: p.verdict for p in found.averages}
    two, many = (100 * abs(float(by_name[a.name].measured) - 1) for a in given)  # type: ignore[union-attr]
    return Row(f"all averages of {CHECKPOINTS} checkpoints predicted, {name}, in gradients per checkpoint",
               f"{ours}; off by {two:.2g} % (two), {many:.2g} % (window)", "-",
               f"≤ {TWO_POINTS_BAR:g} % and ≤ {WINDOW_BAR:g} %",
               two <= TWO_POINTS_BAR and many <= WINDOW_BAR)  # fmt: skip


def band(name: str, model: nn.Module) -> Row:
    """An elastic band's iteration, in gradients per image, all of them on all data."""
    data = class_images(BAND_SAMPLES)
    start, *_, end = checkpoints(model, data)
    loss = common_losses(risk_of(model, data))
    images, iterations = 4, 6
    counted: list[int] = []

    def ours() -> object:
        found = relaxed_band(loss, start, end, images=images, climbing=True, stiffness=None, iterations=iterations,
                             tolerance=1e-9)  # fmt: skip
        counted.append(found.gradients)
        return found

    times = interleaved({"ours": ours, "gradient": plain_gradient(model, data)}, rounds=5)
    each = Ratio.of([t / counted[-1] for t in times["ours"]], times["gradient"])
    return Row(f"elastic band, {name}, in gradients per image and iteration", str(each), "-", f"≤ {BAND_BAR}",
               each.median <= BAND_BAR)  # fmt: skip


def rows() -> Iterator[Row]:
    for measure in (line, gain):
        yield measure("MLP tanh", mlp("tanh"))
        yield measure("CNN", cnn())
    yield band("MLP tanh", mlp("tanh"))
