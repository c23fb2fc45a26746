"""Directional derivatives of every sample's loss, without per-sample gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sgdscope.batches import Batch, length
from sgdscope.hessian import Hessian
from sgdscope.risk import Risk


def directional_derivatives(risk: Risk, batch: Batch, vs: Sequence[Sequence[Tensor]], *, seed: int = 0) -> Tensor:
    """``g_i · v`` for each sample i of a batch and each vector v, shape ``(number of vectors, n)``.

    By the velocity of the model's output along v, times the slope of the sample's loss: two thirds of a gradient per
    vector on chains, about two on other models. For losses that are the mean over samples of a function of the output.

    Raises ValueError if the model's output is not one tensor with the samples first, or the loss is no function of it.
    """
    count = length(batch)
    with Hessian(risk, batch, kind="gauss_newton", seed=seed) as straight:
        slope, velocities = straight.output_slopes(vs)
        if len(slope) != count:
            raise ValueError(f"expected a model output with {count} rows, one for each sample, got {len(slope)}")
        return torch.stack([(velocity * slope).reshape(count, -1).sum(1) * count for velocity in velocities])
