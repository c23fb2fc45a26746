r"""Gradient alignment: how far the gradient of a batch points where the full loss falls, at a point or along a path.

Near a minimum batch gradients point almost anywhere. Where SGD has settled on quadratics with Hessian h I, the squared
cosine between full and batch gradient and the cosine between the gradients of two batches have the same mean, half of
learning rate times h (Sandler et al. 2301.02312, Sec. 4, for the phenomenon).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from sgdscope import vectors
from sgdscope.estimate import Estimate
from sgdscope.measure.points import Point, here, vector_of
from sgdscope.measure.sampling import serial_ratio_with_error
from sgdscope.risk import Risk
from sgdscope.vectors import Vector


@dataclass(frozen=True)
class AtPoint:
    """Gradients at one point: over all data, and of some drawn batches."""

    point: Vector
    loss: float
    gradient: Vector
    of_batches: list[Vector]

    @property
    def square(self) -> float:
        """‖∇L‖²."""
        return vectors.dot(self.gradient, self.gradient)

    def slopes(self) -> list[float]:
        """∇L · g for each batch."""
        return [vectors.dot(self.gradient, g) for g in self.of_batches]

    def squares(self) -> list[float]:
        """‖g‖² of each batch."""
        return [vectors.dot(g, g) for g in self.of_batches]


def gradients_at(
    risk: Risk, batch_size: int, points: Iterable[Point] | None, batches: int, replacement: bool, seed: int,
    generator: torch.Generator | None,
) -> Iterator[AtPoint]:  # fmt: skip
    """Full and batch gradients at each point in turn (None: at the present parameters). Checks at the door."""
    risk.source.check_batch_size(batch_size, replacement=replacement)
    if batches < 2:
        raise ValueError(f"expected at least 2 batches per point, got {batches}")
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    return _gradients(risk, batch_size, points, batches, replacement, seed, generator)


def _gradients(
    risk: Risk, batch_size: int, points: Iterable[Point] | None, batches: int, replacement: bool, seed: int,
    generator: torch.Generator,
) -> Iterator[AtPoint]:  # fmt: skip
    for index, given in enumerate([here(risk)] if points is None else points):
        point = vector_of(risk, given, f"point {index}")
        loss, gradient = risk.gradient(at=point, seed=seed)
        drawn = [
            risk.gradient(risk.draw(batch_size, generator, replacement=replacement), at=point, seed=seed + i)[1]
            for i in range(batches)
        ]
        yield AtPoint(point, loss, gradient, drawn)


def gradient_alignment(
    risk: Risk,
    batch_size: int,
    *,
    points: Iterable[Point] | None = None,
    batches: int = 16,
    replacement: bool = False,
    seed: int = 0,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Gradient alignment :math:`E\|\nabla L\|^2 / E\|g_b\|^2`: the signal's share of a batch gradient's square.

    Between 0 and 1, without unit: 1 for batches of all data. A ratio of means over batches and, if given, `points`
    (state dicts or lists of tensors, taken one at a time; the present parameters if None); a mean over the points of a
    settled run is what theory speaks of, one point scatters around it. `beside` holds

    - ``squared_cosine``: :math:`E(\nabla L \cdot g_b)^2 / E[\|\nabla L\|^2 \|g_b\|^2]`, larger where the noise has few
      directions;
    - ``between_batches``: :math:`E[g_b \cdot g_{b'}] / E\|g_b\|^2` for independent batches, which has the same mean as
      the value.

    The standard error is that over points, with their correlation along the path; over batches for a single point.

    Cost: one gradient over all data and `batches` batch gradients per point. Memory: as many copies of the parameters
    as batches, and three.

    Raises ValueError for fewer than 2 batches or a batch size that the data cannot give.
    """
    rows: list[list[float]] = []
    count, single = 0, points is None
    for at in gradients_at(risk, batch_size, points, batches, replacement, seed, generator):
        count += 1
        square, slopes, squares = at.square, at.slopes(), at.squares()
        total = at.of_batches[0]
        for g in at.of_batches[1:]:
            total = vectors.plus(total, g)
        pairs = (vectors.dot(total, total) - sum(squares)) / (batches * (batches - 1))
        found = [[square, n, s * s, square * n, pairs] for n, s in zip(squares, slopes, strict=True)]
        rows += found if single else [[sum(column) / batches for column in zip(*found, strict=True)]]
    settings: dict[str, Any] = {
        "batch_size": batch_size, "mode": risk.mode, "points": count, "batches": batches, "replacement": replacement,
    }  # fmt: skip
    known: dict[str, Any] = {"count": batches * count, "cost": count * (1 + batches * batch_size / risk.size)}
    if count == 0:
        raise ValueError("expected points to measure at, got none")
    squares, norms, slopes_squared, expected, between = (list(column) for column in zip(*rows, strict=True))
    if not all(map(math.isfinite, (*squares, *norms, *slopes_squared))):
        return Estimate.failed("gradient_alignment", "the loss or its gradient is not finite", status="diverged",
                               settings=settings, **known)  # fmt: skip
    if not any(expected):
        return Estimate.failed("gradient_alignment", "the gradient is zero", settings=settings, **known)
    return Estimate(
        "gradient_alignment", *serial_ratio_with_error(squares, norms), settings=settings, **known,
        beside={
            "squared_cosine": Estimate(
                "squared_cosine", *serial_ratio_with_error(slopes_squared, expected), count=known["count"]),
            "between_batches": Estimate(
                "between_batches", serial_ratio_with_error(between, norms)[0],
                None if single else serial_ratio_with_error(between, norms)[1], count=known["count"]),
        },
    )  # fmt: skip
