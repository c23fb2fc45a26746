"""Hessian products through the autograd graph of the gradient: for any model with second derivatives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_forward_pre_hook

from sgdscope.batches import Batch
from sgdscope.chain.layers import NotAChainError
from sgdscope.chain.products import Kind
from sgdscope.chain.trace import forward_replaced, loss_rate, slope_at
from sgdscope.risk import Risk
from sgdscope.vectors import Vector


class GraphProducts:
    """Loss, gradient and Hessian products of one batch; the gradient's graph is kept.

    To be made inside ``risk.evaluating``; products then need the graph alone, unless backward passes call the model
    (gradient checkpointing): `recomputes`. Cost of a product: 1 to 2.3 gradients.
    """

    span = None
    """Vectors are shaped like the parameters."""

    def __init__(self, risk: Risk, batch: Batch, leaves: list[Tensor]) -> None:
        loss = risk.loss(batch)
        self._leaves = leaves
        with _listening() as calls:
            self._graph = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
        self.recomputes = bool(calls)
        self.value = float(loss.detach())

    @property
    def gradient(self) -> Vector:
        """The gradient."""
        return [g.detach() for g in self._graph]

    def product(self, v: Sequence[Tensor], kind: Kind = "hessian") -> Vector:
        """``H v``; parameters the gradient's graph does not reach (linear loss) give zeros."""
        pairs = [(g, x) for g, x in zip(self._graph, v, strict=True) if g.requires_grad]
        if not pairs:
            return [torch.zeros_like(p) for p in self._leaves]
        outputs, cotangents = zip(*pairs, strict=True)
        return list(torch.autograd.grad(outputs, self._leaves, cotangents, retain_graph=True, materialize_grads=True))


@contextmanager
def _listening() -> Iterator[list[bool]]:
    """Notes whether any module is called within the block."""
    calls: list[bool] = []
    handle = register_module_forward_pre_hook(lambda module, inputs: calls.append(True))
    try:
        yield calls
    finally:
        handle.remove()


class GaussNewtonGraph:
    r"""Products with the Gauss-Newton matrix :math:`J^\top H_\ell J` of one batch, through autograd.

    J is the derivative of the model's output, found by calling the model once, :math:`H_\ell` the Hessian of the loss
    by that output. To be made inside ``risk.evaluating``. Cost of a product: 2 to 3 gradients.

    Raises ValueError if the loss is no function of the output of one call of the model.
    """

    span = None
    """Vectors are shaped like the parameters."""

    def __init__(self, risk: Risk, batch: Batch, leaves: list[Tensor]) -> None:
        self._leaves = leaves
        recorded: list[Tensor] = []
        original = risk.model.forward

        def forward(*inputs: object, **named: object) -> Tensor:
            with torch.enable_grad():
                output = original(*inputs, **named)
            if not isinstance(output, Tensor):
                raise NotAChainError(f"the model returns a {type(output).__name__}, not one tensor")
            recorded.append(output)
            return output

        try:
            with forward_replaced(risk.model, forward) as call:
                loss = risk.loss(batch)
            self._slope = slope_at(loss, call.output, leaves)
        except NotAChainError as error:
            raise ValueError(f"expected a loss of the output of one call of the model, for its Gauss-Newton matrix; "
                             f"got one where {error}") from None  # fmt: skip
        assert call.output is not None
        self._output, self._own = call.output, recorded[0]
        self.value = float(loss.detach())
        with _listening() as calls:
            self._pulled(self._slope.detach())
        self.recomputes = bool(calls)

    @property
    def gradient(self) -> Vector:
        """The gradient."""
        return self._pulled(self._slope.detach())

    @property
    def slope(self) -> Tensor:
        """Derivative of the loss by the model's output."""
        return self._slope.detach()

    def velocity(self, v: Sequence[Tensor]) -> Tensor:
        """``J v``, as the derivative by u of the linear map ``Jᵀ u``, along v."""
        with torch.enable_grad():
            u = torch.zeros_like(self._own, requires_grad=True)
            image = torch.autograd.grad(
                self._own, self._leaves, u, create_graph=True, retain_graph=True, materialize_grads=True
            )
            (velocity,) = torch.autograd.grad(image, u, list(v), materialize_grads=True)
        return velocity

    def product(self, v: Sequence[Tensor], kind: Kind = "gauss_newton") -> Vector:
        """``Jᵀ H_ℓ J v``."""
        with torch.enable_grad():
            rate = loss_rate(self._slope, self._output, self.velocity(v))
        return self._pulled(rate)

    def _pulled(self, slope: Tensor) -> Vector:
        found = torch.autograd.grad(self._own, self._leaves, slope, retain_graph=True, materialize_grads=True)
        return list(found)


class ResidualGraph:
    """Products with what the Hessian has besides its Gauss-Newton part, through autograd. Cost of a product: 3 to 5."""

    span = None
    """Vectors are shaped like the parameters."""

    def __init__(self, risk: Risk, batch: Batch, leaves: list[Tensor]) -> None:
        self._whole, self._straight = GraphProducts(risk, batch, leaves), GaussNewtonGraph(risk, batch, leaves)
        self.value = self._whole.value
        self.recomputes = self._whole.recomputes

    @property
    def gradient(self) -> Vector:
        """The gradient."""
        return self._whole.gradient

    def product(self, v: Sequence[Tensor], kind: Kind = "residual") -> Vector:
        """``(H − Jᵀ H_ℓ J) v``."""
        return list(torch._foreach_sub(self._whole.product(v), self._straight.product(v)))
