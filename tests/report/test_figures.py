import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from demo_runs import CURVATURE, LR, SITUATIONS, make, manifest

from sgdscope.estimate import Estimate
from sgdscope.records import Run, RunWriter, Series, open_run
from sgdscope.regime import EdgeUnits
from sgdscope.report import svg
from sgdscope.report.chart import Chart
from sgdscope.report.figures import CEILING, caption, learning_rate_changes, loss_chart, stability_chart
from sgdscope.report.traces import thinned, trace


def stability(run: Run) -> Chart | None:
    return stability_chart(run, EdgeUnits.of(run), run.standing())


def series(*estimates: Estimate, name: str = "x") -> Series:
    return Series.of(name, [(i, 0.0, e) for i, e in enumerate(estimates)])


@pytest.mark.parametrize("situation", SITUATIONS)
def test_charts_are_well_formed_for_every_situation(tmp_path: Path, situation: str) -> None:
    run = make(tmp_path, situation)
    for chart in (stability(run), loss_chart(run, EdgeUnits.of(run))):
        for drawing in () if chart is None else (chart.wide, chart.narrow):
            root = ElementTree.fromstring(drawing)
            assert root.get("role") == "img"
            assert root[0].tag.endswith("title")
            assert root[0].text
            assert root[1].tag.endswith("desc")
            assert root[1].text


def test_nothing_measured_gives_no_chart(tmp_path: Path) -> None:
    run = make(tmp_path, "empty")
    assert stability(run) is None
    assert loss_chart(run, EdgeUnits.of(run)) is None


def test_colours_belong_to_the_page_and_ids_are_unique(tmp_path: Path) -> None:
    run = make(tmp_path, "at_the_edge")
    charts = [stability(run), loss_chart(run, EdgeUnits.of(run))]
    drawn = "".join(c.wide + c.narrow for c in charts if c is not None)
    assert set(re.findall(r"#[0-9a-fA-F]{6}\b", drawn)) == set()
    for role in ("sharpness", "full", "streamed", "edge", "ink", "grid"):
        assert f"var(--{role})" in drawn
    ids = re.findall(r'\bid="([^"]+)"', drawn)
    assert len(ids) == len(set(ids))
    references = re.findall(r'(?:href="#|url\(#)([^")]+)', drawn)
    assert references
    assert set(references) <= set(ids)


def test_the_same_records_give_the_same_bytes_whatever_the_users_settings(tmp_path: Path) -> None:
    run = make(tmp_path, "at_the_edge")
    plain = stability(run)
    with matplotlib.rc_context({"font.size": 40, "lines.linewidth": 9, "axes.grid": True}):
        assert stability(run) == plain
        assert matplotlib.rcParams["font.size"] == 40


def test_another_process_draws_the_same_bytes(tmp_path: Path) -> None:
    run = make(tmp_path, "changing_rate")
    code = (
        "import sys; from sgdscope.records import open_run; from sgdscope import report\n"
        "sys.stdout.buffer.write(report.render(open_run(sys.argv[1])).encode())"
    )
    pages = [subprocess.run([sys.executable, "-c", code, run.path], capture_output=True, check=True) for _ in range(2)]
    assert pages[0].stdout == pages[1].stdout
    assert len(pages[0].stdout) > 10_000


def test_every_curve_is_named_where_it_ends(tmp_path: Path) -> None:
    chart = stability(make(tmp_path, "at_the_edge"))
    assert chart is not None
    for drawing in (chart.wide, chart.narrow):
        for words in ("edge ratio", "batch sharpness", "λ_max", "edge: 2 / lr", "step"):
            assert words in drawing


