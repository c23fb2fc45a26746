"""Sampler: the order in which training draws its batches, from a generator of its own; saves and restores exactly."""

from __future__ import annotations

import torch
from torch import Tensor


class Sampler:
    """Batches of indices: a new order every epoch (the rest that fills no batch is dropped), or with replacement.

    Raises ValueError if a batch is empty or larger than the data.
    """

    def __init__(self, size: int, batch_size: int, *, replacement: bool, seed: int) -> None:
        if batch_size < 1:
            raise ValueError(f"expected a batch size ≥ 1, got {batch_size}")
        if batch_size > size and not replacement:
            raise ValueError(
                f"expected a batch size of at most {size} (the number of samples), got {batch_size}\n"
                "hint: a smaller --batch-size, a larger --subset, or --sampling replacement"
            )
        self.size, self.batch_size, self.replacement = size, batch_size, replacement
        self.generator = torch.Generator().manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.int64)
        self.position = 0

    def next(self) -> Tensor:
        """Indices of the next batch, shape ``(batch_size,)``."""
        if self.replacement:
            return torch.randint(self.size, (self.batch_size,), generator=self.generator)
        if self.position + self.batch_size > len(self.order):
            self.order = torch.randperm(self.size, generator=self.generator)
            self.position = 0
        self.position += self.batch_size
        return self.order[self.position - self.batch_size : self.position]

    def state(self) -> dict[str, Tensor]:
        """As tensors, for a checkpoint."""
        return {
            "generator": self.generator.get_state(),
            "order": self.order.clone(),
            "position": torch.tensor(self.position),
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from `state`. Raises ValueError if it orders other data than these."""
        if len(state["order"]) not in (0, self.size):
            raise ValueError(f"expected an order of {self.size} samples, got one of {len(state['order'])}")
        self.generator.set_state(state["generator"])
        self.order = state["order"].clone()
        self.position = int(state["position"])
