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
where it arises. Nothing of the size of the parameters is written, so many batches are done in one pass: about 0.6
gradient evaluations per batch, gradient included, where forming Hg takes two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sgdscope.batches import Batch, length
from sgdscope.risk import Risk

_POINTWISE: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Softplus, nn.ELU, nn.LeakyReLU, nn.CELU, nn.Mish, nn.LogSigmoid,
)  # fmt: skip
_PIECEWISE_LINEAR = (nn.ReLU, nn.LeakyReLU)


class NotAChainError(ValueError):
    """The model is no chain of linear layers and pointwise activations; the message names what stands in the way."""


@dataclass(frozen=True)
class BatchCurvatures:
    """Per batch, shape ``(K,)``: ``curvatures`` gᵀHg and ``squared_norms`` ‖g‖², with the mean ``loss`` of all."""

    curvatures: Tensor
    squared_norms: Tensor
    loss: float


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers of a (nested) `nn.Sequential`, if all are Flatten, Linear or pointwise.

    Raises NotAChainError naming the module that stands in the way. A subclass is refused: its forward may differ.
    """
    if model._forward_hooks or model._forward_pre_hooks:
        raise NotAChainError(f"{type(model).__name__} has forward hooks")
    if "forward" in model.__dict__:
        raise NotAChainError(f"{type(model).__name__} has a forward of its own")
    if type(model) is nn.Sequential:
        return [layer for child in model for layer in layers_of(child)]
    allowed = (nn.Linear, nn.Flatten, nn.Identity, *_POINTWISE)
    if type(model) in allowed:
        if isinstance(model, nn.Flatten) and (model.start_dim, model.end_dim) != (1, -1):
            raise NotAChainError("Flatten over other dimensions than all but the first")
        return [model]
    raise NotAChainError(f"{type(model).__name__} is neither Linear, Flatten nor a pointwise activation")


def check_chain(risk: Risk) -> list[nn.Linear]:
    """The linear layers of a risk whose model is a chain with all parameters trainable, floating and untied.

    Raises NotAChainError with the reason otherwise.
    """
    linear = [layer for layer in layers_of(risk.model) if isinstance(layer, nn.Linear)]
    if not linear:
        raise NotAChainError("no linear layer")
    own = [p for layer in linear for p in layer.parameters()]
    if {id(p) for p in own} != {id(p) for p in risk.parameters} or len({id(p) for p in own}) != len(own):
        raise NotAChainError("frozen or tied parameters")
    return linear


def reaches_past_output(risk: Risk, batch: Batch) -> bool:
    """Whether the loss depends on the parameters otherwise than through one call of the model (a weight penalty)."""
    layers = layers_of(risk.model)
    outputs: list[Tensor] = []

    def forward(inputs: Tensor) -> Tensor:
        outputs.append(_Trace(1, length(batch)).forward(layers, inputs))
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
    against the plain way by `measure.batch_sharpness` on first use). Cost: about 0.6 gradient evaluations per batch.
    Raises NotAChainError if the model is none, ValueError if `batch_size` does not divide the batch.
    """
    layers = layers_of(risk.model)
    count = length(batch)
    if count % batch_size:
        raise ValueError(f"expected a batch of a multiple of {batch_size} samples, got {count}")
    groups = count // batch_size
    trace = _Trace(groups, batch_size)
    with risk.evaluating():
        with _forward_replaced(risk.model, lambda inputs: trace.forward(layers, inputs)):
            loss = risk.loss(batch)
        output = trace.output
        (slope,) = torch.autograd.grad(loss, output, create_graph=True)
        with torch.no_grad():
            # loss is the mean over all groups; each group's own loss has `groups` times its derivatives
            trace.backward(layers, slope.detach() * groups)
            velocity, squared_norms, curvatures = trace.along_gradient(layers)
        curvatures = curvatures + trace.per_group(_loss_curvature(slope, output, velocity) * groups)
    return BatchCurvatures(curvatures, squared_norms, float(loss.detach()))


def _loss_curvature(slope: Tensor, output: Tensor, velocity: Tensor) -> Tensor:
    """``ḟ ∘ (H_ℓ ḟ)``, entry by entry."""
    if not slope.requires_grad:  # loss linear in the output
        return torch.zeros_like(velocity)
    (image,) = torch.autograd.grad(slope, output, velocity, materialize_grads=True)
    return velocity * image


