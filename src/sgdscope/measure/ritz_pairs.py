r"""Ritz pairs: the largest eigenvalues of a symmetric operator known by its products, certified by their residuals.

The method is Davidson's without a preconditioner: a Rayleigh-Ritz basis grown by the residual of the least converged
wanted pair. From one start vector that is Lanczos iteration with full orthogonalisation; from several carried vectors
it keeps what was learnt before.

A residual :math:`r = \|Hv - \theta v\|` certifies an eigenvalue within that distance of :math:`\theta`; the error of
:math:`\theta` itself is of second order, about :math:`r^2` over the gap to the next eigenvalue.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest

import torch

from sgdscope import vectors
from sgdscope.vectors import Basis, Vector

Product = Callable[[list[Vector]], list[Vector]]


@dataclass
class RitzPairs:
    """Approximate eigenpairs in descending order, and the doubt of each."""

    values: list[float]
    residuals: list[float]
    vectors: list[Vector]
    products: int
    converged: bool
    """All pairs wanted were found to the tolerance asked for."""


class RitzBasis:
    """An orthonormal basis, its images under the operator, and the Ritz pairs in it.

    Attributes:
        theta: all Ritz values, descending; y: their coordinates, ``(size, size)``.
        used: products so far.
    """

    def __init__(self, product: Product, like: Vector, capacity: int) -> None:
        self.product = product
        self.basis, self.images = Basis(like, capacity), Basis(like, capacity)
        self.capacity = capacity
        self.used = 0
        self.small = torch.zeros((0, 0), dtype=torch.float64)  # basisᵀ H basis
        self.squares = torch.zeros((0, 0), dtype=torch.float64)  # imagesᵀ images
        self.theta = self.small.new_zeros(0)
        self.y = self.small
        self._rounding = 8 * torch.finfo(like[0].dtype).eps

    @property
    def size(self) -> int:
        """Number of vectors."""
        return self.basis.size

    def extend(self, pending: list[Vector]) -> int:
        """Add what is new in some vectors, at one product each; how many that were.

        Raises ArithmeticError if a product is not finite.
        """
        fresh = []
        for v in pending:
            unit = self.basis.orthogonalise(v)
            if unit is not None and self.size < self.capacity:
                self.basis.append(unit)
                fresh.append(unit)
        known = len(self.small)
        for image in self.product(fresh) if fresh else []:
            self.images.append(image)
        self.used += len(fresh)
        more = (0, len(fresh), 0, len(fresh))
        self.small, self.squares = (torch.nn.functional.pad(m, more) for m in (self.small, self.squares))
        for index in range(known, self.size):
            image = self.images.row(index)
            self.small[index] = self.small[:, index] = self.basis.coefficients(image)
            self.squares[index] = self.squares[:, index] = self.images.coefficients(image)
        if not torch.isfinite(self.small).all():
            raise ArithmeticError("the Hessian product is not finite")
        theta, y = torch.linalg.eigh(self.small)
        self.theta, self.y = theta.flip(0), y.flip(1)
        return len(fresh)

    def compress(self, count: int) -> None:
        """Keep the leading Ritz vectors only (thick restart)."""
        kept = self.y[:, :count]
        self.basis.compress(kept)
        self.images.compress(kept)
        self.small, self.squares = torch.diag(self.theta[:count]), kept.t() @ self.squares @ kept

    def vector(self, i: int) -> Vector:
        """Ritz vector i."""
        return self.basis.combine(self.y[:, i])

    def rest(self, i: int) -> Vector:
        """``H v − θ v`` of pair i."""
        return vectors.plus(self.images.combine(self.y[:, i]), self.vector(i), -float(self.theta[i]))

    def allowed(self, tolerance: float) -> float:
        """The residual asked for: relative to the largest eigenvalue, and not below rounding."""
        return max(tolerance * abs(float(self.theta[0])), self._rounding * float(self.theta.abs().max()))

    def residuals(self, count: int) -> list[float]:
        """``‖H v − θ v‖`` of the leading pairs, from the vectors."""
        return [vectors.norm(self.rest(i)) for i in range(count)]

    def quick_residuals(self, count: int, allowed: float) -> list[float] | None:
        """The same from `squares`, without touching a vector; None where that is not accurate enough to tell `allowed`.

        A difference of squares is good to the root of the rounding, and of what the basis lacks of orthogonality.
        """
        largest = float(self.theta.abs().max())
        if allowed < max(1e-3, math.sqrt(125 * self._rounding)) * largest:
            return None
        above = (self.y * (self.squares @ self.y)).sum(0) - self.theta.square()
        found: list[float] = above.clamp(min=0).sqrt()[:count].tolist()
        return found


def ritz_pairs(
    product: Product,
    start: list[Vector],
    *,
    k: int,
    keep: int,
    tolerance: float,
    max_products: int,
    capacity: int = 0,
    settle: int = 1,
    explore: int = 0,
    another: Callable[[], Vector] | None = None,
    guard: Vector | None = None,
    repeat: bool = False,
) -> RitzPairs:
    """Largest `k` eigenvalues of a symmetric operator, to residuals of ``tolerance · |θ₁|``.

    With `settle` = 2 the residuals must stay below that, with a margin, twice in a row, and never less than what was
    asked for is reported: in a flat spectrum a Ritz vector from scratch mixes many eigenvectors, or misses the first
    if its start had little of it, and the value lies too low by more than the first small residual says. After that
    `explore` products more go to the next pair below, to find what the start had no part in. A `guard` is multiplied
    too if the start alone was good enough. Where the basis is closed under the operator before it holds k vectors,
    `another` gives a new one. With `repeat` it also gives one, explored from like the next pair, once all seems found:
    from one vector alone no eigenvalue is found twice; again, until that changes nothing.

    Returns `keep` ≥ k pairs. Memory: two copies of the parameters per basis vector, at most ``2 · capacity`` of them;
    beyond that the basis is compressed to its leading Ritz vectors.
    """
    ritz = RitzBasis(product, start[0], capacity or 14 + 2 * keep)
    pending = start
    before: list[float] = []  # residuals of the iteration before
    explored, quick = 0, True
    settled: list[float] | None = None  # values when the last vector from outside was added
    while True:
        fresh = ritz.extend(pending)
        if not fresh and ritz.size < k and another is not None and ritz.used < max_products:
            pending = [another()]
            continue
        wanted = min(k, ritz.size)
        allowed = ritz.allowed(tolerance)
        guessed = ritz.quick_residuals(wanted, allowed) if quick else None
        residuals = ritz.residuals(wanted) if guessed is None else guessed
        doubts = residuals
        if settle > 1 and fresh:
            doubts = [1.25 * max(pair) for pair in zip_longest(residuals, before[:wanted], fillvalue=math.inf)]
        before = residuals
        open_pairs = [i for i in range(wanted) if doubts[i] > allowed]
        reached = not open_pairs and ritz.size >= k
        if reached and guard is not None and ritz.used == len(start):
            pending, guard = [guard], None
            continue
        exhausted = ritz.used >= max_products or not fresh
        ended = reached and (explored >= explore or not fresh)
        values = ritz.theta[:k].tolist()
        if ended and repeat and another is not None and ritz.used < max_products and _moved(values, settled, allowed):
            settled, explored, pending = values, 0, [another()]
        elif ended or exhausted:
            if guessed is not None:  # certified by the vectors themselves
                residuals, quick = ritz.residuals(wanted), False
            worst = max(residuals)
            if worst <= allowed or exhausted or not ended:
                floor = 1.25 * allowed if settle > 1 and fresh else 0.0
                count = min(keep, ritz.size)
                return RitzPairs(
                    ritz.theta[:count].tolist(), [max(r, floor) for r in residuals],
                    [ritz.vector(i) for i in range(count)], ritz.used,
                    converged=ritz.size >= k and worst <= allowed and (reached or not fresh),
                )  # fmt: skip
            pending = [ritz.rest(residuals.index(worst))]
        elif reached and ritz.size > k:
            explored += 1
            pending = [ritz.rest(k)]
        else:
            pending = [ritz.rest(max(open_pairs, key=lambda i: residuals[i]) if open_pairs else wanted - 1)]
        if ritz.size == ritz.capacity:
            ritz.compress(keep + 2)


def _moved(values: list[float], settled: list[float] | None, allowed: float) -> bool:
    """Whether the values changed since they were last taken for settled."""
    return settled is None or max(abs(a - b) for a, b in zip(values, settled, strict=True)) > allowed / 4


def mixed_with_noise(gradient: Vector, generator: torch.Generator) -> Vector:
    """The gradient's direction with a random part, as a gradient can be orthogonal to an eigenvector by symmetry."""
    noise = vectors.normalised(vectors.random_like(gradient, generator))
    unit = vectors.normalised(gradient)
    assert noise is not None
    return noise if unit is None else vectors.plus(unit, noise, 0.3)
