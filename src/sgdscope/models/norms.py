"""Norms: normalisation layers of convolutional networks by name."""

from __future__ import annotations

import math

from torch import nn

NORMS = ("none", "batch", "group", "layer")
"""`batch`: over the batch and the pixels, per channel (Ioffe and Szegedy, arXiv:1502.03167). `group`: over the pixels
and the channels of a group, per sample (Wu and He, arXiv:1803.08494). `layer`: over everything of a sample, per
position in text (Ba, Kiros and Hinton, arXiv:1607.06450)."""

GROUPS = 32
"""Groups of GroupNorm, fewer where the channels are fewer or not a multiple. Source: Wu and He, section 4.1."""


def convolution(fan_in: int, fan_out: int, *, norm: str, stride: int = 1) -> list[nn.Module]:
    """A 3×3 convolution with padding 1, and its norm; before a norm, which has a shift of its own, it has no bias.

    With `batch`, training normalises by the statistics of the very batch, and so does a risk in train mode: it is then
    the exact function that the step descends, and running averages do not enter. They are kept for eval mode alone.
    """
    layer = nn.Conv2d(fan_in, fan_out, kernel_size=3, padding=1, stride=stride, bias=norm == "none")
    match norm:
        case "batch":
            return [layer, nn.BatchNorm2d(fan_out)]
        case "group":
            return [layer, nn.GroupNorm(math.gcd(GROUPS, fan_out), fan_out)]
        case "layer":
            return [layer, nn.GroupNorm(1, fan_out)]
    return [layer]
