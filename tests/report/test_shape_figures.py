"""Noise and spectrum in the report: drawn from whatever was recorded, with a caption that says what it means."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
from demo_runs import HOSTILE, fill, make, manifest, shape

from sgdscope.estimate import Estimate
from sgdscope.records import Run, RunWriter, open_run
from sgdscope.regime import EdgeUnits
from sgdscope.report import noise_figure, sections, spectrum_figure
from sgdscope.report.evidence import readings
from sgdscope.report.markup import percent, with_doubt
from sgdscope.report.page import render
from sgdscope.report.shape import NoiseShape, SpectrumShape


def recorded(folder: Path, **options: object) -> Run:
    with RunWriter.create(folder, manifest()) as writer:
        fill(writer, steps=2000)
        shape(writer, **options)  # type: ignore[arg-type]
    return open_run(folder)


def noise_of(run: Run) -> NoiseShape:
    found = NoiseShape.of(run)
    assert found is not None
    return found


def spectrum_of(run: Run) -> SpectrumShape:
    found = SpectrumShape.of(run)
    assert found is not None
    return found


def words(drawing: str) -> list[str]:
    return [t.text or "" for t in ElementTree.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("options", [{}, {"k": 1}, {"power": 0.0}, {"power": -3.0}, {"bars": False}, {"k": 40}])
def test_every_shape_is_drawn_in_the_pages_colours(tmp_path: Path, options: dict[str, object]) -> None:
    run = recorded(tmp_path / "a", **options)
    for edge in (None, 1e-3, 2.5, 1e9):
        charts = [noise_figure.noise_chart(noise_of(run)), spectrum_figure.spectrum_chart(spectrum_of(run), edge)]
        for drawing in [d for chart in charts for d in (chart.wide, chart.narrow)]:
            assert ElementTree.fromstring(drawing)[0].text
            assert "NaN" not in drawing
            assert "inf" not in drawing
            assert set(re.findall(r"#[0-9a-fA-F]{6}\b", drawing)) == set()


@pytest.mark.parametrize(
    ("power", "said"),
    [
        (1.0, "The noise follows the curvature: in sharp directions it is stronger in proportion (exponent 1.00 ± 0."),
        (0.0, "The noise does not follow the curvature: it is as strong in flat directions (exponent 0.00 ± 0.05"),
        (2.0, "The noise is neither constant nor proportional to the curvature (exponent 2.00 ± 0.05"),
        (0.5, "The largest eigenvalues cannot tell whether the noise follows the curvature: the noise along them"),
    ],
)  # fmt: skip
def test_the_model_supported_is_told_first(tmp_path: Path, power: float, said: str) -> None:
    found = noise_of(recorded(tmp_path / "a", power=power))
    lead, more = noise_figure.caption(found)
    assert lead.startswith(said)
    assert "Noise is 0.0100 ± 0.0010 times the curvature in these directions (1: Σ = H)." in more
    assert "Of all noise, 30.0 ± 3.0 % lies along them." in more
    drawn = words(noise_figure.noise_chart(found).wide)
    assert {"∝ H", "constant", "mean of all directions"} <= set(drawn)
    assert any(word.startswith("fit ") for word in drawn) == (power != 0.5)  # one that says nothing is not drawn


def test_eigenvalues_too_close_together_are_the_reason(tmp_path: Path) -> None:
    found = replace(noise_of(recorded(tmp_path / "a", power=0.5)), curvatures=(1.9, 1.8, 1.7))
    lead, _ = noise_figure.caption(found)
    assert "they lie within a factor of 1.1 of each other." in lead
    assert "In the mean of all directions the two stand in about the same proportion." in lead  # 0.8 / 88
    far = replace(found, mean=(Estimate("h", 1.0), Estimate("s", 0.2)))
    assert "For its curvature it is 20 times as strong in the mean direction." in noise_figure.caption(far)[0]


def test_errors_and_their_absence_are_told(tmp_path: Path) -> None:
    assert "Bars: two standard errors." in noise_figure.caption(noise_of(recorded(tmp_path / "a")))[1]
    assert "No bars: all data were taken." in noise_figure.caption(noise_of(recorded(tmp_path / "b", bars=False)))[1]


def test_the_bars_of_the_spectrum_hold_every_eigenvalue_once(tmp_path: Path) -> None:
    found = spectrum_of(recorded(tmp_path / "a"))
    edges, counts = spectrum_figure.bars(found)
    assert counts.sum() == pytest.approx(2410)
    assert {-0.07, 0.07} <= {round(float(e), 9) for e in edges}
    assert 0.0 not in edges  # what cannot be told from zero is in one bar
    assert counts[edges[1:] <= 0].sum() == pytest.approx(0.02 * 2410)
    bare = replace(found, nodes=(), weights=(), resolution=0.0, parameters=None)
    assert spectrum_figure.bars(bare)[1].sum() == pytest.approx(1)


def test_the_spectrum_in_words(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a", part=True)
    lead, more = spectrum_figure.caption(spectrum_of(run), 2.5, "2 / lr")
    assert lead == ("90 % of the directions are flat; 2.00 ± 0.10 % curve downward; the largest curvature is 1.9, "
                    "0.76 of 2 / lr.")  # fmt: skip
    assert "On 128 of 256 samples, where the largest come out larger than on all data." in more
    whole = spectrum_figure.caption(spectrum_of(recorded(tmp_path / "b")), None)
    assert "samples" not in whole[1]
    assert "of 2 / lr" not in whole[0]


def test_the_edge_is_drawn_or_pointed_at(tmp_path: Path) -> None:
    found = spectrum_of(recorded(tmp_path / "a"))
    assert "2 / lr = 2.5" in words(spectrum_figure.spectrum_chart(found, 2.5).wide)
    assert "2 / lr = 40 →" in words(spectrum_figure.spectrum_chart(found, 40.0).wide)
    assert not any("lr" in word for word in words(spectrum_figure.spectrum_chart(found, None).wide))


def test_the_page_shows_all_three_and_escapes_names(tmp_path: Path) -> None:
    run = make(tmp_path, "shaped")
    page = render(run)
    places = [page.index(f'<section id="{name}"') for name in ("loss", "noise-scale", "noise-shape", "spectrum")]
    assert places == sorted(places)
    assert "The noise scale is 420 ± 20 samples, 52 times the batch of 8: a step is mostly noise" in page
    assert "where they live" in page
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)" in page


def test_one_reading_of_the_noise_scale_is_a_sentence(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a", manifest()) as writer:
        failed = Estimate.failed("simple_noise_scale", "the gradient cannot be told from zero")
        for step, scale in ((0, Estimate("simple_noise_scale", 2.0, 0.1)), (9, failed)):
            writer.append(step, Estimate("gradient_noise", 0.8, beside={"simple_noise_scale": scale}))
    shown = sections.noise_scale(open_run(tmp_path / "a"))
    assert "<svg" not in shown
    assert "The noise scale is 2.0 ± 0.1 samples, 0.25 times the batch of 8: a step is mostly signal" in shown
    assert "At 1 of 2 readings the gradient could not be told from zero." in shown


def test_the_critical_batch_size_stands_beside_the_noise_scale(tmp_path: Path) -> None:
    critical = Estimate("critical_batch_size", 5.89, 0.83, unit="samples")
    interaction = Estimate("gradient_noise_interaction", 1.0, beside={critical.name: critical})
    scale = Estimate("simple_noise_scale", 10.8, 0.0, unit="samples")
    with RunWriter.create(tmp_path / "alone", manifest()) as writer:
        writer.append(9, interaction)
    with RunWriter.create(tmp_path / "both", manifest()) as writer:
        for step in (0, 9):
            writer.append(step, Estimate("gradient_noise", 0.8, beside={scale.name: scale}))
        writer.append(9, interaction)
    alone, both = (sections.noise_scale(open_run(tmp_path / name)) for name in ("alone", "both"))
    for shown in (alone, both):
        assert "The critical batch size is 5.9\u00a0±\u00a00.8 samples." in shown
        assert "tr(HΣ) / gᵀHg" in shown
    assert "<svg" not in alone
    assert "noise scale is" not in alone
    assert "noise and signal are alike in a step. The critical" in both
    assert "No bars: all data were taken." in both


def test_a_run_without_them_has_no_such_sections(tmp_path: Path) -> None:
    run = make(tmp_path, "at_the_edge")
    assert sections.noise_scale(run) == sections.noise_shape(run) == sections.spectrum(run, EdgeUnits.of(run)) == ""


def test_companions_of_the_covariance_do_not_pass_for_others(tmp_path: Path) -> None:
    found = readings(recorded(tmp_path / "a"))
    assert all(float(e) != 0.5 for _, e in found["loss"])  # the loss of its samples is not the training loss
    assert float(found["noise_covariance.loss"][0][1]) == 0.5


def test_numbers_in_words() -> None:
    assert with_doubt(4549.0, 620.0) == "4550 ± 620"
    assert with_doubt(284.3, None) == "280"
    assert with_doubt(3e-7, 0.0) == "3e-07"
    assert [percent(x) for x in (0, 0.9997, 0.995, 0.5, 1.0)] == ["no", "over 99.9 %", "99.5 %", "50 %", "100 %"]
    assert percent(0.018, 0.0031) == "1.80 ± 0.31 %"


def test_claims_share_their_scope_once(tmp_path: Path) -> None:
    page = render(make(tmp_path, "at_the_edge"))
    verdicts = page.split('id="verdicts"')[1].split("</section>")[0]
    assert verdicts.count("claimed once the edge is reached") == 1
    assert verdicts.count("generally so and not a theorem") == 1


def test_readings_below_the_border_are_marked_and_counted(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a", manifest()) as writer:
        writer.append(0, Estimate("learning_rate", 1.0))
        for step in range(10):
            writer.append(step, Estimate("edge_ratio", -5.0 if step == 4 else 1.8, 0.1))
            writer.append(step, Estimate("batch_sharpness", -9.0 if step == 5 else 1.8, 0.1))
    page = render(open_run(tmp_path / "a"))
    assert "2 readings lie beyond the lower border (▼), the lowest at −4.5." in page
