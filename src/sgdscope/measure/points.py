"""Points and directions in parameter space that the user hands over: checked, and brought to the parameters' device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from sgdscope import vectors
from sgdscope.risk import Risk
from sgdscope.vectors import Vector

Point = Sequence[Tensor] | Mapping[str, Tensor]
"""A list of tensors in the order of `Risk.parameters`, or a state dict (other entries than parameters are ignored)."""


def vector_of(risk: Risk, given: Point, what: str) -> Vector:
    """A point or direction as a vector like the risk's parameters: same shapes, precision and devices.

    Raises ValueError naming `what` if tensors are missing, of another shape or not finite.
    """
    if isinstance(given, Mapping):
        missing = [name for name in risk.names if name not in given]
        if missing:
            raise ValueError(f"expected {what} with all {len(risk.names)} trainable parameters, got one without "
                             f"{', '.join(missing[:3])}\nhint: model.state_dict() of the same model")  # fmt: skip
        given = [given[name] for name in risk.names]
    tensors = list(given)
    parameters = risk.parameters
    if len(tensors) != len(parameters) or any(t.shape != p.shape for t, p in zip(tensors, parameters, strict=True)):
        shapes = [tuple(p.shape) for p in parameters[:3]]
        raise ValueError(
            f"expected {what} shaped like the {len(parameters)} trainable parameters ({', '.join(map(str, shapes))}"
            f"{', …' if len(parameters) > 3 else ''}), got {len(tensors)} tensors "
            f"({', '.join(str(tuple(t.shape)) for t in tensors[:3])})\nhint: the order is that of Risk.parameters"
        )
    with torch.inference_mode(False), torch.no_grad():
        vector = [t.detach().to(device=p.device, dtype=p.dtype) for t, p in zip(tensors, parameters, strict=True)]
        if not all(bool(torch.isfinite(t).all()) for t in vector):
            raise ValueError(f"expected finite numbers in {what}, got some that are not")
    return vector


def here(risk: Risk) -> Vector:
    """The risk's present parameters, without a copy."""
    return [p.detach() for p in risk.parameters]


def moved(start: Sequence[Tensor], direction: Sequence[Tensor], distance: float) -> Vector:
    """``start + distance · direction``, new tensors."""
    with torch.inference_mode(False), torch.no_grad():
        return vectors.plus(start, direction, distance)


def rounding(risk: Risk, loss: float) -> float:
    """By how much two evaluations of a loss may differ from rounding alone, in the parameters' precision."""
    return float(max(torch.finfo(p.dtype).eps for p in risk.parameters)) * abs(loss)


def normalisation_notes(risk: Risk) -> tuple[str, ...]:
    """What BatchNorm does to losses away from the present parameters, in a sentence; empty without BatchNorm."""
    norms = [m for m in risk.model.modules() if isinstance(m, _BatchNorm)]
    if not norms:
        return ()
    if risk.mode == "train" or (risk.mode == "current" and any(m.training for m in norms)):
        return ("BatchNorm normalises each chunk by its own statistics",)
    return ("BatchNorm uses the running statistics of the model as it is, which fit the present weights only",)
