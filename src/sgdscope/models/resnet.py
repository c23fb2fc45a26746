"""Residual network for small images: three stages of residual blocks, with a norm or free of any."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from sgdscope.models.activations import activation_module
from sgdscope.models.architecture import Architecture
from sgdscope.models.norms import convolution

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
            *convolution(fan_in, fan_out, norm=norm, stride=stride),
            activation_module(activation),
            *convolution(fan_out, fan_out, norm=norm),
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


def residual(architecture: Architecture) -> nn.Sequential:
    """Three stages of `depth` blocks (2 unless given) with `width` (16 unless given), 2·`width`, 4·`width` channels.

    The second and third stage begin by halving the image. Inputs have shape ``(b, channels, height, width)``, outputs
    ``(b, outputs)``. A norm stands after each convolution. With norm "none" what keeps such a network trainable is that
    every branch is multiplied by the fixed number 1/√L, L = 3·`depth` the number of blocks: the L branches together
    then add a variance that does not grow with L, given weights of He's variance (initialisation "he").
    Weights are left as torch made them: `build` draws them.
    Source: He et al., 2016, section 4.2; the factor: Hayou et al., "Stable ResNet", AISTATS 2021.
    Raises ValueError on inputs that are no images of 4×4 pixels or more, or a width or depth < 1.
    """
    channels, _, _ = architecture.image("resnet", least=4)
    architecture.no_heads("resnet")
    width, depth = architecture.width_or(16), architecture.depth_or(2)
    activation, norm = architecture.activation, architecture.norm
    residual_scale = 1 / math.sqrt(STAGES * depth) if norm == "none" else 1.0

    layers = [*convolution(channels, width, norm=norm), activation_module(activation)]
    fan_in = width
    for stage in range(STAGES):
        fan_out = width << stage
        for block in range(depth):
            layers.append(
                ResidualBlock(
                    fan_in, fan_out, stride=2 if stage and not block else 1, activation=activation, norm=norm,
                    residual_scale=residual_scale,
                )
            )  # fmt: skip
            fan_in = fan_out
    return nn.Sequential(*layers, SpatialMean(), nn.Linear(fan_in, architecture.outputs))
