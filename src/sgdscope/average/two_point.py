"""Two points: the newest model and one a fixed number of steps older."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sgdscope.average.ring import RingAverage
from sgdscope.average.running import Buffers
from sgdscope.theory.averaging.arguments import Array, count, finite


class TwoPoint(RingAverage):
    """Weight `newer_weight` on the newest model taken, the rest on the one `gap` steps older.

    Models are taken every `gap` steps, so that two are kept; with a divisor of the gap as `every` the newer one is more
    recent, and gap / every + 1 are kept. Until the gap is reached, all weight is on the newest. Further arguments as in
    `RunningAverage`; weights as `theory.averaging.averages.two_point`. Source: Sandler et al. 2301.02312.
    """

    def __init__(
        self, gap: int, newer_weight: float = 0.5, *, start: int = 0, every: int | None = None,
        buffers: Buffers = "recompute", dtype: torch.dtype | None = None, device: str | torch.device | None = None,
    ) -> None:  # fmt: skip
        self.gap = count(gap, "gap between the two points")
        every = self.gap if every is None else count(every, "steps between updates")
        if self.gap % every:
            raise ValueError(f"expected a gap that is a multiple of the steps between updates, got {gap} and {every}")
        super().__init__(self.gap // every + 1, start=start, every=every, buffers=buffers, dtype=dtype, device=device)
        self.newer_weight = finite(newer_weight, "weight on the newer point")

    def _ring_weights(self, filled: int) -> Array:
        weights = np.zeros(filled)
        weights[0] = 1 - self.newer_weight
        weights[-1] = self.newer_weight if filled == self.length else 1.0
        if filled < self.length:
            weights[:-1] = 0.0
        return weights

    def settings(self) -> dict[str, Any]:
        """Gap and weight."""
        return {"gap": self.gap, "newer_weight": self.newer_weight}

    def __str__(self) -> str:
        return f"two points {self.gap} steps apart"
