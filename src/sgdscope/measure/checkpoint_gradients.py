"""Checkpoint gradients: losses at several checkpoints and the products of their gradients with their differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sgdscope import vectors
from sgdscope.measure.common_losses import CommonLosses
from sgdscope.measure.points import Point, vector_of
from sgdscope.risk import Risk
from sgdscope.vectors import Basis

HELD = 64


@dataclass(frozen=True, eq=False)
class CheckpointGradients:
    """What averages of checkpoints can be predicted from, on common groups of samples.

    Attributes:
        losses: shape (groups, checkpoints).
        products: ∇L_i · (θ_j − θ_newest), shape (groups, checkpoints, checkpoints).
        weights: share of each group in the mean.
        cost: gradient evaluations over all data.
    """

    losses: NDArray[np.float64]
    products: NDArray[np.float64]
    weights: NDArray[np.float64]
    cost: float


def checkpoint_gradients(
    common: CommonLosses, checkpoints: Sequence[Point], *, held: int = HELD
) -> CheckpointGradients:
    """Losses and gradient products of all checkpoints, each gradient taken once.

    Up to `held` gradients are kept at a time; the checkpoints are read once for them and once more per block, by
    indexing, so that a sequence may load them from disk. Cost: one gradient per checkpoint. Memory: `held` copies of
    the parameters and four. Raises ValueError for a checkpoint of another shape, and FloatingPointError where a loss or
    gradient is not finite.
    """
    count, groups = len(checkpoints), len(common.groups)
    reference = _point(common.risk, checkpoints, count - 1)
    losses = np.zeros((groups, count))
    products = np.zeros((groups, count, count))
    per_block = max(1, held // groups)
    for start in range(0, count, per_block):
        block = range(start, min(start + per_block, count))
        kept = Basis(reference, len(block) * groups)
        for i in block:
            for group, (loss, gradient) in enumerate(common.gradients(_point(common.risk, checkpoints, i))):
                if not math.isfinite(loss + vectors.norm(gradient)):
                    raise FloatingPointError(f"the loss or its gradient is not finite at checkpoint {i}")
                losses[group, i] = loss
                kept.append(gradient)
        for j in range(count - 1):
            apart = vectors.plus(_point(common.risk, checkpoints, j), reference, -1.0)
            products[:, list(block), j] = kept.coefficients(apart).numpy().reshape(len(block), groups).T
    return CheckpointGradients(losses, products, np.array(common.weights), count * common.share)


def _point(risk: Risk, checkpoints: Sequence[Point], index: int) -> vectors.Vector:
    return vector_of(risk, checkpoints[index], f"checkpoint {index}")
