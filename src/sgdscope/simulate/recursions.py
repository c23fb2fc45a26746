r"""Recursions: SGD itself, step by step, with Gaussian or two-point noise in place of a drawn batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import sympy

from sgdscope.simulate import diffusion as diffusions
from sgdscope.simulate.diffusion import Shape
from sgdscope.simulate.process import Array, Update, gradient, parameter, positive, symbols

SIGNS = 24
"""Random signs in one word."""


class Recursion:
    """What recursions of gradient descent share: their step is real, and its size the learning rate."""

    lr: float
    momentum: float = 0.0
    nesterov: bool = False

    @property
    def duration(self) -> float:
        """The learning rate."""
        return self.lr

    @property
    def continuous(self) -> bool:
        """False: the steps are what there is."""
        return False

    @property
    def curvature_limit(self) -> float:
        """2 / lr, times 1 + μ for heavy ball, (1 + μ) / (1 + 2μ) for Nesterov."""
        return curvature_limit(self.lr, self.momentum, self.nesterov)

    def memory_at(self, landscape: Any, positions: Array) -> Array:
        """No momentum yet."""
        return np.zeros((len(positions) if self.momentum else 0, positions.shape[1]))

    def variance_rate(self, landscape: Any) -> None:
        """None: a recursion has no path between its steps, and its plain count is the answer."""
        return None


@dataclass(frozen=True)
class GaussianSGD(Recursion):
    r"""SGD as a recursion: :math:`g = \nabla L + \sqrt{h(\theta)/B}\,\zeta,\; \theta \leftarrow \theta - lr\,g`.

    Time is learning rate · iterations; as a differential equation it has D = lr · h / (2B), read in Itô's sense.

    Attributes:
        lr: learning rate > 0.
        batch_size: B ≥ 1, whole for two-point noise.
        variance: h(θ), the covariance of the gradient of one sample, see `diffusion.Shape`. Where it is zero on the way
            out of a well (as ``"hessian"`` is at a point of inflection), escape is by jumps over that point.
        noise: ``"gaussian"``: ζ standard normal. ``"two-point"``: each sample's is ±1, and ζ the sum of B of them / √B.
        momentum: μ of heavy ball, as PyTorch has it: v ← μ v + g, θ ← θ − lr v.
        nesterov: θ ← θ − lr (g + μ v) instead.

    Raises ValueError for numbers out of range and for names it does not know.
    """

    lr: float
    batch_size: float
    variance: Shape
    noise: Literal["gaussian", "two-point"] = "gaussian"
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        positive(self, lr=self.lr, batch_size=self.batch_size)
        check_momentum(self.momentum, self.nesterov)
        if self.variance is None:
            raise ValueError("expected the variance of the gradient of one sample, such as '1 + x**2', got None")
        if self.noise not in ("gaussian", "two-point"):
            raise ValueError(f"expected noise 'gaussian' or 'two-point', got {self.noise!r}")
        if self.noise == "two-point" and not float(self.batch_size).is_integer():
            raise ValueError(f"expected a whole batch size for two-point noise, got {self.batch_size}")

    def update(self, landscape: Any) -> Update:
        """The recursion."""
        h = diffusions.matrix(self.variance, landscape)
        z = symbols("_z", len(landscape.symbols))
        steps, slopes = gradient(landscape, "_g")
        roots, r = diffusions.root(h, "_r")
        drawn = z if self.noise == "gaussian" else symbols("_total", len(z))
        noise = parameter("noise") * (r * sympy.Matrix(drawn))
        found = descent(
            landscape.symbols, (*steps, *roots), [g + w for g, w in zip(slopes, noise, strict=True)],
            self.lr, self.momentum, self.nesterov,
        )  # fmt: skip
        if self.noise == "gaussian":
            scale = 1 / math.sqrt(self.batch_size)
            return Update(noise=tuple(z), parameters={**found.pop("parameters"), parameter("noise"): scale}, **found)
        signs = int(self.batch_size)
        return Update(
            noise=tuple(z), draw="signs", signs=signs, rounds=-(-signs // SIGNS),
            sums=tuple(zip(drawn, z, strict=True)),
            parameters={**found.pop("parameters"), parameter("noise"): 1 / signs}, **found,
        )  # fmt: skip


@dataclass(frozen=True)
class SGLD(Recursion):
    r"""Gradient descent with white noise, :math:`\theta \leftarrow \theta - lr\,\nabla L + \sqrt{2\,lr\,T}\,\zeta`.

    The recursion itself, counted at its steps; for the differential equation behind it see `Overdamped`.

    Attributes:
        lr: learning rate > 0.
        temperature: T > 0.

    Raises ValueError for numbers that are not positive.
    """

    lr: float
    temperature: float

    def __post_init__(self) -> None:
        positive(self, lr=self.lr, temperature=self.temperature)

    def update(self, landscape: Any) -> Update:
        """The recursion."""
        z = symbols("_z", len(landscape.symbols))
        lr, amplitude = parameter("lr"), parameter("amplitude")
        steps, slopes = gradient(landscape, "_g")
        new = tuple(x - lr * g + amplitude * w for x, g, w in zip(landscape.symbols, slopes, z, strict=True))
        size = math.sqrt(2 * self.lr * self.temperature)
        return Update(landscape.symbols, steps, new, tuple(z), parameters={lr: self.lr, amplitude: size})


def descent(
    x: tuple[Any, ...], steps: Any, gradients: list[Any], lr: float, momentum: float, nesterov: bool
) -> dict[str, Any]:
    """Fields of an `Update` that goes down by gradients, with momentum as PyTorch has it."""
    rate, mu = parameter("lr"), parameter("momentum")
    if not momentum:
        new = tuple(a - rate * g for a, g in zip(x, gradients, strict=True))
        return {"positions": x, "step": steps, "new": new, "parameters": {rate: lr}}
    v, w, slopes = symbols("_v", len(x)), symbols("_w", len(x)), symbols("_slope", len(x))
    assigned = [*zip(slopes, gradients, strict=True)]
    assigned += [(after, mu * before + g) for after, before, g in zip(w, v, slopes, strict=True)]
    moves = [g + mu * after for g, after in zip(slopes, w, strict=True)] if nesterov else w
    new = tuple(a - rate * move for a, move in zip(x, moves, strict=True))
    return {
        "positions": x, "step": (*steps, *assigned), "new": (*new, *w), "memory": tuple(v),
        "parameters": {rate: lr, mu: momentum},
    }  # fmt: skip


def curvature_limit(lr: float, momentum: float = 0.0, nesterov: bool = False) -> float:
    """Curvature at which descent by full gradients becomes unstable."""
    return 2 * (1 + momentum) / ((1 + 2 * momentum if nesterov else 1) * lr)


def check_momentum(momentum: float, nesterov: bool) -> None:
    """Raises ValueError unless 0 ≤ momentum < 1, and > 0 for Nesterov."""
    if not 0 <= momentum < 1:
        raise ValueError(f"expected 0 ≤ momentum < 1, got {momentum}")
    if nesterov and momentum == 0:
        raise ValueError("expected a momentum > 0 for Nesterov's descent, got 0")
