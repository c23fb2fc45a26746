"""Point: a landscape made of data at one position, as a model with a loss and a data set. Loads torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sgdscope.risk import Risk


class Point(nn.Module):
    """A model whose parameters are one position θ.

    Attributes:
        theta: the position, of shape (n,).
        output: of θ and the inputs of a batch, one row for each sample.
    """

    def __init__(self, theta: Tensor, output: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta)
        self.output = output

    def forward(self, inputs: Tensor) -> Tensor:
        """One row for each sample."""
        return self.output(self.theta, inputs)


def risk_at(
    theta: ArrayLike, dimension: int, output: Callable[[Tensor, Tensor], Tensor],
    loss: Callable[[Tensor, Tensor], Tensor], data: tuple[Any, Any],
) -> Risk:  # fmt: skip
    """The risk at θ, in double precision.

    Args:
        theta: the position, of shape (dimension,).
        dimension: n.
        output: of θ and inputs, see `Point`.
        loss: of each sample, of shape (samples,), from outputs and targets.
        data: inputs and targets, arrays with the samples first.

    Raises ValueError unless θ is `dimension` finite numbers.
    """
    at = np.atleast_1d(np.asarray(theta, dtype=np.float64))
    if at.shape != (dimension,) or not np.isfinite(at).all():
        raise ValueError(f"expected a position of {dimension} finite numbers, got {at}")

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        inputs, targets = batch
        return loss(model(inputs), targets).mean()

    inputs, targets = (torch.tensor(np.array(array), dtype=torch.float64) for array in data)
    return Risk(Point(torch.tensor(at), output), loss_fn, (inputs, targets))


def with_position(predictions: Tensor, theta: Tensor) -> Tensor:
    """Outputs of a loss with weight decay: the prediction for each sample, then θ, which the decay is a loss of."""
    return torch.cat([predictions[:, None], theta.expand(len(predictions), -1)], dim=1)
