"""Training: plain SGD as the law of balance sees it, and what the law says of its next step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgdscope.measure.noise_traces import NoiseTraces, Totals
from sgdscope.risk import Risk
from sgdscope.theory import balance as theory


@dataclass(frozen=True)
class Training:
    """Plain SGD, as the law of balance sees it.

    Attributes:
        lr: learning rate.
        batch_size: samples per step.
        weight_decay: as torch has it, 2γ.
        replacement: whether a batch may hold a sample twice.
    """

    lr: float
    batch_size: int
    weight_decay: float = 0.0
    replacement: bool = False

    @property
    def decay(self) -> float:
        """γ: weight decay as γ‖θ‖² in the loss."""
        return self.weight_decay / 2

    def population(self, risk: Risk, traces: NoiseTraces) -> int | None:
        """Data size, where batches without replacement make it matter."""
        return None if self.replacement or traces.unit > 1 or risk.random else risk.size

    def expected_change(self, risk: Risk, traces: NoiseTraces, totals: Totals | None = None) -> float:
        """Mean change of the charge in one step, exact at any learning rate."""
        noise_u, noise_w, mean = traces.total if totals is None else totals
        return float(theory.expected_change(
            noise_u - noise_w, mean, lr=self.lr, batch_size=self.batch_size, charge=float(traces.charge.sum()),
            weight_decay=self.decay, population=self.population(risk, traces),
        ))  # fmt: skip

    def continuous_change(self, risk: Risk, traces: NoiseTraces, totals: Totals | None = None) -> float:
        """Change in one step by the continuous law, which leaves out the mean gradient."""
        noise_u, noise_w, _ = traces.total if totals is None else totals
        temperature, charge = self.temperature(risk, traces), float(traces.charge.sum())
        rate = theory.drift(noise_u - noise_w, temperature=temperature, charge=charge, weight_decay=self.decay)
        return self.lr * float(rate)

    def temperature(self, risk: Risk, traces: NoiseTraces) -> float:
        """T = lr / batch size, times (N − S) / (N − 1) for batches without replacement; 0 with all data in a batch."""
        population = self.population(risk, traces)
        if population is None:
            return self.lr / self.batch_size
        return self.lr / self.batch_size * (population - self.batch_size) / max(population - 1, 1)

    def log_ratio_to_equilibrium(self, temperature: float, *sides: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Change of ln(‖u‖ / ‖w‖) to equilibrium, from noise_u, noise_w, squared_norm_u and squared_norm_w."""
        return theory.log_ratio_to_equilibrium(*sides, temperature=temperature, weight_decay=self.decay)


def training_of(risk: Risk, lr: float, batch_size: int, weight_decay: float, replacement: bool) -> Training:
    """The training, if it is one. Raises ValueError."""
    if not 0 < lr < math.inf:
        raise ValueError(f"expected a learning rate > 0, got {lr}")
    if not 0 <= weight_decay < math.inf:
        raise ValueError(f"expected a weight decay ≥ 0, got {weight_decay}")
    risk.source.check_batch_size(batch_size, replacement=replacement)
    return Training(lr, batch_size, weight_decay, replacement)
