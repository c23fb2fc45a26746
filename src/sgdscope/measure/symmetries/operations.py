"""Operations: what each step of a network does to the scale of its input.

Those of degree one (``f(λ z) = λ f(z)``, λ > 0) pass a scale on; norms forget it; pointwise functions pass it on or
not, which is checked on numbers; all that is not listed here is taken to fix the scale.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.padding import _ReflectionPadNd, _ReplicationPadNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd, _AvgPoolNd, _MaxPoolNd

LAYERS: tuple[type[nn.Module], ...] = (nn.Linear, _ConvNd)
"""Layers linear in their weight: their output has a scale of its own."""
NORMS: tuple[type[nn.Module], ...] = (_BatchNorm, _InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)

HOMOGENEOUS_MODULES: tuple[type[nn.Module], ...] = (
    nn.Identity, nn.Flatten, nn.Unflatten, nn.Upsample, nn.PixelShuffle, nn.ChannelShuffle, nn.PReLU, nn.RReLU,
    _DropoutNd, _AvgPoolNd, _MaxPoolNd, _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd, _ReflectionPadNd, _ReplicationPadNd,
    nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d,
)  # fmt: skip
POINTWISE_MODULES: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.Sigmoid, nn.ELU, nn.CELU, nn.SELU, nn.Softplus, nn.Mish,
    nn.Hardtanh, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.Softsign, nn.LogSigmoid, nn.Tanhshrink, nn.Softshrink,
    nn.Hardshrink, nn.Threshold,
)  # fmt: skip

HOMOGENEOUS_METHODS = {
    "flatten", "view", "reshape", "permute", "transpose", "squeeze", "unsqueeze", "contiguous", "mean", "sum", "clone",
    "amax", "movedim", "mT", "T", "t", "expand",
}  # fmt: skip
HOMOGENEOUS_FUNCTIONS: set[Callable[..., Any]] = {
    torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.squeeze, torch.unsqueeze, torch.mean, torch.sum,
    torch.amax, torch.neg, operator.neg, operator.getitem, F.dropout, F.dropout2d, F.max_pool1d, F.max_pool2d,
    F.avg_pool1d, F.avg_pool2d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, torch.max_pool2d,
    F.interpolate,
}  # fmt: skip
POINTWISE: dict[Any, Callable[[Tensor], Tensor]] = {
    function: function
    for function in (
        F.relu, torch.relu, F.leaky_relu, F.tanh, torch.tanh, F.gelu, F.silu, F.sigmoid, torch.sigmoid, F.elu,
        F.softplus, F.mish, F.relu6, F.hardtanh, F.hardswish, F.selu, torch.abs,
    )
} | {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "abs": torch.abs}  # fmt: skip
SUMS = {operator.add, operator.sub, operator.iadd, torch.add, torch.sub, "add", "sub", "add_"}
PRODUCTS = {operator.mul, operator.truediv, operator.imul, torch.mul, torch.div, "mul", "div"}
SHAPES = {"size", "dim", "numel"}
"""Methods that tell a shape, not a value."""


def is_layer(module: nn.Module) -> bool:
    """Whether a module is linear in a plain weight that units can be read from."""
    return isinstance(module, LAYERS) and not (isinstance(module, _ConvTransposeNd) and module.groups > 1)


def forgets_scale(norm: nn.Module) -> bool:
    """Whether a norm divides by the statistics of its very input, so that the input's scale does not matter."""
    if isinstance(norm, _BatchNorm | _InstanceNorm):
        averages = norm.running_mean is not None
        return not averages or norm.training
    return True


def is_homogeneous(function: Callable[[Tensor], Tensor]) -> bool:
    """Whether ``f(2 z) = 2 f(z)`` on numbers of both signs."""
    z = torch.cat([-torch.logspace(-2, 2, 41, dtype=torch.float64), torch.logspace(-2, 2, 41, dtype=torch.float64)])
    with torch.no_grad():
        return bool(torch.allclose(function(2 * z), 2 * function(z.clone()), rtol=1e-12, atol=0))
