"""Vectors in parameter space: lists of tensors shaped like the parameters. Nothing is flattened into one copy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Vector = list[Tensor]

_BLOCK = 4
"""Vectors per block of a `Basis`."""


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
    """Vectors stored side by side in blocks of four, so that projecting on them is a few products per tensor.

    Memory: as many copies of the parameters as vectors, rounded up to the next multiple of four.
    """

    def __init__(self, like: Sequence[Tensor], capacity: int) -> None:
        self._like = [x.detach() for x in like]
        self._blocks: list[list[Tensor]] = []  # per block of vectors, per parameter: (up to _BLOCK, numel)
        self.capacity = capacity
        self.size = 0

    def row(self, index: int) -> Vector:
        """Vector number `index` (views)."""
        block = self._blocks[index // _BLOCK]
        return [part[index % _BLOCK].view(x.shape) for part, x in zip(block, self._like, strict=True)]

    def coefficients(self, v: Sequence[Tensor]) -> Tensor:
        """Inner products of `v` with each basis vector, shape ``(size,)``, double precision on the CPU."""
        found = []
        for block, count in self._used():
            total = torch.zeros(count, dtype=torch.float64)
            for part, x in zip(block, v, strict=True):
                total += (part[:count] @ x.reshape(-1)).double().cpu()
            found.append(total)
        return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)

    def combine(self, coefficients: Tensor) -> Vector:
        """``Σ coefficients[i] · basis[i]``."""
        return self.add_combination(None, coefficients)

    def add_combination(self, v: Sequence[Tensor] | None, coefficients: Tensor) -> Vector:
        """``v + Σ coefficients[i] · basis[i]``; overwrites `v` if given."""
        totals = None if v is None else [x.reshape(-1) for x in v]
        for number, (block, count) in enumerate(self._used()):
            weights = coefficients[number * _BLOCK : number * _BLOCK + count].to(block[0])
            if totals is None:
                totals = [part[:count].T @ weights for part in block]
            else:
                totals = [t.addmv_(part[:count].T, weights) for t, part in zip(totals, block, strict=True)]
        if totals is None:
            return [torch.zeros_like(x) for x in self._like]
        return [t.view(x.shape) for t, x in zip(totals, self._like, strict=True)]

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
            rest = self.add_combination(unit, -overlap)
            length = norm(rest)
            if length < 1e-5:
                return None
            torch._foreach_mul_(rest, 1 / length)
            unit = rest
        return unit

    def append(self, v: Sequence[Tensor]) -> None:
        """Add a vector as it is. Raises ValueError beyond `capacity`."""
        if self.size == self.capacity:
            raise ValueError(f"expected at most {self.capacity} basis vectors, got one more")
        if self.size == _BLOCK * len(self._blocks):
            self._blocks.append([x.new_empty((_BLOCK, x.numel())) for x in self._like])
        self.size += 1
        torch._foreach_copy_(self.row(self.size - 1), list(v))

    def compress(self, coefficients: Tensor) -> None:
        """Replace the basis by its combinations, shape ``(size, new size)``, one parameter at a time."""
        old, new = self.size, coefficients.shape[1]
        for index in range(len(self._like)):
            rows = torch.cat([block[index] for block in self._blocks])[:old]
            for start in range(0, new, _BLOCK):
                part = coefficients[:, start : start + _BLOCK].T.to(rows)
                torch.mm(part, rows, out=self._blocks[start // _BLOCK][index][: len(part)])
        self.size = new
        del self._blocks[-(-new // _BLOCK) :]

    def _used(self) -> list[tuple[list[Tensor], int]]:
        """Each block with the number of vectors in it."""
        return [
            (block, min(_BLOCK, self.size - number * _BLOCK))
            for number, block in enumerate(self._blocks)
            if self.size > number * _BLOCK
        ]
