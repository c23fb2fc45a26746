"""Layers without parameters that act entry by entry: activations, and changes of shape."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sgdscope.chain.jet import Contribution, Jet

POINTWISE: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Softplus, nn.ELU, nn.LeakyReLU, nn.CELU, nn.Mish, nn.LogSigmoid,
)  # fmt: skip


class Reshape(Jet):
    """Flatten and Identity."""

    def forward(self, x: Tensor) -> Tensor:
        """The same numbers; keeps both shapes."""
        output = super().forward(x)
        self.shape = output.shape
        return output

    def backward(self, slope: Tensor, *, to_input: bool = True) -> Tensor:
        """Keeps nothing."""
        return self.pull(slope)

    def pull(self, slope: Tensor) -> Tensor:
        """The same numbers in the input's shape."""
        return slope.reshape(self.input.shape)

    def push(self, velocity: Tensor | None, direction: Sequence[Tensor]) -> Tensor | None:
        """The same numbers in the output's shape."""
        return None if velocity is None else velocity.reshape(self.shape)

    def pull_rate(self, rate: Tensor, direction: Sequence[Tensor], *, to_input: bool) -> tuple[Tensor, list[Tensor]]:
        """The same numbers in the input's shape."""
        return self.pull(rate), []

    def push_along_gradient(self, velocity: Tensor | None) -> tuple[Tensor | None, Contribution]:
        """The same numbers in the output's shape."""
        return self.push(velocity, ()), None


class Pointwise(Jet):
    """Activations: first and second derivative, entry by entry."""

    first: Tensor
    bend: Tensor | None
    """φ'', and once the slope has arrived slope ∘ φ''; None where φ'' is zero."""

    def forward(self, x: Tensor) -> Tensor:
        """φ(x), with φ' and φ'' kept."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            a = self.layer(leaf)
            (first,) = torch.autograd.grad(a.sum(), leaf, create_graph=True)
            bend = None
            if first.requires_grad:
                (bend,) = torch.autograd.grad(first.sum(), leaf, materialize_grads=True)
        self.first, self.bend = first.detach(), bend
        output: Tensor = a.detach()
        return output

    def backward(self, slope: Tensor, *, to_input: bool = True) -> Tensor:
        """Of the slope only its product with φ'' is kept."""
        if self.bend is not None:
            self.bend.mul_(slope)
        return self.pull(slope)

    def pull(self, slope: Tensor) -> Tensor:
        """``φ' ∘ slope``."""
        return slope * self.first

    def push(self, velocity: Tensor | None, direction: Sequence[Tensor]) -> Tensor | None:
        """``φ' ∘ velocity``."""
        if velocity is None:
            return None
        if self.curved:
            self.velocity = velocity
            return self.pull(velocity)
        return self.scale_(velocity)

    def pull_rate(self, rate: Tensor, direction: Sequence[Tensor], *, to_input: bool) -> tuple[Tensor, list[Tensor]]:
        """``φ' ∘ rate + slope ∘ φ'' ∘ velocity``."""
        rate = self.scale_(rate)
        if self.velocity is not None:
            self.add_bent_(rate, self.velocity)
        return rate, []

    def push_along_gradient(self, velocity: Tensor | None) -> tuple[Tensor | None, Contribution]:
        """``φ' ∘ velocity``; adds ``⟨slope, φ'' velocity²⟩``."""
        if velocity is None or not self.curved:
            return self.push(velocity, ()), None
        curvature = self.per_group(self.add_bent_(torch.zeros_like(velocity), velocity).mul_(velocity))
        return self.pull(velocity), (torch.zeros_like(curvature), curvature)

    # What some activations know without arrays of their own:

    @property
    def curved(self) -> bool:
        """Whether φ'' is anywhere other than zero."""
        return self.bend is not None

    def scale_(self, x: Tensor) -> Tensor:
        """``φ' ∘ x``, overwriting x."""
        return x.mul_(self.first)

    def add_bent_(self, rate: Tensor, velocity: Tensor) -> Tensor:
        """``rate + slope ∘ φ'' ∘ velocity``, overwriting the rate."""
        assert self.bend is not None
        return rate.addcmul_(self.bend, velocity)


class Tanh(Pointwise):
    """φ' = 1 − a² and slope ∘ φ'' = −2 a ∘ (φ' ∘ slope): output and pulled slope, which the neighbours keep anyway."""

    curved = True
    output: Tensor
    pulled: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """The hyperbolic tangent."""
        self.output = torch.tanh(x)
        return self.output

    def adopt(self, x: Tensor, output: Tensor) -> None:
        """Keeps the output."""
        self.output = output

    def backward(self, slope: Tensor, *, to_input: bool = True) -> Tensor:
        """Keeps what it returns."""
        self.pulled = self.pull(slope)
        return self.pulled

    def pull(self, slope: Tensor) -> Tensor:
        """``(1 − a²) ∘ slope``."""
        pulled: Tensor = torch.ops.aten.tanh_backward(slope, self.output)
        return pulled

    def scale_(self, x: Tensor) -> Tensor:
        """``(1 − a²) ∘ x``, overwriting x."""
        scaled: Tensor = torch.ops.aten.tanh_backward(x, self.output, grad_input=x)
        return scaled

    def add_bent_(self, rate: Tensor, velocity: Tensor) -> Tensor:
        """``rate − 2 a ∘ pulled ∘ velocity``, overwriting the rate."""
        return rate.addcmul_(self.output * self.pulled, velocity, value=-2)


class ReLU(Pointwise):
    """Straight on both sides: the output alone tells where it passes."""

    curved = False
    output: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """The positive part."""
        self.output = torch.relu(x)
        return self.output

    def adopt(self, x: Tensor, output: Tensor) -> None:
        """Keeps the output."""
        self.output = output

    def backward(self, slope: Tensor, *, to_input: bool = True) -> Tensor:
        """Keeps nothing."""
        return self.pull(slope)

    def pull(self, slope: Tensor) -> Tensor:
        """The slope where x > 0."""
        pulled: Tensor = torch.ops.aten.threshold_backward(slope, self.output, 0)
        return pulled

    def scale_(self, x: Tensor) -> Tensor:
        """The same, overwriting."""
        scaled: Tensor = torch.ops.aten.threshold_backward(x, self.output, 0, grad_input=x)
        return scaled
