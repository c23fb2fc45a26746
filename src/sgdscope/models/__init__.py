"""Models: small reference networks, built from a seed without touching the global random state.

mlp      hidden layers of one width; takes inputs of any shape
cnn      conv-conv-pool-conv-pool and one hidden layer
resnet   three stages of residual blocks, with BatchNorm or free of norm
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from sgdscope.models.activations import ACTIVATIONS
from sgdscope.models.checks import whole_number
from sgdscope.models.cnn import convolutional
from sgdscope.models.initialisation import INITIALISATIONS, initialise
from sgdscope.models.mlp import perceptron
from sgdscope.models.resnet import NORMS, residual

_BUILDERS = {"mlp": perceptron, "cnn": convolutional, "resnet": residual}

NAMES = tuple(_BUILDERS)
"""What `build` knows."""

__all__ = ["ACTIVATIONS", "INITIALISATIONS", "NAMES", "NORMS", "build", "initialise"]


def build(
    name: str,
    *,
    input_shape: Sequence[int],
    classes: int,
    width: int | None = None,
    depth: int | None = None,
    activation: str = "relu",
    norm: str = "none",
    initialisation: str = "default",
    scale: float = 1.0,
    seed: int = 0,
) -> nn.Module:
    """The model `name`, one of `NAMES`, on the CPU in torch's default dtype, in train mode.

    The same arguments give the same parameters; torch's global random state is as it was before.

    Args:
        name: one of `NAMES`.
        input_shape: shape of one input, e.g. ``(3, 32, 32)``.
        classes: number of outputs.
        width: mlp: units per hidden layer (512). cnn, resnet: channels of the first stage (cnn: 64, resnet: 16).
        depth: mlp: hidden layers (2). cnn: convolutions before the first pool (2). resnet: blocks per stage (2).
            For images with a side below 16 pixels the cnn has width 16 and depth 1 unless told otherwise.
        activation: a key of `ACTIVATIONS`.
        norm: "none"; for resnet also "batch".
        initialisation: one of `INITIALISATIONS`.
        scale: multiplies all initial weights of linear and convolutional layers (not biases, not norms). √6 ≈ 2.45
            gives He's variance 2/fan_in, which deep networks without norm need to train quickly.
        seed: of the initial weights.

    Raises:
        ValueError: something is not known or out of range, or the image is too small for the model.
    """
    if name not in _BUILDERS:
        raise ValueError(f"expected a model among {', '.join(NAMES)}, got {name!r}")
    whole_number("classes", classes, 1)
    if not input_shape:
        raise ValueError("expected input_shape with at least one dimension, got none")
    for side in input_shape:
        whole_number("every side of input_shape", side, 1)
    # torch's constructors draw weights of their own, which `initialise` replaces
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        model = _BUILDERS[name](input_shape, classes, width=width, depth=depth, activation=activation, norm=norm)
    initialise(model, how=initialisation, scale=scale, seed=seed)
    return model
