"""What-if map: batch sharpness at seven batch sizes to 3 %, in gradients of the largest batch.

Rival: measuring each batch size by itself to 3 %.
"""

from __future__ import annotations

import torch
from torch import nn

import sgdscope as sg
from benchmarks.harness import Ratio, Row, class_images, cnn, interleaved, mlp, plain_gradient, risk_of, trained

BAR, TOLERANCE = 60.0, 0.03
_GRADIENTS = 10


def measure(model: nn.Module, sizes: list[int]) -> tuple[sg.Estimate, Ratio, float, float]:
    """The map, its wall time, the cost of single readings, and the largest deviation from long ones (relative)."""
    data = class_images(2048)
    risk = risk_of(model, data)
    largest = (data[0][: sizes[-1]], data[1][: sizes[-1]])
    gradient = plain_gradient(model, largest)

    def ours() -> sg.Estimate:
        return sg.measure.batch_sharpness_curve(risk, sizes, tolerance=TOLERANCE, max_cost=BAR)

    def gradients() -> None:
        for _ in range(_GRADIENTS):
            gradient()

    found = ours()
    times = interleaved({"gradient": gradients, "ours": lambda: ours()}, rounds=3)
    reference = [seconds / _GRADIENTS for seconds in times["gradient"]]
    single = sum(
        sg.measure.batch_sharpness(risk, size, tolerance=TOLERANCE, min_batches=8).cost * size for size in sizes
    )
    long = [
        sg.measure.batch_sharpness(
            risk, size, tolerance=0.01, max_batches=400, generator=torch.Generator().manual_seed(1)
        )
        for size in sizes
    ]
    assert isinstance(found.value, tuple)
    worst = max(abs(value / float(truth) - 1) for value, truth in zip(found.value, long, strict=True))
    return found, Ratio.of(times["ours"], reference), single / sizes[-1], worst


def rows() -> list[Row]:
    data = class_images(2048)
    cases = (
        ("MLP tanh", trained(mlp("tanh"), data, steps=300, lr=0.05), [4, 8, 16, 32, 64, 128, 256]),
        ("MLP ReLU", trained(mlp("relu"), data, steps=300, lr=0.05), [4, 8, 16, 32, 64, 128, 256]),
        ("CNN", trained(cnn(), data, steps=300, lr=0.05), [1, 2, 4, 8, 16, 32, 64]),
    )
    found = []
    for name, model, sizes in cases:
        curve, timed, single, worst = measure(model, sizes)
        assert isinstance(curve.value, tuple)
        assert isinstance(curve.standard_error, tuple)
        error = max(e / v for e, v in zip(curve.standard_error, curve.value, strict=True))
        found.append(
            Row(f"what-if map to 3 %, {name}, batches of {sizes[0]} to {sizes[-1]}, in gradients of the largest batch",
                f"{curve.cost:.0f} counted, {timed} timed; standard errors ≤ {100 * error:.1f} %, off by at most "
                f"{100 * worst:.1f} % from long readings",
                f"{single:.0f} counted (each size by itself)", f"≤ {BAR:.0f}",
                curve.status == "ok" and curve.cost <= BAR and timed.median <= BAR)
        )  # fmt: skip
    return found
