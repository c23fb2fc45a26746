r"""Sums over the gradients g of single samples by one parameter: Σ g, Σ g², and what their jackknife asks for.

A linear layer with one input a and one slope δ for each sample has :math:`g = \delta a^\top`. So Σ g is
:math:`\delta^\top a` with the samples as rows; Σ g² along a row is :math:`\sum \delta^2 \|a\|^2`, along a column
:math:`\sum \|\delta\|^2 a^2`; and :math:`g_i \cdot g_j = (\delta_i \cdot \delta_j)(a_i \cdot a_j)`: no gradient of a
sample is formed (Goodfellow 1510.01799).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sgdscope.measure.noise_traces.share import Share, along

GRAM_UP_TO = 512
"""Samples up to which inner products of samples are cheaper than sums over blocks."""


class Sums:
    """Accumulates one parameter; samples belong to `blocks` blocks.

    Args:
        like: the parameter.
        shares: of the parameter that sums are asked for.
        blocks: how many; 1 if no jackknife is asked for.
    """

    def __init__(self, like: Tensor, shares: Sequence[Share], blocks: int) -> None:
        self.shape, self.blocks, self._like = like.shape, blocks, like
        self.weights: list[Tensor | None] = []
        self._places = []
        for share in shares:
            if not any(w is share.weights for w in self.weights):
                self.weights.append(share.weights)
            self._places.append((share, next(i for i, w in enumerate(self.weights) if w is share.weights)))
        self._flat = [None if w is None else w.to(like).reshape(-1) for w in self.weights]
        self.by_sides = like.dim() == 2 and all(along(s.part, like.shape) and s.weights is None for s in shares)
        self.total = like.new_zeros(())
        self._squares: list[Tensor] = []  # by element, or by row and by column
        self._block_squares = [like.new_zeros(blocks, dtype=torch.float64) for _ in self.weights]
        self._block_totals: Tensor | None = None
        self._products: list[Tensor] = []

    def add(self, rows: Tensor, block: Tensor) -> None:
        """Take in gradients ``(n, *shape)`` of samples that belong to blocks ``(n,)``."""
        rows = rows.reshape(len(rows), -1)
        squares = rows.square()
        self._gather_squares(squares.sum(0))
        for sums, weights in zip(self._block_squares, self._flat, strict=True):
            norms = squares.sum(1) if weights is None else squares @ weights
            sums.index_add_(0, block, norms.double())
        if self.blocks == 1:
            self.total = self.total + rows.sum(0)
        else:
            self._of_blocks().index_add_(0, block, rows)

    def add_linear(self, a: Tensor, slope: Tensor, block: Tensor, *, alone: bool) -> None:
        """Take in gradients ``δ_i a_iᵀ`` of samples, from a ``(n, in)`` and δ ``(n, out)``.

        For shares by rows or columns only (`by_sides`). `alone`: these are all there will be.
        """
        a_squared, slope_squared = a.square(), slope.square()
        of_a, of_slope = a_squared.sum(1), slope_squared.sum(1)
        self._gather_squares(slope_squared.t() @ of_a, a_squared.t() @ of_slope)
        for sums in self._block_squares:
            sums.index_add_(0, block, of_a.double() * of_slope.double())
        if self.blocks == 1:
            self.total = self.total + (slope.t() @ a).reshape(-1)
        elif alone and len(a) <= GRAM_UP_TO:
            self.total = (slope.t() @ a).reshape(-1)
            products = (a @ a.t()).mul_(slope @ slope.t()).double()
            member = torch.nn.functional.one_hot(block, self.blocks).to(products)
            self._products = [member.t() @ products @ member]
        else:
            of_blocks = self._of_blocks()
            for index in block.unique().tolist():
                own = block == index
                of_blocks[index] += (slope[own].t() @ a[own]).reshape(-1)

    def finish(self) -> None:
        """No more samples will come."""
        if self._block_totals is not None:
            self.total = self._block_totals.sum(0)
            for weights in self._flat:
                weighted = self._block_totals if weights is None else self._block_totals * weights
                self._products.append((weighted @ self._block_totals.t()).double())
            self._block_totals = None
        mean_square = self.total.square()
        if len(self._squares) == 2:
            matrix = mean_square.reshape(self.shape)
            self._total_squared = [matrix.sum(1), matrix.sum(0)]
        else:
            self._total_squared = [mean_square]

    @property
    def finite(self) -> bool:
        """Whether all sums are finite."""
        return all(bool(torch.isfinite(s).all()) for s in self._squares)

    def of_units(self, share: Share) -> tuple[Tensor, Tensor]:
        """Σ_i ‖g_i‖² and ‖Σ_i g_i‖² of each unit of a share."""
        if len(self._squares) == 1:
            squares, total = (s[0].reshape(self.shape) for s in (self._squares, self._total_squared))
            return share.part.sums(squares).cpu(), share.part.sums(total).cpu()
        place, part = along(share.part, self.shape) or (0, share.part)
        return part.sums(self._squares[place]).cpu(), part.sums(self._total_squared[place]).cpu()

    def of_blocks(self, share: Share) -> tuple[Tensor, Tensor]:
        """The same of all units together with each block left out, shape ``(blocks,)``."""
        place = next(place for known, place in self._places if known is share)
        power = 1.0 if isinstance(share.part.power, Tensor) or share.weights is not None else share.part.power
        squares, products = self._block_squares[place].cpu(), self._products[place].cpu()
        total = products.sum() - 2 * products.sum(1) + products.diagonal()
        return power * (squares.sum() - squares), power * total

    def _gather_squares(self, *squares: Tensor) -> None:
        if not self._squares:
            self._squares = list(squares)
            return
        for known, more in zip(self._squares, squares, strict=True):
            known += more

    def _of_blocks(self) -> Tensor:
        if self._block_totals is None:
            self._block_totals = self._like.new_zeros(self.blocks, self._like.numel())
        return self._block_totals
