"""A Hessian product on all data with the gradient's graph kept, in gradients; rival: the graph rebuilt each time."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.harness import Ratio, Row, class_images, cnn, interleaved, mlp, plain_gradient, risk_of
from sgdscope import vectors
from sgdscope.hessian import Hessian


def measure(model: nn.Module, count: int) -> tuple[Ratio, Ratio]:
    """One product on the kept graph, and one with the graph rebuilt, in gradients."""
    data = class_images(count)
    risk = risk_of(model, data, chunk_size=count)
    direction = vectors.random_like([p.detach() for p in risk.parameters], torch.Generator().manual_seed(0))

    def rebuilt() -> None:
        with Hessian(risk) as fresh:
            fresh.product(direction)

    with Hessian(risk) as hessian:
        times = interleaved({
            "gradient": plain_gradient(model, data), "kept": lambda: hessian.product(direction), "rebuilt": rebuilt,
        })  # fmt: skip
    return Ratio.of(times["kept"], times["gradient"]), Ratio.of(times["rebuilt"], times["gradient"])


def rows() -> list[Row]:
    found = []
    cases = [("MLP tanh, n = 4000", mlp("tanh"), 4000, 1.1), ("MLP tanh, n = 1000", mlp("tanh"), 1000, 1.1),
             ("CNN, n = 500", cnn(), 500, 1.7)]  # fmt: skip
    for name, model, count, bar in cases:
        kept, rebuilt = measure(model, count)
        found.append(Row(f"Hessian product on all data, {name}, in gradients", str(kept),
                         f"{rebuilt.median:.2f} (graph rebuilt)", f"≤ {bar}", kept.median <= bar))  # fmt: skip
    return found
