"""Initialisation: weights drawn from an own generator, never from the global random state."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

INITIALISATIONS = ("default", "uniform-zero-bias")
"""`default`: weights and biases uniform in ±1/√fan_in, torch's own distribution for Linear and Conv2d.
`uniform-zero-bias`: the same weights, biases zero."""


def initialise(model: nn.Module, *, how: str = "default", scale: float = 1.0, seed: int = 0) -> None:
    """Draw the weights and biases of all Linear and Conv2d layers, in place; reset BatchNorm to weight 1 and bias 0.

    Weights are uniform in ``±1/√fan_in``, then multiplied by `scale`; biases as `how` (see `INITIALISATIONS`) says,
    never scaled. The draws are made in double precision, layer by layer in the order of ``model.modules()``, weight
    before bias: a float32 and a float64 model of one seed agree to rounding. Both ways draw the same weights.
    Source: PyTorch's ``Linear.reset_parameters`` (Kaiming uniform with a = √5, which is ±1/√fan_in).
    Raises ValueError on an unknown `how`, a `scale` that is not a positive number, a negative seed, or a layer with
    parameters of another kind, which would be left as it is.
    """
    if how not in INITIALISATIONS:
        raise ValueError(f"expected an initialisation among {', '.join(INITIALISATIONS)}, got {how!r}")
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"expected scale to be a finite number > 0, got {scale!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 63:
        raise ValueError(f"expected seed to be a whole number from 0 to 2⁶³ - 1, got {seed!r}")
    generator = torch.Generator().manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = 1 / math.sqrt(layer.weight[0].numel())  # fan_in: inputs that one output sums over
            _uniform(layer.weight, scale * bound, generator)
            if layer.bias is not None:
                _uniform(layer.bias, bound, generator)  # drawn in any case: both ways have the same weights
                if how == "uniform-zero-bias":
                    nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
        elif next(layer.parameters(recurse=False), None) is not None:
            raise ValueError(f"expected Linear, Conv2d and BatchNorm2d layers, got {type(layer).__name__}")


def _uniform(parameter: Tensor, bound: float, generator: torch.Generator) -> None:
    """Fill with draws uniform in ``[-bound, bound)``."""
    with torch.no_grad():
        parameter.copy_((2 * torch.rand(parameter.shape, dtype=torch.float64, generator=generator) - 1) * bound)
