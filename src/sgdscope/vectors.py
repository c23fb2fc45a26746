"""Vectors in parameter space: lists of tensors shaped like the parameters. Nothing is flattened into one copy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Vector = list[Tensor]


def dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Inner product over all tensors, summed across tensors in double precision."""
    with torch.no_grad():
        parts = [torch.dot(x.reshape(-1), y.reshape(-1)) for x, y in zip(a, b, strict=True)]
        if not parts:
            return 0.0
        first = parts[0]
        if any(p.dtype != first.dtype or p.device != first.device for p in parts):
            parts = [p.double().cpu() for p in parts]
        try:
            return math.fsum(torch.stack(parts).tolist())
        except (ValueError, OverflowError):  # infinities of both signs, or a sum beyond the range
            return math.nan


def norm(a: Sequence[Tensor]) -> float:
    """Euclidean norm over all tensors."""
    return math.sqrt(max(dot(a, a), 0.0))


def scaled(a: Sequence[Tensor], factor: float) -> Vector:
    """``factor · a``, new tensors."""
    return list(torch._foreach_mul(list(a), factor))


def plus(a: Sequence[Tensor], b: Sequence[Tensor], factor: float = 1.0) -> Vector:
    """``a + factor · b``, new tensors."""
    return list(torch._foreach_add(list(a), list(b), alpha=factor))


def normalised(a: Sequence[Tensor]) -> Vector | None:
    """``a / ‖a‖``; None if the norm is zero or not finite."""
    length = norm(a)
    return scaled(a, 1 / length) if math.isfinite(length) and length > 0 else None


def random_like(a: Sequence[Tensor], generator: torch.Generator) -> Vector:
    """A standard normal vector shaped like `a`, drawn on the generator's device."""
    return [torch.randn(x.shape, generator=generator, device=generator.device, dtype=torch.float32).to(x) for x in a]


class Basis:
    """Vectors stored side by side, so that projecting on all of them is one product per tensor.

    Memory: as many copies of the parameters as vectors, rounded up to the next power of two.
    """

    def __init__(self, like: Sequence[Tensor], capacity: int) -> None:
        self._like = [x.detach() for x in like]
        self._blocks: list[Tensor] = [x.new_empty((0, x.numel())) for x in self._like]
        self.capacity = capacity
        self.size = 0

    def row(self, index: int) -> Vector:
        """Vector number `index` (views)."""
        return [block[index].reshape(x.shape) for block, x in zip(self._blocks, self._like, strict=True)]

    def coefficients(self, v: Sequence[Tensor]) -> Tensor:
        """Inner products of `v` with each basis vector, shape ``(size,)``, double precision on the CPU."""
        total = torch.zeros(self.size, dtype=torch.float64)
        for block, x in zip(self._blocks, v, strict=True):
            total += (block[: self.size] @ x.reshape(-1)).double().cpu()
        return total

    def combine(self, coefficients: Tensor) -> Vector:
        """``Σ coefficients[i] · basis[i]``."""
        return [
            (coefficients.to(block) @ block[: self.size]).reshape(x.shape)
            for block, x in zip(self._blocks, self._like, strict=True)
        ]

    def orthogonalise(self, v: Sequence[Tensor]) -> Vector | None:
        """`v` without its part in the (orthonormal) basis, at unit length; None if only rounding is left.

        Twice is enough: a second sweep removes what rounding left of the first.
        """
        unit = normalised(v)
        for _ in range(2):
            if unit is None or self.size == 0:
                return unit
            overlap = self.coefficients(unit)
            if float(overlap.norm()) < 1e-5:  # residuals of Ritz pairs come orthogonal up to rounding
                return unit
            rest = plus(unit, self.combine(overlap), -1.0)
            if norm(rest) < 1e-5:
                return None
            unit = normalised(rest)
        return unit

    def append(self, v: Sequence[Tensor]) -> None:
        """Add a vector as it is. Raises ValueError beyond `capacity`."""
        if self.size == self.capacity:
            raise ValueError(f"expected at most {self.capacity} basis vectors, got one more")
        if self.size == len(self._blocks[0]):
            grown = min(max(4, 2 * self.size), self.capacity)
            for index, block in enumerate(self._blocks):
                larger = block.new_empty((grown, block.shape[1]))
                larger[: self.size] = block
                self._blocks[index] = larger
        for block, x in zip(self._blocks, v, strict=True):
            block[self.size].copy_(x.reshape(-1))
        self.size += 1

    def compress(self, coefficients: Tensor) -> None:
        """Replace the basis by its combinations, shape ``(size, new size)``."""
        for block in self._blocks:
            block[: coefficients.shape[1]] = coefficients.T.to(block) @ block[: self.size]
        self.size = coefficients.shape[1]
