r"""Plane: the loss on a grid in a two-dimensional slice of parameter space.

With random directions normalised filter by filter (Li et al. 1712.09913): each filter of a direction, that is each
slice along the first dimension of a weight, gets the length of the same filter of the network, so that rescaling one
layer and undoing it in the next does not change the picture. A picture of two among millions of directions: what it
shows is there, and much that it does not show may be there too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from sgdscope import vectors
from sgdscope.batches import Batch, length
from sgdscope.estimate import plain
from sgdscope.measure.points import Point, here, moved, normalisation_notes, rounding, vector_of
from sgdscope.risk import Risk
from sgdscope.vectors import Vector

Normalisation = Literal["filter", "none"]
Row = tuple[float | None, ...]


@dataclass(frozen=True)
class Plane:
    """Losses on a grid, as plain numbers.

    Attributes:
        first: coordinates along the first direction.
        second: coordinates along the second direction, one per row.
        losses: ``losses[j][i]`` at ``(first[i], second[j])``; None where the loss is not finite; fewer rows than
            `second` while unfinished.
        marks: named points of the plane as (name, first coordinate, second coordinate).
        seeds: of the two random directions; None for directions that were handed over.
        cost: gradient evaluations spent, on the data the losses are of.
        settings: how it was made.
        notes: what to bear in mind when reading it.
    """

    first: tuple[float, ...]
    second: tuple[float, ...]
    losses: tuple[Row, ...]
    marks: tuple[tuple[str, float, float], ...] = ()
    seeds: tuple[int, int] | None = None
    cost: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all rows are there."""
        return len(self.losses) == len(self.second)

    @property
    def status(self) -> str:
        """``ok``; ``not_converged`` while rows are missing; ``diverged`` if no loss is finite."""
        if self.losses and all(loss is None for row in self.losses for loss in row):
            return "diverged"
        return "ok" if self.complete else "not_converged"

    @property
    def reason(self) -> str:
        """Why the status is not ``ok``, and how many losses are not finite."""
        broken = sum(loss is None for row in self.losses for loss in row)
        said = [] if self.complete else [f"{len(self.losses)} of {len(self.second)} rows"]
        return "; ".join([*said, *([f"the loss is not finite at {broken} points"] if broken else [])])

    def to_row(self) -> dict[str, Any]:
        """Plain JSON types; `from_row` gives the same plane back."""
        return {
            "first": list(self.first), "second": list(self.second), "losses": [list(row) for row in self.losses],
            "marks": [list(mark) for mark in self.marks], "seeds": None if self.seeds is None else list(self.seeds),
            "cost": self.cost, "settings": plain(dict(self.settings)), "notes": list(self.notes),
        }  # fmt: skip

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Plane:
        """Rebuild from `to_row`. Raises ValueError on a row of another shape."""
        try:
            seeds = row["seeds"]
            return cls(
                tuple(float(x) for x in row["first"]), tuple(float(y) for y in row["second"]),
                tuple(tuple(None if z is None else float(z) for z in line) for line in row["losses"]),
                tuple((str(name), float(x), float(y)) for name, x, y in row["marks"]),
                None if seeds is None else (int(seeds[0]), int(seeds[1])),
                float(row["cost"]), dict(row["settings"]), tuple(str(note) for note in row["notes"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f"expected the row of a plane, got another shape ({error!r:.200})") from error


def plane(
    risk: Risk,
    directions: Sequence[Point] | None = None,
    *,
    extent: float = 1.0,
    resolution: int = 25,
    normalise: Normalisation | None = None,
    ignore_vectors: bool = True,
    seed: int = 0,
    batch: Batch | None = None,
    resume: Plane | None = None,
    progress: Callable[[Plane], None] | None = None,
) -> Plane:
    r"""Losses at :math:`\theta + a\,d_1 + b\,d_2` for a, b from −extent to extent around the present parameters.

    Args:
        risk: where to look; the loss is that of `batch`, or over all data.
        directions: two of them, shaped like the parameters (eigenvectors, steps, …); None draws two standard normal
            ones from the seeds ``seed`` and ``seed + 1``.
        extent: largest coordinate: with filter-normalised directions 1 changes each filter by about its own length;
            otherwise in lengths of the directions.
        resolution: points per side; odd, so that the present parameters are among them.
        normalise: ``"filter"`` or ``"none"``; None means filter for random directions, none for given ones.
        ignore_vectors: with filter normalisation leave one-dimensional parameters (biases, scale and shift of norms)
            where they are, as Li et al. do; else each counts as one filter.
        seed: of the random directions.
        batch: loss of this batch; all data if None. A few hundred samples are enough for a picture.
        resume: an unfinished plane of the same settings and parameters; its rows are kept.
        progress: called with the plane so far after every row; save its `to_row` to be able to resume.

    Known flaws: without filter normalisation the picture depends on the scale of each layer, which the function does
    not (Dinh et al. 1703.04933); with it a layer can still be rescaled through what is ignored. Filters are slices
    along the first dimension: right for linear and convolutional weights, not for transposed convolutions.

    BatchNorm is treated as in every measurement: in train mode each chunk is normalised by its own statistics, running
    statistics are used in eval mode (and belong to the present weights only; `notes` says so), buffers stay untouched.

    Cost: ``resolution² / 3`` gradient evaluations, one forward pass per point. Memory: four copies of the parameters.

    Raises ValueError for an even resolution or one below 3, an extent ≤ 0, directions of another number or shape, zero
    or not finite, and for a plane to resume that was made otherwise.
    """
    if resolution < 3 or resolution % 2 == 0:
        raise ValueError(f"expected an odd resolution ≥ 3, got {resolution}")
    if not (extent > 0 and math.isfinite(extent)):
        raise ValueError(f"expected extent > 0, got {extent}")
    if normalise not in (None, "filter", "none"):
        raise ValueError(f"expected normalise 'filter' or 'none', got {normalise!r}")
    if directions is not None and len(directions) != 2:
        raise ValueError(f"expected two directions, got {len(directions)}")
    by_filter = normalise == "filter" or (normalise is None and directions is None)
    origin = here(risk)
    seeds = (seed, seed + 1) if directions is None else None
    axes = (
        [vectors.random_like(origin, torch.Generator().manual_seed(s)) for s in (seed, seed + 1)]
        if directions is None
        else [vector_of(risk, d, "a direction") for d in directions]
    )
    if by_filter:
        axes = [filter_normalised(d, origin, ignore_vectors=ignore_vectors) for d in axes]
    lengths = [vectors.norm(d) for d in axes]
    if min(lengths) == 0:
        raise ValueError("expected directions that move the parameters, got zero\nhint: with filter normalisation only "
                         "parameters that are not zero move; ignore_vectors=False moves biases too")  # fmt: skip
    coordinates = _symmetric(extent, resolution)
    begun = Plane(
        coordinates, coordinates, (), (("present", 0.0, 0.0),), seeds,
        settings=_settings(risk, batch) | {
            "kind": "random" if directions is None else "given", "normalise": "filter" if by_filter else "none",
            "ignore_vectors": ignore_vectors and by_filter, "lengths": lengths,
            "cosine": vectors.dot(*axes) / (lengths[0] * lengths[1]),
        },
        notes=normalisation_notes(risk),
    )  # fmt: skip
    return _filled(risk, begun, origin, axes, batch, resume, progress)


def plane_through(
    risk: Risk,
    points: Sequence[Point],
    *,
    margin: float = 0.25,
    resolution: int = 25,
    batch: Batch | None = None,
    resume: Plane | None = None,
    progress: Callable[[Plane], None] | None = None,
) -> Plane:
    """Losses in the plane through three points of parameter space, such as three checkpoints.

    The first point is the origin and the second lies on the first axis; the axes are at right angles and coordinates
    are Euclidean lengths in parameter space. `marks` holds the three points as "1", "2" and "3".

    Args:
        risk: model, loss and data; its present parameters play no part.
        points: three state dicts, or lists of tensors in the order of `Risk.parameters`.
        margin: how far the grid reaches beyond the points, in parts of their spread.
        resolution: points of the grid per side.
        batch: loss of this batch; all data if None.
        resume: an unfinished plane of the same settings and points; its rows are kept.
        progress: called with the plane so far after every row.

    Known flaw: lengths and angles depend on the scale of each layer, which the function does not (Dinh et al.
    1703.04933). In eval mode BatchNorm uses the running statistics that the model holds now, which belong to none of
    the grid's points; `notes` says so.

    Cost: ``resolution² / 3`` gradient evaluations. Memory: five copies of the parameters beside the points. Raises
    ValueError for other than three points, points on one line, a resolution below 3 or a margin < 0.
    """
    if len(points) != 3:
        raise ValueError(f"expected three points, got {len(points)}")
    if resolution < 3:
        raise ValueError(f"expected a resolution ≥ 3, got {resolution}")
    if not margin >= 0:
        raise ValueError(f"expected margin ≥ 0, got {margin}")
    origin, second, third = (vector_of(risk, p, "a point") for p in points)
    along = vectors.plus(second, origin, -1.0)
    base = vectors.norm(along)
    aside = vectors.plus(third, origin, -1.0)
    far = vectors.norm(aside)
    if base == 0 or far == 0:
        raise ValueError("expected three different points, got two that are the same")
    along = vectors.scaled(along, 1 / base)
    x = vectors.dot(aside, along)
    aside = vectors.plus(aside, along, -x)
    y = vectors.norm(aside)
    if y < 1e-4 * far:
        raise ValueError("expected points that span a plane, got three on one line")
    aside = vectors.scaled(aside, 1 / y)
    marks = (("1", 0.0, 0.0), ("2", base, 0.0), ("3", x, y))
    begun = Plane(
        _spread([m[1] for m in marks], margin, resolution), _spread([m[2] for m in marks], margin, resolution), (),
        marks, settings=_settings(risk, batch) | {"kind": "through points"}, notes=normalisation_notes(risk),
    )  # fmt: skip
    return _filled(risk, begun, origin, [along, aside], batch, resume, progress)


def filter_normalised(direction: Sequence[Tensor], parameters: Sequence[Tensor], *, ignore_vectors: bool) -> Vector:
    """The direction with each filter at the length of the same filter of the parameters.

    Filters are slices along the first dimension. Parameters of at most one dimension are left out (zero), or with
    ``ignore_vectors=False`` taken as one filter. Source: Li et al. 1712.09913, §4.
    """
    found = []
    with torch.no_grad():
        for d, p in zip(direction, parameters, strict=True):
            if p.ndim <= 1 and ignore_vectors:
                found.append(torch.zeros_like(p))
                continue
            rows, own = (t.reshape(1 if t.ndim <= 1 else len(t), -1) for t in (d, p))
            lengths = rows.norm(dim=1, keepdim=True)
            unit = torch.where(lengths > 0, rows / lengths, torch.zeros_like(rows))
            found.append((unit * own.norm(dim=1, keepdim=True)).reshape(p.shape))
    return found


def _filled(
    risk: Risk, begun: Plane, origin: Vector, axes: Sequence[Vector], batch: Batch | None, resume: Plane | None,
    progress: Callable[[Plane], None] | None,
) -> Plane:  # fmt: skip
    """The plane with all its rows, row by row."""

    def loss(x: float, row: Vector) -> float | None:
        value = risk.value(batch, at=moved(row, axes[0], x))
        return value if math.isfinite(value) else None

    known = begun
    if resume is not None:
        _check_resumed(begun, resume)
        known = replace(begun, losses=resume.losses, cost=resume.cost)
        if resume.losses:
            before, again = resume.losses[0][0], loss(begun.first[0], moved(origin, axes[1], begun.second[0]))
            known = replace(known, cost=known.cost + 1 / 3)
            allowed = 100 * rounding(risk, before or 0.0)
            if (before is None) != (again is None) or abs((before or 0.0) - (again or 0.0)) > allowed:
                raise ValueError(f"expected the parameters, directions and data the plane was begun with, where its "
                                 f"first loss was {before}; got {again}")  # fmt: skip
    for y in begun.second[len(known.losses) :]:
        row = moved(origin, axes[1], y)
        losses = tuple(loss(x, row) for x in begun.first)
        known = replace(known, losses=(*known.losses, losses), cost=known.cost + len(losses) / 3)
        if progress is not None:
            progress(known)
    return known


def _check_resumed(begun: Plane, resume: Plane) -> None:
    for what in ("first", "second", "seeds", "settings"):
        wanted, given = (plain(getattr(p, what)) for p in (begun, resume))
        if wanted != given:
            raise ValueError(f"expected a plane of the same {what} to resume, got {given!r:.200} for {wanted!r:.200}")
    if len(resume.losses) > len(begun.second) or any(len(row) != len(begun.first) for row in resume.losses):
        raise ValueError("expected a plane whose losses fit its coordinates to resume")


def _settings(risk: Risk, batch: Batch | None) -> dict[str, Any]:
    return {"mode": risk.mode, "samples": risk.size if batch is None else length(batch)}


def _symmetric(extent: float, resolution: int) -> tuple[float, ...]:
    half = resolution // 2
    return tuple(extent * i / half for i in range(-half, half + 1))


def _spread(values: Sequence[float], margin: float, resolution: int) -> tuple[float, ...]:
    low, high = min(values), max(values)
    low, high = low - margin * (high - low), high + margin * (high - low)
    return tuple(low + (high - low) * i / (resolution - 1) for i in range(resolution))
