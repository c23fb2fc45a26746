r"""Instrumented backward: noise and curvature of the very batch trained on, from what its own forward pass left behind.

A training step computes the inputs of all layers anyway. With them, the gradients of single samples need one pass of
slopes back, and on chains the batch's own curvature one of velocities forward: no forward pass of ours, no graph kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sgdscope.batches import Batch, length
from sgdscope.chain.curvature import along_gradient
from sgdscope.chain.layers import NotAChainError, layers_of
from sgdscope.chain.trace import Trace, forward_replaced, loss_rate, slope_at
from sgdscope.estimate import Estimate
from sgdscope.hessian.refusal import chain_refusal
from sgdscope.measure.gradient_noise import noise_of
from sgdscope.per_sample import layers
from sgdscope.per_sample.gram import GradientGram, layers_refusal
from sgdscope.per_sample.sides import NoSidesError, Side
from sgdscope.risk import Risk


@dataclass(frozen=True)
class OwnCurvature:
    """Of the batch trained on: ``curvature`` gᵀHg, ``squared_norm`` ‖g‖², and their ratio, its batch sharpness."""

    curvature: float
    squared_norm: float

    @property
    def sharpness(self) -> float:
        """``gᵀHg / ‖g‖²``, in loss / parameter²; times lr, 2 is the edge of this batch. 0 without gradient."""
        return self.curvature / self.squared_norm if self.squared_norm else 0.0


class InstrumentedBackward:
    """Listens to one training step; to be entered around its forward and backward pass::

        with InstrumentedBackward(risk) as heard:
            loss = loss_fn(model, batch)
            loss.backward()
        heard.noise(batch)         # tr Σ, noise scale: see `gradient_noise`
        heard.curvature(batch)     # gᵀHg of this batch; chains only

    Read before the optimizer's step: weights are taken as they are then. Training stays bit-identical; activations live
    on until the object is gone. Cost: a third to two thirds of a gradient for `noise`, about as much for `curvature`.

    Raises ValueError, when made, for a risk whose per-sample gradients cannot be had layer by layer, with the reason.
    """

    def __init__(self, risk: Risk) -> None:
        refusal = layers_refusal(risk)
        if refusal:
            raise ValueError(f"expected a model to be taken layer by layer, got one that cannot: {refusal}\n"
                             "hint: measure.gradient_noise has other ways")  # fmt: skip
        self.risk = risk
        self.is_chain = chain_refusal(risk) == ""
        self._steps: list[tuple[nn.Module, Tensor, Tensor]] = []
        self._handles: list[Any] = []
        self._sides: dict[nn.Module, Tensor] = {}
        self._slopes: dict[nn.Module, Tensor] = {}

    def __enter__(self) -> InstrumentedBackward:
        model = self.risk.model
        if self.is_chain:
            self._handles = [layer.register_forward_hook(self._note) for layer in layers_of(model)]
        else:
            wanted = {id(p) for p in self.risk.parameters}
            own = [m for m in model.modules() if any(id(p) in wanted for p in m.parameters(recurse=False))]
            self._handles = [layer.register_forward_hook(self._listen) for layer in own]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _note(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        self._steps.append((layer, inputs[0].detach(), output.detach()))

    def _listen(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if layer in self._sides:
            raise NoSidesError(f"{type(layer).__name__} is used more than once")
        self._sides[layer] = inputs[0].detach()
        output.register_hook(lambda slope: self._slopes.__setitem__(layer, slope.detach()))

    def gram(self, batch: Batch) -> GradientGram:
        """Inner products of the per-sample gradients of the batch, see `per_sample.GradientGram`.

        Raises ValueError if no step, or more than one, was heard, or its batch was another.
        """
        count = length(batch)
        inputs = [x for _, x, _ in self._steps] or list(self._sides.values())
        if any(len(x) != count for x in inputs):
            raise ValueError(f"expected the batch of the step that was heard ({len(inputs[0])} samples), got one of "
                             f"{count}")  # fmt: skip
        names = {module: name for name, module in self.risk.model.named_modules()}
        if self.is_chain:
            trace, slope, _, loss = self._trace(batch)
            with torch.no_grad():
                found = [Side(jet.layer, jet.input, d) for jet, d in trace.slopes(slope.detach())]
        else:
            if not self._slopes:
                raise ValueError("expected one forward and backward pass heard, got none\n"
                                 "hint: with InstrumentedBackward(risk) as heard: loss.backward()")  # fmt: skip
            found = [Side(layer, x, self._slopes[layer]) for layer, x in self._sides.items() if layer in self._slopes]
            loss = math.nan
        with torch.no_grad():
            grams = {names[s.layer]: layers.gram(s.layer, s.input, s.slope).double() * count**2 for s in found}
        return GradientGram(grams, loss, "the training step's own pass", 0.5)

    def noise(self, batch: Batch) -> Estimate:
        """Gradient noise of the batch trained on, as `measure.gradient_noise` of its samples."""
        found = self.gram(batch)
        settings = {"samples": length(batch), "method": found.method, "layers": list(found.layers)}
        return noise_of(found, settings, cost=found.cost)

    def curvature(self, batch: Batch) -> OwnCurvature:
        """Curvature of the batch's own loss along its own gradient.

        Raises ValueError where the model is no chain, or as `gram` does.
        """
        if not self.is_chain:
            raise ValueError(f"expected a chain of layers, got one that is none: {chain_refusal(self.risk)}\n"
                             "hint: Monitor.observe streams the edge ratio of any model")  # fmt: skip
        trace, slope, output, _ = self._trace(batch)
        with torch.no_grad():
            trace.backward(slope.detach())
            velocity, norms, curvatures = along_gradient(trace)
        velocity = velocity.reshape(output.shape)
        with torch.enable_grad():
            own = float((velocity * loss_rate(slope, output, velocity)).sum())
        return OwnCurvature(float(curvatures.sum()) + own, float(norms.sum()))

    def _trace(self, batch: Batch) -> tuple[Trace, Tensor, Tensor, float]:
        """The chain as the step's forward pass left it, and the loss's slope at the output, found anew."""
        expected = layers_of(self.risk.model)
        if [layer for layer, _, _ in self._steps] != expected:
            passes = len(self._steps) // max(len(expected), 1)
            raise ValueError(f"expected one forward pass heard, got {passes}\n"
                             "hint: one InstrumentedBackward for each training step")  # fmt: skip
        trace = Trace(expected)
        output = self._steps[-1][2]
        with self.risk.evaluating() as leaves:
            with torch.no_grad():
                for jet, (_, x, y) in zip(trace.jets, self._steps, strict=True):
                    jet.adopt(x, y)
            try:
                with forward_replaced(self.risk.model, lambda *_, **__: output) as call:
                    loss = self.risk.loss(self.risk.to_device(batch))
                slope = slope_at(loss, call.output, leaves)
            except NotAChainError as error:
                raise ValueError(f"expected the loss of one call of the model, got one where {error}") from None
        assert call.output is not None
        return trace, slope, call.output, float(loss.detach())
