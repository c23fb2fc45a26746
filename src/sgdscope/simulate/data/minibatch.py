"""Minibatch: how the gradient of a drawn batch comes about, in formulas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sgdscope.simulate.process import Assignments, Draw

if TYPE_CHECKING:
    from sgdscope.risk import Risk

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Sampling:
    """What one sample is made of.

    Attributes:
        symbols: one for each number.
        draw: the law of the numbers; ``"sample"`` is a row of a table, drawn uniformly.
        table: of shape (samples, numbers), for that law.
        parameters: numbers by symbol that can change without compiling anew.
    """

    symbols: tuple[Any, ...]
    draw: Draw
    table: Array | None = None
    parameters: Mapping[Any, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Minibatch:
    """The gradient of the mean loss of a batch.

    Attributes:
        sampling: of one sample.
        parts: (symbol, expression of the sample and the position): what the averages are made of; none uses another.
        averaged: (symbol, expression of these and the parts): averages over the batch that the gradient needs.
        step: (symbol, expression) in order: parts of the gradient.
        gradient: one expression for each coordinate, of the position, the averages and the parts.
        parameters: numbers by symbol that can change without compiling anew, besides those of the sampling.
    """

    sampling: Sampling
    parts: Assignments
    averaged: Assignments
    step: Assignments
    gradient: tuple[Any, ...]
    parameters: Mapping[Any, float] = field(default_factory=dict)


class DataLandscape(Protocol):
    """A loss that is a mean over samples: what SGD with batches drawn from them moves on."""

    @property
    def symbols(self) -> tuple[Any, ...]:
        """One real SymPy symbol for each coordinate."""

    def minibatch(self) -> Minibatch:
        """The gradient of a batch."""

    def value(self, points: Any) -> Any:
        """Mean loss over all samples at points of shape (..., n); in one dimension at an array of coordinates."""

    def gradient(self, points: Any) -> Any:
        """Its gradient: of shape (..., n), in one dimension of the shape of the points."""

    def risk(self, theta: Any) -> Risk:
        """The same loss at a point as a `Risk`, for `sgdscope.measure`."""
