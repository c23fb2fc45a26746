"""Ensembles: the same numbers however they are run, honest records, and a door that says what is wrong."""

import math
import subprocess
import sys

import numpy as np
import pytest

from sgdscope import simulate
from sgdscope.simulate import (
    Average,
    Course,
    FirstPassage,
    GaussianSGD,
    Histogram,
    Kinetic,
    Overdamped,
    Paths,
    ensemble,
)
from sgdscope.theory.potential import Potential

WELL = Potential("x**4/4 - x**2/2")
BOWL = Potential("(x**2 + 2*y**2)/2 + x*y/2", variables=("x", "y"))
STATE_DEPENDENT = Overdamped(0.25, 0.01, "1 + x**2/2")
EVERYTHING = (
    Histogram(-2.5, 2.5, 50, every=7, after=3), Average("x", "x**2", "x > 0", every=3),
    Course("x", "-1 < x < 0", every=5), FirstPassage(until=0.0, absorb=False), Paths(5, every=4),
)  # fmt: skip
PROCESSES = {
    "overdamped": STATE_DEPENDENT,
    "averaged noise": Overdamped(0.25, 0.05, scheme="leimkuhler-matthews"),
    "kinetic": Kinetic(1.0, 0.25, 0.1),
    "momentum": GaussianSGD(0.1, 4, "1 + x**2", momentum=0.5),
    "signs": GaussianSGD(0.1, 30, "1 + x**2", "two-point"),
}


def same(a, b):
    """Whether two ensembles are equal to the last bit."""
    for name in ("rows", "words", "spare", "passage"):
        np.testing.assert_array_equal(getattr(a.state, name), getattr(b.state, name))
    assert a.state.step == b.state.step
    for name, arrays in {
        "histogram": ("counts",), "averages": ("sums",), "course": ("sums", "times"), "passage": ("steps",),
        "paths": ("positions", "times"),
    }.items():  # fmt: skip
        for array in arrays:
            if getattr(a, name) is not None:
                np.testing.assert_array_equal(getattr(getattr(a, name), array), getattr(getattr(b, name), array))


def run(process=STATE_DEPENDENT, *, record=EVERYTHING, landscape=WELL, replicas=2000, steps=60, start=-1.0, **settings):
    return ensemble(landscape, process, replicas=replicas, steps=steps, start=start, record=record, **settings)


@pytest.mark.parametrize("fast", [False, True])
def test_threads_make_no_difference(fast):
    process = Overdamped(0.25, 0.05, scheme="leimkuhler-matthews")
    record = tuple(r for r in EVERYTHING if not isinstance(r, FirstPassage))
    one = run(process, record=record, threads=1, fast=fast)
    same(one, run(process, record=record, threads=5, fast=fast))


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("name", PROCESSES)
def test_stopping_and_going_on_makes_no_difference(name, fast):
    process = PROCESSES[name]
    whole = run(process, record=(), fast=fast)
    for at in (1, 31, 32):  # odd steps leave half a draw over
        part = run(process, record=(), fast=fast, steps=at)
        same(whole, ensemble(WELL, process, start=part, steps=60 - at))


def test_records_of_successive_runs_add_up():
    whole, first = run(record=EVERYTHING[:3]), run(record=EVERYTHING[:3], steps=23)
    second = ensemble(WELL, STATE_DEPENDENT, start=first, steps=37, record=EVERYTHING[:3])
    np.testing.assert_array_equal(whole.histogram.counts, first.histogram.counts + second.histogram.counts)
    np.testing.assert_allclose(whole.averages.sums, first.averages.sums + second.averages.sums, rtol=1e-12)
    np.testing.assert_array_equal(whole.course.sums, np.concatenate([first.course.sums, second.course.sums]))
    np.testing.assert_array_equal(whole.course.times, np.concatenate([first.course.times, second.course.times]))


def test_passages_go_on_from_the_first_step():
    passage = FirstPassage(until="x > 0")
    whole, first = run(record=passage, steps=400), run(record=passage, steps=150)
    second = ensemble(WELL, STATE_DEPENDENT, start=first, steps=250, record=passage)
    np.testing.assert_array_equal(whole.passage.steps, second.passage.steps)
    assert first.passage.arrived < second.passage.arrived


