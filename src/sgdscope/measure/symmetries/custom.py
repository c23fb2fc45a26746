"""Custom: generators that a user gives by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sgdscope.measure.symmetries.candidate import Candidate
from sgdscope.measure.symmetries.part import MatrixPart, Part
from sgdscope.risk import Risk

Generator = Mapping[str, "Tensor | float | tuple[Tensor, int]"]
"""A by parameter name: its diagonal, a number or a tensor that broadcasts to the parameter; or a symmetric matrix and
the dimension of the parameter that it acts along. Absent: zero."""


def custom_candidates(risk: Risk, custom: Mapping[str, Generator]) -> list[Candidate]:
    """Raises ValueError for names, shapes and values that cannot be."""
    parameters = dict(zip(risk.names, risk.parameters, strict=True))
    made = []
    for name, generator in custom.items():
        parts = []
        for key, given in generator.items():
            if key not in parameters:
                raise ValueError(f"expected generators over {', '.join(risk.names[:4])}, …, got {key!r} in {name!r}")
            by_matrix = isinstance(given, tuple)
            parts.append((_matrix if by_matrix else _diagonal)(name, key, given, parameters[key]))
        if not any(bool(_values(p).any()) for p in parts):
            raise ValueError(f"expected a generator that scales something in {name!r}, got none or zeros")
        made.append(Candidate(name, "custom", 1, tuple(parts)))
    return made


def _values(part: Part) -> Tensor:
    return part.matrix if isinstance(part, MatrixPart) else torch.as_tensor(part.power)


def _diagonal(name: str, key: str, powers: Any, parameter: nn.Parameter) -> Part:
    shape = tuple(parameter.shape)
    given = torch.as_tensor(powers, dtype=torch.float64, device=parameter.device)
    try:
        spread = given.expand(shape)
    except RuntimeError as error:
        raise ValueError(
            f"expected powers for {key} that broadcast to {shape}, got {tuple(given.shape)} in {name!r}"
        ) from error
    _check_finite(name, key, spread)
    return Part(key, shape, (), spread)


def _matrix(name: str, key: str, given: Any, parameter: nn.Parameter) -> Part:
    if len(given) != 2 or not isinstance(given[1], int) or not -parameter.dim() <= given[1] < parameter.dim():
        raise ValueError(f"expected a matrix and one of the {parameter.dim()} dimensions of {key} in {name!r}")
    matrix = torch.as_tensor(given[0], dtype=torch.float64).detach().cpu()
    dim = given[1] % parameter.dim()
    size = parameter.shape[dim]
    if tuple(matrix.shape) != (size, size):
        raise ValueError(f"expected a matrix of shape {(size, size)} for dimension {dim} of {key}, got "
                         f"{tuple(matrix.shape)} in {name!r}")  # fmt: skip
    _check_finite(name, key, matrix)
    if not torch.allclose(matrix, matrix.T, rtol=1e-12, atol=0):
        raise ValueError(f"expected a symmetric matrix for {key} in {name!r}, got one that is not: only those have a "
                         "charge\nhint: its antisymmetric part turns parameters and gives none")  # fmt: skip
    return MatrixPart(key, tuple(parameter.shape), matrix=matrix, dim=dim)


def _check_finite(name: str, key: str, values: Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"expected finite powers for {key} in {name!r}, got some that are not")
