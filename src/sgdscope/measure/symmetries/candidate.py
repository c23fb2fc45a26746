"""Candidate: which slices of which parameters a stream's units own, and why some streams cannot be taken."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm

from sgdscope.measure.symmetries import operations as op
from sgdscope.measure.symmetries.part import Part, part
from sgdscope.measure.symmetries.stream import Stream


@dataclass(frozen=True)
class Candidate:
    """A generator to be verified: its parts, or the reason why there is none."""

    name: str
    kind: str
    units: int
    parts: tuple[Part, ...]
    norms: tuple[nn.Module, ...] = ()
    reason: str = ""

    @property
    def one_sided(self) -> bool:
        """Whether nothing is divided, or nothing multiplied, so that u·∇_u ℓ has nothing to balance it."""
        powers = [torch.as_tensor(p.power) for p in self.parts]
        return not (any(bool((p > 0).any()) for p in powers) and any(bool((p < 0).any()) for p in powers))


def candidates_of(stream: Stream, parameters: Mapping[int, tuple[str, Tensor]]) -> list[Candidate]:
    """Per unit first, then all units as one; the first that holds is taken.

    `parameters`: name and value of every trainable parameter by its id.
    """
    finest = units_of(stream)
    return [_candidate(stream, parameters, units) for units in dict.fromkeys((finest, 1))]


def units_of(stream: Stream) -> int:
    """Units (neurons, channels, groups of channels) that can be scaled one by one; 1 if only all together."""
    widths = {_width(module) for _, module in stream.writers}
    if len(widths) != 1:
        return 1
    width = units = widths.pop()
    for _, norm in stream.norms:
        match norm:
            case nn.GroupNorm():
                units = math.gcd(units, norm.num_groups)
            case _BatchNorm() | _InstanceNorm():
                units = units if norm.num_features == width else 1
            case _:
                return 1
    for _, reader in stream.readers:
        inputs = reader.in_features if isinstance(reader, nn.Linear) else reader.in_channels
        grouped = isinstance(reader, _ConvNd) and reader.groups > 1
        if inputs % width or (grouped and (inputs, units) != (width, width)):  # type: ignore[operator]
            return 1
    return units


def _width(writer: nn.Module) -> int:
    match writer:
        case nn.Linear():
            return writer.out_features
        case _ConvNd():
            return writer.out_channels
        case nn.Embedding():
            return writer.embedding_dim
    return len(writer.weight)  # type: ignore[arg-type]


def _candidate(stream: Stream, parameters: Mapping[int, tuple[str, Tensor]], units: int) -> Candidate:
    scale_free = not stream.readers
    ends = [name for name, _ in (stream.norms if scale_free else stream.readers)]
    name = f"{_short([name for name, _ in stream.writers])} → {_short(ends)}"
    kind = "scale invariance" if scale_free else "rescaling"
    norms = tuple(norm for _, norm in stream.norms)

    def refused(reason: str) -> Candidate:
        return Candidate(name, kind, units, (), norms, reason)

    found: dict[str, Part] = {}
    for side, modules in ((1.0, stream.readers), (1.0 if scale_free else -1.0, stream.writers)):
        reads = modules is stream.readers
        for path, module in modules:
            for own in ("weight",) if reads else ("weight", "bias"):
                if getattr(module, own, None) is None:
                    continue
                parameter = module._parameters.get(own)
                if parameter is None:
                    return refused(f"{path}.{own} is computed from other parameters")
                if id(parameter) not in parameters:
                    return refused(f"{path}.{own} is frozen")
                known, value = parameters[id(parameter)]
                if known in found and found[known].power != side:
                    return refused(f"tied: {known} is on both sides")
                found[known] = _slices(module, own, known, value, units, side, reads=reads)
    for label, function in stream.activations:
        if not op.is_homogeneous(function):
            return Candidate(name, kind, units, tuple(found.values()), norms, f"{label} is not homogeneous")
    return Candidate(name, kind, units, tuple(found.values()), norms)


def _slices(module: nn.Module, own: str, name: str, value: Tensor, units: int, power: float, *, reads: bool) -> Part:
    if reads and isinstance(module, _ConvNd) and module.groups > 1 and units > 1:  # unit = input channel of its group
        outputs, inputs, *kernel = value.shape
        return Part(name, (module.groups, outputs // module.groups, inputs, *kernel), (0, 2), power)
    turned = isinstance(module, _ConvTransposeNd) != isinstance(module, nn.Embedding)  # outputs along dimension 1
    dim = 0 if own == "bias" else int(reads != turned)
    return part(name, value, dim, units, power)


def _short(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
