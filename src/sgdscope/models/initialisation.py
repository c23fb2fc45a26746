"""Initialisation: weights drawn from an own generator, never from the global random state."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

INITIALISATIONS = ("default", "uniform-zero-bias", "he")
"""`default`: weights and biases uniform in ±1/√fan_in, torch's own distribution for Linear and Conv2d.
`uniform-zero-bias`: the same weights, biases zero. `he`: weights uniform in ±√(6/fan_in), the same draws times √6,
which keeps the variance of a signal through ReLU layers; biases zero."""

_NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)


def initialise(model: nn.Module, *, how: str = "default", scale: float = 1.0, seed: int = 0) -> None:
    """Draw the parameters of all Linear, Conv2d and Embedding layers, in place; reset norms to weight 1 and bias 0.

    Weights of Linear and Conv2d are uniform as `how` (see `INITIALISATIONS`) says, then multiplied by `scale`; biases
    are never scaled. Embeddings are standard normal, torch's own distribution, whatever `how` and `scale`. The draws
    are made in double precision, layer by layer in the order of ``model.modules()``, weight before bias: a float32 and
    a float64 model of one seed agree to rounding, and all ways share their draws.
    Source: PyTorch's ``Linear.reset_parameters`` (Kaiming uniform with a = √5, which is ±1/√fan_in); `he`: He et al.,
    "Delving Deep into Rectifiers", arXiv:1502.01852, eq. 10 (variance 2/fan_in).
    Raises ValueError on an unknown `how`, a `scale` that is not a positive number, a negative seed, or a layer with
    parameters of another kind, which would be left as it is.
    """
    if how not in INITIALISATIONS:
        raise ValueError(f"expected an initialisation among {', '.join(INITIALISATIONS)}, got {how!r}")
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"expected scale to be a finite number > 0, got {scale!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 63:
        raise ValueError(f"expected seed to be a whole number from 0 to 2⁶³ - 1, got {seed!r}")
    gain = scale * (math.sqrt(6) if how == "he" else 1.0)
    generator = torch.Generator().manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = 1 / math.sqrt(layer.weight[0].numel())  # fan_in: inputs that one output sums over
            _uniform(layer.weight, gain * bound, generator)
            if layer.bias is not None:
                _uniform(layer.bias, bound, generator)  # drawn in any case: all ways have the same weights
                if how != "default":
                    nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Embedding):
            with torch.no_grad():
                layer.weight.copy_(torch.randn(layer.weight.shape, dtype=torch.float64, generator=generator))
        elif isinstance(layer, _NORMS):
            layer.reset_parameters()
        elif next(layer.parameters(recurse=False), None) is not None:
            raise ValueError(
                "expected Linear, Conv2d, Embedding, BatchNorm2d, GroupNorm and LayerNorm layers, "
                f"got {type(layer).__name__}"
            )


def _uniform(parameter: Tensor, bound: float, generator: torch.Generator) -> None:
    """Fill with draws uniform in ``[-bound, bound)``."""
    with torch.no_grad():
        parameter.copy_((2 * torch.rand(parameter.shape, dtype=torch.float64, generator=generator) - 1) * bound)
