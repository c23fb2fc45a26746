r"""Spectral density of the Hessian, by Lanczos quadrature.

From a random vector z, m Lanczos steps give a tridiagonal matrix whose eigenvalues and squared first components are the
nodes and weights of a Gauss quadrature for :math:`z^\top f(H) z`; its mean over z is :math:`\mathrm{tr} f(H)`. Source:
Golub & Meurant; Ubaru, Chen & Saad 2017; Ghorbani et al. 1901.10159 (networks).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from sgdscope import vectors
from sgdscope.chain.products import Kind
from sgdscope.estimate import Estimate
from sgdscope.hessian import Hessian
from sgdscope.measure.sampling import mean_with_error
from sgdscope.risk import Risk
from sgdscope.vectors import Basis, Vector

CURVATURE = "loss / parameter²"


@dataclass(frozen=True)
class SpectralDensity:
    """Quadrature of the eigenvalue distribution, and what follows from it.

    Attributes:
        nodes, weights: per random vector the approximate eigenvalues, in loss / parameter², and the share of all
            eigenvalues near each; the weights of a vector sum to one.
        parameters: number of eigenvalues.
        trace, squared_norm: tr H and ‖H‖_F² = tr H², exact for each vector; their standard error is between vectors.
        negative: share of eigenvalues below zero by more than `resolution`.
        smallest, largest: outermost nodes, inside the true range; extreme eigenvalues converge first.
        resolution: mean distance of neighbouring nodes: what is finer is not resolved.
        cost: in gradient evaluations over all data.
    """

    nodes: tuple[tuple[float, ...], ...]
    weights: tuple[tuple[float, ...], ...]
    parameters: int
    trace: Estimate
    squared_norm: Estimate
    negative: Estimate
    smallest: float
    largest: float
    resolution: float
    cost: float

    def mean_of(self, function: Callable[[float], float]) -> tuple[float, float]:
        """``tr f(H)`` over the number of eigenvalues, and its standard error between random vectors."""
        each = [
            math.fsum(w * function(x) for x, w in zip(nodes, weights, strict=True))
            for nodes, weights in zip(self.nodes, self.weights, strict=True)
        ]
        return mean_with_error(each)

    def histogram(self, edges: list[float]) -> list[float]:
        """Share of all eigenvalues in each interval between ascending `edges`."""
        shares = [0.0] * (len(edges) - 1)
        for nodes, weights in zip(self.nodes, self.weights, strict=True):
            for x, w in zip(nodes, weights, strict=True):
                for index in range(len(shares)):
                    last = index == len(shares) - 1
                    if edges[index] <= x < edges[index + 1] or (last and x == edges[-1]):
                        shares[index] += w / len(self.nodes)
                        break
        return shares


def spectral_density(
    risk: Risk, *, steps: int = 40, probes: int = 2, kind: Kind = "hessian", generator: torch.Generator | None = None
) -> SpectralDensity:
    """Distribution of the Hessian's eigenvalues over all data, from `probes` random vectors of `steps` products each.

    Full reorthogonalisation: without it Lanczos copies eigenvalues it has found, and the weights are wrong. Where the
    data have fewer samples than features the products are taken in coordinates of the data (`Hessian`, compact), and
    the eigenvalues that are known to vanish are added as a node at zero.

    Cost: ``steps · probes`` products, one gradient each; memory ``steps`` copies of the parameters.

    Raises ValueError for steps < 2 or probes < 1, ArithmeticError if a product is not finite.
    """
    if steps < 2 or probes < 1:
        raise ValueError(f"expected steps ≥ 2 and probes ≥ 1, got {steps} and {probes}")
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    all_nodes, all_weights, traces, squares = [], [], [], []
    count = risk.parameter_count
    with Hessian(risk, kind=kind, compact=True) as hessian:
        like = hessian.gradient if hessian.span is not None else [p.detach() for p in risk.parameters]
        inside = sum(x.numel() for x in like)
        for _ in range(probes):
            nodes, weights, first, second = _quadrature(hessian, like, min(steps, inside), generator)
            share = inside / count
            if share < 1:
                nodes, weights = [*nodes, 0.0], [*(w * share for w in weights), 1 - share]
            all_nodes.append(tuple(nodes))
            all_weights.append(tuple(weights))
            traces.append(inside * first)
            squares.append(inside * second)
        cost = hessian.cost
    flat = sorted({x for nodes in all_nodes for x in nodes})
    smallest, largest = flat[0], flat[-1]
    resolution = (largest - smallest) / max(len(all_nodes[0]) - 1, 1)
    below = [
        math.fsum(w for x, w in zip(nodes, weights, strict=True) if x < -resolution)
        for nodes, weights in zip(all_nodes, all_weights, strict=True)
    ]
    return SpectralDensity(
        tuple(all_nodes), tuple(all_weights), count,
        _mean("hessian_trace", traces, CURVATURE), _mean("squared_frobenius_norm", squares, "loss² / parameter⁴"),
        _mean("negative_share", below, ""), smallest, largest, resolution, cost,
    )  # fmt: skip


def _mean(name: str, values: list[float], unit: str) -> Estimate:
    mean, error = mean_with_error(values)
    return Estimate(name, mean, error if len(values) > 1 else None, count=len(values), unit=unit)


def _quadrature(
    hessian: Hessian, like: Vector, steps: int, generator: torch.Generator
) -> tuple[list[float], list[float], float, float]:
    """Nodes and weights of one random vector, and ``zᵀHz / zᵀz`` and ``‖Hz‖² / zᵀz``."""
    basis = Basis(like, steps)
    unit = basis.orthogonalise(vectors.random_like(like, generator))
    assert unit is not None
    diagonal: list[float] = []
    beside: list[float] = []
    square = 0.0
    while unit is not None and basis.size < steps:
        basis.append(unit)
        image = hessian.product(unit)
        size = vectors.norm(image)
        if not math.isfinite(size):
            raise ArithmeticError("the Hessian product is not finite")
        if basis.size == 1:
            square = size**2
        diagonal.append(vectors.dot(unit, image))
        following = basis.orthogonalise(image)
        if following is None or basis.size == steps:
            break
        beside.append(vectors.dot(following, image))
        if beside[-1] <= 1e-6 * size:  # the space reached is closed under the Hessian
            beside.pop()
            break
        unit = following
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    for index, value in enumerate(beside[: len(diagonal) - 1]):
        matrix[index, index + 1] = matrix[index + 1, index] = value
    nodes, axes = torch.linalg.eigh(matrix)
    return nodes.tolist(), axes[0].square().tolist(), diagonal[0], square
