"""A Hessian product on all data with what it needs of the gradient kept, in gradients; rival: a graph built each time.

Beside it the least that counting multiplications allows, and a product of compact vectors where samples are fewer than
features.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn

from benchmarks.harness import Ratio, Row, class_images, cnn, interleaved, mlp, plain_gradient, risk_of
from sgdscope import vectors
from sgdscope.hessian import Hessian


def least(widths: list[int]) -> float:
    """Multiplications of a product over those of a gradient: both have two passes, each layer but the first twice."""
    layers = [a * b for a, b in itertools.pairwise(widths)]
    return (2 * layers[0] + 6 * sum(layers[1:])) / (2 * layers[0] + 3 * sum(layers[1:]))


def measure(model: nn.Module, count: int) -> tuple[Ratio, Ratio, Ratio | None]:
    """One product with all kept, one with the graph rebuilt, and one of compact vectors, in gradients."""
    data = class_images(count)
    risk = risk_of(model, data, chunk_size=count)
    direction = vectors.random_like([p.detach() for p in risk.parameters], torch.Generator().manual_seed(0))

    def rebuilt() -> None:
        with Hessian(risk, method="graph") as fresh:
            fresh.product(direction)

    with Hessian(risk) as hessian, Hessian(risk, compact=True) as compact:
        short = compact.restrict(direction)
        times = interleaved({
            "gradient": plain_gradient(model, data), "kept": lambda: hessian.product(direction), "rebuilt": rebuilt,
            "compact": lambda: compact.product(short),
        })  # fmt: skip
        ratios = {name: Ratio.of(times[name], times["gradient"]) for name in ("kept", "rebuilt", "compact")}
        return ratios["kept"], ratios["rebuilt"], ratios["compact"] if compact.span is not None else None


def rows() -> list[Row]:
    found = []
    cases = [("MLP tanh, n = 4000", mlp("tanh"), 4000, 1.1), ("MLP tanh, n = 1000", mlp("tanh"), 1000, 1.1),
             ("CNN, n = 500", cnn(), 500, 1.7)]  # fmt: skip
    for name, model, count, bar in cases:
        kept, rebuilt, compact = measure(model, count)
        note = f"; least by multiplications {least([3072, 512, 512, 10]):.2f}" if name.startswith("MLP") else ""
        found.append(Row(f"Hessian product on all data, {name}, in gradients", str(kept) + note,
                         f"{rebuilt.median:.2f} (graph rebuilt)", f"≤ {bar}", kept.median <= bar))  # fmt: skip
        if compact is not None:
            found.append(Row(f"Hessian product of compact vectors, {name}, in gradients", str(compact),
                             f"{rebuilt.median:.2f} (graph rebuilt)", f"≤ {bar}", compact.median <= bar))  # fmt: skip
    return found
