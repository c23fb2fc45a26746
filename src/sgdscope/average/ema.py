"""EMA: exponential moving average of weights, with its decay per step of the optimizer however often it is updated."""

from __future__ import annotations

import math
from typing import Any

import torch

from sgdscope.average.recursion import RecursiveAverage
from sgdscope.average.running import Buffers
from sgdscope.theory.averaging.arguments import fraction


class EMA(RecursiveAverage):
    """``a ← decay · a + (1 − decay) · θ`` at each step, begun as a copy of the first model it takes.

    Updated k steps after the last time, decay^k takes the place of decay, so that the horizon 1 / (1 − decay) is one in
    steps of the optimizer whatever the interval. With `start_corrected` the weight that the model at `start` would
    keep, decay^(steps since), is taken away and the rest divided by what is left: each model then stands for the steps
    since the one before. Further arguments as in `RunningAverage`; weights as `theory.averaging.averages.ema`.
    """

    def __init__(
        self, decay: float = 0.999, *, start_corrected: bool = False, start: int = 0, every: int = 1,
        buffers: Buffers = "recompute", dtype: torch.dtype | None = None, device: str | torch.device | None = None,
    ) -> None:  # fmt: skip
        super().__init__(start=start, every=every, buffers=buffers, dtype=dtype, device=device)
        self.decay = fraction(decay, "decay")
        self.start_corrected = start_corrected

    def share(self, step: int, previous: int | None, taken: int) -> float:
        """1 − decay^k, over 1 − decay^(steps since the start) if corrected."""
        if previous is None:
            return 1.0
        share = self._forgotten(step - previous)
        return share / self._forgotten(step - self.start) if self.start_corrected else share

    def _forgotten(self, steps: int) -> float:
        """1 − decay^steps."""
        return -math.expm1(steps * math.log(self.decay)) if self.decay else 1.0

    def settings(self) -> dict[str, Any]:
        """Decay and whether its start is corrected for."""
        return {"decay": self.decay, "start_corrected": self.start_corrected}

    def __str__(self) -> str:
        return f"EMA {self.decay:g}" + " without its start" * self.start_corrected
