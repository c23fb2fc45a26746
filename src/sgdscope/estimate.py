"""Estimate: a measured number together with its doubt and its cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

Status = Literal["ok", "not_converged", "few_samples", "diverged", "failed"]
"""`ok`: meets the accuracy asked for. `not_converged`: the solver ran out of budget (see `residual`).
`few_samples`: the sampling error is larger than asked for (see `standard_error`).
`diverged`: the loss or its derivatives were not finite. `failed`: could not be measured (see `reason`)."""

Number = float | tuple[float, ...]

_STATUSES = ("ok", "not_converged", "few_samples", "diverged", "failed")


def _as_number(value: float | Sequence[float] | None, what: str) -> Number | None:
    """Python floats out of whatever numeric type came in; refuses NaN and infinities."""
    if value is None:
        return None
    numbers = tuple(float(v) for v in value) if isinstance(value, Sequence) else (float(value),)
    if not all(math.isfinite(v) for v in numbers):
        raise ValueError(
            f"expected finite {what}, got {value}; a number that could not be measured is Estimate.failed(name, reason)"
        )
    return numbers if isinstance(value, Sequence) else numbers[0]


@dataclass(frozen=True)
class Estimate:
    """A measured quantity: value, how far to trust it, and what it cost. Immutable.

    Attributes:
        name: the quantity, e.g. ``"batch_sharpness"``.
        value: a float, a tuple of floats (e.g. top-k eigenvalues), or None if it could not be measured.
        standard_error: doubt from sampling (one standard deviation of `value`); None if nothing was sampled.
        residual: doubt from the solver, in the unit of `value`; None if no solver was used.
        count: number of independent draws averaged.
        cost: in gradient evaluations; the unit is one gradient on the same amount of data.
        status: see `Status`. Everything but ``"ok"`` carries a `reason`.
        reason: one sentence saying why the status is not ``"ok"``.
        unit: physical unit, e.g. ``"loss / parameter²"``.
        settings: how it was measured (batch size, mode, method, seed, ...).
        beside: companions measured on the same draws, by name.
    """

    name: str
    value: Number | None
    standard_error: Number | None = None
    residual: Number | None = None
    count: int = 1
    cost: float = 0.0
    status: Status = "ok"
    reason: str = ""
    unit: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    beside: Mapping[str, Estimate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in _STATUSES:
            raise ValueError(f"expected a status among {', '.join(_STATUSES)}, got {self.status!r}")
        if self.value is None and self.status not in ("failed", "diverged"):
            raise ValueError(f"{self.name}: an estimate without value needs status 'failed' or 'diverged'")
        if self.status != "ok" and not self.reason:
            raise ValueError(f"{self.name}: status {self.status!r} needs a reason")
        for name in ("value", "standard_error", "residual"):
            object.__setattr__(self, name, _as_number(getattr(self, name), name))

    @classmethod
    def failed(cls, name: str, reason: str, *, status: Status = "failed", **known: Any) -> Estimate:
        """An estimate that could not be made, with the reason. Never a bare NaN."""
        return cls(name, None, status=status, reason=reason, **known)

    def __float__(self) -> float:
        if isinstance(self.value, tuple):
            return self.value[0]
        if self.value is None:
            raise ValueError(f"{self.name} has no value: {self.reason}")
        return self.value

    def scaled(self, factor: float, *, name: str | None = None, unit: str = "") -> Estimate:
        """The same measurement in another unit: value and both errors times `factor`."""

        def times(number: Number | None, by: float) -> Number | None:
            if number is None:
                return None
            return tuple(v * by for v in number) if isinstance(number, tuple) else number * by

        return Estimate(
            name or self.name,
            times(self.value, factor),
            times(self.standard_error, abs(factor)),
            times(self.residual, abs(factor)),
            self.count,
            self.cost,
            self.status,
            self.reason,
            unit,
            self.settings,
            {key: e.scaled(factor, unit=unit) for key, e in self.beside.items()},
        )

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.name}: {self.status} ({self.reason})"
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        errors = self.standard_error if isinstance(self.standard_error, tuple) else (self.standard_error,) * len(values)
        text = ", ".join(with_error(v, e) for v, e in zip(values, errors, strict=True))
        facts = []
        if self.count > 1:
            facts.append(f"{self.count} batches" if "batch_size" in self.settings else f"{self.count} draws")
        if self.residual is not None:
            residuals = self.residual if isinstance(self.residual, tuple) else (self.residual,)
            facts.append(f"residual {max(residuals):.1g}")
        if self.cost:
            facts.append(f"{self.cost:.3g} gradient evaluations")
        if self.status != "ok":
            facts.append(f"{self.status}: {self.reason}")
        return text + (f"  ({'; '.join(facts)})" if facts else "")

    def to_row(self) -> dict[str, Any]:
        """Plain JSON types; `from_row` gives the same estimate back."""
        row: dict[str, Any] = {"name": self.name, "value": self.value}
        for key in ("standard_error", "residual"):
            if getattr(self, key) is not None:
                row[key] = getattr(self, key)
        row |= {"count": self.count, "cost": self.cost, "status": self.status}
        for key in ("reason", "unit"):
            if getattr(self, key):
                row[key] = getattr(self, key)
        if self.settings:
            row["settings"] = dict(self.settings)
        if self.beside:
            row["beside"] = {key: e.to_row() for key, e in self.beside.items()}
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Estimate:
        """Rebuild from `to_row`. Raises ValueError on a row of another shape."""

        def number(key: str) -> Number | None:
            v = row.get(key)
            return tuple(v) if isinstance(v, list | tuple) else cast("float | None", v)

        try:
            return cls(
                str(row["name"]),
                number("value"),
                number("standard_error"),
                number("residual"),
                int(row.get("count", 1)),
                float(row.get("cost", 0.0)),
                row.get("status", "ok"),
                str(row.get("reason", "")),
                str(row.get("unit", "")),
                dict(row.get("settings", {})),
                {str(k): cls.from_row(v) for k, v in dict(row.get("beside", {})).items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"expected the row of an estimate, got {str(row)[:200]!r} ({error})") from error


def with_error(value: float, error: float | None) -> str:
    """`value ± error` with the error to two digits and the value to the same place.

    >>> with_error(38.9123, 0.412)
    '38.91 ± 0.41'
    >>> with_error(38.9123, None)
    '38.9'
    """
    if error is None:
        return f"{value:.3g}"
    if error == 0:
        return f"{value:.6g} ± 0"
    places = 1 - math.floor(math.log10(error))
    if abs(value) >= 1e6 or (value != 0 and abs(value) < 1e-4):
        return f"{value:.3g} ± {error:.1g}"
    return f"{value:.{max(places, 0)}f} ± {error:.{max(places, 0)}f}"
