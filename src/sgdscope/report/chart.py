"""Chart: a picture drawn twice, for wide and for narrow pages, and the dress that axes wear in all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, Locator, NullLocator

from sgdscope.report import svg
from sgdscope.report.markup import Html, text
from sgdscope.report.svg import COLOURS

LETTER = 8.4
"""Width of a bold letter, in points: what room a name takes."""


@dataclass(frozen=True)
class Chart:
    """One chart: two drawings of the same data, and what it shows in words."""

    name: str
    description: str
    wide: Html
    narrow: Html


class Canvas(NamedTuple):
    """Where a picture is drawn.

    Attributes:
        width, height: of the drawing, in points.
        axes: left, bottom, width and height of the axes, as shares of the drawing.
    """

    width: float
    height: float
    axes: tuple[float, float, float, float]


def drawn_twice(
    name: str, title: str, description: str, wide: Canvas, narrow: Canvas, draw: Callable[[Axes, bool], None]
) -> Chart:
    """The chart that ``draw(axes, wide)`` makes on each canvas; ids in it begin with `name`."""
    drawings = []
    with svg.style():
        for canvas in (wide, narrow):
            made = svg.figure(canvas.width, canvas.height)
            axes = made.add_axes(canvas.axes)
            axes.patch.set_visible(False)
            draw(axes, canvas is wide)
            kind = "wide" if canvas is wide else "narrow"
            drawings.append(svg.embed(made, f"{name}-{kind}", title, description))
    return Chart(name, description, *drawings)


def dress(
    axes: Axes, across: str = "", up: str = "", *, sides: Collection[str] = ("bottom",),
    grid: Literal["x", "y", "both"] | None = "y",
) -> None:  # fmt: skip
    """Quiet axes: a frame on the `sides` named, grid lines behind the data, no tick marks, and the axes' names."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in sides)
        spine.set_color(COLOURS["grid"])
    if grid is not None:
        axes.grid(axis=grid, color=COLOURS["grid"], lw=0.8, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6, which="both")
    axes.set_xlabel(across, labelpad=2)
    axes.set_ylabel(up, labelpad=5)


def ticks(axis: Axis, places: Locator, words: Callable[[float], str]) -> None:
    """Major ticks at `places`, named by `words`; no minor ones."""
    axis.set_major_locator(places)
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda at, _: words(at)))


def number(value: float) -> str:
    """A tick of a linear axis: four digits, with a true minus sign."""
    return f"{value:.4g}".replace("-", "−")


def step_words(largest: float) -> Callable[[float], str]:
    """Words for ticks: ``20k`` rather than 20,000 where steps are that many."""
    for least, unit, letter in ((2e9, 1e9, "G"), (2e6, 1e6, "M"), (1e4, 1e3, "k")):
        if largest >= least:
            return lambda x: f"{x / unit:g}{letter if x else ''}"
    return lambda x: f"{x:,.0f}"


def apart(places: Sequence[float], gap: float, top: float = 0.98) -> list[float]:
    """Ascending places moved up until neighbours lie `gap` apart, and down together where the last would pass `top`."""
    moved: list[float] = []
    for wanted in places:
        moved.append(max(wanted, moved[-1] + gap) if moved else wanted)
    over = max(moved[-1] - top, 0.0) if moved else 0.0
    return [place - over for place in moved]


def figure(chart: Chart, words: str) -> Html:
    """Both drawings of a chart over their caption; the page shows the one that fits."""
    below = f"<figcaption>{text(words, 1000)}</figcaption>" if words else ""
    return Html(f'<figure><div class="wide">{chart.wide}</div><div class="narrow">{chart.narrow}</div>{below}</figure>')
