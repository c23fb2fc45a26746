"""Evaluation: run a model at given parameters without leaving a trace.

While a model is being evaluated its parameters are replaced by aliases (same storage, no hooks, own gradients), its
buffers by copies (running statistics are updated in the copies), the modules' train flags are set, random state is
forked and seeded, and ambient autocast and no_grad are switched off. All of it is put back, whatever happens inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

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
    device = values[0].device.type if values else "cpu"
    with (
        _swapped(model, replaced),
        _mode(model, mode),
        keep_host_random_state(),
        _torch_random_state(_cuda_devices(values), seed),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext(),
        sdpa_kernel(SDPBackend.MATH) if second_order else nullcontext(),
    ):
        yield


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
    undo: list[tuple[dict[str, Tensor | None], str, Tensor | None]] = []
    copies: dict[int, Tensor] = {}
    try:
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None and id(parameter) in replaced:
                    undo.append((module._parameters, name, parameter))  # type: ignore[arg-type]
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


@contextmanager
def _mode(model: nn.Module, mode: Mode) -> Iterator[None]:
    """Set the train flag of every module, then put each back."""
    if mode == "current":
        yield
        return
    wanted = mode == "train"
    changed = [m for m in model.modules() if m.training != wanted]
    for module in changed:
        module.training = wanted
    try:
        yield
    finally:
        for module in changed:
            module.training = not wanted
