"""Streamed edge ratio: what its one forward pass costs, and how near the exact value it comes at the edge.

Digits, 256 images, one hidden layer of 32 units, batches of 8 by epoch reshuffle, trained to the edge; then 4000 steps
streamed, with the exact batch sharpness (ratio of expectations) read at evenly spaced steps of the same stretch.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

import sgdscope as sg
from benchmarks.harness import Ratio, Row, class_images, cnn, interleaved, mlp, optional, plain_gradient, risk_of
from sgdscope import models
from sgdscope.measure.edge_ratio import RunningEdgeRatio

STRETCH, READINGS, SIZE = 4000, 40, 8


def half_squares(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """½ Σ over outputs, mean over samples."""
    return 0.5 * (model(batch[0]) - batch[1]).square().sum(1).mean()


def accuracy(activation: str, lr: float, steps: int) -> Row:
    """Streamed against exact over one stretch at the edge."""
    from sgdscope.data.digits import load_digits

    digits = load_digits(subset=256, test=False)
    data = (digits.inputs.double(), nn.functional.one_hot(digits.labels, 10).double())
    model = models.build("mlp", input_shape=(1, 8, 8), classes=10, width=32, depth=1, activation=activation).double()
    risk = sg.Risk(model, half_squares, data)
    parameters = list(model.parameters())
    generator = torch.Generator().manual_seed(0)
    running, curvatures, norms = RunningEdgeRatio(), 0.0, 0.0
    name = f"streamed edge ratio, {activation} lr {lr}, against exact over {STRETCH} steps at the edge"
    order: list[torch.Tensor] = []
    for step in range(steps + STRETCH):
        if not order:
            order = list(torch.randperm(256, generator=generator).split(SIZE))
        index = order.pop()
        batch = (data[0][index], data[1][index])
        loss = half_squares(model, batch)
        gradient = torch.autograd.grad(loss, parameters)
        exact_now = step >= steps and (step - steps) % (STRETCH // READINGS) == 0
        if exact_now:
            exact = sg.measure.batch_sharpness(
                risk, SIZE, statistic="ratio_of_expectations", tolerance=1e-9, max_batches=256, generator=generator
            )
            norm = exact.beside["squared_gradient_norm"].value
            curvatures += exact.value * norm
            norms += norm
        with torch.no_grad():
            torch._foreach_add_(parameters, gradient, alpha=-lr)
            if step >= steps:
                square = sum(float(g.square().sum()) for g in gradient)
                if not square < 1e8:
                    return Row(name, f"training diverged after {step} steps: no reading", "-", "within 2 %")
                running.add(float(half_squares(model, batch)) - float(loss), lr * square)
    streamed, exact_value = running.estimate(), lr * curvatures / norms
    difference = abs(streamed.value - exact_value) / exact_value
    return Row(
        name,
        f"{streamed.value:.3f} ± {streamed.standard_error:.3f} against {exact_value:.3f}: "
        f"{100 * difference:.1f} % apart",
        "-", "within 2 %", difference <= 0.02,
    )  # fmt: skip


def cost(name: str, model: nn.Module, size: int) -> Row:
    """One forward pass of a risk on a training batch, in gradients of that batch."""
    data = class_images(size)
    risk = risk_of(model, data, check=False)
    times = interleaved({"gradient": plain_gradient(model, data), "forward": lambda: risk.value(data)})
    ratio = Ratio.of(times["forward"], times["gradient"])
    return Row(f"one sample of the stream, {name} b = {size}, in gradients", str(ratio), "-", "≤ 0.6",
               ratio.median <= 0.6)  # fmt: skip


def rows() -> Iterator[Row]:
    yield cost("MLP tanh", mlp("tanh"), 32)
    yield cost("MLP tanh", mlp("tanh"), 128)
    yield cost("CNN", cnn(), 128)
    reason = optional("sklearn")
    if isinstance(reason, str):
        yield Row("streamed edge ratio, accuracy", reason)
        return
    for activation, lr in (("tanh", 0.5), ("tanh", 0.7), ("relu", 0.5), ("relu", 0.7)):
        yield accuracy(activation, lr, 8000)
