"""Tensors: what of a model is averaged, under which names, and how one set of tensors is moved towards another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sgdscope.average.names import check_alike, few, match

Source = nn.Module | Mapping[str, Tensor] | Iterable[Tensor]
"""A model; or tensors by name, as in a state dict; or parameters, named by their place."""

_CHUNK = 1 << 22
"""Numbers that are converted at once where precision or device differ: bounds the memory for it."""


@dataclass(frozen=True)
class Parts:
    """The tensors of a source, each once, in the order of its state dict.

    Attributes:
        parameters: by name; of a mapping or a list, all tensors.
        buffers: those that a state dict holds.
        names: every name of a state dict → the name under which the tensor is held here (tied ones have several).
        whole: True for a model; other sources may be a part of one.
    """

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    names: dict[str, str]
    whole: bool

    def __getitem__(self, name: str) -> Tensor:
        return self.parameters[name] if name in self.parameters else self.buffers[name]


def parts_of(source: Source) -> Parts:
    """Raises ValueError for what holds no tensors."""
    if isinstance(source, nn.Module):
        return _of_model(source)
    found: dict[str, Tensor]
    if isinstance(source, Mapping):
        found = {name: value for name, value in source.items() if isinstance(value, Tensor)}
    elif isinstance(source, Iterable) and not isinstance(source, str | Tensor):
        found = {str(index): value for index, value in enumerate(source)}
    else:
        found = {}
    if not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(
            "expected a model, tensors by name or a list of parameters, each with at least one tensor, got "
            f"{type(source).__name__}"
        )
    return Parts(found, {}, {name: name for name in found}, whole=False)


def _of_model(model: nn.Module) -> Parts:
    """By hand and not by `state_dict`, whose hooks belong to the user."""
    held: dict[int, str] = {}
    parameters: dict[str, Tensor] = {}
    buffers: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    for place, module in model.named_modules(remove_duplicate=False):
        prefix = f"{place}." if place else ""
        for own, into, left_out in (
            (module._parameters, parameters, ()),
            (module._buffers, buffers, module._non_persistent_buffers_set),
        ):
            for name, tensor in own.items():
                if tensor is None or name in left_out:
                    continue
                first = held.setdefault(id(tensor), prefix + name)
                if first == prefix + name:
                    into[first] = tensor
                names[prefix + name] = first
    if not names:
        raise ValueError(f"expected a model with parameters, got {type(model).__name__} without any")
    return Parts(parameters, buffers, names, whole=True)


def is_averaged(tensor: Tensor) -> bool:
    """Real and complex numbers are; counters and flags are not."""
    return tensor.is_floating_point() or tensor.is_complex()


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """Precision in which an average of `dtype` is kept: float32 for shorter ones, which lose small updates whole."""
    return torch.float32 if dtype.is_floating_point and dtype.itemsize < 4 else dtype


@torch.no_grad()
def move_(averages: list[Tensor], tensors: list[Tensor], share: float) -> None:
    """``average ← average + share · (tensor − average)`` in place, all at once.

    Where precision or device differ, converted in chunks.
    """
    if share == 1:
        torch._foreach_copy_(averages, tensors)
    elif all(a.dtype == t.dtype and a.device == t.device for a, t in zip(averages, tensors, strict=True)):
        torch._foreach_lerp_(averages, tensors, share)
    else:
        for old, new in _chunks(averages, tensors):
            torch._foreach_lerp_(old, [t.to(a) for a, t in zip(old, new, strict=True)], share)


def _chunks(a: Sequence[Tensor], b: Sequence[Tensor]) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    start = count = 0
    for stop, tensor in enumerate(a, 1):
        count += tensor.numel()
        if count >= _CHUNK or stop == len(a):
            yield list(a[start:stop]), list(b[start:stop])
            start, count = stop, 0


@torch.no_grad()
def assign(target: Source, values: Mapping[str, Tensor], *, source: str, whole: bool = True) -> None:
    """Copy `values` into the tensors of `target`, whose identity stays; optimizers and compiled code see them.

    Precision is converted. With `whole` every tensor of a model must be given. Raises MismatchError, and then nothing
    has been changed.
    """
    parts = parts_of(target)
    whole = whole and parts.whole
    found = match(values, parts.names, source=source, target="the model", whole=whole)
    pairs = [(parts[parts.names[found[name]]], value) for name, value in values.items()]
    for (tensor, value), name in zip(pairs, values, strict=True):
        check_alike(name, value, tensor, source=source, target="the model", exactly=False)
    for tensor, value in pairs:
        tensor.copy_(value)


def check_finite(values: Mapping[str, Tensor], what: str) -> None:
    """Raises ValueError naming the tensors that hold NaN or infinity."""
    broken = [name for name, value in values.items() if is_averaged(value) and not all_finite(value)]
    if broken:
        raise ValueError(
            f"expected finite numbers in {what}, got NaN or infinity in {few(broken)}: weights that had diverged went "
            "into it, so average those from before"
        )


def all_finite(tensor: Tensor) -> bool:
    """Whether no entry is NaN or infinite; by the sum first, which costs no second tensor."""
    if tensor.is_floating_point() and tensor.dtype.itemsize < 2:  # for which torch has no sums
        tensor = tensor.float()
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


@contextmanager
def kept(target: Source) -> Iterator[None]:
    """Whatever is done to the tensors of `target` inside, they are bit for bit as before in the end, and the same ones.

    Buffers that no state dict holds included. Memory: one copy of the model.
    """
    slots: list[tuple[dict[str, Tensor | None], str, Tensor | None]] = []
    if isinstance(target, nn.Module):
        for module in target.modules():
            for own in (module._parameters, module._buffers):
                slots += [(own, name, tensor) for name, tensor in own.items()]  # type: ignore[misc]
        tensors = {id(tensor): tensor for _, _, tensor in slots if tensor is not None}
    else:
        tensors = {id(tensor): tensor for tensor in parts_of(target).parameters.values()}
    before = [(tensor, tensor.detach().clone()) for tensor in tensors.values()]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, copy in before:
                tensor.copy_(copy)
        for own, name, slot in slots:
            own[name] = slot
