"""Balance of layers in the report: the numbers of the rows in pictures, table and words."""

import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from demo_runs import HOSTILE, make, manifest
from tests.balance_rows import Pair, record

from sgdscope.layer_balance import LayerBalance
from sgdscope.records import Run, RunWriter, open_run
from sgdscope.report import balance_section
from sgdscope.report.balance_figure import MOST, balance_chart, shown_pairs, steps_in_words
from sgdscope.report.charge_figure import change_chart, course_chart
from sgdscope.report.chart import Chart
from sgdscope.report.evidence import readings
from sgdscope.report.glossary import GLOSSARY
from sgdscope.report.page import render

SVG = "{http://www.w3.org/2000/svg}"


def recorded(folder: Path, *pairs: Pair, law: tuple[str, ...] = (), last: int = 4000) -> Run:
    with RunWriter.create(folder / "run", manifest()) as writer:
        record(writer, pairs, law=law, last=last)
    return open_run(folder / "run")


def balance(run: Run) -> str:
    return balance_section.balance(run, LayerBalance.of(run))


def words(chart: Chart | None) -> set[str]:
    assert chart is not None
    for drawing in (chart.wide, chart.narrow):
        assert "NaN" not in drawing
        assert "inf" not in drawing
        assert set(re.findall(r"#[0-9a-fA-F]{6}\b", drawing)) == set()
    return {t.text or "" for t in ElementTree.fromstring(chart.wide).iter(f"{SVG}text")}


def centres(chart: Chart | None, role: str, kind: str = "use") -> list[tuple[float, float]]:
    """Where marks filled or stroked in a colour are."""
    assert chart is not None
    return [
        (float(e.get("x") or 0), float(e.get("y") or 0))
        for e in ElementTree.fromstring(chart.wide).iter(f"{SVG}{kind}")
        if f"var(--{role})" in (e.get("style") or "")
    ]


