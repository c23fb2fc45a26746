"""Convolutions and pooling, in the memory layout their kernels are fastest in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgdscope.chain.jet import Contribution, Jet


def laid_out(x: Tensor) -> Tensor:
    """With the channels last in memory where that is faster: single precision on the CPU (1.3 to 2 times, pooling 10).

    Copies only what does not lie so already.
    """
    return x.contiguous(memory_format=torch.channels_last) if _channels_last(x) else x


def _channels_last(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()


class Convolution(Jet):
    """Conv2d with zero padding."""

    layer: nn.Conv2d
    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """The output; keeps input and weight."""
        self._keep(x)
        bias = self.layer.bias
        output = self._convolve(self.input, self.weight, None if bias is None else bias.detach())
        self.places = output.numel() // output.shape[1]
        return output

    def adopt(self, x: Tensor, output: Tensor) -> None:
        """Keeps input and weight."""
        self._keep(x)
        self.places = output.numel() // output.shape[1]

    def _keep(self, x: Tensor) -> None:
        self.input, self.weight = laid_out(x), laid_out(self.layer.weight.detach())

    def backward(self, slope: Tensor, *, to_input: bool = True) -> Tensor:
        """Keeps the slope as the kernels like it."""
        return super().backward(laid_out(slope), to_input=to_input)

    def pull(self, slope: Tensor) -> Tensor:
        """The transposed convolution."""
        return self._pulled(slope, self.weight)

    def gradients(self, slope: Tensor) -> list[Tensor]:
        """The correlation of slope and input, and the sum of the slopes."""
        return self._correlated(self.input, slope, bias=self.layer.bias is not None)

    def push(self, velocity: Tensor | None, direction: Sequence[Tensor]) -> Tensor | None:
        """``W ∗ velocity + V ∗ a + v``."""
        kernel, *bias = direction
        moved = self._convolve(self.input, laid_out(kernel), *bias)
        if velocity is not None:
            velocity = laid_out(velocity)
            moved += self._convolve(velocity, self.weight)
        self.velocity = velocity
        return moved

    def pull_rate(self, rate: Tensor, direction: Sequence[Tensor], *, to_input: bool) -> tuple[Tensor, list[Tensor]]:
        """Transposed convolutions of rate with W and slope with V; correlations of rate with a, slope with velocity."""
        rate = laid_out(rate)
        products = self.gradients(rate)
        if self.velocity is not None:
            products[0] += self._correlated(self.velocity, self.slope, bias=False)[0]
        if to_input:
            return self._pulled(rate, self.weight).add_(self._pulled(self.slope, laid_out(direction[0]))), products
        return rate, products

    def push_along_gradient(self, velocity: Tensor | None) -> tuple[Tensor | None, Contribution]:
        """``W ∗ velocity + G ∗ a`` with each batch's gradient G; adds ``‖G‖²`` and ``2⟨δ, G ∗ velocity⟩``.

        G is formed: unlike that of a linear layer it is small.
        """
        size = len(self.input) // self.groups
        norms, curvatures = [], []
        velocity = None if velocity is None else laid_out(velocity)
        moved = torch.empty_like(self.slope) if velocity is None else self._convolve(velocity, self.weight)
        for index, (a, delta) in enumerate(zip(self.input.split(size), self.slope.split(size), strict=True)):
            part = slice(index * size, (index + 1) * size)
            gradient, *bias = self._correlated(a, delta, bias=self.layer.bias is not None)
            image = self._convolve(a, gradient, *bias)
            norm = sum((g.square().sum() for g in bias), gradient.square().sum())
            norms.append(norm)
            if velocity is None:
                moved[part] = image
                curvatures.append(torch.zeros_like(norm))
            else:
                moved[part] += image
                curvatures.append(2 * (delta * self._convolve(velocity[part], gradient)).sum())
        return moved, (torch.stack(norms), torch.stack(curvatures))

    def multiplications(self, *, first: bool) -> tuple[int, int]:
        """Forward, back and the gradient; or these, once with the kernel and once or twice with the gradient."""
        once = self.places * self.weight.numel()
        return (2 * once, 3 * once) if first else (3 * once, 6 * once)

    def _convolve(self, x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
        layer = self.layer
        return F.conv2d(x, kernel, bias, layer.stride, layer.padding, layer.dilation, layer.groups)

    def _pulled(self, slope: Tensor, kernel: Tensor) -> Tensor:
        return self._backward(slope, self.input, kernel, (True, False, False))[0]

    def _correlated(self, a: Tensor, slope: Tensor, *, bias: bool) -> list[Tensor]:
        _, kernel, offset = self._backward(slope, a, self.weight, (False, True, bias))
        return [laid_out(kernel), offset] if bias else [laid_out(kernel)]

    def _backward(
        self, slope: Tensor, a: Tensor, kernel: Tensor, wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        layer = self.layer
        found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
            laid_out(slope), a, kernel, [layer.out_channels], layer.stride, layer.padding, layer.dilation, False,
            [0, 0], layer.groups, wanted,
        )  # fmt: skip
        return found


class MaxPool(Jet):
    """MaxPool2d: passes on what stood at the maxima."""

    layer: nn.MaxPool2d
    indices: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """The maxima; keeps where they stood."""
        self.input = laid_out(x)
        layer = self.layer
        output: Tensor
        output, self.indices = F.max_pool2d(
            self.input, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode,
            return_indices=True,
        )  # fmt: skip
        return output

    def pull(self, slope: Tensor) -> Tensor:
        """Each slope to its maximum; windows may overlap."""
        layer = self.layer
        pulled: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
            laid_out(slope), self.input, *(_pair(x) for x in (layer.kernel_size, layer.stride, layer.padding,
            layer.dilation)), layer.ceil_mode, self.indices,
        )  # fmt: skip
        return pulled

    def push(self, velocity: Tensor | None, direction: Sequence[Tensor]) -> Tensor | None:
        """The velocities at the maxima."""
        if velocity is None:
            return None
        if not _channels_last(velocity):
            return velocity.flatten(2).gather(2, self.indices.flatten(2)).reshape(self.indices.shape)
        places = self.indices.permute(0, 2, 3, 1)
        found = laid_out(velocity).permute(0, 2, 3, 1).flatten(1, 2).gather(1, places.flatten(1, 2))
        return found.reshape(places.shape).permute(0, 3, 1, 2)

    def pull_rate(self, rate: Tensor, direction: Sequence[Tensor], *, to_input: bool) -> tuple[Tensor, list[Tensor]]:
        """As slopes."""
        return self.pull(rate), []

    def push_along_gradient(self, velocity: Tensor | None) -> tuple[Tensor | None, Contribution]:
        """The velocities at the maxima."""
        return self.push(velocity, ()), None

    def backward(self, slope: Tensor, *, to_input: bool = True) -> Tensor:
        """Keeps nothing."""
        return self.pull(slope)


class AveragePool(Jet):
    """AvgPool2d and AdaptiveAvgPool2d: linear, without parameters."""

    def backward(self, slope: Tensor, *, to_input: bool = True) -> Tensor:
        """Keeps nothing."""
        return self.pull(slope)

    def pull(self, slope: Tensor) -> Tensor:
        """The transpose of averaging."""
        with torch.enable_grad():
            leaf = torch.zeros_like(self.input, requires_grad=True)
            (pulled,) = torch.autograd.grad(self.layer(leaf), leaf, slope)
        return pulled

    def push(self, velocity: Tensor | None, direction: Sequence[Tensor]) -> Tensor | None:
        """Averaging again."""
        return None if velocity is None else self.layer(velocity)

    def pull_rate(self, rate: Tensor, direction: Sequence[Tensor], *, to_input: bool) -> tuple[Tensor, list[Tensor]]:
        """As slopes."""
        return self.pull(rate), []

    def push_along_gradient(self, velocity: Tensor | None) -> tuple[Tensor | None, Contribution]:
        """Averaging again."""
        return self.push(velocity, ()), None


def _pair(x: int | tuple[int, int]) -> list[int]:
    return [x, x] if isinstance(x, int) else list(x)
