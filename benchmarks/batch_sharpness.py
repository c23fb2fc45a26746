"""Exact batch sharpness of one batch, gradient included, in gradients of that batch.

Rival: the way of the edge-of-stochastic-stability code: the gradient with its graph, one Hessian product, two dots.
"""

from __future__ import annotations

import torch
from torch import nn

import sgdscope as sg
from benchmarks.harness import Ratio, Row, class_images, cnn, interleaved, mlp, plain_gradient, risk_of, squared_error

SIZES = (8, 32, 128, 1000)
BATCHES = {8: 32, 32: 16, 128: 8, 1000: 4}
"""Batches per reading: many small ones, few large ones."""


def measure(model: nn.Module, batch_size: int) -> tuple[Ratio, Ratio, float]:
    """Ours and the rival in gradients per batch, and the difference of what they find on the same batch (relative)."""
    data = class_images(max(1000, 2 * batch_size))
    risk = risk_of(model, data)
    parameters = list(model.parameters())
    count = BATCHES[batch_size]

    def batch(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.arange(index * batch_size, (index + 1) * batch_size) % len(data[0])
        return data[0][rows], data[1][rows]

    def gradients() -> None:
        for index in range(count):
            plain_gradient(model, batch(index))()

    def ours() -> sg.Estimate:
        return sg.measure.batch_sharpness(
            risk, batch_size, method="exact", tolerance=1e-9, min_batches=2, max_batches=count,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip

    def rival_one(part: tuple[torch.Tensor, torch.Tensor]) -> float:
        g = torch.autograd.grad(squared_error(model, part), parameters, create_graph=True)
        still = [x.detach() for x in g]
        image = torch.autograd.grad(g, parameters, still)
        top = sum(torch.dot(a.reshape(-1), b.reshape(-1)) for a, b in zip(image, still, strict=True))
        return float(top / sum(torch.dot(a.reshape(-1), a.reshape(-1)) for a in still))

    def rival() -> None:
        for index in range(count):
            rival_one(batch(index))

    times = interleaved({"gradient": gradients, "ours": ours, "rival": rival}, rounds=3)
    part = risk_of(model, batch(0), check=False)
    same = sg.measure.batch_sharpness(part, batch_size, method="exact")
    truth = rival_one(batch(0))
    difference = abs(same.value - truth) / abs(truth)
    return Ratio.of(times["ours"], times["gradient"]), Ratio.of(times["rival"], times["gradient"]), difference


def rows() -> list[Row]:
    found = []
    for name, model, bar in (("MLP tanh", mlp("tanh"), 2.0), ("MLP ReLU", mlp("relu"), 2.0), ("CNN", cnn(), 1.9)):
        for size in SIZES:
            ours, rival, difference = measure(model, size)
            found.append(
                Row(f"batch sharpness exact, gradient included, {name} b = {size}, in gradients per batch",
                    f"{ours}; differs by {difference:.0e}", f"{rival.median:.2f} (EoSS code's way)", f"≤ {bar}",
                    ours.median <= bar and difference < 1e-3)
            )  # fmt: skip
    return found
