"""The page of a sweep: what it says of runs in every state, and what it does not let through."""

import re
from html.parser import HTMLParser

import pytest
from demo_runs import HOSTILE
from tests.sweep.demo_sweep import edge_of, make

from sgdscope.report import comparison
from sgdscope.report.comparison_axes import Axis, panels, phase_of, word
from sgdscope.report.comparison_lines import along_chart, course_chart
from sgdscope.report.comparison_plane import Spot, plane_chart
from sgdscope.sweep import Grid, Sweep
from sgdscope.sweep_records import write_manifest

PLANE = {"lr": [0.05, 0.2, 0.8], "batch-size": [4, 16, 64, 256]}
GRIDS = {
    "plane": PLANE, "seeds": {"lr": [0.1, 0.4], "batch-size": [4, 16], "seed": [0, 1, 2]},
    "along": {"lr": [0.05, 0.1, 0.4, 1.6]},
    "words": {"lr": [0.1, 0.4], "optimizer": ["sgd", "momentum", "adamw", "torch.optim:RMSprop"]},
    "three": {"lr": [0.1, 0.4], "batch-size": [4, 16], "width": [8, 16], "activation": ["tanh", "relu"]},
    "only_seeds": {"seed": [0, 1, 2]}, "one": {"lr": 0.1},
}  # fmt: skip


def ending(config):
    """Some of each kind."""
    if config["lr"] == 0.8 and config["batch_size"] == 4:
        return "diverged"
    if config["batch_size"] == 256:
        return {0.05: "waiting", 0.2: "failed", 0.8: "interrupted"}[config["lr"]]
    return edge_of(config)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return make(tmp_path_factory.mktemp("sweeps") / "a", Grid(PLANE), ending)


@pytest.fixture(scope="module")
def page(sweep):
    return comparison.render(sweep)


def titles(page):
    return re.findall(r'<title id="[^"]+">([^<]*)</title>', page)


def test_it_says_what_came_of_the_runs(page, sweep):
    assert "<title>a: 12 runs: " in page
    assert "12 runs over learning rate and batch size" in page
    assert "9 of 12 runs done" in page
    assert "1 diverged" in page
    assert titles(page)[:2] == ["Regimes over batch size and learning rate"] * 2
    assert "out of memory" in page
    assert "begun 2 times" in page
    for phase in ("below the edge", "at the edge", "diverged", "no result yet"):
        assert phase in page


def test_every_place_of_the_plane_is_described(sweep):
    (panel,) = panels(sweep)
    assert (panel.across.option, panel.up.option) == ("batch_size", "lr")
    chart = plane_chart(panel, "x")
    assert "batch size 4, learning rate 0.8: diverged" in chart.description
    assert "batch size 16, learning rate 0.8: at the edge at 1.00" in chart.description
    assert "batch size 256, learning rate 0.05: no result yet" in chart.description
    shown = re.findall(r"<text[^>]*font-weight[^>]*>\s*(\d\.\d\d)\s*</text>", chart.wide)
    numbers = [f"{float(cell.standing.edge):.2f}" for cell in sweep if phase_of(cell) in ("stable", "edge")]
    assert sorted(shown) == sorted(numbers)


def test_the_table_has_all_runs_and_leads_to_their_reports(page, sweep, tmp_path):
    links = re.findall(r'<a href="(cells/[^"]+)"', page)
    assert len(links) == sum((cell.path / "report.html").exists() for cell in sweep) > 8
    assert links[0] == "cells/lr%3D0.05%2Cbatch-size%3D4/report.html"
    elsewhere = comparison.write(sweep, tmp_path / "b" / "page.html").read_text()
    (first, *_) = re.findall(r'<a href="([^"]+report\.html)"', elsewhere)
    assert first.startswith("../")
    assert first.endswith(links[0])


def test_the_same_records_give_the_same_bytes(page, sweep):
    assert comparison.render(Sweep.open(sweep.path)) == page


@pytest.mark.parametrize("name", GRIDS)
def test_any_options_may_vary(tmp_path, name):
    found = make(tmp_path / "a", Grid(GRIDS[name]))
    page = comparison.render(found)
    expected = {
        "plane": {"Regimes over batch size and learning rate"},
        "seeds": {"Regimes over batch size and learning rate"},
        "along": {"Where runs ended over learning rate"},
        "words": {"Regimes over learning rate and optimizer"},
        "three": {f"Regimes over batch size and learning rate, width {w}, activation {a}" for w in (8, 16)
                  for a in ("tanh", "relu")},
        "only_seeds": {"Where runs ended over seed"},
        "one": set(),
    }[name]  # fmt: skip
    assert {title for title in titles(page) if not title.startswith("Course")} == expected
    assert any(title.startswith("Course of the runs") for title in titles(page))
    assert page.count("</svg>") == page.count("<svg ")


