"""Complete: no exact rescaling of rows and columns is missed, by the rank of what gradients of samples say of them."""

from __future__ import annotations

import pytest
import torch
from tests.measure.symmetries.architectures import ARCHITECTURES
from tests.measure.symmetries.networks import NETWORKS, Network
from tests.measure.symmetries.sequences import SEQUENCES

from sgdscope import measure
from sgdscope.measure.symmetries import Symmetry
from sgdscope.measure.symmetries.verify import samples_of
from sgdscope.risk import Risk

LEFT_OUT = {
    "rotary embedding": "pairs of coordinates can be scaled one by one, which heads take together",
    "rotary embedding, complex": "the same",
    "ReLU on values": "coordinates can be scaled one by one, which heads take together",
    "depthwise and grouped": "units are neither rows nor columns",
    "matrices by einsum": "units are neither rows nor columns",
    "BatchNorm in eval mode": "the averages are still zero, so that for now it is linear",
}
ZERO = 1e-9
"""Singular values up to this, relative to the largest, are zero; those that stay above only by an eps are near 1e-5."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", [n for n in (*NETWORKS, *SEQUENCES, *ARCHITECTURES) if n.name not in LEFT_OUT], ids=lambda n: n.name
)
def test_as_many_as_gradients_allow(network: Network):
    risk = network.risk()
    samples = random_samples(risk, 2 * len(slices_of(risk)) + 20)
    products = torch.stack([product(risk, sample, seed) for seed, sample in enumerate(samples)])
    heard = products.abs().amax(0) > 1e-12 * products.abs().max()
    owned = torch.stack([ones * heard for ones in slices_of(risk)])
    owned = owned[owned.any(1)]
    sums = products @ owned.T / (products.abs() @ owned.T).norm(dim=0)
    allowed = rank(owned) - rank(sums.T)  # dimension of what is made of slices and sums to zero for all samples
    found = [g * heard for s in measure.symmetries(risk) if s.status == "exact" for g in generators(risk, s)]
    found = torch.stack([*found, torch.zeros_like(heard, dtype=torch.float64)])
    assert rank(torch.cat([owned, found])) == rank(owned)  # of rows, columns, …
    assert rank(found) == allowed


def product(risk: Risk, sample, seed: int) -> torch.Tensor:
    """θ∘∇ℓ at other parameters for every sample: at one point shifts, such as of a bias, can do what scales do."""
    generator = torch.Generator().manual_seed(seed)
    there = [
        p.detach() * (1 + 0.7 * torch.randn(p.shape, generator=generator, dtype=p.dtype)) for p in risk.parameters
    ]  # fmt: skip
    return flat(there) * flat(risk.gradient(sample, at=there, seed=seed)[1])


def slices_of(risk: Risk) -> list[torch.Tensor]:
    """One row, column, … of a parameter each: ones where it is."""
    sizes = [p.numel() for p in risk.parameters]
    found = []
    for number, p in enumerate(risk.parameters):
        for d in range(p.dim()):
            for i in range(p.shape[d]):
                ones = torch.zeros_like(p.detach())
                ones.select(d, i).fill_(1.0)
                found.append(torch.cat([torch.zeros(sum(sizes[:number])), ones.reshape(-1),
                                        torch.zeros(sum(sizes[number + 1 :]))]).double())  # fmt: skip
    return found


def generators(risk: Risk, symmetry: Symmetry) -> list[torch.Tensor]:
    """The diagonal of A of each unit, the finest that are known."""
    parts = symmetry.coordinates or symmetry.parts
    units = symmetry.units if not symmetry.coordinates else 1 + max(int(p.owners.max()) for p in parts)
    found = []
    for unit in range(units):
        powers = {name: torch.zeros_like(p.detach()) for name, p in zip(risk.names, risk.parameters, strict=True)}
        scales = torch.ones(units, dtype=torch.float64)
        scales[unit] = 2.0
        for part in parts:
            powers[part.name] += part.factors(scales, powers[part.name]).log2()
        found.append(torch.cat([p.reshape(-1) for p in powers.values()]))
    return found


def random_samples(risk: Risk, count: int) -> list:
    """Those of the risk, and mixtures of them where they are numbers."""
    generator = torch.Generator().manual_seed(7)
    found = []
    while len(found) < count:
        for sample in samples_of(risk, 16, generator):
            found.append(shaken(sample, generator))
    return found[:count]


def shaken(sample, generator: torch.Generator):
    if isinstance(sample, dict):
        return {key: shaken(value, generator) for key, value in sample.items()}
    if isinstance(sample, tuple | list):
        return tuple(shaken(value, generator) for value in sample)
    if not sample.is_floating_point():
        return torch.randint(int(sample.max()) + 1, sample.shape, generator=generator)
    return sample * (1 + 0.5 * torch.randn(sample.shape, generator=generator, dtype=sample.dtype))


def flat(vector: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([t.reshape(-1) for t in vector])


def rank(rows: torch.Tensor) -> int:
    values = torch.linalg.svdvals(rows)
    return int((values > ZERO * values.max()).sum())
