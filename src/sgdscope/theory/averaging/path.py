"""Path: exact joint second moments of the iterates of a linear recursion with fresh noise, mode by mode."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sgdscope.theory.averaging.arguments import Array


@dataclass(frozen=True, eq=False)
class Path:
    """s_t = A_t s_{t−1} + k_t c_t in every mode, c_t independent with mean 0; the iterate is the first component of s.

    The state s is the iterate itself for SGD, (iterate, buffer) for heavy ball, (average, iterate) for schedule-free
    SGD. All sums over iterates are carried along by recursions of linear cost: (steps · modes · components³).

    Attributes:
        transitions: A_t, shape (steps, modes, components, components).
        kicks: k_t, shape (steps, modes, components).
        noise: variance of c_t, shape (modes,).
        start: E s_0 s_0ᵀ, shape (modes, components, components).
    """

    transitions: Array
    kicks: Array
    noise: Array
    start: Array

    @property
    def steps(self) -> int:
        """Length T of the run."""
        return int(self.transitions.shape[0])

    @cached_property
    def moments(self) -> Array:
        """E s_t s_tᵀ for t = 0 … T, shape (steps + 1, modes, components, components)."""
        moments = np.empty((self.steps + 1, *self.start.shape))
        moments[0] = self.start
        with np.errstate(over="ignore", invalid="ignore"):  # what diverges is refused where its loss is asked for
            for t, (A, k) in enumerate(zip(self.transitions, self.kicks, strict=True)):
                added = self.noise[:, None, None] * k[:, :, None] * k[:, None, :]
                moments[t + 1] = A @ moments[t] @ A.swapaxes(-1, -2) + added
        return moments

    @property
    def variances(self) -> Array:
        """S_t = E x_t² for t = 0 … T, shape (steps + 1, modes)."""
        return self.moments[..., 0, 0]

    def averaged(self, weights: Array) -> Array:
        """E (Σ w_s x_s)², shape (…, modes), for weights of shape (…, steps + 1)."""
        first = int(np.argmax((weights != 0).reshape(-1, self.steps + 1).any(axis=0)))
        w = weights[..., first, None]
        cross = w[..., None] * self.moments[first, :, :, 0]  # E s_t Σ_{s ≤ t} w_s x_s
        square = w**2 * self.variances[first]
        with np.errstate(over="ignore", invalid="ignore"):
            for t in range(first + 1, self.steps + 1):
                w = weights[..., t, None]
                cross = (self.transitions[t - 1] @ cross[..., None])[..., 0]
                square = square + 2 * w * cross[..., 0] + w**2 * self.variances[t]
                cross = cross + w[..., None] * self.moments[t, :, :, 0]
        return np.asarray(square)

    def covariances_with_last(self) -> Array:
        """E x_s x_T for s = 0 … T, shape (steps + 1, modes)."""
        found = np.empty_like(self.variances)
        carried = _first_row(self.start)
        for t in range(self.steps, -1, -1):
            found[t] = (carried * self.moments[t, :, :, 0]).sum(axis=-1)
            if t > 0:
                carried = (carried[:, None, :] @ self.transitions[t - 1])[:, 0]
        return found

    def windows(self) -> Array:
        """E of the squared mean of the last n iterates, n = 1 … T + 1, shape (steps + 1, modes)."""
        sums = np.empty_like(self.variances)
        first = _first_row(self.start)
        later = np.zeros_like(first)  # Σ_{t > s} of the row that carries s_s to x_t
        total = np.zeros_like(self.noise)
        for n, t in enumerate(range(self.steps, -1, -1)):
            total = total + self.variances[t] + 2 * (later * self.moments[t, :, :, 0]).sum(axis=-1)
            sums[n] = total / (n + 1) ** 2
            if t > 0:
                later = ((first + later)[:, None, :] @ self.transitions[t - 1])[:, 0]
        return sums

    def kernel(self, length: int | None = None) -> Array:
        """K_st = E x_s x_t among the last `length` iterates (default all), shape (modes, length, length)."""
        length = self.steps + 1 if length is None else length
        first = self.steps + 1 - length
        kernel = np.empty((self.noise.size, length, length))
        reaching = np.empty((length, self.noise.size, self.start.shape[-1]))  # E s_t x_s for all s so far
        for i in range(length):
            reaching[:i] = (self.transitions[first + i - 1] @ reaching[:i, :, :, None])[..., 0]
            reaching[i] = self.moments[first + i, :, :, 0]
            kernel[:, : i + 1, i] = kernel[:, i, : i + 1] = reaching[: i + 1, :, 0].T
        return kernel


def _first_row(start: Array) -> Array:
    """The row (1, 0, …) in each mode: it takes the iterate out of the state."""
    row = np.zeros(start.shape[:2])
    row[:, 0] = 1
    return row
