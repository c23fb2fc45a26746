"""Picture: what a plot shows, as plain numbers; `report.draw` makes a file of it. Loads no matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

KINDS = (".png", ".svg", ".pdf")
"""Endings of files that pictures are drawn to."""

Role = Literal["first", "second", "third", "ink", "soft"]
"""Colour of a series, by the part it plays: the first three are the subjects, ink and soft are for references."""


def check_kind(path: Path) -> None:
    """Raises ValueError unless the path ends as one of the kinds of file that pictures are drawn to."""
    if path.suffix.lower() not in KINDS:
        raise ValueError(f"expected a file that ends in {', '.join(KINDS[:-1])} or {KINDS[-1]}, got {path.name!r}")


@dataclass(frozen=True)
class Line:
    """A curve through points; `dashed` for predictions beside measurements."""

    x: npt.ArrayLike
    y: npt.ArrayLike
    label: str = ""
    role: Role = "first"
    dashed: bool = False


@dataclass(frozen=True)
class Band:
    """The area between two curves."""

    x: npt.ArrayLike
    low: npt.ArrayLike
    high: npt.ArrayLike
    label: str = ""
    role: Role = "first"


@dataclass(frozen=True)
class Points:
    """Measured points, with standard errors if they are known."""

    x: npt.ArrayLike
    y: npt.ArrayLike
    error: npt.ArrayLike | None = None
    label: str = ""
    role: Role = "first"


@dataclass(frozen=True)
class Mark:
    """A vertical line at a place that has a name."""

    x: float
    label: str
    role: Role = "soft"


@dataclass(frozen=True)
class Field:
    """Cells of a plane in shades of one colour, by which band their value is in.

    Attributes:
        x: borders of the columns, ascending, one more than columns.
        y: borders of the rows, likewise; or of shape (rows + 1, columns + 1), if they change from column to column.
        values: of shape (rows, columns); NaN leaves a cell blank.
        borders: of the bands, ascending, one more than bands; values beyond the ends count to the outermost.
        labels: one for each band.
    """

    x: npt.ArrayLike
    y: npt.ArrayLike
    values: npt.ArrayLike
    borders: Sequence[float]
    labels: Sequence[str]
    role: Role = "first"

    def __post_init__(self) -> None:
        rows, columns = np.shape(self.values)
        level, curved = (rows + 1,), (rows + 1, columns + 1)
        if np.shape(self.x) != (columns + 1,) or np.shape(self.y) not in (level, curved):
            raise ValueError(
                f"expected borders of {rows} rows and {columns} columns, one more than each, got shapes "
                f"{np.shape(self.y)} and {np.shape(self.x)}"
            )
        if len(self.borders) != len(self.labels) + 1:
            raise ValueError(f"expected a border more than bands, got {len(self.borders)} and {len(self.labels)}")


@dataclass(frozen=True)
class Words:
    """Words that begin at a place."""

    x: float
    y: float
    label: str
    role: Role = "ink"


Shape = Line | Band | Points | Mark | Field | Words


@dataclass(frozen=True)
class Picture:
    """One pair of axes.

    Attributes:
        title: what it shows, as a sentence that says the finding.
        across: name of the horizontal axis, with unit.
        up: name of the vertical axis.
        shapes: what is drawn, later ones above earlier ones.
        log_across, log_up: logarithmic axes; values that are not positive are then left out.
        span_across, span_up: limits of the axes; None for those of the data.

    Raises ValueError for a picture without shapes or with series of unequal lengths.
    """

    title: str
    across: str
    up: str
    shapes: Sequence[Shape]
    log_across: bool = False
    log_up: bool = False
    span_across: tuple[float, float] | None = None
    span_up: tuple[float, float] | None = None

    @property
    def legend(self) -> tuple[str, ...]:
        """Labels that a legend has to explain, each once."""
        found: list[str] = []
        for shape in self.shapes:
            if isinstance(shape, Field):
                found += shape.labels
            elif not isinstance(shape, Mark | Words) and shape.label:
                found.append(shape.label)
        return tuple(dict.fromkeys(found))

    def __post_init__(self) -> None:
        object.__setattr__(self, "shapes", tuple(self.shapes))
        if not self.shapes:
            raise ValueError(f"expected something to draw in {self.title!r}, got no shapes")
        for shape in self.shapes:
            if isinstance(shape, Mark | Field | Words):
                continue
            others = (shape.low, shape.high) if isinstance(shape, Band) else (shape.y,)
            sizes = {np.shape(series) for series in (shape.x, *others)}
            if len(sizes) != 1 or len(sizes.pop()) != 1:
                raise ValueError(f"expected series of one length in {shape.label or self.title!r}")
