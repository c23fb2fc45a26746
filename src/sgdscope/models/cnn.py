"""Convolutional network: two stages of 3×3 convolutions, each ended by a pool, and one hidden layer."""

from __future__ import annotations

from torch import nn

from sgdscope.models.activations import activation_module
from sgdscope.models.architecture import Architecture
from sgdscope.models.norms import convolution

SMALL_IMAGE = 16
"""Images with a side below this many pixels (digits have 8) get a smaller network unless told otherwise."""


def convolutional(architecture: Architecture) -> nn.Sequential:
    """`depth` convolutions to `width` channels, pool, one to 2·`width`, pool, a hidden layer of 8·`width`, the output.

    The defaults, width 64 and depth 2, are the network of the paper: conv 64-64-pool-128-pool, fc 512; for images
    with a side below 16 pixels they are 16 and 1. Convolutions are 3×3 with padding 1, each followed by the norm asked
    for; pools are maxima over 2×2 (an odd last row or column is dropped). Inputs have shape ``(b, channels, height,
    width)``, outputs ``(b, outputs)``. Weights are left as torch made them: `build` draws them.
    Source: Andreyev and Beneventano, "Edge of Stochastic Stability", arXiv:2412.20553 (experiments).
    Raises ValueError on inputs that are no images of 4×4 pixels or more, or a width or depth < 1.
    """
    channels, high, wide = architecture.image("cnn", least=4)
    architecture.no_heads("cnn")
    small = min(high, wide) < SMALL_IMAGE
    width, depth = architecture.width_or(16 if small else 64), architecture.depth_or(1 if small else 2)

    def stage(fan_in: int, fan_out: int) -> list[nn.Module]:
        return [*convolution(fan_in, fan_out, norm=architecture.norm), activation_module(architecture.activation)]

    layers = stage(channels, width)
    for _ in range(depth - 1):
        layers += stage(width, width)
    layers += [nn.MaxPool2d(2), *stage(width, 2 * width), nn.MaxPool2d(2), nn.Flatten()]
    features = 2 * width * (high // 4) * (wide // 4)
    hidden = [nn.Linear(features, 8 * width), activation_module(architecture.activation)]
    return nn.Sequential(*layers, *hidden, nn.Linear(8 * width, architecture.outputs))
