"""Chart: both drawings bear their names, and axes wear one dress in all of them."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from sgdscope.report import svg
from sgdscope.report.chart import Canvas, drawn_twice, dress, number, ticks
from sgdscope.report.svg import COLOURS

WIDE, NARROW = Canvas(800, 300, (0.1, 0.2, 0.8, 0.7)), Canvas(400, 200, (0.2, 0.2, 0.7, 0.7))


def test_both_drawings_on_their_canvases() -> None:
    seen = []
    chart = drawn_twice("x", "Title", "Words", WIDE, NARROW, lambda axes, wide: seen.append(wide))
    assert seen == [True, False]
    for drawing, canvas, kind in ((chart.wide, WIDE, "wide"), (chart.narrow, NARROW, "narrow")):
        root = ElementTree.fromstring(drawing)
        assert root.get("viewBox") == f"0 0 {canvas.width} {canvas.height}"
        assert (root[0].text, root[1].text) == ("Title", "Words")
        assert all(name.startswith(f"x-{kind}-") for name in re.findall(r'\bid="([^"]+)"', drawing))


def test_the_settings_of_the_page_hold_while_drawing_only() -> None:
    import matplotlib

    sizes = []
    drawn_twice("x", "T", "W", WIDE, NARROW, lambda *_: sizes.append(matplotlib.rcParams["font.size"]))
    assert sizes == [svg.STYLE["font.size"]] * 2
    assert matplotlib.rcParams["font.size"] != svg.STYLE["font.size"]


@pytest.fixture
def axes() -> Axes:
    return Figure().add_axes((0.2, 0.2, 0.7, 0.7))


@pytest.mark.parametrize("sides", [("bottom",), ("bottom", "left"), ("left", "right", "bottom", "top")])
def test_a_frame_on_the_sides_named(axes: Axes, sides: tuple[str, ...]) -> None:
    dress(axes, "step", "loss", sides=sides)
    assert {side for side, spine in axes.spines.items() if spine.get_visible()} == set(sides)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss")
    assert {tick.tick1line.get_markersize() for tick in (*axes.xaxis.get_major_ticks(), *axes.yaxis.get_major_ticks())
            } == {0}  # fmt: skip


@pytest.mark.parametrize(("grid", "lines"), [("x", (1, 0)), ("y", (0, 1)), ("both", (1, 1)), (None, (0, 0))])
def test_grid_lines_across_or_up(axes: Axes, grid: str | None, lines: tuple[int, int]) -> None:
    dress(axes, grid=grid)  # type: ignore[arg-type]
    assert tuple(axis.get_major_ticks()[0].gridline.get_visible() for axis in (axes.xaxis, axes.yaxis)) == lines
    shown = [
        axis.get_major_ticks()[0].gridline for axis, has in zip((axes.xaxis, axes.yaxis), lines, strict=True) if has
    ]
    assert all(line.get_color() == COLOURS["grid"] for line in shown)


def test_ticks_have_words_and_no_small_ones_between(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_xlim(1, 100)
    ticks(axes.xaxis, FixedLocator([2, 50]), lambda b: f"{b:.0f} samples")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2 samples", "50 samples"]
    assert axes.xaxis.get_minorticklocs().tolist() == []
    assert [number(x) for x in (-0.5, 0.1 + 0.2, 12345.678)] == ["−0.5", "0.3", "1.235e+04"]
