"""Verify: does a proposed symmetry hold for every sample? By its gradients, and by really rescaling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sgdscope.batches import Batch, length, map_tensors, tensors_of
from sgdscope.measure.symmetries.candidate import Candidate
from sgdscope.risk import Risk

SHRUNK = 1e-12
"""Factor on a norm's eps under which a symmetry that holds up to eps holds to rounding."""
_ROUNDINGS = 16
"""Roundings of the sum of magnitudes that a difference of the two sides may hold."""
_PER_BATCH = 8


@dataclass
class Evidence:
    """What the gradients of the samples say about one candidate, per unit."""

    candidate: Candidate
    gap: Tensor = field(init=False)
    sides: Tensor = field(init=False)
    terms: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.gap, self.sides, self.terms = (torch.zeros(self.candidate.units, dtype=torch.float64) for _ in range(3))

    def add(self, theta: Mapping[str, Tensor], gradient: Mapping[str, Tensor]) -> None:
        """Take in the gradient of one sample: θᵀA∇ℓ, |u·∇_u ℓ| + |w·∇_w ℓ| and Σ |θ_i ∇_i ℓ| of each unit."""
        total, positive, negative, terms = (torch.zeros_like(self.gap) for _ in range(4))
        for part in self.candidate.parts:
            product = theta[part.name].detach().double() * gradient[part.name].double()
            contribution = part.sums(product).cpu()
            total += contribution
            if isinstance(part.power, Tensor):
                powers = part.power.to(product)
                positive += (product * powers.clamp(min=0)).sum().cpu()
                negative += (product * powers.clamp(max=0)).sum().cpu()
                terms += (product * powers).abs().sum().cpu()
            else:
                (positive if part.power > 0 else negative).add_(contribution)
                terms += part.sums(product.abs()).abs().cpu()
        self.gap = torch.maximum(self.gap, total.abs())
        self.sides = torch.maximum(self.sides, terms if self.candidate.one_sided else positive.abs() + negative.abs())
        self.terms = torch.maximum(self.terms, terms)

    @property
    def silent(self) -> Tensor:
        """Units that no gradient reaches."""
        return self.terms == 0

    @property
    def residual(self) -> float | None:
        """Of the worst unit; None if all are silent."""
        heard = ~self.silent
        if not bool(heard.any()):
            return None
        smallest = torch.finfo(torch.float64).tiny
        return float((self.gap / self.sides.clamp(min=smallest))[heard].max().clamp(max=1.0))

    def passes(self, tolerance: float, rounding: float) -> bool:
        """Whether all units that are heard are within the tolerance."""
        return bool((self.gap <= tolerance * self.sides + _ROUNDINGS * rounding * self.terms).all())


def samples_of(risk: Risk, count: int, generator: torch.Generator) -> list[Batch]:
    """Single samples, or small batches where a batch is more than its samples."""
    if risk.source.batch_lengths is not None:
        return [batch for batch, _ in zip(risk.chunks(), range(count), strict=False)]
    if risk.batch_dependent:
        size = min(_PER_BATCH, risk.size)
        return [risk.draw(size, generator) for _ in range(count)]
    drawn = risk.draw(min(count, risk.size), generator)
    return [map_tensors(lambda t: t[i : i + 1] if t.ndim else t, drawn) for i in range(length(drawn))]  # noqa: B023


def collect(risk: Risk, candidates: Sequence[Candidate], samples: Sequence[Batch]) -> list[Evidence]:
    """Evidence on every candidate from the same gradients. Cost: one gradient per sample."""
    evidence = [Evidence(candidate) for candidate in candidates]
    theta = dict(zip(risk.names, risk.parameters, strict=True))
    for seed, sample in enumerate(samples):
        _, gradient = risk.gradient(sample, seed=seed)
        named = dict(zip(risk.names, gradient, strict=True))
        for each in evidence:
            each.add(theta, named)
    return evidence


def difference(risk: Risk, candidate: Candidate, samples: Sequence[Batch]) -> float:
    """Largest relative change of outputs and losses when the units are multiplied by 2 and ½ in turn.

    Powers of two: the floating-point numbers inside a homogeneous network change by exact factors.
    """
    moved = rescaled(risk, candidate, 2.0 ** (1 - 2 * (torch.arange(candidate.units, dtype=torch.float64) % 2)))
    worst = 0.0
    for seed, sample in enumerate(samples):
        pairs = zip(outputs(risk, sample, None, seed), outputs(risk, sample, moved, seed), strict=True)
        for before, after in pairs:
            if before.numel():
                scale = max(float(before.abs().max()), torch.finfo(before.dtype).tiny)
                worst = max(worst, float((after - before).abs().max()) / scale)
    return worst


def rescaled(risk: Risk, candidate: Candidate, scales: Tensor) -> list[Tensor]:
    """The risk's parameters with each unit's slices multiplied by its scale to their power."""
    moved = {name: p.detach().clone() for name, p in zip(risk.names, risk.parameters, strict=True)}
    for part in candidate.parts:
        moved[part.name] *= part.factors(scales.to(moved[part.name].device), moved[part.name])
    return list(moved.values())


def outputs(risk: Risk, batch: Batch, at: Sequence[Tensor] | None, seed: int) -> list[Tensor]:
    """Everything the model gives back during one loss, and the loss."""
    seen: list[Tensor] = []

    def note(_module: nn.Module, _inputs: object, output: object) -> None:
        seen.extend(t.detach().clone() for t in tensors_of(output) if t.is_floating_point())

    with risk.evaluating(at=at, seed=seed), torch.no_grad():
        handle = risk.model.register_forward_hook(note)
        try:
            loss = risk.loss(batch)
        finally:
            handle.remove()
        return [*seen, loss.detach()]


@contextmanager
def shrunk_eps(norms: Sequence[nn.Module]) -> Iterator[None]:
    """Within the block, the norms add almost nothing to the variance."""
    before = [(norm, norm.eps) for norm in dict.fromkeys(norms)]
    try:
        for norm, eps in before:
            if eps is not None:
                norm.eps = float(eps) * SHRUNK  # type: ignore[arg-type, assignment]
        yield
    finally:
        for norm, eps in before:
            norm.eps = eps
