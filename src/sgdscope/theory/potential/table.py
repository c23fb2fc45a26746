"""Tables: a landscape as plain rows, and as text a person can read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sgdscope.theory.potential.critical_point import CriticalPoint, written
from sgdscope.theory.potential.passages import Passage


def rows(points: Sequence[CriticalPoint], passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """One row of plain types for each critical point, with the barriers around each minimum."""
    found = []
    for point in points:
        barriers = []
        for passage in passages:
            for side, end in enumerate(passage.minima):
                if end == point:
                    other = passage.minima[1 - side]
                    barriers.append(
                        {
                            "to": None if other is None else list(other.position),
                            "over": list(passage.saddle.position),
                            "height": passage.barriers[side],
                        }
                    )
        found.append(
            {
                "kind": point.kind,
                "index": point.index,
                "position": list(point.position),
                "value": point.value,
                "curvatures": list(point.eigenvalues),
                "barriers": barriers,
            }
        )
    return found


def text(table: Sequence[dict[str, Any]]) -> str:
    """The rows in columns, barriers spelled out."""
    lines = [("kind", "position", "value", "curvatures", "barriers")]
    for row in table:
        barriers = [
            f"{barrier['height']:.6g} "
            + ("out of the box" if barrier["to"] is None else f"to {written(tuple(barrier['to']))}")
            for barrier in row["barriers"]
        ]
        curvatures = ", ".join(f"{curvature:.6g}" for curvature in row["curvatures"])
        place = written(tuple(row["position"]))
        lines.append((row["kind"], place, f"{row['value']:.6g}", curvatures, "; ".join(barriers)))
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)
