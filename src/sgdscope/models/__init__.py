"""Models: small reference networks, built from a seed without touching the global random state.

mlp           hidden layers of one width; takes inputs of any shape
cnn           conv-conv-pool-conv-pool and one hidden layer
resnet        three stages of residual blocks
transformer   causal self-attention on the characters of a text

cnn and resnet come with BatchNorm, GroupNorm or LayerNorm, or free of any norm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from sgdscope.models.activations import ACTIVATIONS
from sgdscope.models.architecture import Architecture
from sgdscope.models.cnn import convolutional
from sgdscope.models.initialisation import INITIALISATIONS, initialise
from sgdscope.models.mlp import perceptron
from sgdscope.models.norms import NORMS
from sgdscope.models.resnet import residual
from sgdscope.models.transformer import transformer

_BUILDERS: dict[str, Callable[[Architecture], nn.Module]] = {
    "mlp": perceptron,
    "cnn": convolutional,
    "resnet": residual,
    "transformer": transformer,
}

NAMES = tuple(_BUILDERS)
"""What `build` knows."""

__all__ = ["ACTIVATIONS", "INITIALISATIONS", "NAMES", "NORMS", "Architecture", "build", "initialise"]


def build(
    name: str,
    *,
    input_shape: Sequence[int],
    classes: int,
    vocabulary: int | None = None,
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
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
        input_shape: shape of one input, e.g. ``(3, 32, 32)``; for text ``(context length,)``.
        classes: number of outputs: classes, or 1 for a regression.
        vocabulary: number of distinct tokens, for text; None where inputs are numbers.
        width: mlp: units per hidden layer (512). cnn, resnet: channels of the first stage (cnn: 64, resnet: 16).
            transformer: numbers per position (32).
        depth: mlp: hidden layers (2). cnn: convolutions before the first pool (2). resnet: blocks per stage (2).
            transformer: blocks (2). For images with a side below 16 pixels the cnn has width 16 and depth 1 unless told
            otherwise.
        heads: of the transformer's attention (4).
        activation: a key of `ACTIVATIONS`.
        norm: one of `NORMS` for cnn and resnet, "layer" or "none" for transformer, "none" for mlp.
        initialisation: one of `INITIALISATIONS`. Deep networks of ReLU without norm need "he" to train quickly.
        scale: multiplies all initial weights of linear and convolutional layers (not biases, embeddings or norms).
        seed: of the initial weights.

    Raises:
        ValueError: something is not known or out of range, or the inputs are of another kind than the model's.
    """
    if name not in _BUILDERS:
        raise ValueError(f"expected a model among {', '.join(NAMES)}, got {name!r}")
    architecture = Architecture(tuple(input_shape), classes, vocabulary, width, depth, heads, activation, norm)
    # torch's constructors draw weights of their own, which `initialise` replaces
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        model = _BUILDERS[name](architecture)
    initialise(model, how=initialisation, scale=scale, seed=seed)
    return model
