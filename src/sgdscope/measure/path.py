"""Path: the loss of one fixed batch along a trajectory, beside batches that no step has seen and all data.

A step lowers the loss of its own batch well below what training ever reaches on all data, and later steps undo it;
followed along the path of SGD the loss of a fixed batch looks convex, for ResNets close to a parabola (Sandler et al.
2301.02312, Sec. 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch

from sgdscope.batches import Batch
from sgdscope.measure.loss_curves import LossCurves, fits_of, followed, watched
from sgdscope.measure.points import Point, normalisation_notes, vector_of
from sgdscope.risk import Risk
from sgdscope.vectors import Vector


def batch_path(
    risk: Risk,
    batch: Batch | int,
    points: Iterable[Point],
    *,
    positions: Sequence[float] | None = None,
    unseen: int | Sequence[Batch] = 4,
    full: bool = True,
    seed: int = 0,
    generator: torch.Generator | None = None,
) -> LossCurves:
    """Losses of a fixed batch at the points of a path, such as the checkpoints of a run.

    Args:
        risk: model, loss and data; its present parameters play no part.
        batch: the batch to follow, or the size of one to draw (then disjoint from the unseen ones where data allow).
        points: state dicts, or lists of tensors in the order of `Risk.parameters`. They are taken one at a time and
            evaluated before the next is asked for: a generator may read them from disk, or take a step of training and
            hand over ``risk.parameters``.
        positions: of the points, such as their steps; 0, 1, 2, … if None.
        unseen: number of other batches of the same size to draw, or batches of your own (held-out data).
        full: the loss over all data too, at the cost of a forward pass over them per point.
        seed: fixes dropout masks, the same at every point.
        generator: for the draws.

    `fits` holds parabolas over `positions`. Known flaw: unseen batches beside a batch that was handed over may share
    samples with it.

    Cost: a forward pass on each of these data per point. Memory: one copy of the parameters beside the points.

    Raises ValueError for no points, as many positions as there are not points, and points of another shape.
    """
    what = watched(risk, batch, unseen, full, generator)

    def vectors() -> Iterator[Vector]:
        for index, point in enumerate(points):
            yield vector_of(risk, point, f"point {index}")

    losses, others, whole = followed(risk, vectors(), what, seed)
    count = len(losses)
    if count == 0:
        raise ValueError("expected points of a path, got none")
    if positions is not None and len(positions) != count:
        raise ValueError(f"expected one position per point, got {len(positions)} for {count} points")
    coordinates = tuple(float(x) for x in (range(count) if positions is None else positions))
    return LossCurves(
        "batch_path", coordinates, "position along the path", losses, others, whole,
        fits_of(coordinates, losses, others, whole), cost=count * what.cost(risk), settings=what.settings(risk),
        notes=normalisation_notes(risk),
    )  # fmt: skip
