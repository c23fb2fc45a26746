r"""Sums over the gradients :math:`g_i` of single samples by one parameter: Σ g and Σ g² by element, and what their
jackknife asks for, the inner products of the sums over blocks of samples.

A linear layer with one input a and one slope δ for each sample has :math:`g_i = \delta_i a_i^\top`, so
:math:`\sum g_i = \delta^\top a`, :math:`\sum g_i^2 = (\delta^2)^\top a^2` and :math:`g_i \cdot g_j = (\delta_i \cdot
\delta_j)(a_i \cdot a_j)`: no gradient of a sample is formed (Goodfellow 1510.01799).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

GRAM_UP_TO = 512
"""Samples up to which inner products of samples are cheaper than sums over blocks."""


class Sums:
    """Accumulates one parameter; samples belong to `blocks` blocks.

    Args:
        like: the parameter.
        weights: under which sums over elements are asked for: tensors like the parameter, or None for 1.
        blocks: how many; 1 if no jackknife is asked for.
    """

    def __init__(self, like: Tensor, weights: Sequence[Tensor | None], blocks: int) -> None:
        self.shape, self.blocks = like.shape, blocks
        self.asked = tuple(weights)
        self.weights = [None if w is None else w.to(like).reshape(-1) for w in weights]
        self.total = like.new_zeros(like.numel())
        self.squares = like.new_zeros(like.numel())
        self.block_squares = [like.new_zeros(blocks, dtype=torch.float64) for _ in weights]
        self._block_totals: Tensor | None = None
        self._products: Tensor | None = None

    def add(self, rows: Tensor, block: Tensor) -> None:
        """Take in gradients ``(n, *shape)`` of samples that belong to blocks ``(n,)``."""
        rows = rows.reshape(len(rows), -1)
        squares = rows.square()
        self.squares += squares.sum(0)
        for sums, weights in zip(self.block_squares, self.weights, strict=True):
            norms = squares.sum(1) if weights is None else squares @ weights
            sums.index_add_(0, block, norms.double())
        if self.blocks == 1:
            self.total += rows.sum(0)
        else:
            self._of_blocks().index_add_(0, block, rows)

    def add_linear(self, a: Tensor, slope: Tensor, block: Tensor, *, alone: bool) -> None:
        """Take in gradients ``δ_i a_iᵀ`` of samples, from a ``(n, in)`` and δ ``(n, out)``.

        `alone`: these are all there will be. For weights None only.
        """
        a_squared, slope_squared = a.square(), slope.square()
        self.squares += (slope_squared.t() @ a_squared).reshape(-1)
        norms = a_squared.double().sum(1) * slope_squared.double().sum(1)
        for sums in self.block_squares:
            sums.index_add_(0, block, norms)
        if self.blocks == 1:
            self.total += (slope.t() @ a).reshape(-1)
        elif alone and len(a) <= GRAM_UP_TO:
            self.total += (slope.t() @ a).reshape(-1)
            self._products = _summed((a @ a.t()).mul_(slope @ slope.t()).double(), block, self.blocks)
        else:
            of_blocks = self._of_blocks()
            for index in block.unique().tolist():
                own = block == index
                of_blocks[index] += (slope[own].t() @ a[own]).reshape(-1)

    def finish(self) -> None:
        """No more samples will come."""
        self.block_products: list[Tensor] = []
        if self.blocks == 1:
            return
        if self._products is not None:
            self.block_products = [self._products for _ in self.weights]
            return
        of_blocks = self._of_blocks()
        self.total += of_blocks.sum(0)
        for weights in self.weights:
            self.block_products.append(
                ((of_blocks if weights is None else of_blocks * weights) @ of_blocks.t()).double()
            )
        self._block_totals = None

    def _of_blocks(self) -> Tensor:
        if self._block_totals is None:
            self._block_totals = self.total.new_zeros(self.blocks, len(self.total))
        return self._block_totals


def _summed(products: Tensor, block: Tensor, blocks: int) -> Tensor:
    """Sums of a matrix ``(n, n)`` over pairs of blocks."""
    member = torch.nn.functional.one_hot(block, blocks).to(products)
    summed: Tensor = member.t() @ products @ member
    return summed
