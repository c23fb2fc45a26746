"""Jets: what each kind of layer does to a derivative going back and to a velocity going forward, and what it adds.

For parameters moving along the gradient of each group's own loss, a layer with output z, input a and output slope
δ = ∂L/∂z contributes ‖G‖² to the squared gradient norm and ``2⟨δ, G ȧ⟩`` (layers with parameters) or ``⟨ā, φ''(z) ż²⟩``
(pointwise ones) to gᵀHg; see `chain`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn import grad as conv_grad

POINTWISE: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Softplus, nn.ELU, nn.LeakyReLU, nn.CELU, nn.Mish, nn.LogSigmoid,
)  # fmt: skip

Contribution = tuple[Tensor, Tensor] | None
"""What a layer adds to ‖g‖² and to gᵀHg, each of shape ``(groups,)``; None if nothing."""


class Jet(ABC):
    """One layer during one pass. `groups` batches of equal size stand one after the other in every tensor."""

    def __init__(self, layer: nn.Module, groups: int) -> None:
        self.layer = layer
        self.groups = groups
        self.input: Tensor
        self.slope: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output; keeps what the way back needs."""
        self.input = x
        output: Tensor = self.layer(x)
        return output

    @abstractmethod
    def pull(self, slope: Tensor) -> Tensor:
        """Derivative of the loss by the input, from that by the output."""

    @abstractmethod
    def push(self, velocity: Tensor | None) -> tuple[Tensor | None, Contribution]:
        """Velocity of the output from that of the input (None: it stands still), and the layer's contribution."""

    def per_group(self, entries: Tensor) -> Tensor:
        """Sum within each group."""
        return entries.reshape(self.groups, -1).sum(1)


class Reshape(Jet):
    """Flatten and Identity."""

    def pull(self, slope: Tensor) -> Tensor:
        """The same numbers in the input's shape."""
        return slope.reshape(self.input.shape)

    def push(self, velocity: Tensor | None) -> tuple[Tensor | None, Contribution]:
        """The same numbers in the output's shape."""
        return None if velocity is None else velocity.reshape(self.slope.shape), None


class Pointwise(Jet):
    """Activations: first and second derivative, entry by entry."""

    first: Tensor
    second: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """φ(x), with φ' and φ'' kept; φ'' is None where it is zero."""
        a = super().forward(x)
        kind = type(self.layer)
        if kind is nn.Tanh:
            self.first = 1 - a.square()
            self.second = -2 * a * self.first
        elif kind is nn.ReLU:
            self.first, self.second = (a > 0).to(a.dtype), None
        elif isinstance(self.layer, nn.LeakyReLU):
            self.first, self.second = torch.full_like(x, self.layer.negative_slope).masked_fill_(x > 0, 1.0), None
        else:
            with torch.enable_grad():
                leaf = x.detach().requires_grad_()
                (first,) = torch.autograd.grad(self.layer(leaf).sum(), leaf, create_graph=True)
                (self.second,) = torch.autograd.grad(first.sum(), leaf)
            self.first = first.detach()
        return a

    def pull(self, slope: Tensor) -> Tensor:
        """``φ' ∘ slope``."""
        return slope * self.first

    def push(self, velocity: Tensor | None) -> tuple[Tensor | None, Contribution]:
        """``φ' ∘ velocity``; adds ``⟨slope, φ'' velocity²⟩``."""
        if velocity is None:
            return None, None
        bend = None
        if self.second is not None:
            curvature = self.per_group(self.slope * self.second * velocity.square())
            bend = (torch.zeros_like(curvature), curvature)
        return velocity * self.first, bend


