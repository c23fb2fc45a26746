"""Hessian products of a chain by forward and backward velocities (Pearlmutter 1994), without an autograd graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from sgdscope.batches import Batch
from sgdscope.chain.layers import layers_of
from sgdscope.chain.linear import Linear
from sgdscope.chain.pointwise import Reshape
from sgdscope.chain.span import Span, span_of
from sgdscope.chain.trace import Trace, forward_replaced, loss_rate, slope_at
from sgdscope.risk import Risk
from sgdscope.vectors import Vector

Kind = Literal["hessian", "gauss_newton", "residual"]
"""Which matrix: the Hessian, its Gauss-Newton part, or the rest of it."""

_PIECE = {"cpu": 4 << 20}
"""Bytes of the largest activation of one piece, by device: beyond that the caches no longer hold what is at work."""


class ChainProducts:
    r"""Loss, gradient and Hessian products of one batch on a chain.

    One pass forward and back is kept (`Trace`). A product moves the parameters along v: velocities forward, rates of
    change of the slopes backward, which give :math:`H v` layer by layer. The batch is passed in pieces that the caches
    hold; the loss sees it whole, so any loss of the model's output will do.

    To be made inside ``risk.evaluating``; the rest works outside too. Cost of a product: 1 to 1.3 gradients; memory:
    two to three times what a backward pass keeps.

    With `compact`, and fewer samples than features, vectors have the first layer's weights in coordinates of the
    inputs' `Span`; `restrict` and `lift` lead there and back. `span_for` is the risk that the batch is all data of.

    Raises NotAChainError if the model is none, or if the loss reaches the parameters otherwise than by one call of it.
    """

    recomputes = False
    """Whether products call the model."""

    def __init__(
        self, risk: Risk, batch: Batch, leaves: list[Tensor], *, compact: bool = False, span_for: Risk | None = None
    ) -> None:
        self._layers = layers_of(risk.model)
        self._pieces: list[Trace] = []
        self._sizes: list[int] = []
        with forward_replaced(risk.model, self._forward) as call:
            loss = risk.loss(batch)
        slope = slope_at(loss, call.output, leaves)
        assert call.output is not None
        self._output, self._slope = call.output, slope
        own = [p for jet in self._pieces[0].jets for p in jet.layer.parameters()]
        places = {id(p): i for i, p in enumerate(leaves)}
        self._places = [places[id(p)] for p in own]
        self.value = float(loss.detach())
        with torch.no_grad():
            for piece, part in zip(self._pieces, slope.detach().split(self._sizes), strict=True):
                piece.backward(part)
            self.span = self._compact(span_for) if compact else None

    @property
    def gradient(self) -> Vector:
        """The gradient, computed anew: a third of its cost."""
        with torch.no_grad():
            return self._summed(
                [g for jet in piece.jets if jet.parameters for g in jet.gradients(jet.slope)] for piece in self._pieces
            )

    def product(self, v: Sequence[Tensor], kind: Kind = "hessian") -> Vector:
        """``H v``; the Gauss-Newton part ``Jᵀ H_ℓ J v`` has only the loss's curvature, the residual the network's."""
        pull = self._pull_straight if kind == "gauss_newton" else self._pull
        velocity = self.velocity(v)
        with torch.enable_grad():
            rate = torch.zeros_like(velocity) if kind == "residual" else (
                loss_rate(self._slope, self._output, velocity))  # fmt: skip
        with torch.no_grad():
            parts = zip(self._pieces, rate.split(self._sizes), strict=True)
            return self._summed(pull(piece, part, v) for piece, part in parts)

    @property
    def slope(self) -> Tensor:
        """Derivative of the loss by the model's output."""
        return self._slope.detach()

    def velocity(self, v: Sequence[Tensor]) -> Tensor:
        """Velocity ``J v`` of the model's output."""
        with torch.no_grad():
            return torch.cat([self._push(piece, v) for piece in self._pieces]).reshape(self._output.shape)

    def restrict(self, v: Sequence[Tensor]) -> Vector:
        """What a vector shaped like the parameters is in the coordinates of `span`; itself without one."""
        return self._in_first_layer(v, "restrict")

    def lift(self, v: Sequence[Tensor]) -> Vector:
        """The vector shaped like the parameters that is `v` in the coordinates of `span`; itself without one."""
        return self._in_first_layer(v, "lift")

    def _in_first_layer(self, v: Sequence[Tensor], way: Literal["restrict", "lift"]) -> Vector:
        moved = list(v)
        if self.span is not None:
            place = self._places[0]  # the weight of the first layer with parameters
            with torch.no_grad():
                moved[place] = getattr(self.span, way)(self._inputs, moved[place])
        return moved

    def _compact(self, span_for: Risk | None) -> Span | None:
        """Feed the first layer with the coordinates of the data, if that pays."""
        first = self._pieces[0].first
        below, lowest = self._pieces[0].jets[:first], self._pieces[0].jets[first]
        plain = all(isinstance(jet, Reshape) for jet in below)
        if not plain or not isinstance(lowest, Linear) or lowest.input.dim() != 2:
            return None
        self._inputs = self._given.flatten(1)
        span = span_of(self._inputs, len(lowest.weight), span_for)
        if span is not None:
            for piece, rows in zip(self._pieces, span.coordinates.split(self._sizes), strict=True):
                piece.jets[first].input = rows
        return span

    def _forward(self, x: Tensor) -> Tensor:
        """In pieces; one sample tells how large they may be."""
        limit = _PIECE.get(x.device.type, 1 << 30)
        self._given = x
        few, widest, sample = x[:1], 1, Trace(self._layers)
        for index, jet in enumerate(sample.jets):
            few = jet.forward(few)
            if index >= sample.first:
                widest = max(widest, few.numel() * few.element_size())
        size = max(1, limit // widest)
        count = -(-len(x) // size)
        outputs = []
        for part in x.chunk(count):
            piece = Trace(self._layers)
            outputs.append(piece.forward(part))
            self._pieces.append(piece)
            self._sizes.append(len(part))
        return torch.cat(outputs) if count > 1 else outputs[0]

    def _directions(self, piece: Trace, v: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """The part of `v` for each layer."""
        places = iter(self._places)
        for jet in piece.jets:
            yield [v[next(places)] for _ in jet.parameters]

    def _push(self, piece: Trace, v: Sequence[Tensor]) -> Tensor:
        velocity: Tensor | None = None
        for jet, direction in zip(piece.jets, self._directions(piece, v), strict=True):
            if velocity is not None or direction:
                velocity = jet.push(velocity, direction)
        assert velocity is not None
        return velocity

    def _pull(self, piece: Trace, rate: Tensor, v: Sequence[Tensor]) -> list[Tensor]:
        products: list[Tensor] = []
        directions = list(self._directions(piece, v))
        for index in reversed(piece.moving):
            jet = piece.jets[index]
            rate, found = jet.pull_rate(rate, directions[index], to_input=index > piece.first)
            products[:0] = found
            jet.velocity = None
        return products

    def _pull_straight(self, piece: Trace, rate: Tensor, v: Sequence[Tensor]) -> list[Tensor]:
        """As a slope is pulled: `v` no longer matters."""
        products: list[Tensor] = []
        for index in reversed(piece.moving):
            jet = piece.jets[index]
            products[:0] = jet.gradients(rate)
            jet.velocity = None
            if index > piece.first:
                rate = jet.pull(rate)
        return products

    def _summed(self, parts: Iterator[list[Tensor]] | Sequence[list[Tensor]]) -> Vector:
        """Sum over pieces, in the order of the risk's parameters."""
        total: list[Tensor] = []
        for part in parts:
            if total:
                torch._foreach_add_(total, part)
            else:
                total = part
        ordered: list[Tensor] = [total[0]] * len(total)
        for place, tensor in zip(self._places, total, strict=True):
            ordered[place] = tensor.contiguous()
        return ordered
