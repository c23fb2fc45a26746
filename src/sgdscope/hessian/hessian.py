"""Hessian: second derivatives of a risk as products with vectors, by the fastest way that its model allows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from sgdscope import vectors
from sgdscope.batches import Batch, length
from sgdscope.chain.products import ChainProducts, Kind
from sgdscope.chain.span import Span
from sgdscope.evaluation import plain_autograd
from sgdscope.hessian.graph import GaussNewtonGraph, GraphProducts, ResidualGraph
from sgdscope.hessian.refusal import chain_refusal
from sgdscope.risk import Risk, whole
from sgdscope.vectors import Vector

GRADIENT, PRODUCT_ON_GRAPH = 1.0, 1.0
"""Cost convention, in gradient evaluations on the same data."""

Method = Literal["auto", "chain", "graph"]


_Products = ChainProducts | GraphProducts | GaussNewtonGraph | ResidualGraph
_THROUGH_GRAPHS: dict[Kind, type[GraphProducts] | type[GaussNewtonGraph] | type[ResidualGraph]] = {
    "hessian": GraphProducts,
    "gauss_newton": GaussNewtonGraph,
    "residual": ResidualGraph,
}


class Hessian:
    r"""The Hessian :math:`\nabla^2 L` of a risk at its present parameters, on a batch or over all data.

    Use it as a context manager::

        with Hessian(risk) as hessian:
            hessian.gradient              # comes at no extra cost
            hessian.product(v)            # H v
            hessian.products([v, w])      # several at once

    If the data fit one chunk, what a product needs of the gradient is computed once and kept, and every product costs
    about one gradient. Over several chunks each call of `products` does so chunk by chunk (cost 1 + number of
    vectors), so memory stays that of one chunk. The parameters must not change while the context is open.

    Products are taken through the autograd graph of the gradient, ``method="graph"``, or for chains of layers
    (`chain`) by hand-written derivatives, ``"chain"``: faster with convolutions, in less memory. ``"auto"`` takes
    the second where a comparison on a few samples, once per risk, agrees; `refusal` says why not.

    ``kind="gauss_newton"`` gives the Gauss-Newton matrix :math:`J^\top H_\ell J` instead (J: derivative of the model's
    output, :math:`H_\ell`: Hessian of the loss by it), for losses that are a function of one call of the model;
    ``kind="residual"`` the rest of the Hessian, the network's own curvature.

    ``compact=True`` asks for shorter vectors where a network by hand is fed with fewer samples than they have features
    (see `chain.span`): all vectors, the gradient too, are then in coordinates of the data's span, with the same inner
    products and the same eigenvalues except for zeros. `restrict` and `lift` lead there and back; `span` is None where
    vectors are as ever.

    Attributes:
        cost: gradient evaluations spent so far.
        span: coordinates of the compact vectors while open; None if they are shaped like the parameters.
        refusal: why products are not taken by hand; empty if they are.

    Raises ValueError for an unknown method or kind, for ``"chain"`` on a risk that refuses it, and on entering for the
    Gauss-Newton matrix of a loss that has none.
    """

    def __init__(
        self, risk: Risk, batch: Batch | None = None, *, seed: int = 0, method: Method = "auto",
        kind: Kind = "hessian", compact: bool = False,
    ) -> None:  # fmt: skip
        if kind not in ("hessian", "gauss_newton", "residual"):
            raise ValueError(f"expected kind 'hessian', 'gauss_newton' or 'residual', got {kind!r}")
        if method not in ("auto", "chain", "graph"):
            raise ValueError(f"expected method 'auto', 'chain' or 'graph', got {method!r}")
        self.refusal = "asked for the graph" if method == "graph" else chain_refusal(risk)
        if method == "chain" and self.refusal:
            raise ValueError(f"expected a risk whose products can be taken by hand, got one that cannot: {self.refusal}"
                             "\nhint: method='auto'")  # fmt: skip
        self.risk = risk
        self.seed = seed
        self.cost = 0.0
        self.kind: Kind = kind
        self.compact = compact
        self.span: Span | None = None
        self._whole = batch is None
        self._batch = whole(risk) if batch is None else batch
        self._open = False
        self._kept: _Products | None = None
        self._value: float | None = None
        self._gradient: Vector | None = None

    def __enter__(self) -> Hessian:
        self._open = True
        if self._batch is not None:
            # The model is held only while its derivatives are recorded.
            with self.risk.evaluating(seed=self.seed, second_order=True) as leaves:
                self._kept = self._recorded(self.risk.to_device(self._batch), leaves)
                self.span = self._kept.span
                self._value = self._kept.value
            self.cost += GRADIENT
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.span is not None:
            self._gradient = None  # its coordinates are gone
        self._kept = self.span = None
        self._open = False

    @property
    def value(self) -> float:
        """The loss."""
        if self._value is None:
            self._measure()
        assert self._value is not None
        return self._value

    @property
    def gradient(self) -> Vector:
        """The gradient, kept once asked for; in coordinates of `span` if there is one."""
        if self._gradient is None:
            if self._kept is not None:
                with self._around(self._kept):
                    self._gradient = self._kept.gradient
            else:
                self._measure()
        assert self._gradient is not None
        return self._gradient

    def _measure(self) -> None:
        self._value, self._gradient = self.risk.gradient(self._batch, seed=self.seed)
        self.cost += GRADIENT

    def product(self, v: Sequence[Tensor]) -> Vector:
        """``H v``, shaped like the parameters."""
        return self.products([v])[0]

    def products(self, vs: Sequence[Sequence[Tensor]]) -> list[Vector]:
        """``H v`` for each `v`; over several chunks what is recorded of each chunk serves all vectors."""
        if not self._open:
            raise RuntimeError(
                "expected an open Hessian, got one outside its with block\nhint: with Hessian(risk) as hessian: ..."
            )
        if self._kept is not None:
            self.cost += PRODUCT_ON_GRAPH * len(vs)
            with self._around(self._kept):
                return [self._kept.product(v, self.kind) for v in vs]
        risk = self.risk
        # One block over all chunks, so that dropout masks are those of `risk.gradient`.
        with risk.evaluating(seed=self.seed, second_order=True) as leaves:
            totals = [[torch.zeros_like(p) for p in leaves] for _ in vs]
            for chunk in risk.chunks():
                self._add_products(totals, chunk, leaves, vs)
        self.cost += GRADIENT + PRODUCT_ON_GRAPH * len(vs)
        return totals

    def output_slopes(self, vs: Sequence[Sequence[Tensor]]) -> tuple[Tensor, list[Tensor]]:
        """Slope of the loss by the model's output, and for each `v` the output's velocity as parameters move along it.

        For one batch or data of one chunk. Raises ValueError over several chunks, or where kind is not Gauss-Newton.
        """
        kept = self._kept
        if kept is None or isinstance(kept, GraphProducts | ResidualGraph):
            raise ValueError("expected an open Hessian of kind 'gauss_newton' on one batch\n"
                             "hint: with Hessian(risk, batch, kind='gauss_newton') as hessian: ...")  # fmt: skip
        with self._around(kept):
            return kept.slope, [kept.velocity(v) for v in vs]

    def _around(self, kept: _Products) -> AbstractContextManager[object]:
        """Where a product may be taken: anywhere, unless it calls the model again."""
        if kept.recomputes:
            return self.risk.evaluating(seed=self.seed, second_order=True)
        return plain_autograd(self.risk.device.type)

    def restrict(self, v: Sequence[Tensor]) -> Vector:
        """A vector shaped like the parameters, as products take it."""
        return self._kept.restrict(v) if isinstance(self._kept, ChainProducts) else list(v)

    def lift(self, v: Sequence[Tensor]) -> Vector:
        """A vector that products take or give, shaped like the parameters."""
        return self._kept.lift(v) if isinstance(self._kept, ChainProducts) else list(v)

    def _recorded(self, batch: Batch, leaves: list[Tensor]) -> _Products:
        if self.refusal:
            return _THROUGH_GRAPHS[self.kind](self.risk, batch, leaves)
        single = self._batch is not None
        return ChainProducts(self.risk, batch, leaves, compact=self.compact and single,
                             span_for=self.risk if self._whole else None)  # fmt: skip

    def _add_products(
        self, totals: list[Vector], chunk: Batch, leaves: list[Tensor], vs: Sequence[Sequence[Tensor]]
    ) -> None:
        """One chunk's share, in a function of its own so that what it records is gone before the next begins."""
        kept = self._recorded(chunk, leaves)
        weight = length(chunk) / self.risk.size
        for total, v in zip(totals, vs, strict=True):
            torch._foreach_add_(total, kept.product(v, self.kind), alpha=weight)

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
