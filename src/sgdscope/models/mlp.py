"""Multi-layer perceptron: flatten, hidden layers of one width, a linear output."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import nn

from sgdscope.models.activations import activation_module
from sgdscope.models.architecture import Architecture


def perceptron(architecture: Architecture) -> nn.Sequential:
    """`depth` hidden layers (2 unless given) of `width` units (512 unless given); with depth 0 a linear model.

    Inputs have shape ``(b, *input_shape)``, outputs ``(b, outputs)``. Always a plain ``nn.Sequential`` of ``Flatten``,
    ``Linear`` and activations. Weights are left as torch made them: `build` draws them.
    Source: defaults of the MLP in Andreyev and Beneventano, "Edge of Stochastic Stability", arXiv:2412.20553.
    Raises ValueError on a width < 1, a depth < 0, any norm but "none", or tokens.
    """
    architecture.no_tokens("mlp")
    architecture.no_heads("mlp")
    architecture.norm_among("mlp", ("none",))
    sizes = [math.prod(architecture.input_shape), *[architecture.width_or(512)] * architecture.depth_or(2, least=0)]
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), activation_module(architecture.activation)]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], architecture.outputs))
