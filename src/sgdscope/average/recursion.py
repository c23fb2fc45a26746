"""Recursion: averages of one copy that move a share of the way to each model they take."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from sgdscope.average.running import RunningAverage
from sgdscope.average.tensors import move_
from sgdscope.theory.averaging.arguments import Array


class RecursiveAverage(RunningAverage):
    """``a ← a + share · (θ − a)``: what differs is the share. Memory: one copy of the model."""

    _averages: list[Tensor] | None = None

    @abstractmethod
    def share(self, step: int, previous: int | None, taken: int) -> float:
        """Weight of the model of `step` in the average, after one of `previous` (None: none) and `taken` in all."""

    def _take(self, tensors: list[Tensor], step: int) -> None:
        share = self.share(step, self.last_step, self.taken)
        if self._averages is None:
            self._averages = [self._begun(t) for t in tensors]
            return
        if any(a.device != (self.device or t.device) for a, t in zip(self._averages, tensors, strict=True)):
            # the model was moved, or this was loaded elsewhere
            self._averages = [a.to(self.device or t.device) for a, t in zip(self._averages, tensors, strict=True)]
        move_(self._averages, tensors, share)

    def _begun(self, tensor: Tensor) -> Tensor:
        dtype, device = self._kind(tensor)
        return tensor.detach().to(device, dtype, copy=True)

    def _averaged(self, index: int) -> Tensor:
        assert self._averages is not None
        return self._averages[index]

    def _stored(self) -> list[list[Tensor]]:
        return [] if self._averages is None else [self._averages]

    def _restore(self, copies: list[list[Tensor]]) -> None:
        self._averages = copies[0] if copies else None

    def _coefficients(self, steps: Sequence[int]) -> Array:
        previous: list[int | None] = [None, *steps[:-1]]
        shares = np.array(list(map(self.share, steps, previous, range(len(steps)))))
        later = np.append(np.cumprod(1 - shares[:0:-1])[::-1], 1.0)  # Π (1 − share) over later ones
        return np.asarray(shares * later)
