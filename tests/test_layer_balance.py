"""Layer balance read from records: the numbers of the rows, verdicts that turn with them, and rows from anywhere."""

import dataclasses
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sgdscope.estimate import Estimate
from sgdscope.layer_balance import LayerBalance, charges_in_words, short_name, standing_in_words
from sgdscope.records import Run, RunWriter, open_run
from tests.balance_rows import BATCH, LR, Pair, balance_row, charges_row, record

SGD = {"optimizer": {"method": "sgd", "momentum": 0.0}, "batch_size": BATCH}


def run_of(path, pairs, **options):
    with RunWriter.create(path / "run", SGD) as writer:
        record(writer, pairs, **options)
    return open_run(path / "run")


def one(path, pair=None, **options):
    (found,) = LayerBalance.of(run_of(path, [pair or Pair("1 → 3")], **options))
    return found


def test_the_numbers_are_those_of_the_last_row(tmp_path):
    pair = Pair("1 → 3", ratio=0.6, equilibrium=1.04, error=0.02)
    found = one(tmp_path, pair)
    assert (found.name, found.kind, found.units, found.step) == ("1 → 3", "rescaling", 32, 4000)
    assert (found.squared_norm_u, found.squared_norm_w) == pytest.approx(pair.norms)
    assert found.charge == pytest.approx(pair.charge)
    assert found.size == pytest.approx(sum(pair.norms))
    assert (float(found.noise_u), float(found.noise_w)) == pytest.approx(pair.sides)
    assert found.ratio == 0.6
    assert found.equilibrium_ratio is not None
    assert (found.equilibrium_ratio.value, found.equilibrium_ratio.standard_error) == pytest.approx((1.04, 0.02 * 1.04))
    assert found.relaxation_steps == 40_000
    assert found.unit_distance == pytest.approx(math.log(1.04 / 0.6))
    assert float(found.predicted_change) == pytest.approx(pair.change)
    assert float(found.measured_change) == pytest.approx(pair.change, rel=1e-2)
    assert found.push == pytest.approx(LR * LR * sum(pair.sides) / BATCH)
    assert found.off is not None
    assert float(found.off) == pytest.approx(0.6 / 1.04)
    assert found.off.standard_error == pytest.approx(0.02 * 0.6 / 1.04)
    assert found.times_off == pytest.approx(1.04 / 0.6)


def test_the_course_is_that_of_the_charges(tmp_path):
    pair = Pair("1 → 3")
    found = one(tmp_path, pair)
    assert [step for step, _ in found.course] == list(range(100, 4001, 100))
    first, last = found.course[0][1], found.course[-1][1]
    assert last == pytest.approx(pair.charge)
    assert last - first == pytest.approx(3900 * pair.change)


@pytest.mark.parametrize("ratio", [0.6, 1.02, 4.2])
@pytest.mark.parametrize(
    ("real", "outcome"), [(1.0, "agrees"), (1.05, "agrees"), (3.0, "disagrees"), (-1.0, "disagrees")]
)
def test_verdicts_turn_with_what_was_measured(tmp_path, ratio, real, outcome):
    pair = Pair("1 → 3", ratio=ratio, equilibrium=1.3, real=real, error=1e-4, scatter=1e-4)
    found = one(tmp_path, pair)
    assert found.verdict.outcome == found.outcome == outcome
    assert found.total is not None
    assert found.total.outcome == outcome
    assert found.verdict.predicted == pytest.approx(pair.change)
    assert found.total.predicted == pytest.approx(3000 * pair.change)
    assert float(found.total.measured) == pytest.approx(3000 * real * pair.change)


@pytest.mark.parametrize(("factor", "outcome"), [(1.0, "agrees"), (1.5, "disagrees"), (-1.0, "disagrees")])
def test_verdicts_turn_with_what_is_predicted(tmp_path, factor, outcome):
    pair = Pair("1 → 3")
    with RunWriter.create(tmp_path / "run", SGD) as writer:
        for step in range(100, 2001, 100):
            writer.append(step, charges_row([pair], step, 2000))
            row = balance_row([pair], steps_to_end=2000 - step)
            said = row.beside["expected_change"].scaled(factor)
            writer.append(step, dataclasses.replace(row, beside={**row.beside, "expected_change": said}))
    (found,) = LayerBalance.of(open_run(tmp_path / "run"))
    assert found.verdict.outcome == outcome
    assert found.total is not None
    assert found.total.outcome == outcome


