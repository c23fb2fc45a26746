"""What running statistics cost: the loss of averaged weights with those of the last model, averaged, and recomputed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sgdscope.average.batch_norm import Batches, Recomputed, random_state_kept, recompute_batch_norm, statistics
from sgdscope.average.running import RunningAverage
from sgdscope.average.tensors import assign, kept
from sgdscope.batches import Batch, length, map_tensors


@dataclass(frozen=True)
class BufferLosses:
    """Losses of averaged weights by their running statistics; all three are one where there are none.

    Attributes:
        last: with those the model had gathered last.
        averaged: with averages of those of the models averaged.
        recomputed: with those of the averaged weights themselves.
        done: what was recomputed.
    """

    last: float
    averaged: float
    recomputed: float
    done: Recomputed

    def __str__(self) -> str:
        if not self.done.layers:
            return f"loss {self.recomputed:.4g}; {self.done}"
        return (
            f"loss {self.recomputed:.4g} with recomputed statistics, {self.averaged:.4g} with averaged ones, "
            f"{self.last:.4g} with the last ones; {self.done}"
        )


def buffer_losses(
    model: nn.Module, average: RunningAverage | Mapping[str, Tensor], batches: Batches, evaluation: Batches,
    loss_fn: Callable[[nn.Module, Batch], Tensor],
) -> BufferLosses:  # fmt: skip
    """Evaluate an average on `evaluation` with each kind of running statistics, those recomputed from `batches`.

    `model` holds the last weights and statistics, and holds them again in the end; `average` is a running average that
    averages buffers, or a state dict from `combine`. `loss_fn(model, batch)` gives a mean loss, taken in eval mode.
    Cost: three passes over `evaluation`, one over `batches`. Raises ValueError if `evaluation` is empty, or a running
    average does not average buffers.
    """
    if isinstance(average, RunningAverage):
        if average.buffers == "last":
            raise ValueError("expected an average that averages buffers, got one with buffers='last'")
        average = average.averaged_state_dict()
    modes = [(module, module.training) for module in model.modules()]
    gathered = [(b, b.clone()) for layer in statistics(model) for b in layer._buffers.values() if b is not None]
    try:
        model.eval()
        with kept(model), random_state_kept(model), torch.no_grad():
            values: dict[str, Any] = {name: value for name, value in average.items() if isinstance(value, Tensor)}
            assign(model, values, source="the average")
            averaged = last = _loss(model, evaluation, loss_fn)
            if gathered:
                for buffer, copy in gathered:
                    buffer.copy_(copy)
                last = _loss(model, evaluation, loss_fn)
            done = recompute_batch_norm(model, batches, loss_fn)
            return BufferLosses(last, averaged, _loss(model, evaluation, loss_fn) if gathered else averaged, done)
    finally:
        for module, mode in modes:
            module.training = mode


def _loss(model: nn.Module, evaluation: Batches, loss_fn: Callable[[nn.Module, Batch], Tensor]) -> float:
    total = samples = 0.0
    for batch in evaluation:
        size = length(batch)
        total += size * float(loss_fn(model, map_tensors(lambda tensor: tensor, batch)))
        samples += size
    if not samples:
        raise ValueError("expected batches to evaluate on, more than once, got none: make a list of them")
    return total / samples