@pytest.mark.parametrize("fast", [False, True])
def test_parts_join_to_the_whole(fast):
    whole = run(replicas=1600, fast=fast)
    parts = [run(replicas=count, first=first, fast=fast) for first, count in ((0, 512), (512, 1024), (1536, 64))]
    joined = simulate.join(parts)
    np.testing.assert_allclose(joined.course.sums.sum(axis=1), whole.course.sums.sum(axis=1), rtol=1e-13)
    for name in ("rows", "words", "spare", "passage"):
        np.testing.assert_array_equal(getattr(joined.state, name), getattr(whole.state, name))
    np.testing.assert_array_equal(joined.histogram.counts, whole.histogram.counts)
    assert joined.averages["x**2"] == whole.averages["x**2"]
    assert joined.passage.mean_time == whole.passage.mean_time
    with pytest.raises(ValueError, match="follow one another"):
        simulate.join([parts[0], parts[2]])


def test_courses_join_to_the_last_bit_at_whole_parts():
    record = Course("x", every=2)
    whole = run(record=record, replicas=65536 + 700, steps=4)
    parts = [run(record=record, replicas=count, first=first, steps=4) for first, count in ((0, 65536), (65536, 700))]
    np.testing.assert_array_equal(simulate.join(parts).course.values, whole.course.values)


def test_a_trajectory_is_its_number_under_the_seed():
    some, more = run(record=(), replicas=30), run(record=(), replicas=3000)
    np.testing.assert_array_equal(some.positions, more.positions[:30])
    other = run(record=(), replicas=30, seed=1)
    assert not np.any(some.positions == other.positions)
    far = run(record=(), replicas=30, first=1 << 40)
    assert not np.any(some.positions == far.positions)


def test_shedding_those_that_have_arrived_changes_nothing(monkeypatch):
    from sgdscope.simulate import lanes

    record = FirstPassage(until="x > 0")
    monkeypatch.setattr(lanes, "SLICE", 1 << 16)
    shed = run(record=record, steps=1000)
    monkeypatch.setattr(lanes, "SHED", 0.0)
    kept = run(record=record, steps=1000)
    same(shed, kept)
    assert shed.work < 0.7 * kept.work
    everyone = run(record=record, steps=100_000)  # ends early, as nothing is left to do
    assert everyone.passage.arrived == 2000
    assert everyone.work < 0.05 * 2048 * 100_000