class Linear(Jet):
    """Fully connected: everything by the Gram matrix of each batch, nothing of the size of the weights."""

    layer: nn.Linear

    def pull(self, slope: Tensor) -> Tensor:
        """``slope W``."""
        return slope @ self.layer.weight

    def push(self, velocity: Tensor | None) -> tuple[Tensor | None, Contribution]:
        """``velocity Wᵀ + u`` with ``u = (A Aᵀ + 1) Δ``; adds ``⟨Δ, u⟩`` and ``2⟨Δ, (Ȧ Aᵀ) Δ⟩``."""
        a, delta = self._grouped(self.input), self._grouped(self.slope)
        u = _times_gram(a, a, delta)
        if self.layer.bias is not None:
            u = u + delta.sum(1, keepdim=True)
        norm = (delta * u).sum((1, 2))
        if velocity is None:
            return u.flatten(0, 1), (norm, torch.zeros_like(norm))
        curvature = 2 * (delta * _times_gram(self._grouped(velocity), a, delta)).sum((1, 2))
        return torch.addmm(u.flatten(0, 1), velocity, self.layer.weight.t()), (norm, curvature)

    def _grouped(self, x: Tensor) -> Tensor:
        return x.reshape(self.groups, len(x) // self.groups, -1)


def _times_gram(x: Tensor, a: Tensor, delta: Tensor) -> Tensor:
    """``(x aᵀ) δ`` per group, by whichever order of products is cheaper."""
    batch, width_in, width_out = x.shape[1], x.shape[2], delta.shape[2]
    if batch * (width_in + width_out) <= 2 * width_in * width_out:
        return torch.bmm(torch.bmm(x, a.transpose(1, 2)), delta)
    return torch.bmm(x, torch.bmm(a.transpose(1, 2), delta))


class Convolution(Jet):
    """Conv2d with zero padding: the gradient of each batch is formed (it is small) and used as a kernel."""

    layer: nn.Conv2d

    def _convolve(self, x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
        layer = self.layer
        return F.conv2d(x, kernel, bias, layer.stride, layer.padding, layer.dilation, layer.groups)

    def pull(self, slope: Tensor) -> Tensor:
        """The transposed convolution."""
        layer = self.layer
        pulled: Tensor = conv_grad.conv2d_input(
            self.input.shape, layer.weight, slope, layer.stride, layer.padding, layer.dilation, layer.groups
        )  # fmt: skip
        return pulled

    def push(self, velocity: Tensor | None) -> tuple[Tensor | None, Contribution]:
        """``W ∗ velocity + G ∗ a`` with each batch's gradient G; adds ``‖G‖²`` and ``2⟨δ, G ∗ velocity⟩``."""
        layer = self.layer
        size = len(self.input) // self.groups
        norms, curvatures, moved = [], [], []
        for a, delta, v in zip(
            self.input.split(size), self.slope.split(size),
            [None] * self.groups if velocity is None else velocity.split(size), strict=True,
        ):  # fmt: skip
            gradient = conv_grad.conv2d_weight(
                a, layer.weight.shape, delta, layer.stride, layer.padding, layer.dilation, layer.groups
            )  # fmt: skip
            norm = gradient.square().sum()
            # along the gradient: one convolution with G serves the inputs and their velocities
            image = self._convolve(a if v is None else torch.cat([a, v]), gradient)
            u = image[:size]
            if layer.bias is not None:
                bias = delta.sum((0, 2, 3))
                norm = norm + bias.square().sum()
                u = u + bias[:, None, None]
            norms.append(norm)
            curvatures.append(torch.zeros_like(norm) if v is None else 2 * (delta * image[size:]).sum())
            moved.append(u)
        out = torch.cat(moved) if self.groups > 1 else moved[0]
        if velocity is not None:
            out = out + self._convolve(velocity, layer.weight)
        return out, (torch.stack(norms), torch.stack(curvatures))


class MaxPool(Jet):
    """MaxPool2d: passes on what stood at the maxima."""

    layer: nn.MaxPool2d
    indices: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """The maxima; keeps where they stood."""
        self.input = x
        layer = self.layer
        output: Tensor
        output, self.indices = F.max_pool2d(
            x, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode, return_indices=True
        )
        return output

    def pull(self, slope: Tensor) -> Tensor:
        """Each slope to its maximum; windows may overlap."""
        flat = slope.new_zeros(self.input.shape).flatten(2)
        return flat.scatter_add_(2, self.indices.flatten(2), slope.flatten(2)).reshape(self.input.shape)

    def push(self, velocity: Tensor | None) -> tuple[Tensor | None, Contribution]:
        """The velocities at the maxima."""
        if velocity is None:
            return None, None
        return velocity.flatten(2).gather(2, self.indices.flatten(2)).reshape(self.indices.shape), None


class AveragePool(Jet):
    """AvgPool2d and AdaptiveAvgPool2d: linear, without parameters."""

    def pull(self, slope: Tensor) -> Tensor:
        """The transpose of averaging."""
        with torch.enable_grad():
            leaf = torch.zeros_like(self.input, requires_grad=True)
            (pulled,) = torch.autograd.grad(self.layer(leaf), leaf, slope)
        return pulled

    def push(self, velocity: Tensor | None) -> tuple[Tensor | None, Contribution]:
        """Averaging again."""
        return None if velocity is None else self.layer(velocity), None


_KINDS: dict[type[nn.Module], type[Jet]] = {
    nn.Linear: Linear,
    nn.Conv2d: Convolution,
    nn.MaxPool2d: MaxPool,
    nn.AvgPool2d: AveragePool,
    nn.AdaptiveAvgPool2d: AveragePool,
    nn.Flatten: Reshape,
    nn.Identity: Reshape,
    **dict.fromkeys(POINTWISE, Pointwise),
}


def jet_of(layer: nn.Module) -> type[Jet] | None:
    """The jet for a layer; None if there is none. A subclass is refused: its forward may differ."""
    return _KINDS.get(type(layer))
