"""Loss curves: a fixed batch, unseen batches and all data at the same points of parameter space, as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from sgdscope.batches import Batch, length
from sgdscope.estimate import Estimate, plain
from sgdscope.measure.quadratic_fit import QuadraticFit, fit_quadratic
from sgdscope.measure.sampling import mean_with_error
from sgdscope.risk import Risk
from sgdscope.vectors import Vector

Row = tuple[float | None, ...]
Curve = tuple[float, ...]


@dataclass(frozen=True)
class LossCurves:
    """Losses at points along a path or a line.

    Attributes:
        name: what was followed: ``"batch_path"``, ``"batch_line"`` or ``"chord"``.
        coordinates: where the points are; `axis` says in what.
        axis: what the coordinates count.
        batch: loss of the fixed batch at each point; None where it is not finite; empty if there is no batch.
        unseen: the same of each unseen batch.
        full: loss over all data; empty if not asked for.
        fits: parabolas of ``batch``, ``unseen`` (their mean) and ``full``, as far as four points or more are known.
        beside: numbers measured along with the curves, by name.
        cost: in gradient evaluations over all data.
        settings: how it was measured.
        notes: what to bear in mind when reading it.
        failure: why there are no losses; empty if there are.
    """

    name: str
    coordinates: Curve
    axis: str
    batch: Row
    unseen: tuple[Row, ...] = ()
    full: Row = ()
    fits: Mapping[str, QuadraticFit] = field(default_factory=dict)
    beside: Mapping[str, Estimate] = field(default_factory=dict)
    cost: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    failure: str = ""

    @property
    def unseen_mean(self) -> Row:
        """Mean over the unseen batches at each point; None where one of them is not finite."""
        return tuple(_mean(losses)[0] for losses in zip(*self.unseen, strict=True))

    @property
    def unseen_error(self) -> Row:
        """Standard error of `unseen_mean`; None for a single batch."""
        return tuple(_mean(losses)[1] for losses in zip(*self.unseen, strict=True))

    @property
    def status(self) -> str:
        """``ok``; ``diverged`` if some loss is not finite; ``failed`` if there are none."""
        return "failed" if self.failure else "diverged" if self._broken else "ok"

    @property
    def reason(self) -> str:
        """Why the status is not ``ok``."""
        if self.failure:
            return self.failure
        return f"a loss is not finite at {self._broken} of {len(self.coordinates)} points" if self._broken else ""

    @property
    def _broken(self) -> int:
        rows = [row for row in (self.batch, *self.unseen, self.full) if row]
        return sum(any(row[i] is None for row in rows) for i in range(len(self.coordinates)))

    def __str__(self) -> str:
        if self.failure:
            return f"{self.name}: {self.failure}"
        shares = [f"{of} R² {fit.r_squared:.4f}" for of, fit in self.fits.items() if fit.r_squared is not None]
        known = [f"{name} {estimate}" for name, estimate in self.beside.items()]
        return f"{self.name} at {len(self.coordinates)} points: " + "; ".join([*shares, *known, *self.notes])

    def to_row(self) -> dict[str, Any]:
        """Plain JSON types; `from_row` gives the same curves back."""
        return {
            "name": self.name, "coordinates": list(self.coordinates), "axis": self.axis, "batch": list(self.batch),
            "unseen": [list(row) for row in self.unseen], "full": list(self.full),
            "fits": {of: fit.to_row() for of, fit in self.fits.items()},
            "beside": {name: estimate.to_row() for name, estimate in self.beside.items()},
            "cost": self.cost, "settings": plain(dict(self.settings)), "notes": list(self.notes),
            "failure": self.failure,
        }  # fmt: skip

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> LossCurves:
        """Rebuild from `to_row`. Raises ValueError on a row of another shape."""
        try:
            return cls(
                str(row["name"]), tuple(float(x) for x in row["coordinates"]), str(row["axis"]), _row(row["batch"]),
                tuple(_row(losses) for losses in row["unseen"]), _row(row["full"]),
                {str(of): QuadraticFit.from_row(fit) for of, fit in row["fits"].items()},
                {str(name): Estimate.from_row(estimate) for name, estimate in row["beside"].items()},
                float(row["cost"]), dict(row["settings"]), tuple(str(note) for note in row["notes"]),
                str(row["failure"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"expected the row of loss curves, got another shape ({error!r:.200})") from error


@dataclass(frozen=True)
class Watched:
    """What is evaluated at each point: a fixed batch (or none), unseen batches, and all data or not."""

    batch: Batch | None
    unseen: tuple[Batch, ...]
    full: bool

    def cost(self, risk: Risk) -> float:
        """Of one point, in gradient evaluations over all data."""
        batches = [*([] if self.batch is None else [self.batch]), *self.unseen]
        return (sum(length(batch) for batch in batches) / risk.size + self.full) / 3

    def settings(self, risk: Risk) -> dict[str, Any]:
        """For the record."""
        return {
            "mode": risk.mode, "samples": 0 if self.batch is None else length(self.batch),
            "unseen_batches": len(self.unseen), "size": risk.size if self.full else 0,
        }  # fmt: skip


def watched(
    risk: Risk, batch: Batch | int | None, unseen: int | Sequence[Batch], full: bool, generator: torch.Generator | None
) -> Watched:
    """The batches to follow. A whole number as `batch` is the size of one to draw, disjoint from the unseen ones.

    Unseen batches beside a batch that was handed over, or of data too few to be disjoint, are drawn independently and
    may share samples with it. Raises ValueError for sizes and numbers that cannot be drawn.
    """
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    if isinstance(unseen, int) and unseen < 0:
        raise ValueError(f"expected unseen ≥ 0, a number of batches, or batches; got {unseen}")
    if batch is None and (not isinstance(unseen, int) or unseen):
        raise ValueError("expected a batch where unseen ones are to be held beside it, got none\nhint: unseen=0")
    others = () if isinstance(unseen, int) else tuple(risk.to_device(other) for other in unseen)
    if batch is None:
        return Watched(None, others, full)
    if not isinstance(batch, int):
        batch = risk.to_device(batch)
        if isinstance(unseen, int):
            others = tuple(risk.draw(min(length(batch), risk.size), generator) for _ in range(unseen))
        return Watched(batch, others, full)
    risk.source.check_batch_size(batch)
    if not isinstance(unseen, int) or risk.source.batch_lengths is not None or batch * (1 + unseen) > risk.size:
        own = risk.draw(batch, generator)
        return Watched(own, others or tuple(risk.draw(batch, generator) for _ in range(int(unseen))), full)  # type: ignore[arg-type]
    with torch.inference_mode(False):
        order = torch.randperm(risk.size, generator=generator)[: batch * (1 + unseen)]
        own, *drawn = (risk.to_device(risk.source.take(rows)) for rows in order.split(batch))
    return Watched(own, tuple(drawn), full)


def followed(risk: Risk, points: Iterable[Vector], what: Watched, seed: int) -> tuple[Row, tuple[Row, ...], Row]:
    """Losses of the batch, of each unseen batch and over all data; points are taken one at a time, and none is kept."""
    batch: list[float | None] = []
    unseen: list[list[float | None]] = [[] for _ in what.unseen]
    full: list[float | None] = []

    def loss(of: Batch | None, point: Vector) -> float | None:
        value = risk.value(of, at=point, seed=seed)
        return value if math.isfinite(value) else None

    for point in points:
        if what.batch is not None:
            batch.append(loss(what.batch, point))
        for losses, other in zip(unseen, what.unseen, strict=True):
            losses.append(loss(other, point))
        if what.full:
            full.append(loss(None, point))
    return tuple(batch), tuple(map(tuple, unseen)), tuple(full)


def fits_of(coordinates: Sequence[float], batch: Row, unseen: tuple[Row, ...], full: Row) -> dict[str, QuadraticFit]:
    """Parabolas of those curves that have enough points."""
    mean = tuple(_mean(losses)[0] for losses in zip(*unseen, strict=True))
    found = {of: fit_quadratic(coordinates, row) for of, row in (("batch", batch), ("unseen", mean), ("full", full))
             if row}  # fmt: skip
    return {of: fit for of, fit in found.items() if fit is not None}


def _mean(losses: Sequence[float | None]) -> tuple[float | None, float | None]:
    known = [z for z in losses if z is not None]
    if len(known) < len(losses):
        return None, None
    mean, error = mean_with_error(known)
    return mean, error if len(known) > 1 else None


def _row(numbers: Iterable[Any]) -> Row:
    return tuple(None if z is None else float(z) for z in numbers)
