"""One pass through a chain: forward to the output, and the loss's derivative back to every layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sgdscope.chain.jet import Jet
from sgdscope.chain.layers import NotAChainError, jets_of


class Trace:
    """The jets of a chain's layers, holding what one pass forward and back left in them."""

    def __init__(self, layers: list[nn.Module], groups: int = 1) -> None:
        self.jets = jets_of(layers, groups)
        self.groups = groups
        self.first = next(i for i, jet in enumerate(self.jets) if jet.parameters)
        """The first layer with parameters: below it nothing moves, and no derivative is needed."""

    def forward(self, x: Tensor) -> Tensor:
        """The model's output."""
        for jet in self.jets:
            x = jet.forward(x)
        return x

    def backward(self, slope: Tensor) -> None:
        """Carry the loss derivative down to the output of each layer; gradients by weights are not formed."""
        for index in reversed(self.moving):
            slope = self.jets[index].backward(slope, to_input=index > self.first)

    def slopes(self, slope: Tensor) -> list[tuple[Jet, Tensor]]:
        """Each layer with parameters and the derivative by its output, for any slope; nothing is kept for products."""
        found = []
        for index in reversed(self.moving):
            jet = self.jets[index]
            if jet.parameters:
                found.append((jet, slope))
            if index > self.first:
                slope = jet.pull(slope)
        return found[::-1]

    @property
    def moving(self) -> range:
        """The layers from the first with parameters on."""
        return range(self.first, len(self.jets))


class forward_replaced:  # noqa: N801 (reads as a verb where it is used)
    """Within the block, calling the model, once, runs `function` instead of its forward, and gives a fresh leaf.

    Attributes:
        output: the leaf, or None if the model was not called yet.

    Raises NotAChainError in the model's second call: derivatives of the first would be lost.
    """

    def __init__(self, model: nn.Module, function: Callable[..., Tensor]) -> None:
        self.model, self.function = model, function
        self.output: Tensor | None = None

    def __enter__(self) -> forward_replaced:
        self._before = self.model.__dict__.get("forward")
        self.model.__dict__["forward"] = self._forward
        return self

    def __exit__(self, *_: object) -> None:
        del self.model.__dict__["forward"]
        if self._before is not None:
            self.model.__dict__["forward"] = self._before

    def _forward(self, *inputs: Any, **named: Any) -> Tensor:
        if self.output is not None:
            raise NotAChainError("the loss calls the model more than once")
        if any(isinstance(x, Tensor) and x.requires_grad for x in (*inputs, *named.values())):
            raise NotAChainError("the model's input depends on the parameters")
        with torch.no_grad():
            self.output = self.function(*inputs, **named).detach()
        return self.output.requires_grad_()


def slope_at(loss: Tensor, output: Tensor | None, leaves: list[Tensor]) -> Tensor:
    """Derivative of the loss by the model's output, differentiable once more.

    Raises NotAChainError if the loss reaches the parameters past that output (a weight penalty).
    """
    if output is None or not loss.requires_grad:
        raise NotAChainError("the loss does not depend on the model's output")
    slope, *past = torch.autograd.grad(loss, [output, *leaves], create_graph=True, allow_unused=True)
    if slope is None:
        raise NotAChainError("the loss does not depend on the model's output")
    if any(p is not None for p in past):
        raise NotAChainError("the loss reaches the parameters past the model's output")
    return slope


def loss_rate(slope: Tensor, output: Tensor, velocity: Tensor) -> Tensor:
    """Rate of change of `slope` as the output moves with `velocity`: the loss's own Hessian times it."""
    if not slope.requires_grad:  # loss linear in the output
        return torch.zeros_like(velocity)
    (rate,) = torch.autograd.grad(slope, output, velocity, retain_graph=True, materialize_grads=True)
    return rate
