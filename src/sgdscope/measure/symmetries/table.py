"""Table: symmetries for people, those of many like blocks in one line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sgdscope.measure.symmetries.candidate import size_of
from sgdscope.measure.symmetries.part import Part

if TYPE_CHECKING:
    from sgdscope.measure.symmetries.symmetry import Symmetries, Symmetry

LONG = 16
"""Rows from which on those of like blocks are put together."""
_TITLES = ("layers", "kind", "units", "u × λ", "w ÷ λ", "charges", "residual", "verdict")
_NUMBER = re.compile(r"(?<![^.\s])\d+(?![^.\s])")
"""A number that is a whole step of a path, as of a block in a list of blocks."""


def table(symmetries: Symmetries) -> str:
    """A line for each symmetry, or for each kind of block where there are many, and the notes."""
    if not symmetries.found:
        return "\n".join(["no symmetry proposed", *symmetries.notes])
    alike: dict[object, list[Symmetry]] = {}
    for place, symmetry in enumerate(symmetries.found):
        alike.setdefault(_pattern(symmetry) if len(symmetries) > LONG else place, []).append(symmetry)
    rows = [_TITLES, *map(_row, alike.values())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
    lines = ["  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in rows]
    holding, rejected = len(symmetries.holding), len(symmetries.rejected)
    head = f"{holding} symmetries hold, {rejected} rejected, on {symmetries.samples} samples"
    return "\n".join([head, *lines, *symmetries.notes])


def _pattern(symmetry: Symmetry) -> tuple[object, ...]:
    """What symmetries of like blocks have in common."""
    reason = symmetry.reason if symmetry.status == "rejected" else ""
    texts = (symmetry.name, _slices(symmetry.u), _slices(symmetry.w), reason)
    return (*(_NUMBER.sub("#", text) for text in texts), symmetry.kind, symmetry.unit, symmetry.status, symmetry.group)


def _row(alike: Sequence[Symmetry]) -> tuple[str, ...]:
    """Of the first, with the range of what differs."""
    first, more = alike[0], len(alike) - 1
    residuals = [s.residual for s in alike if s.residual is not None]
    return (
        first.name + (f" (and {more} alike)" if more else ""),
        first.kind,
        _range([float(s.units) for s in alike]) + (f" {first.unit}" if first.unit != "units" else ""),
        _slices(first.u),
        _slices(first.w),
        _range([charge for s in alike for charge in s.charges]),
        f"{max(residuals):.1e}" if residuals else "–",
        first.status + (f": {first.reason}" if first.reason else "") + _group(first),
    )


def _range(values: Sequence[float]) -> str:
    if not values:
        return ""
    low, high = f"{min(values):.4g}", f"{max(values):.4g}"
    return low if low == high else f"{low} … {high}"


def _group(symmetry: Symmetry) -> str:
    if not symmetry.group:
        return ""
    size = size_of(symmetry.coordinates, symmetry.blocks)
    return f"; {symmetry.group}, {size} × {size}" + (f" in each of {symmetry.blocks}" if symmetry.blocks > 1 else "")


def _slices(parts: tuple[Part, ...]) -> str:
    shown = ", ".join(p.slices for p in parts[:3])
    return shown + (f" and {len(parts) - 3} more" if len(parts) > 3 else "")
