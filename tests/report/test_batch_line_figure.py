"""Losses along a batch's gradient in the report: three curves, marks in the right places, the finding first."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from demo_runs import line, make, manifest, step

from sgdscope.estimate import Estimate
from sgdscope.gradient_steps import BatchLine, FullLossStep
from sgdscope.records import Run, RunWriter, open_run
from sgdscope.report import batch_line_figure, sections
from sgdscope.report.evidence import readings
from sgdscope.report.glossary import GLOSSARY
from sgdscope.report.page import render


def recorded(folder: Path, *rows: Estimate) -> Run:
    with RunWriter.create(folder, manifest()) as writer:
        for row in rows:
            writer.append(100, row)
    return open_run(folder)


def words(drawing: str) -> set[str]:
    return {t.text or "" for t in ElementTree.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text")}


def drawn(folder: Path, **options: float | None) -> tuple[set[str], str]:
    found = BatchLine.of(recorded(folder, line(**options)))  # type: ignore[arg-type]
    assert found is not None
    chart = batch_line_figure.batch_line_chart(found)
    for drawing in (chart.wide, chart.narrow):
        assert "NaN" not in drawing
        assert "inf" not in drawing
        assert set(re.findall(r"#[0-9a-fA-F]{6}\b", drawing)) == set()
    return words(chart.wide), batch_line_figure.caption(found, None)[0]


def test_curves_are_named_where_they_end_and_their_lowest_points_marked(tmp_path: Path) -> None:
    shown, said = drawn(tmp_path / "a")
    assert {"this batch", "unseen batches", "all data", "learning rate", "2.6", "0.50"} <= shown
    assert said == (
        "The batch followed here is itself lowest at 2.6 of the learning rate, with 40 % of its loss left; from 0.50 "
        "on that is at the cost of the other data."
    )


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"batch": 0.2, "full": 0.1, "reach": 0.4}, "learning rate →"),  # beyond the line
        ({"batch": 0.2, "full": 0.1, "reach": 1.25}, "learning rate"),  # the batch's curve leaves the picture
        ({"batch": 60.0, "full": 0.3, "reach": 120.0}, "learning rate"),
        ({"lr": None}, ""),
    ],
)
def test_wherever_the_learning_rate_lies(tmp_path: Path, options: dict[str, float], named: str) -> None:
    shown, said = drawn(tmp_path / "a", **options)
    assert {word for word in shown if "learning rate" in word and "step" not in word} == ({named} if named else set())
    assert "this batch" in shown
    assert ("(learning rate of SGD)" in said) == (not named)


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ((0.4, 0.6, 0.45, 0.55) * 4, "0.50 ± 0.02 of the learning rate, as where a run has settled (½)."),
        ((0.9, 1.1, 0.95, 1.05), "1.00 ± 0.05 of the learning rate: more than ½, as where a run still makes progress."),
        ((0.2, 0.3, 0.25, 0.25), "0.25 ± 0.02 of the learning rate: less than the ½ of a settled run whose batches are "
                                 "drawn independently."),
        ((0.7,), "0.70 ± 0.05 of the learning rate; a settled run has ½ in the mean."),
    ],
)  # fmt: skip
def test_the_finding_comes_first(tmp_path: Path, ratios: tuple[float, ...], said: str) -> None:
    with RunWriter.create(tmp_path / "a", manifest()) as writer:
        for index, ratio in enumerate(ratios):
            writer.append(100 + index, step(ratio))
    run = open_run(tmp_path / "a")
    lead, more = batch_line_figure.caption(None, FullLossStep.of(run))
    assert lead == f"Along a batch's gradient the loss of all data is lowest at {said}"
    assert more.startswith(f"Mean over {len(ratios)} readings." if len(ratios) > 1 else "From one reading")
    assert "2301.02312, Sec. 3" in sections.along_gradient(run)


def test_with_momentum_the_claim_is_one_of_small_learning_rates(tmp_path: Path) -> None:
    rows = [step(3 + 0.1 * (-1) ** i, expected=5.0) for i in range(4)]
    with RunWriter.create(tmp_path / "a", manifest("momentum", 0.9)) as writer:
        for index, row in enumerate(rows):
            writer.append(100 + index, row)
    lead, _ = batch_line_figure.caption(None, FullLossStep.of(open_run(tmp_path / "a")))
    assert lead.endswith("of the learning rate: less than the 5 of a settled run at small learning rates.")


def test_the_page_shows_picture_source_and_definitions(tmp_path: Path) -> None:
    run = make(tmp_path, "stepped")
    page = render(run)
    section = page[page.index('id="batch-line"') :][:60000]
    assert "Sandler et al. 2301.02312, Sec. 3" in section
    assert page.count('class="batch-line-wide"') == page.count('class="batch-line-narrow"') == 1
    own = {name for name in readings(run) if name.split(".")[0] in ("batch_line", "full_loss_step")}
    assert {"batch_line", "batch_line.batch_r_squared", "full_loss_step.curvature"} <= own <= GLOSSARY.keys()


@pytest.mark.parametrize("losses", [[0.0] * 3, [-1.0, -2.0, -1.5], [1e39, 1e-39, 1e39], [1.0, 1.0, 1.0]])
def test_odd_losses_are_drawn_too(tmp_path: Path, losses: list[float]) -> None:
    curves = {"steps": [0.0, 1.0, 2.0], "batch": losses, "unseen": [0.0] * 3, "full": losses}
    row = Estimate("batch_line", 1.0, settings={"lr": 0.1, "curves": curves})
    found = BatchLine.of(recorded(tmp_path / "a", row))
    assert found is not None
    drawing = batch_line_figure.batch_line_chart(found).wide
    assert "this batch" in words(drawing)
    assert "NaN" not in drawing


def test_rows_that_cannot_be_drawn_are_left_out(tmp_path: Path) -> None:
    run = make(tmp_path, "hostile_steps")
    assert BatchLine.of(run) is None
    assert FullLossStep.of(run) is None
    assert sections.along_gradient(run) == ""
    assert "<script>" not in render(run)
