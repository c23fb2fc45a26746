"""Evidence: what the gradients of single samples say about a proposed symmetry, θᵀA∇ℓ = 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sgdscope.batches import Batch, length, map_tensors
from sgdscope.measure.symmetries.candidate import Candidate
from sgdscope.measure.symmetries.part import MatrixPart, Part
from sgdscope.risk import Risk

ROUNDINGS = 16
"""Roundings of the sum of magnitudes that a difference of the two sides may hold."""
_PER_BATCH = 8

Layout = tuple[tuple[int, ...], tuple[int, ...]]
Tensors = Mapping[str, Tensor]
Sums = dict[str, dict[Layout, tuple[Tensor, Tensor]]]
"""θ∘∇ℓ and its magnitude, collapsed, by parameter and layout."""


@dataclass
class Evidence:
    """What samples said so far, per unit: the largest over the samples of

    Attributes:
        gap: |θᵀA∇ℓ|.
        sides: |u·∇_u ℓ| + |w·∇_w ℓ|; where there is one side only, `terms`.
        terms: Σ |θᵢ ∇ᵢℓ|, what rounding is measured by.

    and `wanted`, of how many samples it wants to know.
    """

    wanted = 1 << 30

    candidate: Candidate
    gap: Tensor = field(init=False)
    sides: Tensor = field(init=False)
    terms: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.gap, self.sides, self.terms = (torch.zeros(self.candidate.units, dtype=torch.float64) for _ in range(3))
        self._beyond: list[tuple[Tensor, Tensor, Tensor]] = []

    def look(self, theta: Tensors, gradient: Tensors) -> None:
        """Take in what sums over slices do not tell of one sample."""
        self._beyond = [
            _beyond(p, theta, gradient) for p in self.candidate.parts if not _is_plain(p)
        ]  # fmt: skip

    def add(self, sums: Sums) -> None:
        """Take in the sums over slices of one sample."""
        positive, negative, terms = (torch.zeros_like(self.gap) for _ in range(3))
        plain = [_within(p, sums) for p in self.candidate.parts if _is_plain(p)]
        for above, below, size in (*plain, *self._beyond):
            positive += above
            negative += below
            terms += size
        sides = terms if self.candidate.one_sided else positive.abs() + negative.abs()
        self.take(positive + negative, sides, terms)

    def take(self, gap: Tensor, sides: Tensor, terms: Tensor) -> None:
        """Keep the largest."""
        self.gap, self.sides = torch.maximum(self.gap, gap.abs()), torch.maximum(self.sides, sides)
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
        return bool((self.gap <= tolerance * self.sides + ROUNDINGS * rounding * self.terms).all())


def samples_of(risk: Risk, count: int, generator: torch.Generator) -> list[Batch]:
    """Single samples, or small batches where a batch is more than its samples."""
    if risk.source.batch_lengths is not None:
        return [batch for batch, _ in zip(risk.chunks(), range(count), strict=False)]
    if risk.batch_dependent:
        size = min(_PER_BATCH, risk.size)
        return [risk.draw(size, generator) for _ in range(count)]
    drawn = risk.draw(min(count, risk.size), generator)
    return [map_tensors(lambda t: t[i : i + 1] if t.ndim else t, drawn) for i in range(length(drawn))]  # noqa: B023


def collect(risk: Risk, evidence: Sequence[Evidence], samples: Sequence[Batch]) -> None:
    """Show the gradients of samples to all that want them. Cost: one gradient per sample."""
    theta = dict(zip(risk.names, (p.detach() for p in risk.parameters), strict=True))
    layouts: dict[str, dict[Layout, Part]] = {}
    for each in evidence:
        for part in each.candidate.parts:
            if _is_plain(part):
                layouts.setdefault(part.name, {})[part.view, part.unit_dims] = part
    buffer: dict[tuple[torch.dtype, torch.device], Tensor] = {}
    for seed, sample in enumerate(samples):
        _, vector = risk.gradient(sample, seed=seed)
        gradient = dict(zip(risk.names, vector, strict=True))
        listening = [each for each in evidence if seed < each.wanted]
        for each in listening:
            each.look(theta, gradient)
        sums: Sums = {}
        for name, parts in layouts.items():
            product = torch.mul(
                theta[name], gradient[name], out=_like(theta[name], buffer)
            )  # gradients may share memory
            signed = {layout: _collapsed(part, product) for layout, part in parts.items()}
            product.abs_()
            sums[name] = {layout: (signed[layout], _collapsed(part, product)) for layout, part in parts.items()}
        for each in listening:
            each.add(sums)


def _like(parameter: Tensor, buffer: dict[tuple[torch.dtype, torch.device], Tensor]) -> Tensor:
    """Memory for a tensor like the parameter, the same every time: to ask for new one takes longer than to use it."""
    key = parameter.dtype, parameter.device
    if key not in buffer or buffer[key].numel() < parameter.numel():
        buffer[key] = torch.empty(parameter.numel(), dtype=key[0], device=key[1])
    return buffer[key][: parameter.numel()].view(parameter.shape)


def _collapsed(part: Part, product: Tensor) -> Tensor:
    return part.collapsed(product, dtype=None).double().cpu().clone()


def _is_plain(part: Part) -> bool:
    return not isinstance(part, MatrixPart) and not isinstance(part.power, Tensor)


def _within(part: Part, sums: Sums) -> tuple[Tensor, Tensor, Tensor]:
    """Of θᵀA∇ℓ what is of positive powers, what is of negative ones, and Σ |θᵢ (A∇ℓ)ᵢ|."""
    assert not isinstance(part.power, Tensor)
    signed, sizes = (part.gathered(each) for each in sums[part.name][part.view, part.unit_dims])
    zero = torch.zeros_like(signed)
    share = part.power * signed
    return (share if part.power > 0 else zero, zero if part.power > 0 else share, abs(part.power) * sizes)


def _beyond(part: Part, theta: Tensors, gradient: Tensors) -> tuple[Tensor, Tensor, Tensor]:
    """The same of powers by element, and of a matrix by the signs of its eigenvalues."""
    point, slope = theta[part.name].double(), gradient[part.name].double()
    if isinstance(part, MatrixPart):
        values, vectors = torch.linalg.eigh(part.matrix)
        signs = (values.clamp(min=0), values.clamp(max=0))
        above, below = (point * part.times(slope, (vectors * sign) @ vectors.T) for sign in signs)
    else:
        powers = torch.as_tensor(part.power).to(point)
        above, below = point * slope * powers.clamp(min=0), point * slope * powers.clamp(max=0)
    return above.sum().cpu(), below.sum().cpu(), (above.abs() + below.abs()).sum().cpu()
