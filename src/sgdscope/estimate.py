"""Estimate: a measured number together with its doubt and its cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal

Status = Literal["ok", "not_converged", "few_samples", "diverged", "failed"]
"""`ok`: meets the accuracy asked for. `not_converged`: the solver ran out of budget (see `residual`).
`few_samples`: the sampling error is larger than asked for (see `standard_error`).
`diverged`: the loss or its derivatives were not finite. `failed`: could not be measured (see `reason`)."""

Number = float | tuple[float, ...]

_STATUSES = ("ok", "not_converged", "few_samples", "diverged", "failed")


def _as_number(value: Any, what: str) -> Number | None:
    """Python floats out of whatever numeric type came in; refuses NaN, infinities and text."""
    if value is None:
        return None
    if hasattr(value, "tolist"):  # arrays and scalars of numpy and torch
        value = value.tolist()
    if isinstance(value, list | tuple):
        if not value:
            raise ValueError(f"expected at least one number as {what}, got none")
        return tuple(_as_float(v, what) for v in value)
    return _as_float(value, what)


def _as_float(value: Any, what: str) -> float:
    if isinstance(value, str | bytes | bool):
        raise ValueError(f"expected a number as {what}, got {value!r:.80}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(
            f"expected finite {what}, got {number}; a number that could not be measured is "
            "Estimate.failed(name, reason)"
        )
    return number


def _largest(number: Number | None) -> float:
    return max(number) if isinstance(number, tuple) else number or 0.0


def plain(value: Any, depth: int = 12) -> Any:
    """Plain JSON types out of anything, never failing: what `settings` and manifests are made of.

    Tuples become lists, keys become text, numbers of numpy and torch become Python's, dataclasses become objects.
    What JSON cannot hold becomes its text (paths, types, ``nan``), as does what is nested deeper than `depth`.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int | float):
        return (int(value) if isinstance(value, int) else float(value)) if abs(value) < math.inf else str(value)
    if depth == 0:
        return "..."
    if isinstance(value, Mapping):
        return {str(k): plain(v, depth - 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v, depth - 1) for v in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name), depth - 1) for f in fields(value)}
    if callable(getattr(value, "tolist", None)) and not isinstance(value, type):
        return plain(value.tolist(), depth - 1)
    return str(value)