def test_replicas_taken_out_count_nowhere():
    record = (FirstPassage(until="x > -0.5"), *EVERYTHING[:3])
    found = run(record=record, steps=300)
    arrived = found.passage.steps >= 0
    assert 0 < arrived.sum() < 2000
    assert np.all(np.isnan(found.positions[arrived]))
    assert not found.diverged.any()
    assert found.course.count[0] == 2000
    assert found.course.count[-1] == np.sum(~arrived | (found.passage.steps > 295))
    np.testing.assert_array_equal(found.course.values[:, 1] <= 1, True)
    assert found.averages["x > 0"].value == 0
    watched = np.minimum(np.where(arrived, found.passage.steps, 300), 300)
    np.testing.assert_array_equal(found.averages.sums[-1], -(-watched // 3))


def test_records_say_what_paths_say():
    record = (
        Histogram(-1.2, -0.8, 8, every=3), Average("x", "x > -1", every=2), Course("x**2", every=6),
        FirstPassage(until="x > -0.9", absorb=False), Paths(512, every=1),
    )  # fmt: skip
    process = GaussianSGD(0.05, 8, 1.0)  # its passages are counted at its steps
    found = run(process, record=record, replicas=512, steps=40, precision="float64")
    x = found.paths.positions[:, 0]
    assert x.shape == (40, 512)
    looked = x[::3]
    counts = found.histogram.counts.sum(axis=0)
    np.testing.assert_array_equal(counts[:8], np.histogram(looked, found.histogram.edges[0])[0])
    assert counts[8] == np.sum((looked < -1.2) | (looked >= -0.8))
    assert found.histogram.density.sum() * 0.05 == pytest.approx(1 - found.histogram.beyond)
    assert found.averages["x"].value == pytest.approx(x[::2].mean(), abs=1e-12)
    per_replica = (x[::2] > -1).mean(axis=0)
    share = found.averages["x > -1"]
    assert share.value == pytest.approx(per_replica.mean())
    assert share.standard_error == pytest.approx(per_replica.std(ddof=1) / math.sqrt(512))
    np.testing.assert_allclose(found.course.values[:, 0], (x[::6] ** 2).mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(
        found.course.errors[1:, 0], (x[6::6] ** 2).std(axis=1, ddof=1) / math.sqrt(512), rtol=1e-6
    )
    np.testing.assert_allclose(found.course.times, np.arange(0, 40, 6) * 0.05)
    seen = np.concatenate([x[1:], found.positions[None]]) >= -0.9
    first = np.where(seen.any(axis=0), seen.argmax(axis=0) + 1, -1)
    np.testing.assert_array_equal(found.passage.steps, first)


def test_a_histogram_in_two_dimensions():
    record = (Histogram((-2, -1.5), (2, 1.5), (8, 6), every=5), Paths(512, every=5))
    found = run(Overdamped(0.2, 0.05), landscape=BOWL, record=record, replicas=512, start=(0.5, 0.0))
    x, y = found.paths.positions.transpose(1, 0, 2).reshape(2, -1)
    expected = np.histogram2d(x, y, found.histogram.edges)[0]
    assert np.abs(found.histogram.counts.sum(axis=0)[:-2].reshape(8, 6) - expected).sum() <= 2  # rounding at borders
    assert found.histogram.density.shape == found.histogram.error.shape == (8, 6)


def test_errors_of_a_histogram_are_those_of_correlated_counts():
    # one look at 8000 replicas against a thousand looks at each, which are much less than a thousand times as many
    densities = [run(Overdamped(0.25, 0.1), replicas=8192, steps=400, seed=seed, record=Histogram(-2, 2, 8, every=1))
                 for seed in range(12)]  # fmt: skip
    spread = np.std([found.histogram.density for found in densities], axis=0, ddof=1)
    stated = np.mean([found.histogram.error for found in densities], axis=0)
    assert np.sqrt(np.mean((spread / stated) ** 2)) == pytest.approx(1, abs=0.35)


def test_diverging_replicas_are_counted_and_left_out():
    # a cubic landscape lets those go that are kicked over its barrier at 1
    cubic = Potential("x**2/2 - x**3/3")
    record = (Average("x"), FirstPassage(until="x > 1e5", absorb=True), Course("x", every=50))
    found = ensemble(cubic, Overdamped(0.12, 0.01), replicas=4096, steps=1000, start=0.0, record=record)
    lost = (found.passage.steps >= 0) | found.diverged
    assert 0 < lost.sum() < 2000
    kept = ensemble(WELL, Overdamped(0.25, 0.2, "1 + 3*x**2"), replicas=4096, steps=300, start=-1.0,
                    record=(Average("x"), Course("x", every=50)))  # fmt: skip
    assert 0 < kept.diverged.sum() < 4096
    assert kept.averages["x"].count == 4096 - kept.diverged.sum()
    assert math.isfinite(kept.averages["x"].value)
    assert np.all(np.isfinite(kept.course.values))
    assert kept.course.count[-1] < kept.course.count[0] == 4096


def test_an_interrupt_returns_what_is_done(monkeypatch):
    from sgdscope.simulate import lanes

    monkeypatch.setattr(lanes, "SLICE", 1 << 15)
    told = []

    def stop(share):
        told.append(share)
        if share > 0.4:
            raise KeyboardInterrupt

    found = run(record=EVERYTHING, steps=1000, progress=stop)
    assert found.interrupted
    assert 400 < found.steps < 1000
    assert found.state.step == found.steps == round(told[-1] * 1000)
    assert sorted(told) == told
    same(found, run(record=EVERYTHING, steps=found.steps))


def test_precision_is_that_of_the_state():
    single, double = (run(record=(), precision=precision) for precision in ("float32", "float64"))
    assert single.positions.dtype == np.float32
    assert double.positions.dtype == np.float64
    np.testing.assert_allclose(single.positions, double.positions, atol=1e-4)
    assert np.any(single.positions != double.positions)


def test_every_replica_may_have_a_start_of_its_own():
    start = np.linspace(-1.5, 1.5, 700)
    np.testing.assert_allclose(run(record=(), replicas=700, start=start, steps=0).positions, start, rtol=1e-6)
    points = np.random.default_rng(0).normal(size=(40, 2))
    found = ensemble(BOWL, Overdamped(0.1, 0.01), replicas=40, steps=0, start=points)
    np.testing.assert_allclose(found.positions, points, rtol=1e-6)


def test_no_step_at_all():
    found = run(steps=0)
    assert found.state.step == 0
    assert found.course.values.shape == (0, 2)
    assert found.paths.positions.shape == (0, 1, 5)
    assert found.histogram.total == found.passage.arrived == 0
    assert found.averages["x"].status == "failed"


def test_names_of_coordinates_may_be_anything():
    odd = Potential("i**2 + W**2 + f**4 + math**2/2", variables=("i", "W", "f", "math"))
    found = ensemble(odd, Overdamped(0.1, 0.01), replicas=10, steps=5, start=(0, 0, 0, 0), record=Average("W*math"))
    assert np.all(np.isfinite(found.positions))


@pytest.mark.slow
def test_numba_is_loaded_when_needed():
    code = "import sgdscope.simulate, sys; assert 'numba' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("landscape", "process", "settings", "message"),
    [
        ("x**3/3 - x", Overdamped(0.1, 0.01), {}, "keeps replicas in"),
        ("50*x**2", Overdamped(0.1, 0.03), {}, "stable in every minimum, got curvature 100"),
        ("50*x**2", Kinetic(1.0, 0.1, 0.3), {}, "stable in every minimum"),
        ("50*x**2", GaussianSGD(0.03, 4, 1.0), {}, "stable in some minimum"),
        ("x**2 - log(x)", Overdamped(0.1, 0.001), {"start": -1.0}, "real|domain"),
        (WELL, STATE_DEPENDENT, {"start": (1.0, 2.0)}, "a start of a number"),
        (WELL, STATE_DEPENDENT, {"start": math.nan}, "finite starting positions"),
        (WELL, STATE_DEPENDENT, {"replicas": 0}, "number of replicas"),
        (WELL, STATE_DEPENDENT, {"steps": -1}, "steps ≥ 0"),
        (WELL, STATE_DEPENDENT, {"steps": 1 << 50}, "at most 281474976710656 draws"),
        (WELL, STATE_DEPENDENT, {"threads": 0}, "threads ≥ 1"),
        (WELL, STATE_DEPENDENT, {"precision": "half"}, "'float32' or 'float64'"),
        (WELL, STATE_DEPENDENT, {"first": 100}, "multiple of 512"),
        (WELL, STATE_DEPENDENT, {"seed": -1}, "a seed from 0"),
        (WELL, STATE_DEPENDENT, {"record": (Average("x"), Average("x**2"))}, "one record of each kind"),
        (WELL, STATE_DEPENDENT, {"record": Average("z")}, "unknown name 'z'"),
        (WELL, STATE_DEPENDENT, {"record": FirstPassage(until="x > -2")}, "would have arrived already"),
        (WELL, STATE_DEPENDENT, {"record": FirstPassage(leaving=(0.0, 1.0))}, "start inside the region to leave"),
        (WELL, STATE_DEPENDENT, {"record": FirstPassage(until=-1.0)}, "one side of the level"),
        (WELL, STATE_DEPENDENT, {"record": Histogram(-2, 2, 10**11)}, "fits into memory"),
        (WELL, STATE_DEPENDENT, {"record": Histogram((-2, -2), (2, 2), (9, 9))}, "ranges for x, got 2"),
        (WELL, STATE_DEPENDENT, {"replicas": 10**13}, "expected an ensemble that fits into memory"),
        (BOWL, STATE_DEPENDENT, {"start": (0, 0), "record": FirstPassage(until=1.0)}, "conditions such as 'x > 0'"),
        (WELL, Overdamped(0.1, 0.01, scheme="leimkuhler-matthews"), {"record": FirstPassage(until=0.0)}, "share noise"),
        (Potential("_x**2", variables=("_x",)), STATE_DEPENDENT, {}, "begin with a letter"),
    ],
)  # fmt: skip
def test_the_door(landscape, process, settings, message):
    settings = {"replicas": 10, "steps": 10, "start": -1.0, **settings}
    with pytest.raises(ValueError, match=message):
        ensemble(landscape, process, **settings)


def test_going_on_with_another_process_is_refused():
    with pytest.raises(ValueError, match="state of 3 rows to go on from, got 1"):
        ensemble(WELL, Kinetic(1.0, 0.25, 0.1), start=run(record=()), steps=1)


def test_a_landscape_that_lets_go_may_run_to_a_first_passage():
    record = FirstPassage(until="x < -1.5")
    found = ensemble("x**3/3 - x", Overdamped(0.1, 0.01), replicas=64, steps=200, start=1.0, record=record)
    assert found.passage.arrived < 64
    with pytest.raises(ValueError, match="keeps replicas in"):
        ensemble("x**3/3 - x", Overdamped(0.1, 0.01), replicas=64, steps=200, start=1.0,
                 record=FirstPassage(until="x < -1.5", absorb=False))  # fmt: skip
