"""Stream: samples without end, each drawn afresh from a law given by formulas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import sympy

from sgdscope.simulate.data.minibatch import Array, Sampling
from sgdscope.simulate.process import parameter
from sgdscope.theory import expression
from sgdscope.theory.stationary import DiagonalNoise

MOST_DRAWS = 4
NODES = 24
"""Of Gauss quadrature along each drawn number: moments of polynomials up to degree 47 are exact."""


@dataclass(frozen=True)
class Stream:
    """Pairs of an input and a target: ``Stream("z0", "2*z0 + s*z1", parameters={"s": 0.5})`` is y = 2x + ε.

    Attributes:
        x: formula of the input in the drawn numbers z0, z1, …, at most four.
        y: formula of the target.
        draw: law of the drawn numbers: ``"normal"``, standard, or ``"uniform"`` in (0, 1).
        parameters: names in the formulas that stand for numbers; those can change without compiling anew.

    Raises ValueError for formulas that cannot be read, or in which nothing is drawn.
    """

    x: str
    y: str
    draw: Literal["normal", "uniform"] = "normal"
    parameters: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.draw not in ("normal", "uniform"):
            raise ValueError(f"expected draw 'normal' or 'uniform', got {self.draw!r}")
        for name, value in self.parameters.items():
            if not math.isfinite(value):
                raise ValueError(f"expected a finite number for {name}, got {value}")
        _ = self._formulas

    @classmethod
    def gaussian(cls, slope: float, noise_variance: float, input_variance: float = 1.0) -> Stream:
        """``y = slope · x + ε`` with x and ε Gaussian, centred and independent; cf. `DiagonalNoise.gaussian`.

        Args:
            slope: k, the weight that generates the data.
            noise_variance: σ² = Var ε ≥ 0.
            input_variance: s = Var x > 0.

        Raises ValueError for numbers out of range.
        """
        if not (math.isfinite(slope) and 0 <= noise_variance < math.inf and 0 < input_variance < math.inf):
            raise ValueError(
                "expected a finite slope, a noise variance ≥ 0 and an input variance > 0, got "
                f"{slope}, {noise_variance} and {input_variance}"
            )
        spread = math.sqrt(input_variance)
        numbers = {"spread": spread, "slope": slope * spread, "noise": math.sqrt(noise_variance)}
        return cls("spread*z0", "slope*z0 + noise*z1", parameters=numbers)

    def sampling(self) -> tuple[Sampling, Any, Any]:
        """What is drawn for a sample, and x and y in terms of it."""
        x, y, names = self._formulas
        drawn = {symbol: parameter(symbol.name) for symbol in names}
        numbers = {parameter(f"data_{name}"): value for name, value in self.parameters.items()}
        held = {sympy.Symbol(name, real=True): parameter(f"data_{name}") for name in self.parameters}
        x, y = (formula.xreplace(drawn | held) for formula in (x, y))
        return Sampling(tuple(drawn.values()), self.draw, parameters=numbers), x, y

    @cached_property
    def moments(self) -> dict[str, float]:
        """Means of x2, xy, y2, x4, x3y and x2y2, by quadrature: exact for polynomials up to degree 11 or so.

        Raises ValueError for formulas without finite moments.
        """
        nodes, weights = _rule(self.draw)
        grids = list(np.meshgrid(*[nodes] * len(self._formulas[2]), indexing="ij"))
        mass = math.prod(np.meshgrid(*[weights] * len(grids), indexing="ij"))
        x, y = self._pairs(grids)
        found = {"x2": x**2, "xy": x * y, "y2": y**2, "x4": x**4, "x3y": x**3 * y, "x2y2": x**2 * y**2}
        means = {name: float(np.sum(mass * values)) for name, values in found.items()}
        if not all(map(math.isfinite, means.values())):
            raise ValueError(f"expected formulas with finite moments, got x = {self.x} and y = {self.y}")
        return means

    @property
    def noise(self) -> DiagonalNoise:
        """The five numbers that stationary laws need; see `moments`."""
        return DiagonalNoise.of_moments(**{name: m for name, m in self.moments.items() if name != "y2"})

    def pairs(self, count: int | None = None, seed: int = 0) -> tuple[Array, Array]:
        """A finite set of inputs and targets drawn from it, of shape (count,) each. Raises ValueError for no count."""
        if count is None:
            raise ValueError("expected a number of samples to draw from a stream, which has no end, got None")
        random = np.random.default_rng(seed)
        law = random.standard_normal if self.draw == "normal" else random.random
        return self._pairs(list(law((len(self._formulas[2]), count))))

    @cached_property
    def _formulas(self) -> tuple[Any, Any, tuple[Any, ...]]:
        """Input, target and the drawn symbols that occur in them; parameters are symbols too."""
        names = [f"z{i}" for i in range(MOST_DRAWS)]
        read = [expression.parse(text, [*names, *self.parameters]) for text in (self.x, self.y)]
        used = sorted({s.name for formula in read for s in formula.free_symbols} & set(names))
        if not used:
            raise ValueError(f"expected formulas in the drawn numbers z0, z1, …, got x = {self.x} and y = {self.y}")
        return read[0], read[1], tuple(sympy.Symbol(name, real=True) for name in used)

    def _pairs(self, drawn: list[Array]) -> tuple[Array, Array]:
        x, y, names = self._formulas
        held = {sympy.Symbol(name, real=True): value for name, value in self.parameters.items()}
        found = [sympy.lambdify(names, formula.subs(held), modules="numpy")(*drawn) for formula in (x, y)]
        first, second = (np.broadcast_to(np.asarray(values, dtype=float), drawn[0].shape) for values in found)
        return first, second


def _rule(draw: str) -> tuple[Array, Array]:
    """Nodes, and weights of sum 1, of Gauss quadrature for a standard normal or a uniform number."""
    if draw == "normal":
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        return nodes, weights / weights.sum()
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return (nodes + 1) / 2, weights / 2