def test_seeds_share_a_place(tmp_path):
    def some_diverge(config):
        return "diverged" if config["lr"] == 0.4 and config["seed"] == 1 else 1.0 + 0.02 * config["seed"]

    found = make(tmp_path / "a", Grid(GRIDS["seeds"]), some_diverge)
    (panel,) = panels(found)
    spots = {place: Spot.of(cells) for place, cells in panel.groups().items()}
    assert len(spots) == 4
    quiet, divided = spots[0, 0], spots[0, 1]
    assert (quiet.phase, quiet.divided) == ("edge", "")
    assert quiet.edge == pytest.approx(sum(float(c.standing.edge) for c in panel.groups()[0, 0]) / 3)
    assert (divided.phase, divided.divided) == ("edge", "✕ 1 of 3")
    assert "share a place" in comparison.render(found)


def test_a_line_has_the_name_of_its_value_once(tmp_path):
    found = make(tmp_path / "a", Grid({"lr": [0.1, 0.4], "seed": [0, 1, 2]}))
    (panel,) = panels(found)
    chart = course_chart(panel.cells, panel.across, "Course", "x")
    assert len(re.findall(r">\s*lr 0\.1\s*<", chart.wide)) == 1
    along = along_chart(panel, "y")
    assert "batch sharpness" in along.wide
    assert "learning rate 0.1: below the edge at" in along.description


def test_sweeps_that_have_just_begun(tmp_path):
    waiting = make(tmp_path / "a", Grid(PLANE), lambda config: "waiting", status="running")
    page = comparison.render(waiting)
    assert "Nothing to draw yet." in page
    assert "still running: this page shows the records so far" in page
    assert page.count("waiting") >= 12
    assert "0 of 12 runs done" in page


def test_runs_far_beyond_the_scale_and_with_one_reading(tmp_path):
    found = make(tmp_path / "a", Grid(PLANE), lambda config: config["lr"] * 1e9, steps=8)
    page = comparison.render(found)
    assert "above the edge" in page
    found = make(tmp_path / "b", Grid(GRIDS["along"]), lambda config: config["lr"] * 1e300)
    assert "<svg" in comparison.render(found)


def test_with_momentum_readings_are_followed_and_not_the_streamed_ratio(tmp_path):
    found = make(tmp_path / "a", Grid({"lr": [0.1, 0.4], "optimizer": "momentum"}), lambda config: 0.5, momentum=0.9)
    (panel,) = panels(found)
    chart = course_chart(panel.cells[:1], panel.across, "Course", "x")
    last = float(found.cells[0].positions["batch_sharpness"])
    assert last == pytest.approx(5.0, rel=0.05)  # of the small-batch threshold 2 (1 − β) / lr, ten times smaller
    assert "x-wide" in chart.wide


class Strict(HTMLParser):
    """Notes every element, and attributes that could run something."""

    def __init__(self):
        super().__init__()
        self.tags, self.bad = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.bad += [name for name, value in attributes if name.startswith("on") or "javascript:" in (value or "")]


def test_hostile_names_stay_text(tmp_path):
    found = make(tmp_path / "a", Grid({"target": [HOSTILE, "$x^2$"], "ignore-columns": [[HOSTILE], ["b"]],
                                       "data": "table", "data-file": "t.csv"}), lambda config: "failed"
                 if config["target"] == HOSTILE else 0.9)  # fmt: skip
    manifest = {**found.manifest, "command": [HOSTILE], "created": HOSTILE, "versions": {HOSTILE: HOSTILE},
                "status": HOSTILE, "common": {**found.manifest["common"], HOSTILE: HOSTILE}}  # fmt: skip
    write_manifest(found.path, manifest)
    for cell in found:
        (cell.path / "cell.json").write_text('{"status": "failed", "reason": "<script>alert(3)</script>"}')
    again = Sweep.open(found.path)
    assert again.varying == ("target", "ignore_columns")
    parser = Strict()
    parser.feed(comparison.render(again))
    assert parser.bad == []
    assert not {"script", "img", "iframe", "object", "form"} & set(parser.tags)


def test_axes():
    class Cell:
        def __init__(self, value):
            self.config = {"lr": value}

    def axis(*values):
        return Axis.of("lr", [Cell(value) for value in values])

    assert (axis(0.4, 0.1, 0.2).values, axis(0.4, 0.1, 0.2).kind) == ((0.1, 0.2, 0.4), "logarithmic")
    assert axis(0.1, 0.2).kind == "linear"
    assert axis(0, 1, 5).kind == "linear"
    assert axis("b", "a", "b").values == ("b", "a")
    assert axis(["x"], ["y", "z"]).words == ["x", "y+z"]
    borders = axis(1, 10, 1000).borders()
    assert borders == pytest.approx([-0.5, 0.5, 2.0, 4.0])
    assert axis(3).borders() == [2.5, 3.5]
    assert [word(value) for value in (0.123456, None, "torch.optim:Adam", "/a/b/c.csv", 1e-7, True)] == [
        "0.123", "default", "Adam", "c.csv", "1e-07", "True",
    ]  # fmt: skip