def plain(section: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<svg.*?</svg>|<[^>]*>", " ", section, flags=re.S)).replace("\u00a0", " ")


def test_the_dumbbell_lies_where_the_ratios_are(tmp_path: Path) -> None:
    pairs = (Pair("1 → 3", ratio=0.5, equilibrium=2.0), Pair("3 → 5", ratio=2.0, equilibrium=0.5))
    chart = balance_chart(LayerBalance.of(recorded(tmp_path, *pairs)))
    assert {"1 → 3", "3 → 5", "40,000 steps", "● now", "◇ noise balance"} <= words(chart)
    # the ring about a dot is drawn in paper; ◇ has the stroke of its role
    (x0, y0), (x1, y1) = centres(chart, "sharpness")
    (there0, _), (there1, _) = centres(chart, "full")
    assert y0 < y1
    assert x0 == pytest.approx(there1)
    assert x1 == pytest.approx(there0)
    assert x0 < x1


def test_the_time_is_in_words() -> None:
    assert [steps_in_words(x) for x in (0.2, 12.4, 62_870.3, 1.234e12)] == [
        "1 step", "12 steps", "63,000 steps", "1.2e12 steps"
    ]  # fmt: skip


@pytest.mark.parametrize("real", [1.0, -0.5])
def test_points_lie_on_the_diagonal_where_measured_is_predicted(tmp_path: Path, real: float) -> None:
    run = recorded(tmp_path, Pair("1 → 3", ratio=0.5, real=real, scatter=1e-6), Pair("3 → 5", ratio=3.0, scatter=1e-6))
    chart = change_chart(LayerBalance.of(run))
    shown = words(chart)
    assert ("● 2 as predicted" in shown) == (real == 1)
    assert ("✕ 1 not as predicted" in shown) == (real != 1)
    assert chart is not None
    (size,) = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', chart.wide)
    width, height = map(float, size)
    left, bottom, across, up = 0.09, 0.16, 0.4, 0.81
    for x, y in centres(chart, "good"):
        along = (x / width - left) / across
        risen = ((height - y) / height - bottom) / up
        assert along == pytest.approx(risen, abs=2e-3)
    assert len(centres(chart, "good")) == (2 if real == 1 else 1)
    assert len(centres(chart, "bad")) == (0 if real == 1 else 1)


def test_the_course_is_drawn_for_those_that_moved_most(tmp_path: Path) -> None:
    pairs = [Pair(f"{i} → {i + 1}", ratio=1.04 + 0.1 * i) for i in range(9)]
    run = recorded(tmp_path, *pairs)
    shown = words(course_chart(LayerBalance.of(run), run.last_step))
    assert {"8 → 9", "7 → 8", "6 → 7"} <= shown
    assert "0 → 1" not in shown
    assert "The 6 of 9 charges that moved most." in plain(balance(run))


def test_the_table_has_the_numbers_of_the_rows(tmp_path: Path) -> None:
    pair = Pair("1 → 3", ratio=0.6, equilibrium=1.04, error=0.02)
    said = plain(balance(recorded(tmp_path, pair)))
    assert "1 → 3 32 units 0.600 1.040 ± 0.021 relaxation 40,000 steps" in said
    per_step = r"([\d.]+) ± [\d.]+ predicted ([\d.]+) ± [\d.]+ ✓ agrees"
    ((measured, predicted),) = re.findall(per_step, said)
    assert float(measured) == pytest.approx(1000 * pair.change, rel=2e-3)
    assert float(predicted) == pytest.approx(1000 * pair.change, rel=2e-2)
    ((measured, predicted),) = re.findall(r"([\d.]+) ± [\d.]+ predicted ([\d.]+) ✓ agrees", said)
    assert (float(measured), float(predicted)) == pytest.approx((3000 * pair.change,) * 2, rel=2e-3)
    assert said.startswith(
        " Balance of layers Layers 1 → 3 are 1.73 ± 0.03 times off noise balance; the charge moves as predicted."
    )


def test_where_the_law_does_not_apply_numbers_are_shown_without_a_claim(tmp_path: Path) -> None:
    run = recorded(tmp_path, Pair("1 → 3"), law=("momentum 0.9",))
    said = plain(balance(run))
    assert "the law of balance makes no claim about this run (momentum 0.9)" in said
    assert "– not assessed no claim is made with momentum 0.9" in said
    assert "✓" not in said
    assert "no claim made" in " ".join(words(change_chart(LayerBalance.of(run))))
    assert re.search(r"2\.50\d* ± \S+ predicted", said)


def test_scale_invariances_are_listed_and_have_no_dumbbell(tmp_path: Path) -> None:
    run = recorded(tmp_path, Pair("0 → 1", kind="scale invariance"))
    assert balance_chart(LayerBalance.of(run)) is None
    said = plain(balance(run))
    assert "Noise only makes scale-free weights grow" in said
    assert "0 → 1 scale invariance, 32 units – –" in said


def test_of_many_pairs_the_worst_dozen_are_shown(tmp_path: Path) -> None:
    run = make(tmp_path, "many_pairs")
    found = LayerBalance.of(run)
    assert len(found) == 100
    shown = shown_pairs(found)
    assert len(shown) == MOST
    assert min(b.times_off for b in shown) >= max(b.times_off for b in found if b not in shown)
    section = balance(run)
    assert f"The {MOST} farthest from balance of 100 pairs." in section
    assert section.count('<tr role="row">') == MOST + 1
    assert shown[0].short_name in plain(section)
    assert len(section) < 250_000


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    run = make(tmp_path, "hostile_balance")
    found = LayerBalance.of(run)
    assert found[0].name == HOSTILE
    for chart in (balance_chart(found), change_chart(found), course_chart(found, run.last_step)):
        assert any("层" in w for w in words(chart))
    page = render(run)
    page.encode()
    assert "<script" not in page.lower()
    assert "<img" not in page.lower()
    assert "\u202e" not in page
    assert "\u0007" not in page


def test_every_number_of_the_rows_is_in_the_glossary(tmp_path: Path) -> None:
    own = {name for name in readings(make(tmp_path, "balanced")) if name.split(".")[0] in ("balance", "charges")}
    assert {"balance.ratio", "charges.change", "balance"} <= own <= GLOSSARY.keys()


@pytest.mark.parametrize(
    ("pair", "law", "advised"),
    [
        (Pair("1 → 3", ratio=0.2, relaxation=60_000.0), (), True),
        (Pair("1 → 3", ratio=0.2, relaxation=60_000.0), ("AdamW",), False),
        (Pair("1 → 3", ratio=0.2, relaxation=300.0), (), False),
        (Pair("1 → 3", ratio=1.0, relaxation=60_000.0), (), False),
        (Pair("1 → 3", kind="scale invariance"), (), False),
    ],
)
def test_advice_is_given_where_noise_takes_longer_than_the_run(
    tmp_path: Path, pair: Pair, law: tuple[str, ...], advised: bool
) -> None:
    answer = plain(render(recorded(tmp_path, pair, law=law)).split("<section")[0])
    assert ("sgdscope balance RUN --to noise" in answer) == advised
    if advised:
        assert "5.20 ± 0.05 times off noise balance, and noise alone needs about 60,000 steps" in answer


@pytest.mark.parametrize("ratio", [1e-15, 1e-3, 0.3, 0.999, 1.0, 1.0001, 17.0, 1e15])
def test_ratios_of_any_size_are_drawn(tmp_path: Path, ratio: float) -> None:
    found = LayerBalance.of(recorded(tmp_path, Pair("1 → 3", ratio=ratio, equilibrium=1.0)))
    shown = words(balance_chart(found))
    ticks = [w for w in shown if re.fullmatch(r"[\d.e+−-]+", w)]
    assert 2 <= len(ticks) <= 8
    assert math.isfinite(found[0].times_off)
