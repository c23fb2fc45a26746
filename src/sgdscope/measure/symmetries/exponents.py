"""Exponents: the power of λ by which every number inside a network changes, as a sum of unknowns, and their equations.

A generator multiplies parameter i by λ to some power aᵢ. Steps of a network pass powers on: a product adds them, a sum
asks for equal ones, softmax asks for none. All of it is linear in the unknowns, so that what a network allows is the
null space of the equations of its steps.

Every element of a tensor has exponents of its own: `Terms` are Σ coefficient · unknown[labels], with labels like the
tensor, so that what a step does to the tensor's layout is done to its labels. Most labels are expanded views (stride
0), which keeps the equations as few as a layer has units.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Terms = tuple[tuple[float, Tensor], ...]
"""Coefficients, and labels of unknowns in the shape of the tensor; none: the exponent is zero."""
ZERO = 0
"""The unknown that is zero."""
Kind = Literal["always", "small", "reason", "tie"]


@dataclass(frozen=True, eq=False)
class Rows:
    """Equations Σₖ coefficients[k] · unknown[unknowns[r, k]] = 0, one for each r.

    `kind` says whether they can be left out: `always` asked; `small`: but for a small number, such as the eps of a
    norm; `reason`, `tie`: but for a function or a frozen parameter, or a parameter that is used more than once, which
    `reason` tells.
    """

    coefficients: npt.NDArray[np.float64]
    unknowns: npt.NDArray[np.int64]
    kind: Kind = "always"
    reason: str = ""


@dataclass
class Equations:
    """Unknowns and what has been asked of them."""

    unknowns: int = 1
    rows: list[Rows] = field(default_factory=list)

    def fresh(self, count: int) -> Tensor:
        """Labels of new unknowns."""
        self.unknowns += count
        return torch.arange(self.unknowns - count, self.unknowns)

    def vanish(self, terms: Terms, kind: Kind = "always", reason: str = "") -> None:
        """Ask that the exponents of all elements be zero."""
        terms = combined(terms)
        if not terms or not terms[0][1].numel():
            return
        coefficients = np.array([c for c, _ in terms])
        for labels in _separated([label for _, label in terms]):
            self.rows.append(Rows(coefficients, np.unique(labels.numpy(), axis=0), kind, reason))


def scaled(terms: Terms, factor: float) -> Terms:
    """The exponents times a number."""
    return tuple((factor * c, labels) for c, labels in terms) if factor else ()


def difference(one: Terms, other: Terms) -> Terms:
    """What must vanish for exponents to be equal."""
    return combined((*one, *scaled(other, -1.0)))


def combined(terms: Terms) -> Terms:
    """In one shape, with terms of the very same labels added up."""
    if not terms:
        return ()
    shape = np.broadcast_shapes(*(tuple(labels.shape) for _, labels in terms))
    sums: dict[tuple[object, ...], tuple[float, Tensor]] = {}
    for coefficient, labels in terms:
        spread = labels.expand(shape)
        place = (spread.data_ptr(), tuple(spread.stride(d) for d in _varying(spread)), tuple(_varying(spread)))
        sums[place] = (coefficient + sums.get(place, (0.0,))[0], spread)
    return tuple(term for term in sums.values() if term[0])


def expanded(terms: Terms, shape: Sequence[int]) -> Terms:
    """The same exponents in a larger shape."""
    return tuple((c, labels.expand(tuple(shape))) for c, labels in terms)


def at_first(terms: Terms, dims: Sequence[int]) -> Terms:
    """The exponents at index 0 of some dimensions, which keep size 1."""
    found = []
    for coefficient, labels in terms:
        for d in dims:
            labels = labels.narrow(d, 0, 1)
        found.append((coefficient, labels))
    return tuple(found)


def compressed(labels: Tensor) -> Tensor:
    """The same labels with stride 0 along every dimension along which they do not change."""
    for d in _varying(labels):
        first = labels.narrow(d, 0, 1)
        if bool((labels == first).all()):
            labels = first.expand(labels.shape)
    return labels


def compact(labels: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """The labels along the dimensions along which they change, and these dimensions."""
    dims = _varying(labels)
    return labels[tuple(slice(None) if d in dims else 0 for d in range(labels.dim()))], tuple(dims)


def _varying(labels: Tensor) -> list[int]:
    return [d for d, n in enumerate(labels.shape) if n > 1 and labels.stride(d) != 0]


def _separated(labels: list[Tensor]) -> Iterator[Tensor]:
    """Rows of labels, shape (equations, terms), that say the same as one equation for every element.

    Σ f(i) + Σ g(j) = 0 for all i and j says that Σ f(i) + Σ g(0) and Σ f(0) + Σ g(j) vanish: dimensions that no term
    has in common are gone through one after the other.
    """
    groups: list[set[int]] = []
    for own in (set(_varying(each)) for each in labels):
        if own:
            joined = own.union(*(g for g in groups if g & own))
            groups = [g for g in groups if not g & own] + [joined]
    for group in groups or [set()]:
        index = tuple(slice(None) if d in group else 0 for d in range(labels[0].dim()))
        yield torch.stack([each[index].reshape(-1) for each in labels], dim=1)
