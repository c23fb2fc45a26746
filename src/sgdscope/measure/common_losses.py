"""Common losses: the loss at many points on one and the same data, in groups that tell how far a sample can be off.

Differences of losses at two points have a far smaller error than either loss when both come from the same samples, and
the scatter of the differences between groups of samples says how small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from sgdscope.batches import Batch, length
from sgdscope.measure.sampling import mean_with_error
from sgdscope.risk import Risk
from sgdscope.vectors import Vector

GROUPS = 8


@dataclass(frozen=True)
class CommonLosses:
    """A risk on fixed groups of samples; one group None means all data, in chunks.

    Attributes:
        risk: model, loss and data.
        groups: the batches.
        weights: share of each group in the mean.
        sampled: whether the groups stand for more than themselves, so that means have a standard error.
        seed: fixes dropout masks, the same at every point.
    """

    risk: Risk
    groups: tuple[Batch | None, ...]
    weights: tuple[float, ...]
    sampled: bool
    seed: int = 0

    @property
    def samples(self) -> int:
        """How many samples each loss is of."""
        return self.risk.size if self.groups == (None,) else sum(length(group) for group in self.groups)

    @property
    def share(self) -> float:
        """Of the data: the cost of one gradient in gradient evaluations over all data."""
        return self.samples / self.risk.size

    def losses(self, point: Vector) -> list[float]:
        """Loss of each group."""
        return [self.risk.value(group, at=point, seed=self.seed) for group in self.groups]

    def gradients(self, point: Vector) -> Iterator[tuple[float, Vector]]:
        """Loss and gradient of each group."""
        return (self.risk.gradient(group, at=point, seed=self.seed) for group in self.groups)

    def gradient(self, point: Vector) -> tuple[float, Vector]:
        """Mean loss and gradient."""
        if len(self.groups) == 1:
            return self.risk.gradient(self.groups[0], at=point, seed=self.seed)
        total, gradient = 0.0, [torch.zeros_like(p) for p in point]
        for weight, (loss, part) in zip(self.weights, self.gradients(point), strict=True):
            total += weight * loss
            torch._foreach_add_(gradient, part, alpha=weight)
        return total, gradient

    def mean(self, of_groups: Sequence[float]) -> float:
        """Mean over the groups by their sizes."""
        return math.fsum(w * z for w, z in zip(self.weights, of_groups, strict=True))

    def error(self, of_groups: Sequence[float]) -> float | None:
        """Standard error of the mean; 0 if these are all data, None if a single group cannot tell."""
        if not self.sampled:
            return 0.0
        return mean_with_error(of_groups)[1] if len(of_groups) > 1 else None


def common_losses(
    risk: Risk, *, samples: int | None = None, population: bool = False, seed: int = 0,
    generator: torch.Generator | None = None,
) -> CommonLosses:  # fmt: skip
    """All data (`samples` None), or that many drawn once; in at least 8 groups where a standard error is asked for.

    With `population` all data count as a sample themselves (of held-out data, say): errors then tell how far another
    set of as many samples would move the numbers. Data that come in whole batches are their own groups. Raises
    ValueError for fewer than 8 samples or more than there are.
    """
    if samples is None and not population:
        return CommonLosses(risk, (None,), (1.0,), sampled=False, seed=seed)
    count = risk.size if samples is None else samples
    if samples is not None and not GROUPS <= samples <= risk.size:
        raise ValueError(f"expected between {GROUPS} and {risk.size} samples, got {samples}")
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    groups: list[Batch] = []
    with torch.inference_mode(False):
        if risk.source.batch_lengths is not None:
            for batch in risk.chunks():
                groups.append(batch)
                if sum(map(length, groups)) >= count:
                    break
        else:
            rows = torch.randperm(risk.size, generator=generator)[:count]
            parts = max(min(GROUPS, count), -(-count // risk.chunk_size))
            groups = [risk.to_device(risk.source.take(part)) for part in rows.tensor_split(parts)]
    sizes = [length(group) for group in groups]
    weights = tuple(size / sum(sizes) for size in sizes)
    return CommonLosses(risk, tuple(groups), weights, sampled=population or sum(sizes) < risk.size, seed=seed)
