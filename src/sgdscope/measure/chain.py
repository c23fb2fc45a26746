r"""Exact batch curvature of layered networks in Gram form: gᵀHg and ‖g‖² without forming gradient or Hessian product.

For a chain of linear layers :math:`z_l = a_{l-1} W_l^\top + c_l` and pointwise activations, the gradient of a batch is
:math:`G_l = \Delta_l^\top A_{l-1}` with :math:`\Delta_l` the derivatives of the loss by :math:`z_l`. Moving the
parameters along it moves the outputs of layer l by

.. math:: \dot z_l = \dot a_{l-1} W_l^\top + u_l, \qquad u_l = (A_{l-1} A_{l-1}^\top + 1) \Delta_l,

where only the b × b Gram matrix of the batch appears (the 1 is the bias). With it

.. math::

    \|g\|^2 = \sum_l \langle \Delta_l, u_l \rangle, \qquad
    g^\top H g = \langle \dot f, H_\ell \dot f \rangle
        + 2 \sum_l \langle \Delta_l, (\dot A_{l-1} A_{l-1}^\top) \Delta_l \rangle
        + \sum_l \langle \bar a_l, \phi''(z_l) \dot z_l^2 \rangle ,

the second and third term being the second-order jet of the output contracted with the loss gradient, carried back to
where it arises. For linear layers nothing of the size of the parameters is written, so many batches are done in one
pass: 0.2 to 1.8 gradient evaluations per batch of 8 to 1000, gradient included, where forming Hg takes two or three.
Convolutions (`jets.Convolution`) form their gradient, which is small, and use it as a kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sgdscope.batches import Batch, length
from sgdscope.measure.jets import jet_of
from sgdscope.risk import Risk


class NotAChainError(ValueError):
    """The model is no chain of linear layers and pointwise activations; the message names what stands in the way."""


@dataclass(frozen=True)
class BatchCurvatures:
    """Per batch, shape ``(K,)``: ``curvatures`` gᵀHg and ``squared_norms`` ‖g‖², with the mean ``loss`` of all."""

    curvatures: Tensor
    squared_norms: Tensor
    loss: float


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
    if jet_of(model) is None:
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
    linear = [layer for layer in layers_of(risk.model) if _has_parameters(layer)]
    if not linear:
        raise NotAChainError("no linear layer")
    own = [p for layer in linear for p in layer.parameters()]
    if {id(p) for p in own} != {id(p) for p in risk.parameters} or len({id(p) for p in own}) != len(own):
        raise NotAChainError("frozen or tied parameters")
    return linear


def _has_parameters(layer: nn.Module) -> bool:
    return next(layer.parameters(), None) is not None


def reaches_past_output(risk: Risk, batch: Batch) -> bool:
    """Whether the loss depends on the parameters otherwise than through one call of the model (a weight penalty)."""
    layers = layers_of(risk.model)
    outputs: list[Tensor] = []

    def forward(inputs: Tensor) -> Tensor:
        outputs.append(_Trace(layers, 1).forward(inputs))
        return outputs[-1]

    with risk.evaluating() as leaves:
        with _forward_replaced(risk.model, forward):
            loss = risk.loss(batch)
        if len(outputs) != 1 or not loss.requires_grad:
            return True
        return any(g is not None for g in torch.autograd.grad(loss, leaves, allow_unused=True))


def batch_curvatures(risk: Risk, batch: Batch, batch_size: int) -> BatchCurvatures:
    """gᵀHg and ‖g‖² of each consecutive group of `batch_size` samples of `batch`, exactly.

    Assumes a loss that reaches the parameters only through the model's output and is a mean over samples (checked
    against the plain way by `measure.batch_sharpness` on first use). Cost: 0.2 to 2 gradient evaluations
    per batch. Raises NotAChainError if the model is none, ValueError if `batch_size` does not divide the batch.
    """
    layers = layers_of(risk.model)
    count = length(batch)
    if count % batch_size:
        raise ValueError(f"expected a batch of a multiple of {batch_size} samples, got {count}")
    groups = count // batch_size
    trace = _Trace(layers, groups)
    with risk.evaluating():
        with _forward_replaced(risk.model, trace.forward):
            loss = risk.loss(batch)
        output = trace.output
        (slope,) = torch.autograd.grad(loss, output, create_graph=True)
        with torch.no_grad():
            # loss is the mean over all groups; each group's own loss has `groups` times its derivatives
            trace.backward(slope.detach() * groups)
            velocity, squared_norms, curvatures = trace.along_gradient()
        of_loss = _loss_curvature(slope, output, velocity) * groups
        curvatures = curvatures + of_loss.reshape(groups, -1).sum(1)
    return BatchCurvatures(curvatures, squared_norms, float(loss.detach()))


def _loss_curvature(slope: Tensor, output: Tensor, velocity: Tensor) -> Tensor:
    """``ḟ ∘ (H_ℓ ḟ)``, entry by entry."""
    if not slope.requires_grad:  # loss linear in the output
        return torch.zeros_like(velocity)
    (image,) = torch.autograd.grad(slope, output, velocity, materialize_grads=True)
    return velocity * image


class _Trace:
    """One pass forward, back and forward again through the jets of the layers."""

    def __init__(self, layers: list[nn.Module], groups: int) -> None:
        kinds = [jet_of(layer) for layer in layers]
        self.jets = [kind(layer, groups) for kind, layer in zip(kinds, layers, strict=True) if kind is not None]
        self.groups = groups
        self.output: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """The model's output as a fresh leaf."""
        with torch.no_grad():
            for jet in self.jets:
                x = jet.forward(x)
        self.output = x.detach().requires_grad_()
        return self.output

    def backward(self, slope: Tensor) -> None:
        """Carry the loss derivative down to the output of each layer; gradients by weights are not formed."""
        first = next(i for i, jet in enumerate(self.jets) if _has_parameters(jet.layer))
        for index in range(len(self.jets) - 1, first - 1, -1):
            self.jets[index].slope = slope
            if index > first:
                slope = self.jets[index].pull(slope)

    def along_gradient(self) -> tuple[Tensor, Tensor, Tensor]:
        """Velocity of the output, ‖g‖² and the part of gᵀHg that the network's own curvature makes, per group."""
        norms = torch.zeros(self.groups, dtype=self.output.dtype, device=self.output.device)
        curvatures = torch.zeros_like(norms)
        velocity: Tensor | None = None
        for jet in self.jets:
            if velocity is None and not _has_parameters(jet.layer):
                continue
            velocity, added = jet.push(velocity)
            if added is not None:
                norms += added[0]
                curvatures += added[1]
        assert velocity is not None
        return velocity.reshape(self.output.shape), norms, curvatures


class _forward_replaced:  # noqa: N801 (reads as a verb at its one use)
    """Within the block, calling the model runs `function` instead of its forward."""

    def __init__(self, model: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        self.model, self.function = model, function

    def __enter__(self) -> None:
        self.model.__dict__["forward"] = self.function  # a chain has none there, see `layers_of`

    def __exit__(self, *_: object) -> None:
        del self.model.__dict__["forward"]
