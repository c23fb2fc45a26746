r"""What one layer contributes to per-sample gradients, from its input a and the slope δ of the loss by its output.

A fully connected layer has the gradient :math:`\delta_i a_i^\top` for sample i, so inner products of gradients are
products of inner products, :math:`(a_i \cdot a_j)(\delta_i \cdot \delta_j)`, and nothing of the weights' size is formed
(Goodfellow 1510.01799). Other layers, and linear ones acting on several positions, form the gradient of each sample:
theirs are small.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SUPPORTED: tuple[type[nn.Module], ...] = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding, nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d,
)  # fmt: skip

_FEW = 16
_BLOCK = 1 << 26
"""Bytes of per-sample gradients of one linear layer formed at a time."""


def why_not(layer: nn.Module) -> str:
    """Why the per-sample gradients of a layer cannot be had from input and slope; empty if they can."""
    name = type(layer).__name__
    if type(layer) not in SUPPORTED:
        return f"{name} has parameters of its own kind"
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and (layer.training or layer.running_mean is None):
        return f"{name} in train mode mixes the samples"
    if isinstance(layer, nn.Conv1d | nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
        return f"{name} with padding other than a number of zeros"
    if isinstance(layer, nn.Embedding) and (layer.max_norm is not None or layer.scale_grad_by_freq or layer.sparse):
        return f"{name} that renormalises its rows, or scales or sparsifies its gradient"
    return ""


def gram(layer: nn.Module, a: Tensor, slope: Tensor) -> Tensor:
    """Inner products of the samples' gradients by the layer's parameters, shape ``(n, n)``."""
    if isinstance(layer, nn.Linear):
        if a.dim() == 2:
            inputs = a @ a.t()
            if layer.bias is not None:
                inputs += 1
            return inputs.mul_(slope @ slope.t())
        return _gram_over_positions(a.flatten(1, -2), slope.flatten(1, -2), layer.bias is not None)
    rows = gradients(layer, a, slope)
    return rows @ rows.t()


def squared_norms(layer: nn.Module, a: Tensor, slope: Tensor) -> Tensor:
    """Squared norms of the samples' gradients by the layer's parameters, shape ``(n,)``."""
    return products(layer, a, slope, slope)


def products(layer: nn.Module, a: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """For each sample the inner product of the gradients that two slopes give, shape ``(n,)``."""
    if isinstance(layer, nn.Linear) and a.dim() == 2:
        inputs = a.square().sum(1)
        if layer.bias is not None:
            inputs += 1
        return inputs.mul_((one * other).sum(1))
    if isinstance(layer, nn.Linear):
        a, one, other = (x.flatten(1, -2) for x in (a, one, other))
        positions, width_in, width_out = a.shape[1], a.shape[2], one.shape[2]
        if positions * (width_in + width_out) < width_in * width_out:
            inputs = a @ a.transpose(1, 2)
            if layer.bias is not None:
                inputs += 1
            return inputs.mul_(one @ other.transpose(1, 2)).sum((1, 2))
    rows = gradients(layer, a, one)
    return (rows * (rows if other is one else gradients(layer, a, other))).sum(1)


def gradients(layer: nn.Module, a: Tensor, slope: Tensor) -> Tensor:
    """Gradient of each sample by the layer's parameters, flat, shape ``(n, number of parameters)``."""
    count = len(slope)
    match layer:
        case nn.Linear():
            parts = [slope.reshape(count, -1, slope.shape[-1]).transpose(1, 2) @ a.reshape(count, -1, a.shape[-1])]
            bias = slope.reshape(count, -1, slope.shape[-1]).sum(1)
        case nn.Conv1d() | nn.Conv2d():
            parts = [_of_kernel(layer, a, slope)]
            bias = slope.flatten(2).sum(2)
        case nn.Embedding():
            ids = a.reshape(count, -1)
            table = slope.new_zeros(count, layer.num_embeddings, slope.shape[-1])
            parts = [table.scatter_add_(1, ids[:, :, None].expand(-1, -1, slope.shape[-1]), slope.reshape(
                count, ids.shape[1], -1))]  # fmt: skip
            if layer.padding_idx is not None:
                table[:, layer.padding_idx] = 0
            return parts[0].flatten(1)
        case _:
            parts, bias = [_over_positions(layer, _normalised(layer, a) * slope)], _over_positions(layer, slope)
    if getattr(layer, "bias", None) is not None:
        parts.append(bias)
    return torch.cat([part.flatten(1) for part in parts], 1)


