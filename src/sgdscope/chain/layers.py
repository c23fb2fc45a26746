"""Which models are chains, and what stands in the way of the others."""

from __future__ import annotations

from torch import nn

from sgdscope.chain.convolution import AveragePool, Convolution, MaxPool
from sgdscope.chain.jet import Jet
from sgdscope.chain.linear import Linear
from sgdscope.chain.pointwise import POINTWISE, Pointwise, ReLU, Reshape, Tanh
from sgdscope.risk import Risk

_KINDS: dict[type[nn.Module], type[Jet]] = {
    nn.Linear: Linear,
    nn.Conv2d: Convolution,
    nn.MaxPool2d: MaxPool,
    nn.AvgPool2d: AveragePool,
    nn.AdaptiveAvgPool2d: AveragePool,
    nn.Flatten: Reshape,
    nn.Identity: Reshape,
    **dict.fromkeys(POINTWISE, Pointwise),
    nn.Tanh: Tanh,
    nn.ReLU: ReLU,
}


class NotAChainError(ValueError):
    """The model is no chain of layers with known derivatives; the message names what stands in the way."""


def jets_of(layers: list[nn.Module], groups: int = 1) -> list[Jet]:
    """A fresh jet for each layer; the samples of one pass are `groups` batches of equal size."""
    return [_KINDS[type(layer)](layer, groups) for layer in layers]


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers of a (nested) `nn.Sequential`, if each has a jet: linear, convolutional, pooling or pointwise.

    Raises NotAChainError naming the module that stands in the way. A subclass is refused: its forward may differ.
    """
    if model._forward_hooks or model._forward_pre_hooks:
        raise NotAChainError(f"{type(model).__name__} has forward hooks")
    if "forward" in model.__dict__:
        raise NotAChainError(f"{type(model).__name__} has a forward of its own")
    if type(model) is nn.Sequential:
        return [layer for child in model for layer in layers_of(child)]
    if type(model) not in _KINDS:
        raise NotAChainError(f"{type(model).__name__} is neither linear, convolution, pooling nor pointwise activation")
    if isinstance(model, nn.Flatten) and (model.start_dim, model.end_dim) != (1, -1):
        raise NotAChainError("Flatten over other dimensions than all but the first")
    if isinstance(model, nn.Conv2d) and (model.padding_mode != "zeros" or isinstance(model.padding, str)):
        raise NotAChainError("Conv2d with padding other than a number of zeros")
    if isinstance(model, nn.MaxPool2d) and model.return_indices:
        raise NotAChainError("MaxPool2d that returns indices")
    return [model]


def check_chain(risk: Risk) -> list[nn.Module]:
    """The layers with parameters of a risk whose model is a chain, all parameters trainable and untied.

    Raises NotAChainError with the reason otherwise.
    """
    with_parameters = [layer for layer in layers_of(risk.model) if next(layer.parameters(), None) is not None]
    if not with_parameters:
        raise NotAChainError("no linear layer")
    own = [p for layer in with_parameters for p in layer.parameters()]
    if {id(p) for p in own} != {id(p) for p in risk.parameters} or len({id(p) for p in own}) != len(own):
        raise NotAChainError("frozen or tied parameters")
    return with_parameters
