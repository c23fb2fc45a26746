"""Noise on a landscape: the diffusion that a learning rate, a batch size and a per-sample variance make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sgdscope.theory import expression
from sgdscope.theory.escape import temperature as temperature_of
from sgdscope.theory.potential import Potential


@dataclass(frozen=True)
class Noise:
    """Diffusion D(θ) = lr h(θ) / (2 B) of SGD with per-sample gradient variance h, or a temperature D given as such.

    Attributes:
        temperature: D, where it is the same everywhere; else None.
        variance: h as a function of points, where it varies; else None.
        lr: learning rate; None if a temperature was given without it.
        batch_size: B.
        text: what was given, for a person.
    """

    temperature: float | None
    variance: Any
    lr: float | None
    batch_size: float
    text: str

    def diffusion(self, points: Any, batch_size: float | None = None) -> Any:
        """D at points, at another batch size if asked for."""
        if self.variance is None:
            assert self.temperature is not None
            constant = self.temperature * (1.0 if batch_size is None else self.batch_size / batch_size)
            return constant + 0.0 * np.asarray(points, dtype=np.float64)
        assert self.lr is not None
        return self.lr * self.variance(points) / (2 * (self.batch_size if batch_size is None else batch_size))

    @property
    def from_batches(self) -> bool:
        """Whether it comes from a learning rate and a batch size, so that these change it."""
        return self.lr is not None and self.batch_size > 0


def noise_of(
    potential: Potential, *, lr: float | None, batch_size: float, variance: str, temperature: float | None,
    any_dimension: bool = False,
) -> Noise:  # fmt: skip
    """The noise that command-line options mean; one that varies only in one dimension, unless in any is asked for.

    Raises ValueError for options that contradict or lack each other.
    """
    if lr is not None and not 0 < lr < math.inf:
        raise ValueError(f"expected a learning rate > 0, got {lr}")
    if not 0 < batch_size < math.inf:
        raise ValueError(f"expected a batch size > 0, got {batch_size}")
    if temperature is not None:
        if variance != "1":
            raise ValueError("expected either a temperature or a variance of the noise, got both")
        if not 0 < temperature < math.inf:
            raise ValueError(f"expected a temperature > 0, got {temperature}")
        return Noise(temperature, None, lr, 0, f"temperature {temperature:g}")
    if lr is None:
        raise ValueError("expected a learning rate (and a batch size), or a temperature: without noise nothing moves")
    read = expression.parse(variance, potential.variables)
    said = f"learning rate {lr:g}, batch size {batch_size:g}, per-sample variance {variance}"
    if not read.free_symbols:
        if not float(read) > 0:
            raise ValueError(f"expected a per-sample variance > 0, got {variance}")
        return Noise(temperature_of(lr, float(read), batch_size), None, lr, batch_size, said)
    if potential.dimension > 1 and not any_dimension:
        raise ValueError(
            f"expected a constant variance in {potential.dimension} dimensions, got {variance}: only one dimension has "
            "escape times in closed form there"
        )
    # a potential of that formula evaluates it, and refuses points where it is not a number
    return Noise(None, Potential(read, potential.variables).value, lr, batch_size, said)


def check_positive(noise: Noise, points: Sequence[float]) -> None:
    """Raises ValueError if the noise vanishes or is negative at one of these points, saying where."""
    if noise.variance is None:
        return
    at = np.asarray(points, dtype=np.float64)
    found = np.asarray(noise.variance(at))
    if found.min() < 0:
        raise ValueError(f"expected a variance ≥ 0, got {found.min():.4g} at {at[found.argmin()]:.6g}")
