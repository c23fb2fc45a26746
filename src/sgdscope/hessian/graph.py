"""Hessian products through the autograd graph of the gradient: for any model with second derivatives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sgdscope.batches import Batch
from sgdscope.risk import Risk
from sgdscope.vectors import Vector


class GraphProducts:
    """Loss, gradient and Hessian products of one batch; the gradient's graph is kept.

    To be made inside ``risk.evaluating``; products then need the graph alone. Cost of a product: 1 to 2.3 gradients.
    """

    span = None
    """Vectors are shaped like the parameters."""

    def __init__(self, risk: Risk, batch: Batch, leaves: list[Tensor]) -> None:
        loss = risk.loss(batch)
        self._leaves = leaves
        self._graph = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
        self.value = float(loss.detach())

    @property
    def gradient(self) -> Vector:
        """The gradient."""
        return [g.detach() for g in self._graph]

    def product(self, v: Sequence[Tensor]) -> Vector:
        """``H v``; parameters the gradient's graph does not reach (linear loss) give zeros."""
        pairs = [(g, x) for g, x in zip(self._graph, v, strict=True) if g.requires_grad]
        if not pairs:
            return [torch.zeros_like(p) for p in self._leaves]
        outputs, cotangents = zip(*pairs, strict=True)
        return list(torch.autograd.grad(outputs, self._leaves, cotangents, retain_graph=True, materialize_grads=True))
