"""Ring: averages over the last few models, of which each is kept."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sgdscope.average.running import RunningAverage
from sgdscope.theory.averaging.arguments import Array


class RingAverage(RunningAverage):
    """Keeps the last `length` models it took and averages them when it is read.

    Memory: `length` copies of the model, in its own precision. Nothing is ever subtracted, so no rounding piles up.
    """

    def __init__(self, length: int, **shared: object) -> None:
        super().__init__(**shared)  # type: ignore[arg-type]
        self.length = length
        self._copies: list[list[Tensor]] = []  # oldest first

    @abstractmethod
    def _ring_weights(self, filled: int) -> Array:
        """Weights of the models kept, oldest first, when there are `filled` of them."""

    def _take(self, tensors: list[Tensor], step: int) -> None:
        if len(self._copies) < self.length:
            new = [t.detach().to(self.device or t.device, copy=True) for t in tensors]
            self._copies.append(new)
            return
        oldest = self._copies[0]
        if any(c.device != (self.device or t.device) for c, t in zip(oldest, tensors, strict=True)):  # it was moved
            oldest = [c.to(self.device or t.device) for c, t in zip(oldest, tensors, strict=True)]
        torch._foreach_copy_(oldest, tensors)
        self._copies = [*self._copies[1:], oldest]

    def _averaged(self, index: int) -> Tensor:
        newest = self._copies[-1][index]
        dtype, device = self._kind(newest)
        total = torch.zeros_like(newest, dtype=dtype, device=device)
        for weight, copy in zip(self._ring_weights(len(self._copies)), self._copies, strict=True):
            if weight:
                total.add_(copy[index].to(total), alpha=float(weight))
        return total

    def _stored(self) -> list[list[Tensor]]:
        return list(self._copies)

    def _restore(self, copies: list[list[Tensor]]) -> None:
        self._copies = copies

    def _coefficients(self, steps: Sequence[int]) -> Array:
        filled = min(len(steps), self.length)
        return np.concatenate([np.zeros(len(steps) - filled), self._ring_weights(filled)])
