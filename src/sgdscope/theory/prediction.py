"""Prediction: a number of theory together with where it comes from and where it stops being valid."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Prediction:
    """What a formula says, and how far to trust it. Immutable.

    Attributes:
        value: the number, finite. What a formula cannot say (no barrier, no law) is a ValueError, not a NaN here.
        quantity: what it is, e.g. ``"batch_sharpness"`` or ``"mean escape time"``.
        formula: the formula used, as text.
        scope: when it applies.
        source: paper and equation or section where it is stated, or "derived here".
        unit: physical unit, e.g. ``"learning rate · iterations"``.
        error: relative size of what the formula leaves out, where that is known; None where it is not.
        warnings: one sentence for each assumption that this call breaks; empty inside the range of validity.

    Raises ValueError for a value that is not finite or a negative error.
    """

    value: float
    quantity: str
    formula: str
    scope: str
    source: str
    unit: str = ""
    error: float | None = None
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", float(self.value))
        object.__setattr__(self, "warnings", tuple(self.warnings))
        if not math.isfinite(self.value):
            raise ValueError(f"{self.quantity}: expected a finite prediction, got {self.value}")
        if self.error is not None and not 0 <= self.error < math.inf:
            raise ValueError(f"{self.quantity}: expected a relative error ≥ 0, got {self.error}")

    @property
    def valid(self) -> bool:
        """Whether every assumption of the formula holds for this call, as far as it can tell."""
        return not self.warnings

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        doubt = "" if self.error is None else f" (within {100 * self.error:.2g} %)"
        unit = f" {self.unit}" if self.unit else ""
        caveats = "".join(f"\n  outside its range: {warning}" for warning in self.warnings)
        return f"{self.quantity}: {self.value:.6g}{unit}{doubt}{caveats}"
