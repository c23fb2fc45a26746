"""Picture chart: a `Picture` drawn for a page, in the page's colours."""

from __future__ import annotations

from dataclasses import replace

from matplotlib.axes import Axes

from sgdscope.picture import Picture
from sgdscope.report.chart import Canvas, Chart, drawn_twice
from sgdscope.report.draw import draw
from sgdscope.report.svg import COLOURS

ROLES = {
    "first": COLOURS["sharpness"], "second": COLOURS["full"], "third": COLOURS["streamed"], "ink": COLOURS["ink"],
    "soft": COLOURS["soft"], "grid": COLOURS["grid"],
}  # fmt: skip
_LETTERS = 13.5
_AXIS, _ROW = 60.0, 21.0
"""Points under the axes for their names, and for each row of the legend."""


def picture_chart(picture: Picture, name: str) -> Chart:
    """The picture on a wide and on a narrow canvas; its title is left to the page. Ids in it begin with `name`."""
    entries = len(picture.legend) if len(picture.legend) > 1 else 0

    def canvas(width: float, height: float, columns: int) -> Canvas:
        left, right, top = 80, 16, 14
        below = _AXIS + _ROW * -(-entries // columns)
        whole = top + height + below
        return Canvas(width, whole, (left / width, below / whole, 1 - (left + right) / width, height / whole))

    wide, narrow = canvas(760, 330, 2), canvas(420, 280, 1)

    def drawn(axes: Axes, is_wide: bool) -> None:
        height, columns = (330, 2) if is_wide else (280, 1)
        draw(axes, replace(picture, title=""), ROLES, columns=columns, size=_LETTERS, below=_AXIS / height)

    return drawn_twice(name, picture.title, picture.title, wide, narrow, drawn)
