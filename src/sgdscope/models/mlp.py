"""Multi-layer perceptron: flatten, hidden layers of one width, a linear output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from sgdscope.models.activations import activation_module
from sgdscope.models.checks import no_norm, whole_number


def perceptron(
    input_shape: Sequence[int],
    classes: int,
    *,
    width: int | None = None,
    depth: int | None = None,
    activation: str = "relu",
    norm: str = "none",
) -> nn.Sequential:
    """`depth` hidden layers (2 unless given) of `width` units (512 unless given); with depth 0 a linear model.

    Inputs have shape ``(b, *input_shape)``, outputs ``(b, classes)``. Always a plain ``nn.Sequential`` of ``Flatten``,
    ``Linear`` and activations. Weights are left as torch made them: `build` draws them.
    Source: defaults of the MLP in Andreyev and Beneventano, "Edge of Stochastic Stability", arXiv:2412.20553.
    Raises ValueError on a width < 1, a depth < 0, an unknown activation, or any norm but "none".
    """
    width = whole_number("width", 512 if width is None else width, 1)
    depth = whole_number("depth", 2 if depth is None else depth, 0)
    no_norm("mlp", norm)
    sizes = [math.prod(input_shape), *[width] * depth]
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), activation_module(activation)]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], classes))
