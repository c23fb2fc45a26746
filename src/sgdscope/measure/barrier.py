"""Barrier: how high the loss rises between two minima, on the straight line and on the lowest path found.

On the straight line (linear mode connectivity, Frankle et al. 1912.05671) and on a nudged elastic band (Draxler et al.
1803.00885).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import torch

from sgdscope import vectors
from sgdscope.estimate import Estimate, plain
from sgdscope.measure.common_losses import CommonLosses, common_losses
from sgdscope.measure.curvature_along import curvatures_along
from sgdscope.measure.elastic_band import Band, relaxed_band
from sgdscope.measure.highest_along import Highest, highest_along
from sgdscope.measure.points import Point, normalisation_notes, rounding, vector_of
from sgdscope.risk import Risk
from sgdscope.vectors import Vector

Connected = Literal["connected", "not connected", "undecided"]
Curve = tuple[float, ...]

_NEGLIGIBLE = 0.02
_PER_PIECE = 4
"""Steps in which the loss is looked at between two neighbouring images."""
SYMMETRY = (
    "the two ends are compared as they are: networks that differ by the order or the scale of their hidden units are "
    "one function and still far apart here, with a barrier between them that aligning the units would remove"
)


@dataclass(frozen=True)
class Barrier:
    """Losses between two points of parameter space.

    Attributes:
        straight: height of the barrier on the straight line: highest loss less that of the higher end, never below 0.
        band: the same on the elastic band; None if none was relaxed.
        connected: whether the lower of the two barriers is negligible, within its error.
        reason: what that was judged by.
        ends: loss at the start and at the end.
        straight_line: (coordinates, losses) on the straight line, coordinates from 0 to 1.
        band_line: the same along the band, coordinates in lengths of the straight line; empty if there is none.
        cost: in gradient evaluations over all data.
        settings: how it was measured.
        notes: what to bear in mind when reading it.
        images: the band's points in parameter space, ends included; not part of the row.
    """

    straight: Estimate
    band: Estimate | None
    connected: Connected
    reason: str
    ends: tuple[float, float]
    straight_line: tuple[Curve, Curve]
    band_line: tuple[Curve, Curve] = ((), ())
    cost: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    images: tuple[Vector, ...] = field(default=(), repr=False, compare=False)

    @property
    def height(self) -> Estimate:
        """The lower of the two barriers."""
        known = [e for e in (self.straight, self.band) if e is not None and e.value is not None]
        return min(known, key=float) if known else self.straight

    def __str__(self) -> str:
        band = "" if self.band is None else f"; on the band {self.band}"
        return f"{self.connected}: {self.reason}; on the straight line {self.straight}{band}"

    def to_row(self) -> dict[str, Any]:
        """Plain JSON types; `from_row` gives the same barrier back, without its images."""
        return {
            "straight": self.straight.to_row(), "band": None if self.band is None else self.band.to_row(),
            "connected": self.connected, "reason": self.reason, "ends": list(self.ends),
            "straight_line": [list(of) for of in self.straight_line], "band_line": [list(of) for of in self.band_line],
            "cost": self.cost, "settings": plain(dict(self.settings)), "notes": list(self.notes),
        }  # fmt: skip

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Barrier:
        """Rebuild from `to_row`. Raises ValueError on a row of another shape."""
        try:
            return cls(
                Estimate.from_row(row["straight"]), None if row["band"] is None else Estimate.from_row(row["band"]),
                _outcome(row["connected"]), str(row["reason"]), (float(row["ends"][0]), float(row["ends"][1])),
                _line(row["straight_line"]), _line(row["band_line"]), float(row["cost"]), dict(row["settings"]),
                tuple(str(note) for note in row["notes"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f"expected the row of a barrier, got another shape ({error!r:.200})") from error


def barrier(
    risk: Risk,
    start: Point,
    end: Point,
    *,
    band: bool = True,
    images: int = 9,
    climbing: bool = True,
    stiffness: float | None = None,
    iterations: int = 200,
    resolution: int = 25,
    tolerance: float = 0.01,
    negligible: float | None = None,
    samples: int | None = None,
    seed: int = 0,
    generator: torch.Generator | None = None,
) -> Barrier:
    """Barrier of the loss between two points: on the straight line, and on a nudged elastic band relaxed between them.

    Args:
        risk: model, loss and data; its present parameters play no part.
        start: a minimum: a state dict, or tensors in the order of `Risk.parameters`.
        end: another.
        band: whether to relax a band too where the straight line does not connect the ends already.
        images: pivots of the band between the ends; a path with several bends needs more.
        climbing: let the highest image climb to the saddle.
        stiffness: of the springs, in loss per squared parameter; None takes the largest gradient on the straight line
            over its length. The springs only space the images evenly; the result does not depend on them.
        iterations: of the band at most.
        resolution: steps in which the straight line is looked at, before refining around the highest.
        tolerance: the band is relaxed when no image feels more than this part of the largest gradient on the straight
            line; the top of a line is refined until a parabola promises less than this part of its range, over ten.
        negligible: barrier up to which two minima count as connected, in units of the loss. None: 2 % of the range of
            the loss on the straight line, or of the loss at the higher end if that is more.
        samples: take losses and gradients on this many samples, drawn once and common to all points; None: all data.
        seed: fixes dropout masks, the same at every point.
        generator: for the draw.

    `beside` of both heights holds ``highest_loss``, ``above_start``, ``above_end`` and ``above_mean`` (over the mean of
    the ends, the error barrier of Frankle et al.). `standard_error` is that of the difference on common samples, 0 for
    all data. `residual`: on the straight line what the last parabola still promises; of the band what the straight
    pieces between its images rise above the highest image and, if that one climbed, how far the saddle may still be
    from it by the gradient left there and the curvature along it. The band's status is ``not_converged`` where its
    images still feel more than `tolerance`: the true barrier can then be lower.

    **An upper bound**: a lower path may exist, on the other side of a mountain, which no band relaxed from the straight
    line finds. **Not aligned**: networks that differ by a permutation or a rescaling of hidden units are the same
    function and yet far apart (`notes`). Peaks narrower than the steps are not seen. BatchNorm in eval mode uses the
    running statistics of the model as it is, which fit neither end (`notes`); train mode uses those of each chunk.

    Cost: `resolution` / 3 and, for the band, `images` gradients per iteration, all on the data chosen. Memory: five
    copies of the parameters per image.

    Raises ValueError for two points that are the same or of another shape, and settings out of range.
    """
    _check(images, iterations, resolution, tolerance, stiffness, negligible)
    first, last = vector_of(risk, start, "the start"), vector_of(risk, end, "the end")
    length = vectors.norm(vectors.plus(last, first, -1.0))
    if length == 0:
        raise ValueError("expected two different points, got the same twice")
    loss = common_losses(risk, samples=samples, seed=seed, generator=generator)
    ends = (loss.losses(first), loss.losses(last))
    settings: dict[str, Any] = {
        "mode": risk.mode, "samples": loss.samples, "images": images if band else 0, "distance": length,
        "climbing": climbing, "tolerance": tolerance,
    }  # fmt: skip
    means = (loss.mean(ends[0]), loss.mean(ends[1]))
    if not all(map(math.isfinite, means)):
        failed = Estimate.failed("straight_barrier", "the loss is not finite at an end", status="diverged", unit="loss")
        return Barrier(failed, None, "undecided", failed.reason, (0.0, 0.0), ((), ()), settings=settings)
    line = highest_along(loss, [first, last], resolution, tolerance=0.1 * tolerance)
    noise = 2 * rounding(risk, max(map(abs, means)))
    straight = _above("straight_barrier", loss, line.of_groups, ends, line.left + noise)
    cost = (len(line.losses) + 2) / 3
    finite = [z for z in line.losses if math.isfinite(z)]
    small = _NEGLIGIBLE * max(max(finite) - min(finite), abs(max(means))) if negligible is None else negligible
    settings["negligible"] = small
    at_once = isinstance(straight.value, float) and straight.value + _doubt(straight) <= small
    found: Estimate | None = None
    band_line: tuple[Curve, Curve] = ((), ())
    pivots: tuple[Vector, ...] = ()
    if band and not at_once:
        try:
            relaxed = relaxed_band(loss, first, last, images=images, climbing=climbing, stiffness=stiffness,
                                   iterations=iterations, tolerance=tolerance)  # fmt: skip
        except FloatingPointError as error:
            found = Estimate.failed("band_barrier", str(error), status="diverged", unit="loss")
        else:
            pivots = relaxed.images
            along = highest_along(loss, pivots, _PER_PIECE, tolerance=0.1 * tolerance)
            found = _of_band(loss, relaxed, along, ends, tolerance, noise)
            cost += relaxed.gradients + 3 + (3 + len(along.losses)) / 3
            settings |= {"iterations": relaxed.iterations, "climbed": relaxed.climbed is not None}
            band_line = (_lengths(pivots, along.coordinates, length), along.losses)
    connected, reason = _judged(straight, found, small)
    return Barrier(
        straight, found, connected, reason, means, (line.coordinates, line.losses), band_line, cost * loss.share,
        settings, (SYMMETRY, *normalisation_notes(risk)), pivots,
    )  # fmt: skip


def _check(
    images: int, iterations: int, resolution: int, tolerance: float, stiffness: float | None, negligible: float | None
) -> None:
    if images < 1 or iterations < 1 or resolution < 2:
        raise ValueError(
            f"expected images, iterations ≥ 1 and resolution ≥ 2, got {images}, {iterations}, {resolution}"
        )
    if not 0 < tolerance < 1:
        raise ValueError(f"expected a tolerance between 0 and 1, got {tolerance}")
    for value, name in ((stiffness, "stiffness"), (negligible, "negligible")):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"expected {name} > 0, got {value}")


def _above(
    name: str, loss: CommonLosses, top: list[float], ends: tuple[list[float], list[float]], residual: float,
    **known: Any,
) -> Estimate:  # fmt: skip
    """Height of the losses `top` above the higher end with its companions; errors from groups of common samples."""
    highest = loss.mean(top)
    if not math.isfinite(highest):
        return Estimate.failed(name, "the loss is not finite on the way", status="diverged", unit="loss")
    start, end = ends
    higher = start if loss.mean(start) >= loss.mean(end) else end

    def difference(what: str, base: list[float]) -> Estimate:
        rise = [z - b for z, b in zip(top, base, strict=True)]
        return Estimate(what, loss.mean(rise), loss.error(rise), residual, count=len(rise), unit="loss")

    over = difference(name, higher)
    return Estimate(
        name, max(float(over), 0.0), over.standard_error, residual, count=len(top), unit="loss", **known,
        beside={
            "highest_loss": Estimate("highest_loss", highest, loss.error(top), residual, unit="loss"),
            "above_start": difference("above_start", start), "above_end": difference("above_end", end),
            "above_mean": difference("above_mean", [0.5 * (a + b) for a, b in zip(start, end, strict=True)]),
        },
    )  # fmt: skip


def _of_band(
    loss: CommonLosses, band: Band, along: Highest, ends: tuple[list[float], list[float]], tolerance: float,
    noise: float,
) -> Estimate:  # fmt: skip
    """The barrier at the highest image; what the straight pieces rise above it is doubt, for the path is curved."""
    top = max(range(len(band.losses)), key=band.losses.__getitem__)
    of_groups = loss.losses(band.images[top])
    doubt = max(loss.mean(along.of_groups) - band.losses[top], 0.0) + noise
    interior = 0 < top < len(band.losses) - 1
    known: dict[str, Any] = {}
    if interior and top == band.climbed:
        doubt += _to_saddle(loss, band.images[top])
    if interior and band.residual > tolerance:
        known = {"status": "not_converged", "reason": f"after {band.iterations} iterations an image still feels "
                 f"{100 * band.residual:.2g} % of the largest gradient on the straight line"}  # fmt: skip
    return _above("band_barrier", loss, of_groups, ends, doubt, **known)


def _to_saddle(loss: CommonLosses, image: Vector) -> float:
    """How far in loss a stationary point may be: ‖g‖² / 2h, with the curvature h along the gradient that is left."""
    _, g = loss.gradient(image)
    square = vectors.dot(g, g)
    along = 0.0
    for weight, group in zip(loss.weights, loss.groups, strict=True):
        (part,), _, _ = curvatures_along(loss.risk, [g], at=image, batch=group, seed=loss.seed)
        along += weight * part
    return 0.5 * square * square / abs(along) if along else 0.0


def _judged(straight: Estimate, band: Estimate | None, small: float) -> tuple[Connected, str]:
    """Whether the lower barrier is negligible beyond doubt."""
    known = [e for e in (straight, band) if e is not None and e.value is not None]
    if not known:
        return "undecided", straight.reason

    lowest = min(known, key=lambda e: float(e) + _doubt(e))
    height, error = float(lowest), _doubt(lowest)
    where = "straight line" if lowest is straight else "band"
    measured = f"a barrier of {height:.3g} ± {error:.2g} on the {where}, negligible up to {small:.3g}"
    if height + error <= small:
        return "connected", measured
    if height - error <= small:
        return "undecided", measured
    if band is None:
        return "undecided", f"{measured}; a bent path may avoid it"
    if band.status != "ok":
        return "undecided", f"{measured}; the band is not relaxed: {band.reason}"
    return "not connected", f"{measured}, on the lowest path found"


def _doubt(height: Estimate) -> float:
    """Two standard errors and the residual; infinite where the error is not known."""
    spread, left = height.standard_error, height.residual
    return 2 * (spread if isinstance(spread, float) else math.inf) + (left if isinstance(left, float) else 0.0)


def _lengths(pivots: Sequence[Vector], coordinates: Sequence[float], unit: float) -> Curve:
    """Length along the band at coordinates that count its pieces."""
    pieces = [vectors.norm(vectors.plus(b, a, -1.0)) / unit for a, b in pairwise(pivots)]
    passed = [0.0]
    for piece in pieces:
        passed.append(passed[-1] + piece)
    at = [min(int(t), len(pieces) - 1) for t in coordinates]
    return tuple(passed[i] + (t - i) * pieces[i] for i, t in zip(at, coordinates, strict=True))


def _outcome(given: Any) -> Connected:
    for known in ("connected", "not connected", "undecided"):
        if given == known:
            return known
    raise ValueError(f"expected an outcome, got {given!r:.80}")


def _line(row: Iterable[Iterable[Any]]) -> tuple[Curve, Curve]:
    coordinates, losses = (tuple(float(x) for x in part) for part in row)
    return coordinates, losses
