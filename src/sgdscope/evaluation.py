"""Evaluation: run a model at given parameters without leaving a trace.

While a model is being evaluated its parameters are replaced by aliases (same storage, no hooks, own gradients), its
buffers by copies (running statistics are updated in the copies), the modules' train flags are set, their backward
hooks are left out, random state is forked and seeded, and ambient autocast and no_grad are switched off. All of it is
put back, whatever happens inside, and so are plain attributes that a forward sets (counters, last activations); what it
changes inside such an attribute (a list it appends to) is not.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from operator import is_not
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode

from sgdscope.batches import keep_host_random_state

Mode = Literal["train", "eval", "current"]
"""`train`: all modules in train mode; `eval`: all in eval mode; `current`: the flags as they are."""


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that require gradients, each once (tied ones under their first name)."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def aliases(parameters: Sequence[Tensor]) -> list[Tensor]:
    """Leaves that share the parameters' storage: differentiable, without the hooks of the originals."""
    return [p.detach().requires_grad_() for p in parameters]


@contextmanager
def evaluating(
    model: nn.Module,
    parameters: Sequence[Tensor],
    values: Sequence[Tensor],
    *,
    mode: Mode,
    seed: int,
    second_order: bool = False,
) -> Iterator[None]:
    """Within the block, `model` holds `values` in place of `parameters` and disturbs nothing.

    `seed` fixes dropout masks and the like. With `second_order`, attention uses the one kernel that can be
    differentiated twice.
    """
    replaced = {id(p): v for p, v in zip(parameters, values, strict=True)}
    device = values[0].device.type
    with (
        _swapped(model, replaced),
        _mode(model, mode),
        keep_host_random_state(seed),
        _torch_random_state(_cuda_devices(values), seed),
        plain_autograd(device),
        eager(),
        sdpa_kernel(SDPBackend.MATH) if second_order else nullcontext(),
        _PlainWeightNorm() if second_order and _has_weight_norm(model) else nullcontext(),
    ):
        yield


@contextmanager
def plain_autograd(device: str) -> Iterator[None]:
    """Ambient autocast, no_grad and inference_mode switched off: derivatives are taken in the parameters' precision."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext(),
    ):
        yield


def eager() -> AbstractContextManager[Any]:
    """No compiled code: it has no second derivatives, and running it at other parameters would recompile it."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo.eval_frame" in sys.modules else nullcontext()


class _PlainWeightNorm(TorchFunctionMode):
    """Weight norm from elementary operations: the second derivative of the fused kernel is wrong (torch 2.13, CPU)."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch._weight_norm:
            v, g, dim = (*args, 0)[:3]
            return v * (g / torch.norm_except_dim(v, 2, dim))
        return func(*args, **(kwargs or {}))


def _has_weight_norm(model: nn.Module) -> bool:
    return any(
        isinstance(m, _WeightNorm) or any(isinstance(hook, WeightNorm) for hook in m._forward_pre_hooks.values())
        for m in model.modules()
    )


def _cuda_devices(values: Sequence[Tensor]) -> list[int]:
    """Indices of the CUDA devices in use, whose random state must be forked too."""
    return sorted({v.device.index or 0 for v in values if v.device.type == "cuda"})


@contextmanager
def _torch_random_state(cuda: list[int], seed: int) -> Iterator[None]:
    """Fork torch's global generators and seed them (only those in use: `torch.manual_seed` visits every backend)."""
    with torch.random.fork_rng(cuda):
        torch.default_generator.manual_seed(seed)
        for index in cuda:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield


@contextmanager
def _swapped(model: nn.Module, replaced: dict[int, Tensor]) -> Iterator[None]:
    """Replace parameters by identity, so tied ones stay tied, and buffers by copies."""
    undo: list[tuple[dict[str, Any], str, Any]] = []
    copies: dict[int, Tensor] = {}
    before: list[tuple[dict[str, Any], dict[str, Any]]] = []
    try:
        for module in model.modules():
            inside = module.__dict__
            before.append((inside, inside.copy()))
            if module._backward_hooks or module._backward_pre_hooks:  # they may change the gradient, or log it
                inside["_backward_hooks"], inside["_backward_pre_hooks"] = OrderedDict(), OrderedDict()
            for name, parameter in module._parameters.items():
                if parameter is not None and id(parameter) in replaced:
                    undo.append((module._parameters, name, parameter))
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    undo.append((module._buffers, name, buffer))
                    copies.setdefault(id(buffer), buffer.detach().clone())
        for slots, name, tensor in undo:
            slots[name] = replaced[id(tensor)] if id(tensor) in replaced else copies[id(tensor)]
        yield
    finally:
        for slots, name, tensor in undo:
            slots[name] = tensor
        for inside, values in before:
            if len(inside) != len(values) or any(map(is_not, inside.values(), values.values())):
                inside.clear()
                inside.update(values)


@contextmanager
def _mode(model: nn.Module, mode: Mode) -> Iterator[None]:
    """Set the train flag of every module, then put each back."""
    before = [(m, m.training) for m in model.modules()]
    try:
        if mode != "current":
            for module, flag in before:
                if flag != (mode == "train"):
                    module.training = not flag
        yield
    finally:
        for module, flag in before:
            if module.training != flag:  # set here, or by loss_fn
                module.training = flag
