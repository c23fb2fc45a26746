"""Residual network for small images: three stages of residual blocks, with BatchNorm or free of any norm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sgdscope.models.activations import activation_module
from sgdscope.models.checks import image_shape, whole_number

NORMS = ("batch", "none")
STAGES = 3


class ResidualBlock(nn.Module):
    """``activation(shortcut(x) + residual_scale · branch(x))`` with two 3×3 convolutions in the branch.

    The shortcut has no parameters: with `stride` 2 it takes every second pixel, and new channels are zero.
    Source: He et al., "Deep Residual Learning for Image Recognition", 2016, section 4.2 (option A).
    """

    def __init__(
        self, fan_in: int, fan_out: int, *, stride: int, activation: str, norm: str, residual_scale: float
    ) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *_convolution(fan_in, fan_out, stride, norm),
            activation_module(activation),
            *_convolution(fan_out, fan_out, 1, norm),
        )
        self.activation = activation_module(activation)
        self.stride = stride
        self.new_channels = fan_out - fan_in
        self.residual_scale = residual_scale

    def forward(self, x: Tensor) -> Tensor:
        """Shape ``(b, fan_in, h, w)`` to ``(b, fan_out, ⌈h/stride⌉, ⌈w/stride⌉)``."""
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.new_channels:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.new_channels))
        out: Tensor = self.activation(shortcut + self.residual_scale * self.branch(x))
        return out


class SpatialMean(nn.Module):
    """Mean over the pixels: shape ``(b, c, h, w)`` to ``(b, c)``."""

    def forward(self, x: Tensor) -> Tensor:
        """The mean over the last two dimensions."""
        return x.mean(dim=(-2, -1))


def residual(
    input_shape: Sequence[int],
    classes: int,
    *,
    width: int | None = None,
    depth: int | None = None,
    activation: str = "relu",
    norm: str = "none",
) -> nn.Sequential:
    """Three stages of `depth` blocks (2 unless given) with `width` (16 unless given), 2·`width`, 4·`width` channels.

    The second and third stage begin by halving the image. Inputs have shape ``(b, channels, height, width)``, outputs
    ``(b, classes)``. `norm` "batch" puts a BatchNorm after each convolution. With "none" there is no norm; what keeps
    such a network trainable is that every branch is multiplied by the fixed number 1/√L, L = 3·`depth` the number of
    blocks: the L branches together then add a variance that does not grow with L.
    Weights are left as torch made them: `build` draws them.
    Source: He et al., 2016, section 4.2; the factor: Hayou et al., "Stable ResNet", AISTATS 2021.
    Raises ValueError on images below 4×4, a width or depth < 1, an unknown activation or norm.
    """
    channels, _, _ = image_shape("resnet", input_shape, least=4)
    width = whole_number("width", 16 if width is None else width, 1)
    depth = whole_number("depth", 2 if depth is None else depth, 1)
    if norm not in NORMS:
        raise ValueError(f"expected a norm among {', '.join(NORMS)} for resnet, got {norm!r}")
    residual_scale = 1 / math.sqrt(STAGES * depth) if norm == "none" else 1.0

    layers = [*_convolution(channels, width, 1, norm), activation_module(activation)]
    fan_in = width
    for stage in range(STAGES):
        fan_out = width << stage
        for block in range(depth):
            stride = 2 if stage and not block else 1
            layers.append(
                ResidualBlock(
                    fan_in, fan_out, stride=stride, activation=activation, norm=norm, residual_scale=residual_scale
                )
            )
            fan_in = fan_out
    return nn.Sequential(*layers, SpatialMean(), nn.Linear(fan_in, classes))


def _convolution(fan_in: int, fan_out: int, stride: int, norm: str) -> list[nn.Module]:
    """A 3×3 convolution with its norm; before a BatchNorm it needs no bias."""
    convolution = nn.Conv2d(fan_in, fan_out, kernel_size=3, padding=1, stride=stride, bias=norm == "none")
    return [convolution, nn.BatchNorm2d(fan_out)] if norm == "batch" else [convolution]
