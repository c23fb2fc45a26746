import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence

import browser as chromium
import matplotlib
import pytest

from sgdscope.report import plane_chart
from sgdscope.report.chart import Chart

AXIS = [i / 6 for i in range(-6, 7)]
Losses = list[list[float | None]]


def grid(loss: Callable[[float, float], float | None], axis: Sequence[float] = AXIS) -> Losses:
    return [[loss(x, y) for x in axis] for y in axis]


BOWL = grid(lambda x, y: 0.01 + x * x + 3 * y * y)
CASES = {
    "bowl": BOWL,
    "negative": grid(lambda x, y: x - 2 * y),
    "flat": grid(lambda x, y: 2.0),
    "zero": grid(lambda x, y: 0.0),
    "holes": grid(lambda x, y: x * x if x + y < 0.7 else None),
    "unfinished": BOWL[:5],
    "not a number": grid(lambda x, y: math.nan if x > 0.5 else math.inf if y > 0.5 else y),
    "huge": grid(lambda x, y: 1e308 * x),
    "tiny": grid(lambda x, y: 5e-324 * (1 + round(x + 1))),
    "steep": grid(lambda x, y: 10.0 ** (300 * y)),
}


@pytest.mark.parametrize("losses", CASES.values(), ids=CASES.keys())
def test_drawings_are_well_formed_whatever_the_losses(losses: Losses) -> None:
    chart = plane_chart(AXIS, AXIS, losses, marks=[("present", 0, 0), ("", -0.5, 0.5)])
    for drawing in (chart.wide, chart.narrow):
        root = ElementTree.fromstring(drawing)
        assert root.get("role") == "img"
        assert root[0].text == "Loss on a plane around the weights"
        assert "nan" not in drawing.lower()
        assert "present" in drawing
    assert "at (0, 0)" in chart.description


def test_words_say_what_is_seen() -> None:
    chart = plane_chart(AXIS, AXIS, BOWL, marks=[("present", 0.5, 0)], labels=("u < v", "b"))
    assert chart.description == (
        "Losses at 169 of 169 points, from 0.01 to 4.01, logarithmic bands; lowest at (0, 0); "
        "present at (0.5, 0): 0.26 nearby."
    )
    assert "u &lt; v" in chart.wide
    assert "even bands" in plane_chart(AXIS, AXIS, CASES["negative"]).description
    assert "Losses at 65 of 169 points" in plane_chart(AXIS, AXIS, CASES["unfinished"]).description
    assert "not finite nearby" in plane_chart(AXIS, AXIS, CASES["holes"], marks=[("far", 1, 1)]).description


def test_more_ink_where_the_loss_is_higher() -> None:
    bands = [float(o) for o in re.findall(r"opacity: ([\d.]+)", plane_chart(AXIS, AXIS, BOWL).wide) if o != "0.55"]
    assert bands[:9] == sorted(bands[:9])
    assert len(set(bands)) == 9


def test_colours_belong_to_the_page_and_ids_to_the_figure() -> None:
    charts = [plane_chart(AXIS, AXIS, BOWL, marks=[("a", 0, 0)], name=name) for name in ("one", "two")]
    drawn = "".join(chart.wide + chart.narrow for chart in charts)
    assert set(re.findall(r"#[0-9a-fA-F]{6}\b", drawn)) == set()
    ids = re.findall(r'\bid="([^"]+)"', drawn)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', drawn)) <= set(ids)


def test_the_same_numbers_give_the_same_bytes_whatever_the_users_settings() -> None:
    plain = plane_chart(AXIS, AXIS, BOWL)
    with matplotlib.rc_context({"font.size": 40, "image.cmap": "jet", "contour.linewidth": 9}):
        assert plane_chart(AXIS, AXIS, BOWL) == plain


def test_messages() -> None:
    with pytest.raises(ValueError, match="expected at least two rising numbers as first coordinates"):
        plane_chart([0.0], AXIS, [])
    with pytest.raises(ValueError, match="expected at least two rising numbers as second coordinates"):
        plane_chart(AXIS, AXIS[::-1], BOWL)
    with pytest.raises(ValueError, match=r"expected at most 13 rows of 13 losses, got 13 rows of \[12\]"):
        plane_chart(AXIS, AXIS, [row[:-1] for row in BOWL])
    with pytest.raises(ValueError, match="got none: nothing can be drawn"):
        plane_chart(AXIS, AXIS, BOWL[:1])


@pytest.mark.browser
@pytest.mark.parametrize(("width", "kind"), [(1000, "wide"), (360, "narrow")])
def test_words_stay_inside_the_drawing(browser: chromium.Browser, width: int, kind: str) -> None:
    charts = [plane_chart(AXIS, AXIS, losses, marks=[("present", 0, 0), ("end", 1, -1)])
              for losses in (BOWL, CASES["flat"], CASES["steep"], CASES["huge"])]  # fmt: skip
    page = "".join(f'<p style="margin:0">{drawing_of(chart, kind)}</p>' for chart in charts)
    browser.screen(width)
    browser.open("about:blank")
    browser.run(f"document.body.style.margin = 0; document.body.innerHTML = {page!r};")
    outside = browser.run("""
        return [...document.querySelectorAll('svg')].map(s => {
          const box = s.getBoundingClientRect();
          return [...s.querySelectorAll('text')].filter(t => {
            const at = t.getBoundingClientRect();
            return Math.min(at.left - box.left, box.right - at.right, at.top - box.top, box.bottom - at.bottom) < -1;
          }).map(t => t.textContent);
        });
    """)
    assert outside == [[] for _ in charts]
    assert browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth;") <= 0


def drawing_of(chart: Chart, kind: str) -> str:
    return chart.wide if kind == "wide" else chart.narrow
