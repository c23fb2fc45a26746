"""Steps along batch gradients, read back from records: which rows count, and what they say together."""

import math

import numpy as np
import pytest

from sgdscope.estimate import Estimate
from sgdscope.gradient_steps import BatchLine, FullLossStep
from sgdscope.records import RunWriter, open_run


def step(square, curvature, *, lr=0.5, expected=0.5):
    beside = {"squared_gradient": Estimate("squared_gradient", square), "curvature": Estimate("curvature", curvature)}
    settings = {"lr": lr, "batch_size": 8, "expected": expected}
    return Estimate("full_loss_step", square / curvature / lr, 0.01, count=8, settings=settings, beside=beside)


def line(full, steps=(0.0, 1.0, 2.0, 3.0), **changes):
    curves = {"steps": list(steps), "batch": [3.0, 1.0, 1.0, 3.0], "unseen": [4.0] * 4, "full": full} | changes
    return Estimate("batch_line", 1.5, settings={"curves": curves, "lr": 0.1})


def recorded(folder, rows):
    with RunWriter.create(folder, {"optimizer": {"method": "sgd", "momentum": 0.0}}) as writer:
        for at, row in rows:
            writer.append(at, row)
    return open_run(folder)


def test_readings_are_a_ratio_of_means_with_the_error_of_their_scatter(tmp_path):
    rng = np.random.default_rng(0)
    squares, curvatures = rng.gamma(5.0, size=200), rng.gamma(50.0, 0.4, size=200)
    rows = [(1000 + i, step(s, c)) for i, (s, c) in enumerate(zip(squares, curvatures, strict=True))]
    found = FullLossStep.of(recorded(tmp_path / "a", rows))
    window = found.readings
    assert 40 <= window <= 200
    s, c = squares[-window:], curvatures[-window:]
    assert float(found.estimate) == pytest.approx(s.mean() / c.mean() / 0.5)
    draws = rng.integers(window, size=(4000, window))
    bootstrap = (s[draws].mean(1) / c[draws].mean(1) / 0.5).std()
    assert found.estimate.standard_error == pytest.approx(bootstrap, rel=0.1)
    assert found.verdict == ("settled" if abs(float(found.estimate) - 0.5) < 0.05 else "undecided")


def test_only_readings_of_the_last_learning_rate_and_one_per_step_count(tmp_path):
    rows = [(96 + i, step(9.0, 1.0, lr=0.1)) for i in range(4)]
    rows += [(100, step(7.0, 1.0)), (100, step(0.2, 1.0)), (101, step(0.3, 1.0)), (102, step(0.2, 1.0))]
    run = recorded(tmp_path / "a", rows)
    found = FullLossStep.of(run)
    assert (found.readings, float(found.estimate)) == (1, pytest.approx(0.4))  # three are too few for an error
    assert found.verdict == "undecided"
    more = FullLossStep.of(recorded(tmp_path / "b", [*rows, (103, step(0.3, 1.0))]))
    assert (more.readings, float(more.estimate)) == (4, pytest.approx(0.5))


@pytest.mark.parametrize(("ratio", "expected", "verdict"), [
    (0.5, 0.5, "settled"), (0.54, 0.5, "settled"), (0.7, 0.5, "larger"), (0.3, 0.5, "smaller"), (0.5, 5.0, "smaller"),
])  # fmt: skip
def test_the_verdict(tmp_path, ratio, expected, verdict):
    rows = [(100 + i, step((0.5 + 0.001 * (-1) ** i) * ratio, 0.5 / 0.5, expected=expected)) for i in range(8)]
    found = FullLossStep.of(recorded(tmp_path / "a", rows))
    assert found.verdict == verdict


def test_the_lowest_point_of_a_parabola_is_found_exactly_also_between_points(tmp_path):
    for name, lowest in (("a", 0.2), ("b", 1.4), ("c", 2.9)):
        found = BatchLine.of(recorded(tmp_path / name, [(1, line([(x - lowest) ** 2 for x in range(4)]))]))
        assert found.best_full == pytest.approx(lowest)
    for name, full in (("d", [3.0, 2.0, 1.0, 0.0]), ("e", [0.0, 1.0, 3.0, 6.0]), ("f", [0.0, 1.0, 1.5, 1.6])):
        assert BatchLine.of(recorded(tmp_path / name, [(1, line(full))])).best_full is None


def test_points_without_a_loss_are_left_out(tmp_path):
    found = BatchLine.of(recorded(tmp_path / "a", [(7, line([1.0, 0.5, 1.0, None]))]))
    assert (found.step, found.steps, found.full) == (7, (0.0, 1.0, 2.0), (1.0, 0.5, 1.0))
    assert found.in_learning_rates


@pytest.mark.parametrize("changes", [
    {"steps": [0.0, 1.0, 1.0, 2.0]}, {"steps": [3.0, 2.0, 1.0, 0.0]}, {"batch": None}, {"full": [1.0, None, None, 2.0]},
    {"unseen": "1234"},
])  # fmt: skip
def test_what_is_no_line_is_refused(tmp_path, changes):
    assert BatchLine.of(recorded(tmp_path / "a", [(1, line(**{"full": [1.0] * 4, **changes}))])) is None


def test_a_run_without_them(tmp_path):
    run = recorded(tmp_path / "a", [(1, Estimate("loss", 1.0)), (2, Estimate.failed("batch_line", "none"))])
    assert BatchLine.of(run) is None
    assert FullLossStep.of(run) is None
    assert math.isfinite(run.last_step)