def _gram_over_positions(a: Tensor, slope: Tensor, bias: bool) -> Tensor:
    """For linear layers on several positions: the gradients, some outputs at a time."""
    count, width_in, width_out = len(a), a.shape[2], slope.shape[2]
    step = max(1, _BLOCK // (count * width_in * a.element_size()))
    total = a.new_zeros(count, count)
    for start in range(0, width_out, step):
        rows = (slope[:, :, start : start + step].transpose(1, 2) @ a).flatten(1)
        total.addmm_(rows, rows.t())
    if bias:
        sums = slope.sum(1)
        total.addmm_(sums, sums.t())
    return total


def _of_kernel(layer: nn.Conv1d | nn.Conv2d, a: Tensor, slope: Tensor) -> Tensor:
    """Kernel gradient of each sample, ``(n, out, in / groups · kernel)``: one batched product per kernel position.

    A few samples at a time, which the caches hold.
    """
    few = _FEW if a.device.type == "cpu" else len(a)
    if len(a) > few:
        return torch.cat([_of_kernel(layer, *both) for both in zip(a.split(few), slope.split(few), strict=True)])
    kernel, dilation, stride, padding = layer.kernel_size, layer.dilation, layer.stride, layer.padding
    if isinstance(layer, nn.Conv1d):  # as if of height one
        a, slope = a[:, :, None], slope[:, :, None]
        kernel, dilation, stride, padding = (1, *kernel), (1, *dilation), (1, *stride), (0, *padding)
    (tall, wide), (down, across), (skip, step) = kernel, dilation, stride
    above, left = (int(x) for x in padding)
    count, groups = len(a), layer.groups
    height, width = slope.shape[2:]
    padded = F.pad(a.permute(0, 2, 3, 1), (0, 0, left, left, above, above))  # channels last: each slice lies together
    delta = slope.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2)  # n × out × places
    delta = delta.reshape(count * groups, -1, height * width)
    found = []
    for y in range(tall):
        for x in range(wide):
            rows = slice(y * down, y * down + (height - 1) * skip + 1, skip)
            columns = slice(x * across, x * across + (width - 1) * step + 1, step)
            seen = padded[:, rows, columns].reshape(count, height * width, groups, -1).transpose(1, 2)
            found.append(torch.bmm(delta, seen.reshape(count * groups, height * width, -1)))
    return torch.stack(found, -1).reshape(count, layer.out_channels, -1)


def _normalised(layer: nn.Module, a: Tensor) -> Tensor:
    """The layer's output before scale and shift."""
    match layer:
        case nn.LayerNorm():
            return F.layer_norm(a, layer.normalized_shape, None, None, layer.eps)
        case nn.GroupNorm():
            return F.group_norm(a, layer.num_groups, None, None, layer.eps)
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            return F.batch_norm(a, layer.running_mean, layer.running_var, None, None, False, 0.0, layer.eps)
    raise AssertionError(type(layer))


def _over_positions(layer: nn.Module, x: Tensor) -> Tensor:
    """Summed over all but samples and the parameter's own dimensions."""
    if isinstance(layer, nn.LayerNorm):
        own = len(layer.normalized_shape)
        return x.reshape(len(x), -1, *x.shape[x.dim() - own :]).sum(1)
    return x.flatten(2).sum(2) if x.dim() > 2 else x