def test_each_reading_is_held_against_the_rate_of_its_own_step(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run", manifest()) as writer:
        for step, lr in ((0, 0.5), (10, 0.25)):
            writer.append(step, Estimate("learning_rate", lr))
            writer.append(step + 5, Estimate("batch_sharpness", 2 / lr, 0.1 / lr, residual=0.2 / lr, unit=CURVATURE))
    run = open_run(tmp_path / "run")
    drawn = trace(run["batch_sharpness"], EdgeUnits.of(run))
    assert drawn.values.tolist() == [1.0, 1.0]
    assert drawn.sampling.tolist() == pytest.approx([0.1, 0.1])  # two standard errors
    assert drawn.solver.tolist() == pytest.approx([0.1, 0.1])
    assert learning_rate_changes(run["learning_rate"]) == [(10, 0.5, 0.25)]


def test_changes_of_the_rate_are_marked_and_a_schedule_is_told(tmp_path: Path) -> None:
    chart = stability(make(tmp_path, "changing_rate"))
    assert chart is not None
    assert "lr 0.7 → 0.35" in chart.wide
    assert "lr 0.35 → 0.5" in chart.wide
    run = make(tmp_path, "schedule")
    chart = stability(run)
    assert chart is not None
    assert "lr 0." not in chart.wide
    assert "schedule from 0.7" in caption(chart, run, EdgeUnits.of(run))


def test_readings_beyond_the_border_are_counted(tmp_path: Path) -> None:
    run = make(tmp_path, "diverged")
    chart = stability(run)
    assert chart is not None
    assert "3 readings lie beyond the upper border" in caption(chart, run, EdgeUnits.of(run))
    assert max(trace(run["edge_ratio"], factor=0.5).values) > CEILING


def test_only_readings_that_fell_short_are_hollow(tmp_path: Path) -> None:
    run = make(tmp_path, "at_the_edge")
    drawn = trace(run["lambda_max"], EdgeUnits.of(run))
    assert drawn.flagged.sum() == 1  # the failed one has no value, its neighbour at the same step is fine
    chart = stability(run)
    assert chart is not None
    assert "Hollow marks" in caption(chart, run, EdgeUnits.of(run))


def test_thinning_keeps_ends_mean_extremes_and_errors() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(3, 1, 10_000)
    whole = trace(series(*[Estimate("x", float(v), 0.5, residual=0.1) for v in values]))
    few = thinned(whole, 500)
    assert len(few) == 500
    assert (few.steps[0], few.values[0], few.half[0]) == (whole.steps[0], whole.values[0], whole.half[0])
    assert (few.steps[-1], few.values[-1]) == (whole.steps[-1], whole.values[-1])
    assert few.low.min() == values.min()
    assert few.high.max() == values.max()
    counts = np.full(498, 9998 / 498)
    assert few.values[1:-1] @ counts / counts.sum() == pytest.approx(values[1:-1].mean(), abs=5e-3)
    # averaging n readings divides the sampling error by √n and leaves the solver's residual
    assert few.sampling[1:-1].mean() == pytest.approx(2 * 0.5 / np.sqrt(9998 / 498), rel=0.01)
    assert np.allclose(few.solver, 0.1)
    assert (np.diff(few.steps) > 0).all()


def test_thinning_never_hides_a_flag_and_leaves_short_series_alone() -> None:
    estimates = [Estimate("x", 1.0) for _ in range(100)]
    estimates[37] = Estimate("x", 1.0, status="not_converged", reason="budget", residual=1.0)
    whole = trace(series(*estimates))
    assert thinned(whole, 10).flagged.sum() == 1
    assert thinned(whole, 100) is whole
    with pytest.raises(ValueError, match="expected at least 3 points, got 2"):
        thinned(whole, 2)


@pytest.mark.parametrize("count", [4, 5, 7, 11, 101])
@pytest.mark.parametrize("most", [3, 4])
def test_thinning_at_small_sizes(count: int, most: int) -> None:
    few = thinned(trace(series(*[Estimate("x", float(i)) for i in range(count)])), most)
    assert len(few) == most
    assert few.values[0] == 0
    assert few.values[-1] == count - 1


def test_extreme_numbers_are_drawn(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run", manifest()) as writer:
        writer.append(0, Estimate("learning_rate", LR))
        for step in (0, 3, 2**62):
            for name in ("edge_ratio", "batch_sharpness", "lambda_max", "loss", "full_loss"):
                for value in (1e308, -1e308, 1e-320, 0.0):
                    writer.append(step, Estimate(name, value, abs(value)))
    run = open_run(tmp_path / "run")
    for chart in (stability(run), loss_chart(run, EdgeUnits.of(run))):
        assert chart is not None
        ElementTree.fromstring(chart.wide)


def test_a_positive_loss_is_drawn_on_a_logarithmic_scale_and_others_are_not(tmp_path: Path) -> None:
    for name, losses, scale in (
        ("a", (2.0, 0.01), "logarithmic"),
        ("b", (2.0, 0.0), "linear"),
        ("c", (2, 1), "linear"),
    ):
        with RunWriter.create(tmp_path / name, manifest()) as writer:
            for step, loss in enumerate(losses):
                writer.append(step, Estimate("loss", loss))
        run = open_run(tmp_path / name)
        chart = loss_chart(run, EdgeUnits.of(run))
        assert chart is not None
        assert f"{scale} scale" in chart.description


def test_embedding_keeps_nothing_of_matplotlib_metadata() -> None:
    with svg.style():
        made = svg.figure(100, 50)
        made.text(0.1, 0.1, "a < b & $x$", color=svg.COLOURS["ink"])
        drawn = svg.embed(made, "name", 'a "title" <b>', "words")
    assert "metadata" not in drawn
    assert "DOCTYPE" not in drawn
    assert "font-size: 13.5px" in drawn
    assert "DejaVu" not in drawn
    root = ElementTree.fromstring(drawn)
    assert root[0].text == 'a "title" <b>'
    assert "a < b & $x$" in "".join(root.itertext())
