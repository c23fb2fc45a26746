"""Power EMA: an average whose weights grow like a power of the step, so that its width is a share of the run."""

from __future__ import annotations

import math
from typing import Any

import torch

from sgdscope.average.recursion import RecursiveAverage
from sgdscope.average.running import Buffers
from sgdscope.theory.averaging import power_exponent
from sgdscope.theory.averaging.arguments import finite


class PowerEMA(RecursiveAverage):
    """Weights ∝ s^exponent over the steps since `start`; from `relative_width` (σ_rel) if that is given instead.

    At step t after k steps the decay is ((t − k) / t)^(exponent + 1), steps counted from `start`: counting updates
    instead, or taking k = 1 where updates are rarer, makes another profile. The model at `start` itself has weight 0.
    Further arguments as in `RunningAverage`. Source: Karras et al. 2312.02696, Sec. 3; weights as
    `theory.averaging.averages.power`.
    """

    def __init__(
        self, exponent: float | None = None, *, relative_width: float | None = None, start: int = 0, every: int = 1,
        buffers: Buffers = "recompute", dtype: torch.dtype | None = None, device: str | torch.device | None = None,
    ) -> None:  # fmt: skip
        super().__init__(start=start, every=every, buffers=buffers, dtype=dtype, device=device)
        self.exponent = exponent_of(exponent, relative_width)

    def share(self, step: int, previous: int | None, taken: int) -> float:
        """1 − ((t − k) / t)^(exponent + 1)."""
        if previous is None or previous == self.start:
            return 1.0
        return -math.expm1((self.exponent + 1) * math.log1p((previous - step) / (step - self.start)))

    def settings(self) -> dict[str, Any]:
        """The exponent."""
        return {"exponent": self.exponent}

    def __str__(self) -> str:
        return f"power EMA {self.exponent:.4g}"


def exponent_of(exponent: float | None, relative_width: float | None) -> float:
    """The one of the two that is given, as exponent. Raises ValueError unless it is just one, and above −1."""
    if (exponent is None) == (relative_width is None):
        raise ValueError(
            "expected either an exponent or a relative width, got " + ("both", "neither")[exponent is None]
        )
    if relative_width is not None:
        return power_exponent(relative_width)
    assert exponent is not None
    if not finite(exponent, "exponent") > -1:
        raise ValueError(f"expected an exponent > −1, got {exponent}")
    return float(exponent)
