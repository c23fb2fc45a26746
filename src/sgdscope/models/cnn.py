"""Convolutional network: two stages of 3×3 convolutions, each ended by a pool, and one hidden layer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from sgdscope.models.activations import activation_module
from sgdscope.models.checks import image_shape, no_norm, whole_number

SMALL_IMAGE = 16
"""Images with a side below this many pixels (digits have 8) get a smaller network unless told otherwise."""


def convolutional(
    input_shape: Sequence[int],
    classes: int,
    *,
    width: int | None = None,
    depth: int | None = None,
    activation: str = "relu",
    norm: str = "none",
) -> nn.Sequential:
    """`depth` convolutions to `width` channels, pool, one to 2·`width`, pool, a hidden layer of 8·`width`, the output.

    The defaults, width 64 and depth 2, are the network of the paper: conv 64-64-pool-128-pool, fc 512; for images
    with a side below 16 pixels they are 16 and 1. Convolutions are 3×3 with padding 1, pools are maxima over 2×2 (an
    odd last row or column is dropped). Inputs have shape ``(b, channels, height, width)``, outputs ``(b, classes)``.
    Weights are left as torch made them: `build` draws them.
    Source: Andreyev and Beneventano, "Edge of Stochastic Stability", arXiv:2412.20553 (experiments).
    Raises ValueError on images below 4×4, a width or depth < 1, an unknown activation, or any norm but "none".
    """
    channels, high, wide = image_shape("cnn", input_shape, least=4)
    small = min(high, wide) < SMALL_IMAGE
    width = whole_number("width", (16 if small else 64) if width is None else width, 1)
    depth = whole_number("depth", (1 if small else 2) if depth is None else depth, 1)
    no_norm("cnn", norm)

    def convolution(fan_in: int, fan_out: int) -> list[nn.Module]:
        return [nn.Conv2d(fan_in, fan_out, kernel_size=3, padding=1), activation_module(activation)]

    layers = convolution(channels, width)
    for _ in range(depth - 1):
        layers += convolution(width, width)
    layers += [nn.MaxPool2d(2), *convolution(width, 2 * width), nn.MaxPool2d(2), nn.Flatten()]
    features = 2 * width * (high // 4) * (wide // 4)
    layers += [nn.Linear(features, 8 * width), activation_module(activation), nn.Linear(8 * width, classes)]
    return nn.Sequential(*layers)
