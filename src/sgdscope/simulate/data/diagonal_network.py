r"""Diagonal linear networks on one input: the loss :math:`(v x - y)^2`, v a sum of products of weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import sympy
from numpy.typing import ArrayLike

from sgdscope.simulate.data.minibatch import Array, Minibatch
from sgdscope.simulate.data.pairs import Pairs
from sgdscope.simulate.data.stream import Stream
from sgdscope.simulate.process import Assignments, parameter, symbols
from sgdscope.theory import expression
from sgdscope.theory.potential import Potential

if TYPE_CHECKING:
    from torch import Tensor

    from sgdscope.risk import Risk


FEW = 8
"""Weights up to which v is computed anew for each sample of a batch."""


@dataclass(frozen=True)
class DiagonalNetwork:
    r""":math:`\ell = (v x - y)^2 + \gamma \|u\|^2` with :math:`v = \sum_{i<d} \prod_{k \le D} u_{ik}`; no factor ½.

    Its state is all its weights, one subnetwork after the other: ``u0, u1, …`` for width 1, else ``u0_0, u0_1, …``,
    ``u1_0, …`` with the subnetwork first and the layer second. What theory speaks of can be recorded as formulas in
    them: `weight` (whose law is `DiagonalLaw`) and `charges`.

    Attributes:
        depth: D ≥ 0; a subnetwork has D + 1 layers.
        data: `Stream` or `Pairs` of inputs and targets.
        width: d ≥ 1, number of subnetworks.
        weight_decay: γ ≥ 0; PyTorch's ``weight_decay`` is 2 γ.

    Cost: a step takes about six operations for each weight; its kernel compiles in a second for few weights, in ten to
    twenty for a hundred. Raises ValueError for numbers out of range. From: Ziyin, Li & Ueda, arXiv 2308.06671, Eq. 13.
    """

    depth: int
    data: Stream | Pairs
    width: int = 1
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.depth < 0 or self.width < 1 or int(self.depth) != self.depth or int(self.width) != self.width:
            raise ValueError(f"expected a whole depth ≥ 0 and width ≥ 1, got {self.depth} and {self.width}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"expected a weight decay ≥ 0, got {self.weight_decay}")
        if not isinstance(self.data, Stream | Pairs):
            raise ValueError(f"expected data as a Stream or as Pairs, got {type(self.data).__name__}")

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the weights."""
        return tuple(name for names in self._subnetworks for name in names)

    @cached_property
    def symbols(self) -> tuple[Any, ...]:
        """Symbols of the weights."""
        return expression.symbols(self.variables)

    @property
    def weight(self) -> str:
        """Formula of v, to be recorded."""
        return " + ".join("*".join(names) for names in self._subnetworks)

    @property
    def charges(self) -> tuple[str, ...]:
        """Formulas of u² − w² for neighbouring layers of each subnetwork, which noise makes vanish."""
        return tuple(f"{a}**2 - {b}**2" for names in self._subnetworks for a, b in pairwise(names))

    def balanced(self, v: float) -> Array:
        """Weights, of shape (n,), of weight v: subnetworks alike, layers of one size, the first with the sign of v."""
        size = (abs(v) / self.width) ** (1 / (self.depth + 1))
        layers = np.full((self.width, self.depth + 1), size)
        layers[:, 0] *= math.copysign(1.0, v)
        return layers.ravel()

    @cached_property
    def potential(self) -> Potential:
        """The mean loss over all samples, as a formula."""
        moments, v = self.data.moments, sum(math.prod(layers) for layers in self._layers)
        x2, xy, y2 = (expression.number(moments[name]) for name in ("x2", "xy", "y2"))
        decay = expression.number(self.weight_decay) * sum(u * u for u in self.symbols)
        return Potential(x2 * v**2 - 2 * xy * v + y2 + decay, self.variables)

    @property
    def expression(self) -> Any:
        """The mean loss over all samples in the symbols of the weights."""
        return self.potential.expression

    def value(self, points: ArrayLike) -> Any:
        """Mean loss over all samples; see `Potential.value`."""
        return self.potential.value(points)

    def gradient(self, points: ArrayLike) -> Any:
        """Its gradient; see `Potential.gradient`."""
        return self.potential.gradient(points)

    def minibatch(self) -> Minibatch:
        """The gradient of a batch: 2 ⟨x (v x − y)⟩ times ∂v/∂u.

        The average is taken as it stands if there are few weights, as v ⟨x²⟩ − ⟨xy⟩ if there are many: then v is
        computed once per step, not once per sample.
        """
        sampling, *formulas = self.data.sampling()
        x, y, v, slope = (sympy.Symbol(f"_{name}", real=True) for name in ("x", "y", "v", "psi"))
        parts = list(zip((x, y), formulas, strict=True))
        products = [_derivatives(layers, i) for i, layers in enumerate(self._layers)]
        steps = [step for product in products for step in product.steps]
        rests = [rest for product in products for rest in product.rests]
        if len(self.symbols) <= FEW:
            parts.append((v, sum(math.prod(layers) for layers in self._layers)))
            averaged = [(slope, x * (v * x - y))]
        else:
            square, cross = symbols("_mean", 2)
            averaged = [(square, x * x), (cross, x * y)]
            steps += [(v, sum(product.whole for product in products)), (slope, v * square - cross)]
        gradient, numbers = [2 * slope * rest for rest in rests], {}
        if self.weight_decay:
            decay = parameter("decay")
            numbers[decay] = 2 * self.weight_decay
            gradient = [part + decay * u for part, u in zip(gradient, self.symbols, strict=True)]
        return Minibatch(sampling, tuple(parts), tuple(averaged), tuple(steps), tuple(gradient), numbers)

    def risk(self, theta: ArrayLike, *, samples: int | None = None, seed: int = 0) -> Risk:
        """The loss at weights θ of shape (n,) on a finite data set, for `sgdscope.measure`.

        Args:
            theta: weights, in the order of `variables`.
            samples: how many are drawn; needed for a `Stream`. None: all `Pairs`.
            seed: of that draw.

        Raises ValueError for another number of weights, and a stream without a number of samples.
        """
        from sgdscope.simulate.data.point import risk_at, with_position

        pairs = self.data.pairs(samples, seed)

        def output(theta: Tensor, x: Tensor) -> Tensor:
            return with_position(theta.reshape(self.width, self.depth + 1).prod(1).sum() * x, theta)

        def loss(outputs: Tensor, y: Tensor) -> Tensor:
            return (outputs[:, 0] - y).square() + self.weight_decay * outputs[:, 1:].square().sum(1)

        return risk_at(theta, len(self.symbols), output, loss, pairs)

    @property
    def _subnetworks(self) -> list[list[str]]:
        layers = range(self.depth + 1)
        if self.width == 1:
            return [[f"u{k}" for k in layers]]
        return [[f"u{i}_{k}" for k in layers] for i in range(self.width)]

    @property
    def _layers(self) -> list[tuple[Any, ...]]:
        """Symbols of each subnetwork."""
        size = self.depth + 1
        return [self.symbols[i : i + size] for i in range(0, len(self.symbols), size)]


