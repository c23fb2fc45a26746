"""Balance rows: the rows ``balance`` and ``charges`` of a run, checked and taken apart, since rows may come from
anywhere.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

from sgdscope.estimate import Estimate
from sgdscope.records import Run

_MOST = 1000
"""Symmetries looked at."""
_QUANTITIES = ("charge", "squared_norm_u", "squared_norm_w", "noise_u", "noise_w", "expected_change")
_AT_REST = ("ratio", "equilibrium_ratio", "relaxation_steps", "unit_distance")

Key = tuple[str, int]
"""Name of a symmetry, and which of those of that name it is."""


@dataclass(frozen=True)
class Reading:
    """A row ``balance``, taken apart.

    Attributes:
        step: of the run.
        keys, kinds, units: of the symmetries.
        law: reasons why the law of balance does not apply.
        settings: what the prediction depends on besides the weights: learning rate, batch size, weight decay, whether
            batches are drawn with replacement, and size of the data.
        imbalance: of noise, per symmetry.
        found: per quantity one estimate for each symmetry.
        at_rest: place of a symmetry that has an equilibrium -> what is said of that.
    """

    step: int
    keys: tuple[Key, ...]
    kinds: tuple[str, ...]
    units: tuple[int, ...]
    law: tuple[str, ...]
    settings: tuple[Any, ...]
    imbalance: tuple[Estimate, ...]
    found: dict[str, tuple[Estimate, ...]]
    at_rest: dict[int, dict[str, Estimate]]

    @property
    def independent(self) -> bool:
        """Whether batches are drawn independently of one another, not from epochs."""
        return bool(self.settings[3])

    def change(self, i: int) -> Estimate:
        """Predicted mean change of a charge per step."""
        return self.found["expected_change"][i]

    def push(self, i: int) -> float:
        """Change per step if the noise of both sides moved the charge the same way; 0 where not known."""
        lr, batch_size, _, replacement, of = self.settings
        if not (_moderate(lr) and _moderate(batch_size) and batch_size >= 1):
            return 0.0
        share = 1.0 if replacement or not _moderate(of) or of <= 1 else max((of - batch_size) / (of - 1), 0.0)
        noise = float(self.found["noise_u"][i]) + float(self.found["noise_w"][i])
        return float(lr * lr * share * noise / batch_size)


class Move(NamedTuple):
    """What a row ``charges`` says of one symmetry.

    Attributes:
        first, last: steps between which the charge moved.
        charge: at the last of them.
        rate: change per step; None where there is no row before.
        scatter: standard deviation of the change in a single step; None where nothing tells.
        samples: steps from which that is known.
        rounding: what rounding of the weights did to the rate; 0 where that is not known.
        law: reasons why the law of balance does not apply.
    """

    first: int
    last: int
    charge: float
    rate: float | None
    scatter: float | None
    samples: int
    rounding: float
    law: tuple[str, ...]

    @property
    def steps(self) -> int:
        """How many."""
        return self.last - self.first

    @property
    def middle(self) -> float:
        """The step in the middle of them."""
        return (self.first + self.last) / 2


def readings(run: Run) -> list[Reading]:
    """All rows ``balance`` that can be read, in order of step."""
    return [found for step, _, e in run.rows if e.name == "balance" and (found := _reading(step, e)) is not None]


def moves(run: Run) -> dict[Key, list[Move]]:
    """Moves of each charge, in order of step."""
    found: dict[Key, list[Move]] = {}
    for step, _, row in run.rows:
        if row.name != "charges":
            continue
        keys = _keys(row.settings.get("layers"))
        charges = _pairs(row, len(keys))
        if not charges:
            continue
        start, samples = row.settings.get("from_step"), row.settings.get("samples")
        start = start if type(start) is int and 0 <= start < step else step
        rates, sampled = (_pairs(row.beside.get(name), len(keys)) for name in ("measured_change", "change"))
        seen = min(samples, step - start) if type(samples) is int and samples > 1 else 0
        law = _law(row)
        for i, key in enumerate(keys):
            rate, scatter, rounding = rates[i][0] if rates and step > start else None, None, 0.0
            if rate is not None and sampled and seen and sampled[i][1] is not None:
                scatter = (sampled[i][1] or 0.0) * math.sqrt(seen)
                # where every step was looked at, the gradients add up to the whole change
                rounding = abs(rate - sampled[i][0]) if seen == step - start and not law else 0.0
            found.setdefault(key, []).append(Move(start, step, charges[i][0], rate, scatter, seen, rounding, law))
    return found


def error_of(estimate: Estimate) -> float:
    """The standard error of a single number; 0 where there is none."""
    return estimate.standard_error if isinstance(estimate.standard_error, float) else 0.0


def _reading(step: int, row: Estimate) -> Reading | None:
    settings = row.settings
    keys = _keys(settings.get("layers"))
    count = len(keys)
    imbalance = _split(row, count)
    found = {name: _split(row.beside.get(name), count) for name in _QUANTITIES}
    if not imbalance or not all(found.values()) or any(float(e) < 0 for name in _QUANTITIES[1:5] for e in found[name]):
        return None
    kinds, units = settings.get("kinds"), settings.get("units")
    return Reading(
        step,
        keys,
        tuple(str(kind)[:80] for kind in kinds) if _list(kinds, count) else ("rescaling",) * count,
        tuple(n if type(n) is int and 0 < n < 10**12 else 0 for n in units) if _list(units, count) else (0,) * count,
        _law(row),
        tuple(settings.get(name) for name in ("lr", "batch_size", "weight_decay", "replacement", "of")),
        imbalance,
        found,
        _at_rest(row, count),
    )


def _law(row: Estimate) -> tuple[str, ...]:
    reasons = row.settings.get("law")
    return tuple(str(reason)[:200] for reason in reasons[:20]) if isinstance(reasons, list) else ()


def _at_rest(row: Estimate, count: int) -> dict[int, dict[str, Estimate]]:
    places = row.settings.get("equilibrium")
    if not isinstance(places, list) or not all(type(i) is int and 0 <= i < count for i in places):
        return {}
    if len(set(places)) < len(places):
        return {}
    found: dict[int, dict[str, Estimate]] = {i: {} for i in places}
    for name in _AT_REST:
        for i, e in zip(places, _split(row.beside.get(name), len(places)), strict=False):
            if float(e) > 1e-40 or (name == "unit_distance" and float(e) == 0):
                found[i][name] = e
    return found


def _keys(layers: Any) -> tuple[Key, ...]:
    if not isinstance(layers, list) or len(layers) > _MOST or not all(isinstance(name, str) for name in layers):
        return ()
    seen: Counter[str] = Counter()
    found = []
    for name in layers:
        found.append((name[:400], seen[name]))
        seen[name] += 1
    return tuple(found)


def _pairs(row: Estimate | None, count: int) -> tuple[tuple[float, float | None], ...]:
    """Components with their errors; empty where there are not that many, or none, or one is beyond all measure."""
    if row is None or not isinstance(row.value, tuple) or len(row.value) != count:
        return ()
    errors = row.standard_error if isinstance(row.standard_error, tuple) else (row.standard_error,) * count
    if not all(map(_moderate, row.value)) or not all(e is None or _moderate(e) for e in errors):
        return ()
    return tuple(zip(row.value, errors, strict=True))


def _split(row: Estimate | None, count: int) -> tuple[Estimate, ...]:
    """The same as one estimate each."""
    found = _pairs(row, count)
    return tuple(Estimate(row.name, value, error, unit=row.unit) for value, error in found) if row is not None else ()


def _list(found: Any, count: int) -> TypeGuard[list[Any]]:
    return isinstance(found, list) and len(found) == count


def _moderate(x: Any) -> TypeGuard[float]:
    return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) < 1e40
