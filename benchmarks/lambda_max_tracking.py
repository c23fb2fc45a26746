"""Largest Hessian eigenvalue followed along training, warm-started: products and gradients of wall time per reading."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import torch

from benchmarks.harness import Row, class_images, mlp, plain_gradient, risk_of, seconds, squared_error
from benchmarks.lambda_max import true_largest
from sgdscope.measure import EigenvalueTracker

READINGS, STEPS_BETWEEN, SAMPLES = 20, 5, 500


def measure(lr: float, batch_size: int) -> Row:
    """Readings every five steps of SGD; each is timed between two gradients on the same data."""
    model = mlp("tanh", width=128)
    data = class_images(SAMPLES)
    risk = risk_of(model, data)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(1)
    tracker = EigenvalueTracker()
    gradient = plain_gradient(model, data)
    gradient()
    products: list[int] = []
    costs: list[float] = []
    errors: list[float] = []
    held = 0
    for reading in range(READINGS + 1):
        before = seconds(gradient, 5)
        found = []
        took = seconds(lambda found=found: found.append(tracker.update(risk)))
        cost = took / statistics.median([before, seconds(gradient, 5)])
        if reading:  # the first one is the cold start
            estimate = found[0]
            truth = true_largest(risk, 40)
            error = abs(estimate.value[0] - truth)
            products.append(estimate.settings["products"])
            costs.append(cost)
            errors.append(error / truth)
            held += error <= estimate.residual[0] + 1e-5 * truth
        for _ in range(STEPS_BETWEEN):
            index = torch.randint(SAMPLES, (batch_size,), generator=generator)
            optimizer.zero_grad()
            squared_error(model, (data[0][index], data[1][index])).backward()
            optimizer.step()
    middle = statistics.median(costs)
    return Row(
        f"λ_max along training, lr {lr} b = {batch_size}, a reading every 5 steps",
        f"{statistics.median(products):g} products (at most {max(products)}), {middle:.1f} gradients "
        f"({min(costs):.1f}–{max(costs):.1f}); error median {100 * statistics.median(errors):.1g} %, at most "
        f"{100 * max(errors):.1g} %; residual held {held} of {len(errors)}",
        "no package offers it", "≤ 2 products, ≤ 4 gradients (medians)",
        statistics.median(products) <= 2 and middle <= 4,
    )  # fmt: skip


def rows() -> Iterator[Row]:
    yield measure(0.4, 64)
    yield measure(0.15, 8)
