"""Both sides of every layer in one pass over a batch: its input, and the slope of the loss by its output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sgdscope.batches import Batch, length
from sgdscope.chain.layers import NotAChainError, layers_of
from sgdscope.chain.trace import Trace, forward_replaced, loss_rate, slope_at
from sgdscope.hessian.refusal import chain_refusal
from sgdscope.per_sample.layers import why_not
from sgdscope.risk import Risk


class NoSidesError(ValueError):
    """Per-sample gradients cannot be had layer by layer; the message says why."""


@dataclass(frozen=True)
class Side:
    """One layer: `input` and `slope` have the samples first; slopes are those of the *mean* loss."""

    layer: nn.Module
    input: Tensor
    slope: Tensor


class Recording:
    """The layers of a model as one call of the loss passes through them, to be entered around that call.

    Raises NoSidesError if a trainable parameter is not in a layer of known kind that is used once, samples first.
    """

    def __init__(self, model: nn.Module, parameters: Sequence[Tensor], samples: int) -> None:
        self.model, self.samples = model, samples
        self.wanted = {id(p) for p in parameters}
        self.inputs: dict[nn.Module, Tensor] = {}
        self.outputs: dict[nn.Module, Tensor] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> Recording:
        layers, covered = [], []
        for layer in self.model.modules():
            own = [id(p) for p in layer.parameters(recurse=False)]
            trained = [p for p in own if p in self.wanted]
            if not trained:
                continue
            if reason := why_not(layer):
                raise NoSidesError(reason)
            if len(trained) < len(own):
                raise NoSidesError(f"{type(layer).__name__} is partly frozen")
            covered += trained
            layers.append(layer)
        if len(set(covered)) < len(covered):
            raise NoSidesError("tied parameters")
        if len(covered) < len(self.wanted):
            raise NoSidesError("parameters of no module")
        self._handles = [layer.register_forward_hook(self._note) for layer in layers]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _note(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        if layer in self.inputs:
            raise NoSidesError(f"{type(layer).__name__} is used more than once")
        if len(output) != self.samples:
            raise NoSidesError(f"{type(layer).__name__} has {len(output)} rows for {self.samples} samples")
        self.inputs[layer], self.outputs[layer] = inputs[0].detach(), output
        return output.clone()  # an operation in place on it would change what was recorded

    def sides(self, of: Tensor, slope: Tensor | None = None, *, keep: bool = False) -> list[Side]:
        """Inputs and slopes of all layers; of a loss, or for a given `slope` of an output."""
        layers = list(self.outputs)
        found = torch.autograd.grad(
            of, [self.outputs[x] for x in layers], slope, retain_graph=keep, materialize_grads=True
        )
        return [Side(x, self.inputs[x], d) for x, d in zip(layers, found, strict=True)]


def sides(risk: Risk, batch: Batch, *, seed: int = 0) -> tuple[list[Side], float]:
    """Both sides of every layer with parameters, and the loss of the batch. Cost: about two thirds of a gradient.

    Chains are passed by hand (`chain`), other models under autograd with hooks.

    Raises NoSidesError with the reason where the model does not allow it.
    """
    by_hand = not chain_refusal(risk)
    with risk.evaluating(seed=seed) as leaves:
        if by_hand:
            trace = Trace(layers_of(risk.model))
            with forward_replaced(risk.model, trace.forward) as call:
                loss = risk.loss(batch)
            slope = slope_at(loss, call.output, leaves).detach()
            with torch.no_grad():
                found = [Side(jet.layer, jet.input, d) for jet, d in trace.slopes(slope)]
            return found, float(loss.detach())
        with Recording(risk.model, leaves, length(batch)) as recording:
            loss = risk.loss(batch)
        return recording.sides(loss), float(loss.detach())


class OutputSides:
    """Both sides of every layer for *any* slope of the model's output: one pass forward, many back.

    To be made inside ``risk.evaluating`` (`by_hand`: a chain). For losses that are a function of one call of the model.

    Attributes:
        output: the model's output, samples first.

    Raises NoSidesError with the reason where the model does not allow it.
    """

    def __init__(self, risk: Risk, batch: Batch, leaves: list[Tensor], *, by_hand: bool) -> None:
        self._trace = Trace(layers_of(risk.model)) if by_hand else None
        self._recording: Recording | None = None
        try:
            if self._trace is not None:
                with forward_replaced(risk.model, self._trace.forward) as call:
                    loss = risk.loss(batch)
            else:
                original = risk.model.forward
                own: list[Tensor] = []

                def forward(*inputs: object, **named: object) -> Tensor:
                    with torch.enable_grad():
                        own.append(original(*inputs, **named))
                    if not isinstance(own[0], Tensor):
                        raise NotAChainError(f"the model returns a {type(own[0]).__name__}, not one tensor")
                    return own[0]

                recording = self._recording = Recording(risk.model, leaves, length(batch))
                with recording, forward_replaced(risk.model, forward) as call:
                    loss = risk.loss(batch)
                self._own = own[0]
            self._slope = slope_at(loss, call.output, leaves)
        except NotAChainError as error:
            raise NoSidesError(str(error)) from None
        assert call.output is not None
        if len(call.output) != length(batch):
            raise NoSidesError(f"the model's output has {len(call.output)} rows for {length(batch)} samples")
        self.output = call.output

    def sides(self, slope: Tensor) -> list[Side]:
        """Both sides of every layer with parameters, for a slope of the output, shaped like it. Cost: a third."""
        if self._trace is not None:
            with torch.no_grad():
                return [Side(jet.layer, jet.input, d) for jet, d in self._trace.slopes(slope)]
        assert self._recording is not None
        return self._recording.sides(self._own, slope, keep=True)

    def loss_hessian(self, v: Tensor) -> Tensor:
        """The Hessian of the loss by the output, times `v`, shaped like the output."""
        return loss_rate(self._slope, self.output, v)
