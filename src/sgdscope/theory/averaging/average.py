"""Average: which iterates of a run are averaged, with which weights, as numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sgdscope.theory.averaging.arguments import Array, count, numbers

_SUM_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Average:
    """A weighted average Σ w_s θ_s of the iterates θ_0, …, θ_T of a run. Immutable.

    Attributes:
        name: what it is called, e.g. ``"EMA 0.99"``.
        weights: w_0, …, w_T, shape (T + 1,), oldest first; the last belongs to the newest iterate. They sum to one. An
            average that reaches back n iterates may give only those; `over` puts it at the end of a longer run.
        warnings: one sentence for each way in which it is not a plain average (negative weights).

    Raises ValueError for weights that are not finite or do not sum to one.
    """

    name: str
    weights: Array
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        weights = numbers(self.weights, "weights of an average")
        total = math.fsum(weights)
        if abs(total - 1) > _SUM_TOLERANCE * max(1.0, float(np.abs(weights).sum())):
            raise ValueError(f"{self.name}: expected weights that sum to one, got {total:.12g}: divide by their sum")
        weights.flags.writeable = False
        object.__setattr__(self, "weights", weights)
        negative = weights < 0
        warnings = list(self.warnings)
        if negative.any():
            warnings.append(
                f"{int(negative.sum())} negative weights (sum {weights[negative].sum():.3g}): "
                "noise is amplified, and the average can lie outside the points it is made of"
            )
        object.__setattr__(self, "warnings", tuple(dict.fromkeys(warnings)))

    @property
    def steps(self) -> int:
        """Length T of the run: iterates are T + 1."""
        return self.weights.size - 1

    @property
    def tail_weights(self) -> Array:
        """W_t = Σ_{s ≥ t} w_s, shape (T + 1,); W_0 = 1."""
        return np.cumsum(self.weights[::-1])[::-1]

    def over(self, steps: int) -> Average:
        """The same average taken at the end of a run of `steps` steps: zeros before. ValueError if it is longer."""
        missing = count(steps, "length of the run", 0) - self.steps
        if missing < 0:
            raise ValueError(
                f"{self.name}: expected a run of at least {self.steps} steps, the reach of the average, got {steps}"
            )
        return (
            self
            if missing == 0
            else Average(self.name, np.concatenate([np.zeros(missing), self.weights]), self.warnings)
        )

    @property
    def mean_age(self) -> float:
        """Σ w_s (T − s): how many steps the average lies behind the newest iterate, in the mean."""
        return float(self.weights[::-1] @ np.arange(self.steps + 1))

    @property
    def relative_width(self) -> float:
        """σ_rel: standard deviation of the position s / T under the weights (Karras et al. 2312.02696).

        Raises ValueError where negative weights leave no such deviation.
        """
        ages = np.arange(self.steps + 1) - self.mean_age
        variance = float(self.weights[::-1] @ ages**2)
        if variance < 0:
            raise ValueError(f"{self.name}: expected weights with a width, got negative ones that leave none")
        return math.sqrt(variance) / max(self.steps, 1)

    @property
    def start_weight(self) -> float:
        """w_0: weight left on the iterate the average began with."""
        return float(self.weights[0])

    @property
    def effective_samples(self) -> float:
        """1 / Σ w²: over how many independent iterates equal weights would remove as much noise."""
        return 1 / float(self.weights @ self.weights)

    def __str__(self) -> str:
        return f"{self.name}: mean age {self.mean_age:.4g} steps, {self.effective_samples:.4g} effective samples"