class _Trace:
    """What the passes leave behind: inputs `a`, outputs `z` of each layer, and derivatives by them."""

    def __init__(self, groups: int, batch_size: int) -> None:
        self.groups, self.batch_size = groups, batch_size
        self.inputs: list[Tensor] = []
        self.slopes: list[Tensor] = []  # derivative of the loss by the output of each layer
        self.bends: list[tuple[Tensor | None, Tensor | None]] = []  # φ'(z), φ''(z) of pointwise layers
        self.output: Tensor

    def forward(self, layers: list[nn.Module], x: Tensor) -> Tensor:
        """The model's output as a fresh leaf; keeps the input and the activation derivatives of each layer."""
        with torch.no_grad():
            for layer in layers:
                self.inputs.append(x)
                z, x = x, layer(x)
                self.bends.append(_derivatives(layer, z, x) if isinstance(layer, _POINTWISE) else (None, None))
        self.output = x.detach().requires_grad_()
        return self.output

    def backward(self, layers: list[nn.Module], slope: Tensor) -> None:
        """Carry the loss derivative down to the output of each layer; weight gradients are never formed."""
        slopes = []
        first_linear = next(i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear))
        for index in range(len(layers) - 1, -1, -1):
            slopes.append(slope)
            layer, (first, _) = layers[index], self.bends[index]
            if index <= first_linear:
                break
            if isinstance(layer, nn.Linear):
                slope = slope @ layer.weight
            elif first is not None:
                slope = slope * first
            else:
                slope = slope.reshape(self.inputs[index].shape)
        self.slopes = [torch.empty(0)] * first_linear + slopes[::-1]

    def along_gradient(self, layers: list[nn.Module]) -> tuple[Tensor, Tensor, Tensor]:
        """Velocity of the output, ‖g‖² and the part of gᵀHg that the network's own curvature makes, per group."""
        norms = torch.zeros(self.groups, dtype=self.output.dtype, device=self.output.device)
        curvatures = torch.zeros_like(norms)
        velocity: Tensor | None = None
        for index, layer in enumerate(layers):
            first, second = self.bends[index]
            if isinstance(layer, nn.Linear):
                a, delta = self._grouped(self.inputs[index]), self._grouped(self.slopes[index])
                u = _times_gram(a, a, delta)
                if layer.bias is not None:
                    u = u + delta.sum(1, keepdim=True)
                norms += (delta * u).sum((1, 2))
                if velocity is None:
                    velocity = u.flatten(0, 1)
                else:
                    curvatures += 2 * (delta * _times_gram(self._grouped(velocity), a, delta)).sum((1, 2))
                    velocity = torch.addmm(u.flatten(0, 1), velocity, layer.weight.t())
            elif velocity is not None:
                if second is not None:
                    curvatures += self.per_group(self.slopes[index] * second * velocity.square())
                velocity = velocity.reshape(self.inputs[index].shape) if first is None else velocity * first
        assert velocity is not None
        return velocity.reshape(self.output.shape), norms, curvatures

    def per_group(self, entries: Tensor) -> Tensor:
        """Sum within each group."""
        return entries.reshape(self.groups, -1).sum(1)

    def _grouped(self, x: Tensor) -> Tensor:
        return x.reshape(self.groups, self.batch_size, -1)


def _times_gram(x: Tensor, a: Tensor, delta: Tensor) -> Tensor:
    """``(x aᵀ) δ`` per group, by whichever order of products is cheaper."""
    batch, width_in, width_out = x.shape[1], x.shape[2], delta.shape[2]
    if batch * (width_in + width_out) <= 2 * width_in * width_out:
        return torch.bmm(torch.bmm(x, a.transpose(1, 2)), delta)
    return torch.bmm(x, torch.bmm(a.transpose(1, 2), delta))


def _derivatives(layer: nn.Module, z: Tensor, a: Tensor) -> tuple[Tensor, Tensor | None]:
    """φ'(z) and φ''(z); None for a second derivative that is zero."""
    if type(layer) is nn.Tanh:
        first = 1 - a.square()
        return first, -2 * a * first
    if type(layer) is nn.ReLU:
        return (a > 0).to(a.dtype), None
    if type(layer) is nn.LeakyReLU:
        return torch.full_like(z, layer.negative_slope).masked_fill_(z > 0, 1.0), None
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        (first,) = torch.autograd.grad(layer(leaf).sum(), leaf, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), leaf)
    return first.detach(), second


class _forward_replaced:  # noqa: N801 (reads as a verb at its one use)
    """Within the block, calling the model runs `function` instead of its forward."""

    def __init__(self, model: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        self.model, self.function = model, function

    def __enter__(self) -> None:
        self.model.__dict__["forward"] = self.function  # a chain has none there, see `layers_of`

    def __exit__(self, *_: object) -> None:
        del self.model.__dict__["forward"]