@pytest.mark.parametrize(
    ("edge", "real", "outcome"),
    [(0.05, 1.0, "agrees"), (0.05, -1.0, "disagrees"), (1.0, 1.0, "undecided"), (1.0, -1.0, "undecided"),
     (None, -1.0, "undecided")],
)  # fmt: skip
def test_one_reading_decides_only_far_below_the_edge(tmp_path, edge, real, outcome):
    with RunWriter.create(tmp_path / "run", SGD) as writer:
        record(writer, [Pair("1 → 3", real=real)], readings=1)
        if edge is not None:
            writer.append(4000, Estimate("batch_sharpness", edge * 2 / LR, 0.01))
    (found,) = LayerBalance.of(open_run(tmp_path / "run"))
    assert found.verdict.outcome == outcome
    assert found.total is None


def test_scattered_readings_leave_the_verdict_open(tmp_path):
    pair = Pair("1 → 3")
    with RunWriter.create(tmp_path / "run", SGD) as writer:
        for step in range(100, 2001, 100):
            writer.append(step, charges_row([pair], step, 2000))
            row = balance_row([pair], steps_to_end=2000 - step)
            said = row.beside["expected_change"].scaled(1 + 0.8 * (-1) ** (step // 100))
            writer.append(step, dataclasses.replace(row, beside={**row.beside, "expected_change": said}))
    (found,) = LayerBalance.of(open_run(tmp_path / "run"))
    assert found.verdict.outcome == "undecided"


def test_close_to_balance_small_doubt_is_agreement_and_large_is_not(tmp_path):
    close = Pair("1 → 3", ratio=1.0, equilibrium=1.001, error=0.001, scatter=0.01)
    assert one(tmp_path / "a", close).verdict.outcome == "agrees"
    vague = dataclasses.replace(close, scatter=0.5)
    assert one(tmp_path / "b", vague).verdict.outcome == "undecided"
    # a difference of 8 % of the push, seen to 0.3 %, is one although the prediction is next to nothing
    wrong = dataclasses.replace(close, scatter=0.001, real=80.0)
    assert one(tmp_path / "c", wrong).verdict.outcome == "disagrees"


def test_batches_of_epochs_move_charges_faster_and_the_scope_says_so(tmp_path):
    pair = Pair("1 → 3", real=1.2, scatter=1e-3, error=1e-3)
    with RunWriter.create(tmp_path / "run", SGD) as writer:
        for step in range(100, 2001, 100):
            writer.append(step, charges_row([pair], step, 2000))
            writer.append(step, balance_row([pair], steps_to_end=2000 - step, replacement=False, of=10**9))
    (found,) = LayerBalance.of(open_run(tmp_path / "run"))
    assert found.verdict.outcome == "agrees"
    assert "epochs" in found.verdict.scope
    alone = one(tmp_path / "alone", pair)
    assert alone.verdict.outcome == "disagrees"
    assert "epochs" not in alone.verdict.scope


def test_where_the_law_does_not_apply_the_measurement_is_shown_without_a_claim(tmp_path):
    found = one(tmp_path, law=("momentum 0.9",))
    assert found.verdict.outcome == "unassessed"
    assert found.law == ("momentum 0.9",)
    assert "momentum 0.9" in found.verdict.scope
    assert float(found.measured_change) == pytest.approx(Pair("1 → 3").change, rel=1e-2)
    assert charges_in_words([found]) == ""


def test_what_the_charges_say_of_the_law_counts_as_well(tmp_path):
    pair, reason = Pair("1 → 3"), "the charges changed otherwise"
    with RunWriter.create(tmp_path / "run", SGD) as writer:
        for step in range(100, 2001, 100):
            row = charges_row([pair], step, 2000)
            late = {"law": [reason]} if step == 1900 else {}
            writer.append(step, dataclasses.replace(row, settings={**row.settings, **late}))
        writer.append(2000, balance_row([pair]))
    (found,) = LayerBalance.of(open_run(tmp_path / "run"))
    assert found.law == (reason,)


def test_without_charges_there_is_a_standing_and_no_verdict(tmp_path):
    with RunWriter.create(tmp_path / "run", SGD) as writer:
        writer.append(10, balance_row([Pair("1 → 3")]))
    (found,) = LayerBalance.of(open_run(tmp_path / "run"))
    assert found.times_off == pytest.approx(1.04 / 0.6)
    assert found.verdict.outcome == "unassessed"
    assert found.measured_change.value is None


def test_few_samples_borrow_their_scatter_from_the_steps_before(tmp_path):
    pair = Pair("1 → 3")
    with RunWriter.create(tmp_path / "run", SGD) as writer:
        writer.append(1000, charges_row([dataclasses.replace(pair, scatter=0.05)], 1000, 1100, every=1000, samples=16))
        quiet = dataclasses.replace(pair, scatter=1e-9)  # two samples that happen to be alike
        writer.append(1100, charges_row([quiet], 1100, 1100, every=100, samples=2))
        writer.append(1100, balance_row([pair]))
    (found,) = LayerBalance.of(open_run(tmp_path / "run"))
    single = 0.05 * pair.gross * 4  # standard deviation of one step
    assert found.measured_change.standard_error == pytest.approx(single * math.sqrt(16 / 18) / 10, rel=1e-6)


def test_a_scale_invariance_has_no_balance(tmp_path):
    found = one(tmp_path, Pair("1 → 2", kind="scale invariance"))
    assert found.scale_free
    assert (found.ratio, found.equilibrium_ratio, found.off, found.times_off) == (None, None, None, 1.0)
    assert not found.balanced
    assert found.charge == 9.0
    assert found.verdict.outcome == "agrees"


def test_readings_at_another_learning_rate_do_not_count(tmp_path):
    pair = Pair("1 → 3")
    with RunWriter.create(tmp_path / "run", SGD) as writer:
        writer.append(0, Estimate("learning_rate", LR))
        writer.append(50, balance_row([pair], lr=3 * LR))
        writer.append(100, charges_row([pair], 100, 100))
        writer.append(100, balance_row([pair]))
    assert LayerBalance.of(open_run(tmp_path / "run"))[0].total is None


def test_layers_of_the_same_name_are_kept_apart(tmp_path):
    pairs = [Pair("a → b", ratio=0.5), Pair("a → b", ratio=2.0)]
    first, second = LayerBalance.of(run_of(tmp_path, pairs))
    assert (first.ratio, second.ratio) == (0.5, 2.0)
    assert first.course[-1][1] == pytest.approx(pairs[0].charge)
    assert second.course[-1][1] == pytest.approx(pairs[1].charge)


@pytest.mark.parametrize(
    ("ratio", "error", "words"),
    [
        (1.04, 0.001, "within 1 % of noise balance"),
        (1.01, 0.01, "within 5 % of noise balance"),
        (0.9, 0.02, "13 ± 2 % from noise balance"),
        (1.2, 0.2, "20 ± 20 % from noise balance"),
        (4.2, 0.02, "4.04 ± 0.08 times off noise balance"),
        (0.2, 0.02, "5.2 ± 0.1 times off noise balance"),
    ],
)
def test_the_distance_in_words_holds_its_error(tmp_path, ratio, error, words):
    assert one(tmp_path, Pair("1 → 3", ratio=ratio, error=error)).in_words == words


def test_many_pairs_in_words(tmp_path):
    pairs = [Pair(f"{i} → {i + 2}", ratio=1.04) for i in range(5)]
    found = LayerBalance.of(run_of(tmp_path / "a", pairs))
    assert standing_in_words(found) == ("all 5 layer pairs within 2 % of noise balance")
    assert charges_in_words(found) == "all 5 charges move as predicted"
    pairs += [Pair("b.7.x → b.7.y", ratio=0.25, real=-1.0), Pair("n → m", ratio=0.3, scatter=3.0)]
    found = LayerBalance.of(run_of(tmp_path / "b", pairs))
    assert standing_in_words(found) == (
        "5 of 7 layer pairs within 10 % of noise balance; farthest b.7.x → y, 4.16 ± 0.04 times off"
    )
    assert charges_in_words(found) == "5 of 7 charges move as predicted, 1 does not, 1 undecided"
    assert standing_in_words([]) == charges_in_words([]) == ""
    wrong = [Pair("1 → 3", real=-1.0), Pair("3 → 5", real=-1.0)]
    assert charges_in_words(LayerBalance.of(run_of(tmp_path / "c", wrong))) == "all 2 charges do not move as predicted"
    vague = [Pair("1 → 3", scatter=3.0), Pair("3 → 5", scatter=3.0)]
    found = LayerBalance.of(run_of(tmp_path / "d", vague))
    assert charges_in_words(found) == "whether the 2 charges move as predicted is left open"


def test_one_charge_in_words(tmp_path):
    said = {
        "a": (Pair("1 → 3"), 11, "the charge moves as predicted"),
        "b": (Pair("1 → 3", real=-1.0), 11, "the charge does not move as predicted"),
        "c": (Pair("1 → 3"), 1, "the charge moves by 0.002506 ± 0.000003 per step, predicted 0.003 ± 0.003"),
    }
    for name, (pair, readings, words) in said.items():
        assert charges_in_words([one(tmp_path / name, pair, readings=readings)]) == words


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("1 → 3", "1 → 3"),
        ("blocks.4.mlp.0 → blocks.4.mlp.2", "blocks.4.mlp.0 → 2"),
        ("a.b → a.b", "a.b → b"),
        ("features.0 → classifier", "features.0 → classifier"),
        ("x" * 50, "…" + "x" * 29),
        ("", ""),
        (" → ", " → "),
    ],
)
def test_names_are_shortened(name, short):
    assert short_name(name) == short


