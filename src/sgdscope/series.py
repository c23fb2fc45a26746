"""Series: one quantity over a run, as arrays to plot and as estimates to read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgdscope.estimate import Estimate

Row = tuple[int, float, Estimate]
"""Step, seconds since the run began, what was measured."""


@dataclass(frozen=True)
class Series:
    """One quantity over the run: rows in order of step, those of one step in the order they were written.

    `steps`, `seconds`, `values` and `standard_errors` have shape ``(n,)``, `n` the number of rows that carry a value;
    the first component is taken of tuple values. `standard_errors` is 0 where none was given. `estimates` holds all
    rows whole, those without a value included, and `estimate_steps`, `estimate_seconds` their steps and seconds.
    """

    name: str
    steps: NDArray[np.int64]
    seconds: NDArray[np.float64]
    values: NDArray[np.float64]
    standard_errors: NDArray[np.float64]
    estimates: tuple[Estimate, ...]
    estimate_steps: tuple[int, ...]
    estimate_seconds: tuple[float, ...]

    @classmethod
    def of(cls, name: str, rows: Iterable[Row]) -> Series:
        """From rows in any order."""
        rows = sorted(rows, key=lambda row: row[0])
        valued = [row for row in rows if row[2].value is not None]
        return cls(
            name,
            np.array([step for step, _, _ in valued], dtype=np.int64),
            np.array([seconds for _, seconds, _ in valued], dtype=np.float64),
            np.array([float(e) for _, _, e in valued], dtype=np.float64),
            np.array([_first(e.standard_error) for _, _, e in valued], dtype=np.float64),
            tuple(e for _, _, e in rows),
            tuple(step for step, _, _ in rows),
            tuple(seconds for _, seconds, _ in rows),
        )

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def rows(self) -> list[Row]:
        """All rows, those without a value included; `Series.of` gives the series back."""
        return list(zip(self.estimate_steps, self.estimate_seconds, self.estimates, strict=True))

    @property
    def latest(self) -> Estimate | None:
        """The last row that carries a value, or None."""
        return next((e for e in reversed(self.estimates) if e.value is not None), None)

    def component(self, key: str) -> Series:
        """The companion measured `beside` this quantity under `key`, as a series of its own."""
        return Series.of(key, [(step, at, e.beside[key]) for step, at, e in self.rows if key in e.beside])

    def between(self, first: int, last: int) -> Series:
        """Rows with ``first <= step <= last``."""
        return Series.of(self.name, [row for row in self.rows if first <= row[0] <= last])

    def scaled(self, factor: Callable[[int], float], unit: str = "") -> Series:
        """In another unit: `factor` gives the factor at a step; rows of steps where it is 0 are left out.

        The arrays are scaled as they stand. A reading that is not finite in the new unit loses its value.
        """
        factors = {step: factor(step) for step in dict.fromkeys([*self.estimate_steps, *self.steps.tolist()])}
        by = np.array([factors[step] for step in self.steps.tolist()], dtype=np.float64)
        with np.errstate(over="ignore", under="ignore"):
            values, errors = self.values * by, self.standard_errors * np.abs(by)
        keep = (by != 0) & np.isfinite(values)
        rows = [(step, at, _scaled(e, factors[step], unit)) for step, at, e in self.rows if factors[step] != 0]
        return Series(
            self.name,
            self.steps[keep],
            self.seconds[keep],
            values[keep],
            errors[keep],
            tuple(e for _, _, e in rows),
            tuple(step for step, _, _ in rows),
            tuple(at for _, at, _ in rows),
        )


def _scaled(estimate: Estimate, factor: float, unit: str) -> Estimate:
    value, error, residual = estimate.value, estimate.standard_error, estimate.residual
    if isinstance(value, float) and not estimate.beside and not isinstance(error, tuple | list) and not isinstance(
        residual, tuple | list
    ):  # fmt: skip
        # What most rows of a long run are. It was checked when it was made: only what is scaled is checked again.
        value *= factor
        error = None if error is None else error * abs(factor)
        residual = None if residual is None else residual * abs(factor)
        if math.isfinite(value + (error or 0.0) + (residual or 0.0)):
            copy = object.__new__(Estimate)
            known = {"value": value, "standard_error": error, "residual": residual, "unit": unit}
            copy.__dict__.update(estimate.__dict__, **known)
            return copy
    try:
        return estimate.scaled(factor, unit=unit)
    except ValueError as error:
        return Estimate.failed(estimate.name, str(error))


def _first(number: Any) -> float:
    return float(number[0] if isinstance(number, tuple) else number or 0.0)
