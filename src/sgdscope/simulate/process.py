"""Process: what a rule of motion has to say so that ensembles of it can be run.

A process knows nothing of lanes, threads or precision. It states its step as formulas (`Update`), and the few numbers
around it: the time a step takes, the curvature it stands, the noise that carries a path over a barrier between steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import sympy

from sgdscope.simulate.formula import shared

Draw = Literal["normal", "uniform", "signs", "sample"]
Array = np.ndarray[Any, Any]
Assignments = tuple[tuple[Any, Any], ...]


@dataclass(frozen=True)
class Update:
    """One step as formulas of SymPy, in real symbols.

    Attributes:
        positions: the coordinates θ, which are what is recorded.
        memory: further state: velocities, gradients kept for the next step.
        step: (symbol, expression) in order, the parts of the step; later ones may use earlier ones.
        new: the next value of each position, then of each memory; all are taken at once.
        noise: one symbol for each number drawn in a round.
        draw: what is drawn: standard normal, uniform in (0, 1), the sum of up to 24 random signs, or a row of `table`.
        sums: (symbol, expression of the noise and the old state): added up over the rounds, for the step to use.
        rounds: draws in a step; more than one needs `sums`.
        signs: how many random signs a step sums in all, if `draw` is ``"signs"``.
        parameters: numbers by symbol that can change without compiling anew.
        table: samples to draw from, of shape (samples, numbers of one).
        distinct: whether the rounds of one step draw different rows.
    """

    positions: tuple[Any, ...]
    step: Assignments
    new: tuple[Any, ...]
    noise: tuple[Any, ...]
    memory: tuple[Any, ...] = ()
    draw: Draw = "normal"
    sums: Assignments = ()
    rounds: int = 1
    signs: int = 0
    parameters: Mapping[Any, float] = field(default_factory=dict)
    table: Array | None = field(default=None, compare=False)
    distinct: bool = False


class Landscape(Protocol):
    """What processes with a gradient and a noise of their own ask for; `theory.potential.Potential` is one."""

    @property
    def symbols(self) -> tuple[Any, ...]:
        """One real SymPy symbol for each coordinate."""

    @property
    def expression(self) -> Any:
        """The loss in these symbols."""

    def gradient(self, points: Any) -> Any:
        """Its gradient at points; see `Potential.gradient`."""


class Process(Protocol):
    """A rule of motion."""

    @property
    def duration(self) -> float:
        """Time of one step, as theory counts it: learning rate · iterations, √lr · iterations for kinetic processes."""

    @property
    def continuous(self) -> bool:
        """Whether it stands for a differential equation. A discretised path can cross a level and come back unseen."""

    @property
    def curvature_limit(self) -> float:
        """The curvature of a minimum at which the step becomes unstable."""

    def update(self, landscape: Any) -> Update:
        """The step on a landscape. Raises ValueError for a landscape it cannot move on."""

    def memory_at(self, landscape: Any, positions: Array) -> Array:
        """Memory, of shape (m, replicas), to start with at positions of shape (n, replicas)."""

    def variance_rate(self, landscape: Any) -> Any | None:
        """Covariance of the noise in θ per unit of time, a SymPy matrix; None where paths are smooth or steps are real.

        It says how far inwards a barrier has to be moved for a path seen at steps only.
        """


def gradient(landscape: Landscape, prefix: str, at: Sequence[Any] | None = None) -> tuple[Assignments, list[Any]]:
    """Shared parts and components of ∇L, at the coordinates themselves or at other symbols."""
    slopes = [sympy.diff(landscape.expression, symbol) for symbol in landscape.symbols]
    if at is not None:
        slopes = [slope.xreplace(dict(zip(landscape.symbols, at, strict=True))) for slope in slopes]
    slopes = [slope.replace(sympy.DiracDelta, lambda *_: sympy.S.Zero) for slope in slopes]
    parts, rest = shared(slopes, f"{prefix}_")
    names = symbols(prefix, len(rest))
    return (*parts, *zip(names, rest, strict=True)), names


def symbols(prefix: str, count: int) -> list[Any]:
    """Real symbols prefix0, prefix1, …"""
    return [sympy.Symbol(f"{prefix}{i}", real=True) for i in range(count)]


def parameter(name: str) -> Any:
    """A symbol for a number that can change without compiling anew; the underscore keeps it apart from coordinates."""
    return sympy.Symbol(f"_{name}", real=True)


def positive(process: object, **numbers: float) -> None:
    """Raises ValueError unless all these numbers are > 0 and finite."""
    for name, value in numbers.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{type(process).__name__}: expected {name.replace('_', ' ')} > 0, got {value}")
