"""What-if map: drawn for every shape of map, in the page's colours, with a caption that says where the run stands."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
from demo_runs import edge_map, make

from sgdscope.edge_map import EdgeMap, Passed
from sgdscope.report.edge_map_figure import caption, edge_map_chart
from sgdscope.report.page import render

PATHS = {
    "none": (),
    "the edge came down": (Passed(0, 0.7, 8, 30.0), Passed(50, 0.7, 8, 0.6)),
    "the edge rose": (Passed(0, 0.7, 8, 0.2),),
    "the run moved": (Passed(0, 0.1, 8, 0.6), Passed(9, 0.7, 32, 0.9), Passed(20, 0.7, 8, 0.6)),
    "from another world": (Passed(0, 1e-9, 10**6, 1e9),),
}
MAPS = {
    "usual": edge_map(),
    "one size": edge_map((8,)),
    "two sizes": edge_map((4, 8)),
    "tiny rates": edge_map(lr=1e-7),
    "far above": edge_map(lr=1e4),
    "own size off the map": edge_map(batch_size=100),
}


def words(drawing: str) -> list[str]:
    return [t.text or "" for t in ElementTree.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", MAPS)
def test_every_map_is_drawn(name: str, path: str) -> None:
    found = EdgeMap(MAPS[name], PATHS[path])
    chart = edge_map_chart(found)
    for drawing in (chart.wide, chart.narrow):
        root = ElementTree.fromstring(drawing)
        assert root[0].text == "What-if map"
        assert "NaN" not in drawing
        assert "inf" not in drawing
        assert set(re.findall(r"#[0-9a-fA-F]{6}\b", drawing)) == set()
        assert {"safe", "unsafe: the loss spikes", "edge", "batch size"} <= set(words(drawing))
    assert all(caption(found))


def test_what_a_tired_reader_finds() -> None:
    found = EdgeMap(MAPS["usual"])
    chart = edge_map_chart(found)
    assert "this run: batch 8, lr 0.7" in words(chart.wide)
    assert "this run" in words(chart.narrow)
    assert {"lr × 2", "batch ÷ 2", "1", "64"} <= set(words(chart.wide))
    assert "var(--good)" in chart.wide
    assert "var(--bad)" in chart.wide
    assert "learning rate 0.7 at batch size 8, unsafe" in chart.description
    assert caption(found)[0] == (
        "At batch size 8 the edge is at a learning rate of 0.50 ± 0.01; this run's 0.7 stands at 1.41 ± 0.03 of it. "
        "At this learning rate a batch size of 32 or 64 is safe, of those measured."
    )


def test_a_small_learning_rate_keeps_its_digits() -> None:
    settings = {**MAPS["usual"].settings, "lr": 7e-5, "threshold_times_lr": 2e-4}
    small = replace(MAPS["usual"], value=tuple(1e-4 * e for e in MAPS["usual"].value or ()), settings=settings,
                    standard_error=tuple(1e-4 * e for e in MAPS["usual"].standard_error or ()))  # type: ignore  # fmt: skip
    assert "a learning rate of 5e-05 ± 1e-06; this run's 7e-05" in caption(EdgeMap(small))[0]


def test_the_way_is_drawn_where_there_was_one() -> None:
    came_down = EdgeMap(MAPS["usual"], PATHS["the edge came down"])
    assert "edge 30 at step 0 ↑" in words(edge_map_chart(came_down).wide)
    assert "Dotted: the way of the edge" in caption(came_down)[1]
    assert "Small dots" not in caption(came_down)[1]
    assert "Small dots: where the run was before." in caption(EdgeMap(MAPS["usual"], PATHS["the run moved"]))[1]
    plain = EdgeMap(MAPS["usual"], (Passed(0, 0.7, 8, 0.51),))
    assert not any("at step" in word for word in words(edge_map_chart(plain).wide))


def test_doubts_are_told() -> None:
    coarse = EdgeMap(replace(MAPS["usual"], status="few_samples", reason="standard error 4 %"))
    assert "Coarser than asked for: standard error 4 %." in caption(coarse)[1]
    settings = {**MAPS["usual"].settings, "threshold": "2 (1 − β) / lr"}
    assert "larger ones bear more" in caption(EdgeMap(replace(MAPS["usual"], settings=settings)))[1]
    assert "none of the batch sizes measured is safe" in caption(EdgeMap(MAPS["far above"]))[0]


def test_on_the_page(tmp_path: Path) -> None:
    run = make(tmp_path, "mapped")
    page = render(run)
    assert page.count('<section id="edge-map"') == 1
    assert page.index('id="edge-map"') < page.index('id="stability"')
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert page == render(run)
    assert '<section id="edge-map"' not in render(make(tmp_path, "at_the_edge"))
