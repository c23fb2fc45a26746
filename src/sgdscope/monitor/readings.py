"""Readings: the heavier measurements as the monitor takes them, quick while training goes on, careful at the end."""

from __future__ import annotations

from random import Random

import torch
from torch import nn

from sgdscope.estimate import Estimate
from sgdscope.measure import EigenvalueTracker, batch_sharpness, gradient_noise_interaction
from sgdscope.measure.batch_sharpness import chain_refusal
from sgdscope.monitor.optimizers import description, learning_rate
from sgdscope.risk import Risk
from sgdscope.what_if import edge_map

NAMES = ("batch_sharpness", "lambda_max", "gradient_noise_interaction")


class Readings:
    """Takes readings of one run; what a reading draws depends on `seed` and step alone.

    λ_max also starts from the vectors found at the reading before, and so may differ within its residual.
    """

    def __init__(self, risk: Risk, optimizer: torch.optim.Optimizer, *, k: int, replacement: bool, seed: int) -> None:
        self.risk = risk
        self.optimizer = optimizer
        self.replacement = replacement
        self.seed = seed
        self._tracker = EigenvalueTracker(k)

    def take(self, name: str, step: int, batch_size: int | None, *, careful: bool) -> Estimate:
        """Measure `name`, one of `NAMES`, at the present weights."""
        if name == "lambda_max":
            self._tracker.tolerance = 0.02 if careful else 0.05
            self._tracker.generator = self.generator(3, step)
            return self._tracker.update(self.risk)
        if batch_size is None:
            reason = "the batch size is not known: give batch_size, or call observe(batch) in the loop"
            return Estimate.failed(name, reason)
        if name == "batch_sharpness":
            return batch_sharpness(
                self.risk, batch_size, lr=learning_rate(self.optimizer) or None, replacement=self.replacement,
                tolerance=0.01 if careful else 0.03, max_batches=self._batches() if careful else 64,
                generator=self.generator(1, step),
            )  # fmt: skip
        # Products with the curvature of all data only where they cost little; of independent batches otherwise.
        samples = 256 if self._cheap() else 4 * batch_size
        return gradient_noise_interaction(
            self.risk, batch_size, batches=48 if careful else 16, curvature_samples=samples,
            replacement=self.replacement, generator=self.generator(2, step),
        )  # fmt: skip

    def edge_map(self, step: int, batch_size: int | None, known: Estimate | None) -> Estimate | None:
        """The what-if map; None where it has no meaning: no theory of thresholds, or all data in a batch."""
        optimizer, lr = description(self.optimizer, full_batch=False), learning_rate(self.optimizer)
        if batch_size is None or not lr > 0 or optimizer["method"] not in ("sgd", "momentum", "nesterov"):
            return None
        if batch_size == self.risk.size and not self.replacement:
            return None
        return edge_map(
            self.risk, lr=lr, batch_size=batch_size, momentum=optimizer["momentum"],
            nesterov=optimizer["method"] == "nesterov", max_cost=60 if self._cheap() else 30, known=known,
            replacement=self.replacement, generator=self.generator(4, step),
        ).estimate  # fmt: skip

    def one_gradient(self, batch_size: int) -> None:
        """One gradient of a batch, thrown away: what it takes tells what a reading would."""
        self.risk.gradient(self.risk.draw(batch_size, self.generator(0, 0), replacement=self.replacement))

    def generator(self, salt: int, step: int) -> torch.Generator:
        """For the draws of one reading; any whole number will do as seed."""
        return torch.Generator().manual_seed(Random(f"{self.seed} {salt} {step}").getrandbits(63))

    def _batches(self) -> int:
        """Most batches of a careful reading of batch sharpness: more where a batch costs little."""
        return 512 if self._cheap() else 128

    def _cheap(self) -> bool:
        """Whether the model is a chain of linear layers, where many batches are done in one pass."""
        convolutions = any(isinstance(m, nn.Conv2d) for m in self.risk.model.modules())
        return not convolutions and chain_refusal(self.risk) == ""
