"""Hessian: second derivatives of a risk as products with vectors, the gradient's graph kept where that is cheaper."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from sgdscope import vectors
from sgdscope.batches import Batch, length
from sgdscope.evaluation import plain_autograd
from sgdscope.risk import Risk, whole
from sgdscope.vectors import Vector

GRADIENT, PRODUCT_ON_GRAPH, PRODUCT_REBUILT = 1.0, 1.0, 2.0
"""Cost convention, in gradient evaluations on the same data."""


class Hessian:
    r"""The Hessian :math:`\nabla^2 L` of a risk at its present parameters, on a batch or over all data.

    Use it as a context manager::

        with Hessian(risk) as hessian:
            hessian.gradient              # came with the graph
            hessian.product(v)            # H v
            hessian.products([v, w])      # several at once

    If the data fit one chunk the graph of the gradient is built once and every product costs one backward pass
    through it. Over several chunks each call of `products` rebuilds the graph chunk by chunk (cost 1 + number of
    vectors), so memory stays that of one chunk. The parameters must not change while the context is open.

    Attributes:
        cost: gradient evaluations spent so far.
    """

    def __init__(self, risk: Risk, batch: Batch | None = None, *, seed: int = 0) -> None:
        self.risk = risk
        self.seed = seed
        self.cost = 0.0
        self._batch = whole(risk) if batch is None else batch
        self._open = False
        self._leaves: list[Tensor] = []
        self._graph: tuple[Tensor, ...] | None = None
        self._value: float | None = None
        self._gradient: Vector | None = None

    def __enter__(self) -> Hessian:
        self._open = True
        if self._batch is not None:
            # The model is held only while the graph is built; products then need the graph alone.
            with self.risk.evaluating(seed=self.seed, second_order=True) as self._leaves:
                loss = self.risk.loss(self.risk.to_device(self._batch))
                self._graph = torch.autograd.grad(loss, self._leaves, create_graph=True, materialize_grads=True)
            self._value = float(loss.detach())
            self._gradient = [g.detach() for g in self._graph]
            self.cost += GRADIENT
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._graph = None
        self._leaves = []
        self._open = False

    @property
    def value(self) -> float:
        """The loss."""
        self._need_gradient()
        assert self._value is not None
        return self._value

    @property
    def gradient(self) -> Vector:
        """The gradient."""
        self._need_gradient()
        assert self._gradient is not None
        return self._gradient

    def _need_gradient(self) -> None:
        if self._gradient is None:
            self._value, self._gradient = self.risk.gradient(self._batch, seed=self.seed)
            self.cost += GRADIENT

    def product(self, v: Sequence[Tensor]) -> Vector:
        """``H v``, shaped like the parameters."""
        return self.products([v])[0]

    def products(self, vs: Sequence[Sequence[Tensor]]) -> list[Vector]:
        """``H v`` for each `v`; over several chunks the graph of each chunk serves all vectors."""
        if not self._open:
            raise RuntimeError(
                "expected an open Hessian, got one outside its with block\nhint: with Hessian(risk) as hessian: ..."
            )
        if self._graph is not None:
            self.cost += PRODUCT_ON_GRAPH * len(vs)
            with plain_autograd(self.risk.device.type):
                return [_backward(self._graph, self._leaves, v) for v in vs]
        risk = self.risk
        # One block over all chunks, so that dropout masks are those of `risk.gradient`.
        with risk.evaluating(seed=self.seed, second_order=True) as leaves:
            totals = [[torch.zeros_like(p) for p in leaves] for _ in vs]
            for chunk in risk.chunks():
                self._add_products(totals, chunk, leaves, vs)
        self.cost += GRADIENT + PRODUCT_ON_GRAPH * len(vs)
        return totals

    def _add_products(
        self, totals: list[Vector], chunk: Batch, leaves: list[Tensor], vs: Sequence[Sequence[Tensor]]
    ) -> None:
        """One chunk's share, in a function of its own so that its graph is gone before the next is built."""
        graph = torch.autograd.grad(self.risk.loss(chunk), leaves, create_graph=True, materialize_grads=True)
        weight = length(chunk) / self.risk.size
        last = len(vs) - 1
        for index, (total, v) in enumerate(zip(totals, vs, strict=True)):
            torch._foreach_add_(total, _backward(graph, leaves, v, keep=index < last), alpha=weight)

    def curvature(self, v: Sequence[Tensor]) -> float:
        """``vᵀ H v``."""
        return vectors.dot(v, self.product(v))

    def linear_operator(self) -> LinearOperator:
        """As a SciPy linear operator on flat float64 vectors, for `scipy.sparse.linalg` and libraries built on it."""
        shapes = [p.shape for p in self.risk.parameters]
        sizes = [p.numel() for p in self.risk.parameters]
        like = self.risk.parameters[0]

        def matvec(flat: NDArray[np.float64]) -> NDArray[np.float64]:
            parts = torch.from_numpy(np.ascontiguousarray(flat).reshape(-1)).to(like).split(sizes)
            image = self.product([part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)])
            return torch.cat([x.reshape(-1) for x in image]).double().cpu().numpy()

        count = sum(sizes)
        return LinearOperator((count, count), matvec=matvec, rmatvec=matvec, dtype=np.float64)


def _backward(graph: Sequence[Tensor], leaves: Sequence[Tensor], v: Sequence[Tensor], *, keep: bool = True) -> Vector:
    """One backward pass through the gradient's graph; parameters it does not reach (linear loss) give zeros."""
    pairs = [(g, x) for g, x in zip(graph, v, strict=True) if g.requires_grad]
    if not pairs:
        return [torch.zeros_like(p) for p in leaves]
    outputs, cotangents = zip(*pairs, strict=True)
    return list(torch.autograd.grad(outputs, leaves, cotangents, retain_graph=keep, materialize_grads=True))