def test_without_rows_there_is_nothing(tmp_path):
    with RunWriter.create(tmp_path / "run", SGD) as writer:
        writer.append(1, Estimate.failed("balance", "no symmetry holds"))
        writer.append(1, charges_row([Pair("1 → 3")], 1, 1))
    assert LayerBalance.of(open_run(tmp_path / "run")) == []


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**13) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2), max_leaves=4,
)  # fmt: skip
numbers = st.floats(allow_nan=False, allow_infinity=False)
tuples = st.lists(numbers, min_size=1, max_size=4).map(tuple)


@st.composite
def spoilt(draw, row):
    """A row with some of its settings or companions replaced by anything."""
    known, beside = dict(row.settings), dict(row.beside)
    for name in draw(st.sets(st.sampled_from(sorted(known)), max_size=4)):
        known[name] = draw(anything)
    for name in draw(st.sets(st.sampled_from(sorted(beside)), max_size=4)):
        value = draw(numbers | tuples)
        errors = draw(st.none() | numbers.map(abs))
        beside[name] = Estimate(name, value, errors)
    value = draw(st.just(row.value) | tuples)
    return dataclasses.replace(row, value=value, standard_error=None, settings=known, beside=beside)


PAIRS = [Pair("1 → 3"), Pair("n → m", kind="scale invariance"), Pair("3 → 5", ratio=3.0)]


@pytest.mark.slow
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_rows_may_come_from_anywhere(data):
    rows = []
    for step in sorted(data.draw(st.lists(st.integers(0, 10**9), min_size=1, max_size=5))):
        rows.append((step, 0.0, data.draw(spoilt(charges_row(PAIRS, 1000, 2000)))))
        rows.append((step, 0.0, data.draw(st.just(balance_row(PAIRS)) | spoilt(balance_row(PAIRS)))))
    found = LayerBalance.of(Run(Path("a"), dict(SGD), tuple(rows), 0))
    for b in found:
        assert b.in_words
        assert b.short_name is not None
        assert b.times_off >= 1
        for e in (b.predicted_change, b.measured_change, b.verdict.measured):
            assert e.value is None or math.isfinite(float(e))
        assert math.isfinite(b.verdict.predicted)
        assert math.isfinite(b.push)
    assert isinstance(standing_in_words(found) + charges_in_words(found), str)