class ScalarNetwork(DiagonalNetwork):
    """A `DiagonalNetwork` of width 1: a chain of D + 1 weights u0, u1, …"""

    def __init__(self, depth: int, data: Stream | Pairs, weight_decay: float = 0.0) -> None:
        """Attributes as those of `DiagonalNetwork`."""
        super().__init__(depth, data, 1, weight_decay)


def _derivatives(layers: tuple[Any, ...], subnetwork: int, first: int = 0, level: int = 0) -> _Product:
    """Product of all layers, and of all but each, along a tree of halves: about one multiplication each.

    A kernel multiplies the factors of a product in the order of their names, and does once what begins alike: so the
    name of a half begins with its level.
    """
    if len(layers) == 1:
        return _Product((), layers[0], [sympy.S.One])
    middle = len(layers) // 2
    left = _derivatives(layers[:middle], subnetwork, first, level + 1)
    right = _derivatives(layers[middle:], subnetwork, first + middle, level + 1)
    a, b = (sympy.Symbol(f"_rest{level}_{subnetwork}_{at}", real=True) for at in (first, first + middle))
    steps = (*left.steps, *right.steps, (a, left.whole), (b, right.whole))
    return _Product(steps, a * b, [*(b * rest for rest in left.rests), *(a * rest for rest in right.rests)])


class _Product(NamedTuple):
    steps: Assignments
    whole: Any
    rests: list[Any]
