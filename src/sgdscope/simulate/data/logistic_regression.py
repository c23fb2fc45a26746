r"""Logistic regression on a finite data set: :math:`\ell = \ln(1 + e^{\theta \cdot x}) - y\,\theta \cdot x`."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy
from numpy.typing import ArrayLike

from sgdscope.simulate.data.minibatch import Array, Minibatch, Sampling
from sgdscope.simulate.process import parameter, symbols
from sgdscope.theory import expression

if TYPE_CHECKING:
    from torch import Tensor

    from sgdscope.risk import Risk

MOST = 32
"""Features; a step is written out feature by feature."""
_ITERATIONS = 100


class LogisticRegression:
    r"""Mean over samples of :math:`\ln(1 + e^{\theta \cdot x}) - y\,\theta \cdot x`, plus :math:`\gamma \|\theta\|^2`.

    Coordinates are ``w`` for one feature, else ``w0, w1, …``. There is no intercept: give a feature that is 1.

    Attributes:
        x: features, of shape (samples, n).
        y: labels 0 or 1, or probabilities between, of shape (samples,).
        weight_decay: γ.
    """

    def __init__(self, x: ArrayLike, y: ArrayLike, weight_decay: float = 0.0) -> None:
        """Takes copies; features of shape (samples,) count as one.

        Raises ValueError for other shapes, numbers that are not finite, labels beyond 0 and 1, more than 32 features.
        """
        features, labels = np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)
        features = features[:, None] if features.ndim == 1 else features
        if features.ndim != 2 or labels.shape != features.shape[:1] or not 1 <= features.shape[1] <= MOST:
            raise ValueError(
                f"expected x of shape (samples, n) with n ≤ {MOST} and y of shape (samples,), "
                f"got {np.shape(x)} and {np.shape(y)}"
            )
        if not features.size or not np.isfinite(features).all():
            raise ValueError("expected at least one sample, and finite features: drop or fill missing ones")
        if not ((labels >= 0) & (labels <= 1)).all():
            raise ValueError(f"expected labels 0 or 1, got {labels.min():g} to {labels.max():g}")
        if not 0 <= weight_decay < math.inf:
            raise ValueError(f"expected a weight decay ≥ 0, got {weight_decay}")
        self.x: Array = features
        self.y: Array = labels
        self.weight_decay = float(weight_decay)
        for array in (features, labels):
            array.setflags(write=False)

    @property
    def dimension(self) -> int:
        """Number of features, n."""
        return int(self.x.shape[1])

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the coordinates."""
        return ("w",) if self.dimension == 1 else tuple(f"w{i}" for i in range(self.dimension))

    @cached_property
    def symbols(self) -> tuple[Any, ...]:
        """Symbols of the coordinates."""
        return expression.symbols(self.variables)

    def value(self, points: ArrayLike) -> Any:
        """Mean loss over all samples at points of shape (..., n), in one dimension at an array of coordinates."""
        found = self._loss(self._points(points))
        return found if found.ndim else float(found)

    def gradient(self, points: ArrayLike) -> Any:
        """Its gradient: of shape (..., n), in one dimension of the shape of the points."""
        found = self._slope(self._points(points))
        return found[..., 0] if self.dimension == 1 else found

    def hessian(self, theta: ArrayLike) -> Array:
        """Its Hessian at one point, of shape (n, n)."""
        return self._curvature(self._points(np.reshape(theta, () if self.dimension == 1 else (self.dimension,))))

    @cached_property
    def optimum(self) -> Array:
        """θ of least mean loss, of shape (n,), by Newton's method.

        Raises ValueError where there is none: classes that a plane separates, or features that depend on each other.
        """
        theta = np.zeros(self.dimension)
        for _ in range(_ITERATIONS):
            try:
                step = np.linalg.solve(self._curvature(theta), self._slope(theta))
            except np.linalg.LinAlgError:
                break
            theta = self._descended(theta, step)
            if np.abs(step).max() <= 1e-9 * max(1.0, np.abs(theta).max()):
                return theta
        raise ValueError(
            "expected data with a finite optimum, found none: do the features depend on each other, or does a plane "
            "separate the classes? Give a weight_decay > 0"
        )

    def minibatch(self) -> Minibatch:
        """The gradient of a batch: the mean of (σ(θ·x) − y) x over it, and 2 γ θ."""
        n, theta = self.dimension, self.symbols
        x, label, means = symbols("_x", n), sympy.Symbol("_label", real=True), symbols("_mean", n)
        logit = sum(a * b for a, b in zip(theta, x, strict=True))
        excess = sympy.Symbol("_excess", real=True)
        parts = ((excess, 1 / (1 + sympy.exp(-logit)) - label),)
        averaged = tuple((mean, excess * feature) for mean, feature in zip(means, x, strict=True))
        gradient, numbers = list(means), {}
        if self.weight_decay:
            decay = parameter("decay")
            numbers[decay] = 2 * self.weight_decay
            gradient = [mean + decay * w for mean, w in zip(means, theta, strict=True)]
        table = np.column_stack([self.x, self.y])
        return Minibatch(Sampling((*x, label), "sample", table), parts, averaged, (), tuple(gradient), numbers)

    def risk(self, theta: ArrayLike) -> Risk:
        """The loss at θ of shape (n,) with its data, for `sgdscope.measure`. Raises ValueError for another shape."""
        from torch.nn.functional import softplus

        from sgdscope.simulate.data.point import risk_at, with_position

        def output(theta: Tensor, x: Tensor) -> Tensor:
            return with_position(x @ theta, theta)

        def loss(outputs: Tensor, y: Tensor) -> Tensor:
            logits = outputs[:, 0]
            return softplus(logits) - y * logits + self.weight_decay * outputs[:, 1:].square().sum(1)

        return risk_at(theta, self.dimension, output, loss, (self.x, self.y))

    def _points(self, points: ArrayLike) -> Array:
        """Of shape (..., n)."""
        theta = np.asarray(points, dtype=np.float64)
        theta = theta[..., None] if self.dimension == 1 else theta
        if theta.shape[-1:] != (self.dimension,):
            raise ValueError(f"expected points of shape (..., {self.dimension}), got {theta.shape}")
        return theta

    def _loss(self, theta: Array) -> Array:
        logits = theta @ self.x.T
        loss = np.logaddexp(0, logits) - self.y * logits
        found: Array = loss.mean(-1) + self.weight_decay * np.square(theta).sum(-1)
        return found

    def _slope(self, theta: Array) -> Array:
        found: Array = (_chance(theta @ self.x.T) - self.y) @ self.x / len(self.x) + 2 * self.weight_decay * theta
        return found

    def _curvature(self, theta: Array) -> Array:
        chance = _chance(theta @ self.x.T)
        found: Array = (self.x.T * (chance * (1 - chance))) @ self.x / len(self.x)
        return found + 2 * self.weight_decay * np.eye(self.dimension)

    def _descended(self, theta: Array, step: Array) -> Array:
        """Newton's step, halved until the loss does not rise."""
        value = self._loss(theta)
        for halving in range(40):
            there: Array = theta - step / 2**halving
            if self._loss(there) <= value + 1e-14 * abs(value):
                break
        return there

    def __repr__(self) -> str:
        return f"LogisticRegression({len(self.x)} samples, {self.dimension} features)"


def _chance(logits: Array) -> Array:
    """1 / (1 + exp(−z)), without overflow."""
    found: Array = (1 + np.tanh(logits / 2)) / 2
    return found
