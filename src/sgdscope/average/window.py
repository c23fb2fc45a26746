"""Window: equal weights, on the last few models (LAWA) or on all since the start (SWA)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sgdscope.average.recursion import RecursiveAverage
from sgdscope.average.ring import RingAverage
from sgdscope.average.running import Buffers
from sgdscope.theory.averaging.arguments import Array, count


class Window(RingAverage):
    """Equal weights on the last `length` models, taken every `stride` steps (LAWA, Kaddour 2209.14981).

    Until there are as many, on those there are. Memory: `length` copies of the model. Further arguments as in
    `RunningAverage`; weights as `theory.averaging.averages.window`.
    """

    def __init__(
        self, length: int, stride: int = 1, *, start: int = 0, buffers: Buffers = "recompute",
        dtype: torch.dtype | None = None, device: str | torch.device | None = None,
    ) -> None:  # fmt: skip
        super().__init__(count(length, "length of the window"), start=start, every=count(stride, "stride"),
                         buffers=buffers, dtype=dtype, device=device)  # fmt: skip

    def _ring_weights(self, filled: int) -> Array:
        return np.full(filled, 1 / filled)

    def settings(self) -> dict[str, Any]:
        """Length; the stride is `every`."""
        return {"length": self.length}

    def __str__(self) -> str:
        return f"window {self.length}" + (f" with stride {self.every}" if self.every > 1 else "")


class UniformAverage(RecursiveAverage):
    """Equal weights on all models taken since `start` (SWA, Izmailov et al. 1803.05407). Memory: one copy of the model.

    Arguments as in `RunningAverage`.
    """

    def share(self, step: int, previous: int | None, taken: int) -> float:
        """1 / (models so far, this one included)."""
        return 1 / (taken + 1)

    def settings(self) -> dict[str, Any]:
        """Nothing of its own."""
        return {}

    def __str__(self) -> str:
        return f"uniform from step {self.start}" + (f", every {self.every}" if self.every > 1 else "")
