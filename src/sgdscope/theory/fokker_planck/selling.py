"""Selling's decomposition: a covariance in the plane as positive weights on three lattice directions.

For a positive definite D there are integer vectors e with ``D = Σ_k λ_k e_k e_kᵀ``, λ_k ≥ 0: the diffusion is a sum of
walks along lines of the grid, and the scheme is monotone whatever the correlation. With an obtuse superbase
(b_0, b_1, b_2; sum 0, all ⟨b_i, D b_j⟩ ≤ 0) the weights are −⟨b_i, D b_j⟩ and the directions b_k turned by a right
angle. Source: Selling 1874; Fehrenbach & Mirebeau 2014 for diffusion on grids.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sgdscope.theory.fokker_planck.markov import Floats

Integers = NDArray[np.int64]

_PAIRS = ((1, 2, 0), (0, 2, 1), (0, 1, 2))  # the pair, and the vector it leaves over
_MOST_STEPS = 1000
_ROUNDING = 4e-16  # of the trace


def selling(tensors: Floats) -> tuple[Floats, Integers]:
    """Weights ≥ 0, shape ``(n, 3)``, and directions, shape ``(n, 3, 2)``, of symmetric positive definite tensors.

    Weights depend continuously on the tensor; directions grow as the square root of its condition. Cost: a few passes.
    Raises ValueError for a tensor too near to singular to reduce.
    """
    count = len(tensors)
    base = np.tile(np.array([[1, 0], [0, 1], [-1, -1]]), (count, 1, 1))
    every = np.arange(count)
    for _ in range(_MOST_STEPS):
        products = np.stack([_product(tensors, base[:, i], base[:, j]) for i, j, _ in _PAIRS], axis=1)
        worst = products.argmax(axis=1)
        trace = tensors[:, 0, 0] + tensors[:, 1, 1]
        acute = np.flatnonzero(products[every, worst] > _ROUNDING * trace)
        if not len(acute):
            turned = np.stack([-base[..., 1], base[..., 0]], axis=-1)
            return np.maximum(-products, 0), turned
        for pair, (i, j, k) in enumerate(_PAIRS):
            chosen = acute[worst[acute] == pair]
            first, second = base[chosen, i], base[chosen, j]
            base[chosen, i], base[chosen, k] = -first, first - second
    raise ValueError("a diffusion tensor is too near to singular for a stencil on a grid")


def _product(tensors: Floats, first: Integers, second: Integers) -> Floats:
    return np.asarray(np.einsum("ni,nij,nj->n", first, tensors, second))