@dataclass(frozen=True)
class Estimate:
    """A measured quantity: value, how far to trust it, and what it cost. Immutable.

    Attributes:
        name: the quantity, e.g. ``"batch_sharpness"``.
        value: a float, a tuple of floats (e.g. top-k eigenvalues), or None if it could not be measured.
        standard_error: doubt from sampling (one standard deviation of `value`); None if nothing was sampled. One number
            or, for a tuple value, one per component.
        residual: doubt from the solver, in the unit and shape of `value`; None if no solver was used.
        count: number of independent draws averaged.
        cost: in gradient evaluations; the unit is one gradient on the same amount of data.
        status: see `Status`. Everything but ``"ok"`` carries a `reason`.
        reason: one sentence saying why the status is not ``"ok"``.
        unit: physical unit, e.g. ``"loss / parameter²"``.
        settings: how it was measured (batch size, mode, method, seed, ...), as plain JSON types; see `plain`.
        beside: companions measured on the same draws, by name.

    Raises ValueError for what is not a finite number, negative errors, errors of another shape than the value, and a
    status other than ``"ok"`` without reason.
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
        for name in ("standard_error", "residual"):
            error = getattr(self, name)
            if error is not None and min(error if isinstance(error, tuple) else (error,)) < 0:
                raise ValueError(f"{self.name}: expected {name} ≥ 0, got {error}")
            length = len(self.value) if isinstance(self.value, tuple) else None
            if self.value is not None and isinstance(error, tuple) and len(error) != length:
                raise ValueError(f"{self.name}: expected {name} in the shape of the value, got {len(error)} numbers")
        object.__setattr__(self, "count", int(self.count))
        object.__setattr__(self, "cost", _as_float(self.cost, "cost"))
        object.__setattr__(self, "settings", plain(dict(self.settings)))

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
        """The same measurement in another unit: value and both errors times `factor`.

        Companions in the same unit are scaled along; those in another unit (a norm, a ratio) are left as they are.
        Raises ValueError if the result is not finite.
        """

        def times(number: Number | None, by: float) -> Number | None:
            if number is None:
                return None
            return tuple(v * by for v in number) if isinstance(number, tuple) else number * by

        return replace(
            self,
            name=name or self.name,
            value=times(self.value, factor),
            standard_error=times(self.standard_error, abs(factor)),
            residual=times(self.residual, abs(factor)),
            unit=unit,
            beside={k: e.scaled(factor, unit=unit) if e.unit == self.unit else e for k, e in self.beside.items()},
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
            facts.append(f"residual {_largest(self.residual):.1g}")
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
        """Rebuild from `to_row`. Raises ValueError on a row of another shape, whatever it holds."""
        try:
            return cls._from_row(row, depth=4)
        except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"expected the row of an estimate, got another shape ({error!r:.200})") from error

    @classmethod
    def _from_row(cls, row: Mapping[str, Any], depth: int) -> Estimate:
        if depth == 0:
            raise ValueError("expected the row of an estimate, got one with companions of companions of companions")
        texts = {key: row.get(key, "") for key in ("name", "status", "reason", "unit")}
        if not all(isinstance(text, str) for text in texts.values()):
            raise TypeError("name, status, reason or unit is not text")
        if not isinstance(row.get("settings", {}), Mapping):
            raise TypeError("settings are not an object")
        return cls(
            row["name"],
            row.get("value"),
            row.get("standard_error"),
            row.get("residual"),
            int(row.get("count", 1)),
            row.get("cost", 0.0),
            row.get("status", "ok"),
            texts["reason"],
            texts["unit"],
            row.get("settings", {}),
            {key: cls._from_row(companion, depth - 1) for key, companion in row.get("beside", {}).items()},
        )


def with_error(value: float, error: float | None, *, digits: int = 2) -> str:
    """`value ± error` with the error to two `digits` and the value to the same place.

    >>> with_error(38.9123, 0.412)
    '38.91 ± 0.41'
    >>> with_error(38.9123, 0.412, digits=1)
    '38.9 ± 0.4'
    >>> with_error(2113.0, 200.0, digits=1)
    '2100 ± 200'
    >>> with_error(38.9123, None)
    '38.9'
    >>> with_error(1234567.8, 4200)
    '1.2346e+06 ± 4.2e+03'
    """
    if error is None:
        return f"{value:.3g}"
    if error == 0:
        return f"{value:.6g} ± 0"
    error = float(f"{error:.{digits - 1}e}")  # rounding may move it to the next decade
    place = math.floor(math.log10(error)) - (digits - 1)
    size = max(abs(value), error)
    if 1e-4 <= size < 1e6 and place >= -10:
        return f"{round(value, -place):.{max(-place, 0)}f} ± {error:.{max(-place, 0)}f}"
    figures = math.floor(math.log10(abs(value))) - place + 1 if value else 1
    return f"{value:.{min(max(figures, 1), 12)}g} ± {error:.{digits}g}"


def short(estimate: Estimate) -> str:
    """``value ± error`` for a glance: the error to one digit, at most three decimals; the first of several values.

    >>> short(Estimate("x", 0.94976, 0.0082))
    '0.950 ± 0.008'
    >>> short(Estimate("x", 0.64933, 0.00019))
    '0.649'
    """
    if estimate.value is None:
        return "not measured"
    value = float(estimate)
    errors = estimate.standard_error
    error = (errors[0] if isinstance(errors, tuple) else errors) or 0.0
    if abs(value) >= 1e4:
        return f"{value:.2g}"
    if error < 0.0005:
        return f"{value:.3f}" if error else f"{value:.2f}"
    places = next((p for p in (3, 2, 1) if error < 0.95 * 10 ** (1 - p)), 0)
    return f"{value:.{places}f} ± {error:.{places}f}"
