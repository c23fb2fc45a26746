"""Numbers of a shape out of random words: those of `simulate.normals` to rounding, by torch's own functions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sgdscope.simulate.torch_backend.words import shifted

_GRAIN = 2.0**-24


def normals(x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent standard normal numbers for each pair of words, by Box and Muller's formula."""
    fraction = shifted(x0, 8).float().mul_(_GRAIN).add_(_GRAIN)
    radius = fraction.log_().mul_(-2).sqrt_()
    angle = x1.float().mul_(math.pi * 2.0**-31)
    return angle.cos().mul_(radius), angle.sin_().mul_(radius)


def uniforms(x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent numbers, the middles of 2^23 equal parts of (0, 1)."""
    a, b = (shifted(x, 9).float().add_(0.5).mul_(2.0**-23) for x in (x0, x1))
    return a, b


def sums_of_signs(x0: Tensor, x1: Tensor, count: int, other: int) -> tuple[Tensor, Tensor]:
    """Two sums, one of `count` ≤ 24 random signs and one of `other` ≤ 24."""
    return _sum_of_signs(x0, count), _sum_of_signs(x1, other)


def _sum_of_signs(x: Tensor, count: int) -> Tensor:
    return population(shifted(x, 8) & ((1 << count) - 1)).mul_(2).sub_(count).float()


def population(x: Tensor) -> Tensor:
    """Number of bits set among the 31 lowest, by sums of neighbours."""
    x = x - (x >> 1 & 0x55555555)
    x = (x & 0x33333333) + (x >> 2 & 0x33333333)
    x = x + (x >> 4) & 0x0F0F0F0F
    return torch.mul(x, 0x01010101) >> 24
