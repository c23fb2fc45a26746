"""Regime: the label, the window and the sentence, for every kind of run there is."""

import math
from pathlib import Path

import numpy as np
import pytest

from sgdscope import edge_units
from sgdscope.edge_units import EdgeUnits, halved, trend, window_mean
from sgdscope.estimate import Estimate
from sgdscope.records import Run, RunWriter, open_run
from sgdscope.regime import label, standing
from sgdscope.series import Series

LR = 0.5  # plain SGD: the edge at 4
SGD = {"method": "sgd", "momentum": 0.0, "full_batch": False}
MOMENTUM = {"method": "momentum", "momentum": 0.9, "full_batch": False}
FULL = {"method": "sgd", "momentum": 0.0, "full_batch": True}
ADAMW = {"method": "AdamW", "momentum": 0.9, "full_batch": False}


def rows_of(name, readings, error=0.02):
    """Rows from {step: value} or a function of the step over steps 0, 100, .. 4000."""
    if callable(readings):
        readings = {step: readings(step) for step in range(0, 4001, 100)}
    return [(step, step / 100, Estimate(name, value, error * abs(value))) for step, value in readings.items()]


def run_of(optimizer=SGD, status="finished", lr=LR, **quantities):
    rows = rows_of("learning_rate", lr if isinstance(lr, dict) else {0: lr}, error=0.0)
    for name, readings in quantities.items():
        rows += rows_of(name, readings)
    manifest = {"format": 1, "status": status, "optimizer": optimizer}
    return Run(Path("run"), manifest, tuple(sorted(rows, key=lambda row: row[0])), 0)


def flat(level):
    rng = np.random.default_rng(0)
    return lambda step: level * (1 + 0.01 * rng.normal())


def outcomes(run):
    return [verdict.outcome for verdict in run.verdicts()]


# --- labels


@pytest.mark.parametrize(
    ("x", "error", "rise", "noise", "said"),
    [
        (0.97, 0.02, 0.01, None, "at the edge"),
        (0.86, 0.02, 0.01, 1.0, "at the edge"),
        (1.14, 0.02, 0.01, 1.0, "at the edge"),
        (1.30, 0.02, 0.01, 1.0, "above the edge"),
        (1.20, 0.15, 0.01, 1.0, "at the edge"),  # within two standard errors of the edge itself
        (0.90, 0.02, 0.20, None, "approaching the edge"),  # not flat yet
        (0.90, 0.02, 0.05, None, "at the edge"),
        (1.02, 0.02, 0.20, None, "at the edge"),
        (0.70, 0.02, 0.10, 1.0, "approaching the edge"),
        (0.70, 0.02, 0.01, 1.0, "below the edge"),
        (0.70, 0.02, -0.20, 1.0, "below the edge"),
        (0.29, 0.02, 0.00, 1.0, "stable, noise-driven"),  # measured: lr 0.1, batch 8
        (0.29, 0.02, 0.00, 0.4, "below the edge"),
        (0.29, 0.02, 0.00, 3.0, "below the edge"),
        (0.29, 0.02, 0.10, None, "approaching the edge"),
        (0.29, 0.02, None, None, "below the edge"),
        (-0.5, 0.02, None, None, "below the edge"),
    ],
)
def test_label(x, error, rise, noise, said):
    change = Estimate.failed("trend", "few readings") if rise is None else Estimate("trend", rise, 0.01)
    assert label(Estimate("x", x, error), change, None if noise is None else Estimate("n", noise)) == said


def test_label_without_position():
    assert label(Estimate.failed("x", "why"), Estimate("trend", 1.0, 0.1), None) == "unknown"


# --- plain SGD


def test_at_the_edge():
    run = run_of(batch_sharpness=flat(3.9), lambda_max=flat(2.7), edge_ratio=flat(2.0))
    said = run.standing()
    assert said.regime == "at the edge"
    assert float(said.edge) == pytest.approx(3.9 / 4, rel=0.01)
    assert said.edge.name == "batch_sharpness"
    assert float(said.lambda_max) == pytest.approx(2.7 / 4, rel=0.01)
    assert (said.window, said.edge.count, said.threshold.value) == ((3000, 4000), 11, 4)
    assert said.headline.startswith("At the edge of stochastic stability: batch sharpness is 0.97")
    assert "of the threshold 2 / lr, λ_max of the full loss is 0.6" in said.headline
    assert outcomes(run) == ["agrees"] * 3
    assert "can fail only from above" in said.verdicts[0].scope


def test_readings_over_the_threshold_disagree():
    run = run_of(batch_sharpness=flat(6.0), lambda_max=flat(7.0))
    assert run.standing().regime == "above the edge"
    assert run.standing().headline.startswith("Above the edge: batch sharpness is 1.50")
    assert outcomes(run) == ["disagrees", "unassessed", "disagrees"]


def test_doubt_of_the_solver_reaches_the_verdict():
    base = run_of(batch_sharpness=flat(4.0))
    for residual, outcome in ((0.01, "agrees"), (0.8, "undecided")):
        lambdas = tuple((s, 0.0, Estimate("lambda_max", 3.6, residual=residual)) for s in range(3000, 4001, 100))
        assert outcomes(Run(base.path, base.manifest, base.rows + lambdas, 0))[2] == outcome


def test_doubt_of_both_counts_in_lambda_max_below_batch_sharpness():
    run = run_of(batch_sharpness={4000: 4.0}, lambda_max={4000: 3.9})
    assert outcomes(run)[2] == "undecided"
    assert "not a theorem" in run.verdicts()[2].scope


def test_below_the_edge_nothing_is_claimed():
    run = run_of(batch_sharpness=flat(2.0), lambda_max=flat(2.5), edge_ratio=flat(1.0))
    assert run.standing().regime == "below the edge"
    assert run.standing().headline.startswith("Below the edge: batch sharpness is 0.5")
    assert outcomes(run) == ["unassessed"] * 3
    assert "has not reached the edge" in run.verdicts()[0].measured.reason


def test_climbing():
    run = run_of(batch_sharpness=lambda step: 1 + 1.8 * step / 4000)
    assert run.standing().regime == "approaching the edge"
    assert float(run.standing().trend) == pytest.approx(1.8 / 4 / 4, rel=1e-6)
    assert run.standing().headline.startswith("Below the edge, and climbing towards it: batch sharpness")


def test_noise_driven():
    run = run_of(batch_sharpness=flat(1.2), gradient_noise_interaction=flat(4.0))
    assert run.standing().regime == "stable, noise-driven"
    assert float(run.standing().noise_interaction) == pytest.approx(1.0, rel=0.02)
    assert "oscillates from noise, not from instability: batch sharpness is 0.30" in run.standing().headline


def test_interaction_measured_beside_batch_sharpness_counts_too():
    beside = {"gradient_noise_interaction": Estimate("gradient_noise_interaction", 4.0)}
    rows = tuple((step, 0.0, Estimate("batch_sharpness", 1.2, 0.01, beside=beside)) for step in range(0, 1000, 100))
    base = run_of()
    run = Run(base.path, base.manifest, base.rows + rows, 0)
    assert run.standing().regime == "stable, noise-driven"


def test_streamed_readings_only():
    run = run_of(edge_ratio=flat(1.96), lambda_max=flat(2.7))
    said = run.standing()
    assert (said.regime, said.edge.name) == ("at the edge", "edge_ratio")
    assert float(said.edge) == pytest.approx(0.98, rel=0.01)
    assert "the streamed edge ratio is 0.9" in said.headline
    assert outcomes(run) == ["unassessed", "agrees", "unassessed"]
    assert "no reading of batch_sharpness to hold it against" in run.verdicts()[2].measured.reason
    # its level needs no learning rate: the realised step holds it
    assert run_of(lr={}, edge_ratio=flat(1.96)).standing().regime == "at the edge"


def test_trend_from_the_finer_streamed_readings():
    run = run_of(batch_sharpness={0: 1.0, 4000: 2.4}, edge_ratio=lambda step: 0.5 + 0.7 * step / 4000)
    assert run.standing().regime == "approaching the edge"
    assert float(run.standing().trend) == pytest.approx(0.7 / 4 / 2, rel=1e-6)


def test_a_single_reading():
    run = run_of(batch_sharpness={0: 1.6})
    said = run.standing()
    assert (said.regime, said.window) == ("below the edge", (0, 0))
    assert said.headline == "Below the edge: batch sharpness is 0.400 ± 0.008 (one reading) of the threshold 2 / lr."
    assert said.trend.value is None
    assert run_of(batch_sharpness={7: 3.8}).standing().regime == "at the edge"


def test_sparse_readings_before_the_window_count():
    run = run_of(batch_sharpness={0: 1.0, 2000: 3.9}, loss=flat(0.1))
    assert run.standing().window == (3000, 4000)
    assert float(run.standing().edge) == pytest.approx(0.975)


def test_failed_readings_say_why():
    rows = (*run_of().rows, (10, 0.0, Estimate.failed("batch_sharpness", "no second derivative")))
    run = Run(Path("run"), run_of().manifest, rows, 0)
    assert run.standing().headline == "Not known yet: batch sharpness could not be measured (no second derivative)."


# --- learning rates that change


def test_window_starts_at_the_last_change():
    def sharpness(step):
        return 4.0 if step < 3500 else 2.0

    run = run_of(lr={0: 0.5, 3500: 1.0}, batch_sharpness=sharpness)
    assert run.standing().window == (3500, 4000)
    assert float(run.standing().edge) == pytest.approx(1.0)
    assert run.standing().threshold.value == 2
    # a learning rate recorded again and again without change is no change
    constant = run_of(lr=dict.fromkeys(range(0, 4001, 100), 0.5), batch_sharpness=flat(3.9))
    assert constant.standing().window == (3000, 4000)
    assert EdgeUnits.of(constant).last_change() == 0


def test_change_after_the_last_reading_is_said():
    run = run_of(lr={0: 0.5, 3900: 1.0}, batch_sharpness={0: 1.0, 3000: 3.9}, loss=flat(0.1))
    assert "before the learning rate changed at step 3,900, batch sharpness is 0.97" in run.standing().headline
    assert run.standing().threshold.value == 4


@pytest.mark.parametrize("every", [1, 10, 100, 400])
def test_cosine_keeps_its_window(every):
    rates = {step: 0.5 * (1 + math.cos(math.pi * step / 4040)) / 2 for step in range(0, 4001, every)}
    lr_at = lambda step: rates[step - step % every]  # noqa: E731
    run = run_of(lr=rates, batch_sharpness=lambda step: 0.95 * 2 / lr_at(step))
    said = run.standing()
    assert said.window == (3000, 4000)
    assert said.edge.count == 11
    assert float(said.edge) == pytest.approx(0.95)  # each reading against the threshold of its own step
    assert said.regime == "at the edge"
    assert "here the learning rate changed all through the window" in said.verdicts[0].scope


def test_milestones_are_not_a_schedule():
    run = run_of(lr={0: 0.5, 2000: 0.25, 3000: 0.1, 3600: 0.05}, batch_sharpness=flat(20.0))
    assert run.standing().window == (3600, 4000)
    assert "changed all through" not in run.verdicts()[0].scope


def test_warm_up():
    up = {step: 0.5 * step / 1000 for step in range(1000)}
    run = run_of(lr={**up, 1000: 0.5}, batch_sharpness=flat(3.9))
    assert (run.standing().window, run.standing().regime) == ((3000, 4000), "at the edge")
    still = run_of(lr={k: v for k, v in up.items() if k <= 400}, batch_sharpness={0: 3.0, 200: 3.0, 400: 3.0})
    assert still.standing().window == (300, 400)
    assert float(still.standing().edge) == pytest.approx(3.0 * 0.2 / 2)
    start = run_of(lr={0: 0.0}, batch_sharpness={0: 3.0})
    assert (
        start.standing().headline == "Not known yet: batch sharpness was measured only where the learning rate was 0."
    )
    assert start.verdicts() == ()
    # a schedule that ends at 0 is read up to there
    ended = run_of(lr={0: 0.5, 4000: 0.0}, batch_sharpness={0: 1.0, 3500: 3.9, 4000: 3.9})
    assert float(ended.standing().edge) == pytest.approx(0.975)
    assert ended.standing().threshold.value == 4


def test_resumed_and_rewound(tmp_path):
    with RunWriter.create(tmp_path / "run", {"optimizer": SGD}) as writer:
        writer.append(0, Estimate("learning_rate", LR))
        for step in range(0, 4001, 100):
            writer.append(step, Estimate("batch_sharpness", 4.0 if step <= 2000 else 40.0, 0.1))
    assert open_run(tmp_path / "run").standing().regime == "above the edge"
    with RunWriter.reopen(tmp_path / "run", rewind_to=2000) as writer:
        writer.append(2000, Estimate("learning_rate", LR))  # said again on resuming
        assert open_run(tmp_path / "run").standing().regime == "at the edge"
        for step in range(2000, 4001, 100):
            writer.append(step, Estimate("batch_sharpness", 3.0, 0.1))
    said = open_run(tmp_path / "run").standing()
    assert (said.regime, said.window, said.edge.count) == ("below the edge", (3000, 4000), 11)
    assert float(said.edge) == pytest.approx(0.75)


# --- other optimizers


@pytest.mark.parametrize("method", ["momentum", "nesterov"])
def test_momentum_is_held_against_its_small_batch_level(method):
    run = run_of({**MOMENTUM, "method": method}, batch_sharpness=flat(0.4), lambda_max=flat(0.3), edge_ratio=flat(0.9))
    said = run.standing()
    assert (said.regime, said.threshold.value) == ("at the edge", pytest.approx(0.4))
    assert "of the small-batch threshold 2 (1 − β) / lr" in said.headline
    assert "small batch" in said.verdicts[0].scope
    assert outcomes(run) == ["agrees", "unassessed", "agrees"]
    assert "no known level" in said.verdicts[1].measured.reason


@pytest.mark.parametrize(("method", "large"), [("momentum", 19.0), ("nesterov", 19 / 2.8)])
def test_momentum_between_its_two_levels_is_not_called_unstable(method, large):
    for x, expected in ((0.9 * large, "unknown"), (1.5, "unknown"), (1.3 * large, "above the edge")):
        run = run_of({**MOMENTUM, "method": method}, batch_sharpness=flat(0.4 * x))
        assert run.standing().regime == expected
        assert run.standing().headline.startswith("Between the small-batch" if expected == "unknown" else "Above")
        assert outcomes(run)[0] == ("unassessed" if expected == "unknown" else "disagrees")


def test_momentum_with_streamed_readings_only():
    said = run_of(MOMENTUM, edge_ratio=flat(2.0)).standing()
    assert said.regime == "unknown"
    assert said.headline.startswith("No theory says where the edge ratio settles under momentum: half the generalised")


def test_sgd_named_with_momentum_and_momentum_without():
    assert EdgeUnits.of(run_of({"method": "sgd", "momentum": 0.9})).method == "momentum"
    assert EdgeUnits.of(run_of({"method": "SGD", "momentum": 0.9, "nesterov": True})).method == "nesterov"
    assert EdgeUnits.of(run_of({"method": "nesterov", "momentum": 0})).method == "sgd"
    assert EdgeUnits.of(run_of({"momentum": 0.9})).threshold_at(0).value == pytest.approx(0.4)


@pytest.mark.parametrize("momentum", [1.0, -0.5, "0.9", [0.9], {}.keys])
def test_momentum_that_is_none_has_no_theory(momentum):
    units = EdgeUnits.of(run_of({"method": "momentum", "momentum": momentum}))
    assert not units.has_theory
    assert units.threshold_at(0) is None


def test_adamw():
    run = run_of(ADAMW, edge_ratio=flat(1.94), batch_sharpness=flat(900.0), lambda_max=flat(800.0))
    said = run.standing()
    assert (said.regime, said.threshold, said.verdicts) == ("unknown", None, ())
    assert said.headline.startswith("No theory says where the edge ratio settles under AdamW: half the generalised")
    assert "0.97" in said.headline
    assert said.lambda_max.value is None
    without = run_of(ADAMW, lambda_max=flat(800.0)).standing()
    assert without.headline == ("Not known yet: no theory names an edge for AdamW, and no edge ratio was recorded.")


@pytest.mark.parametrize("optimizer", [None, [], "sgd", 3])
def test_an_optimizer_that_is_not_named_is_not_taken_for_sgd(optimizer):
    said = run_of(optimizer, batch_sharpness=flat(3.9)).standing()
    assert (said.regime, said.threshold) == ("unknown", None)
    assert "an unnamed optimizer" in said.headline


# --- full batch


def test_full_batch_looks_at_lambda_max():
    run = run_of(FULL, lambda_max=flat(4.1), batch_sharpness=flat(4.0))
    said = run.standing()
    assert (said.regime, said.edge.name) == ("at the edge", "lambda_max")
    assert said.headline.startswith("At the edge of stability: λ_max is 1.02")
    assert said.headline.endswith("of the threshold 2 / lr.")
    assert outcomes(run) == ["agrees"]


def test_full_batch_below_the_edge_is_no_disagreement():
    run = run_of(FULL, lambda_max=flat(2.0), gradient_noise_interaction=flat(4.0))
    assert run.standing().regime == "below the edge"
    assert outcomes(run) == ["unassessed"]


def test_full_batch_with_momentum():
    run = run_of({**MOMENTUM, "full_batch": True}, lambda_max=flat(7.5))
    assert float(run.standing().edge) == pytest.approx(7.5 * LR / (2 * 1.9), rel=0.01)
    assert run.standing().regime == "at the edge"
    nesterov = run_of({**MOMENTUM, "method": "nesterov", "full_batch": True}, lambda_max=flat(2.7))
    assert nesterov.standing().headline.endswith("of the threshold 2 (1 + β) / (lr (1 + 2β)).")
    assert nesterov.standing().regime == "at the edge"


def test_full_batch_without_lambda_max():
    run = run_of(FULL, batch_sharpness=flat(3.9))
    assert "the curvature along the gradient (at most λ_max) is 0.97" in run.standing().headline
    assert outcomes(run) == ["unassessed"]
    assert run_of(FULL).standing().headline == "Not known yet: no λ_max has been measured."


# --- divergence and huge numbers


def test_diverged_is_read_at_the_last_reading_and_claims_nothing():
    growing = {step: 2.0 * (1 if step < 3800 else 3 ** ((step - 3700) / 100)) for step in range(0, 4001, 100)}
    run = run_of(status="diverged", batch_sharpness={0: 3.0, 3000: 3.9}, edge_ratio=growing)
    said = run.standing()
    assert said.regime == "above the edge"
    assert said.headline.startswith("Diverged at step 4,000, above the edge: at the last readings the streamed edge")
    assert float(said.edge) == pytest.approx(27.0)
    assert set(outcomes(run)) == {"unassessed"}
    assert "diverged" in run.verdicts()[1].measured.reason


def test_diverged_without_sign_of_instability():
    said = run_of(status="diverged", batch_sharpness={0: 1.0, 90: 3.8}).standing()
    assert said.regime == "unknown"
    assert said.headline == (
        "Diverged at step 90: at the last readings batch sharpness is 0.95 ± 0.02 (one reading) "
        "of the threshold 2 / lr."
    )
    nothing = run_of(status="diverged", loss={3: 1e9}).standing()
    assert nothing.headline == "Diverged at step 3: no batch sharpness has been measured."


@pytest.mark.parametrize("value", [1e308, -1e308, 1e200, 1e-308])
@pytest.mark.parametrize("lr", [0.5, 1e-300, 1e300, 5e-324])
@pytest.mark.parametrize("status", ["finished", "diverged"])
def test_huge_numbers_end_in_words(value, lr, status):
    readings = dict.fromkeys(range(0, 1000, 100), value)
    run = run_of(
        status=status, lr=lr, batch_sharpness=readings, edge_ratio=readings, lambda_max=readings,
        gradient_noise_interaction=readings,
    )  # fmt: skip
    assert run.standing().headline.endswith(".")
    assert isinstance(run.verdicts(), tuple)


def test_an_empty_run():
    run = Run(Path("run"), {"format": 1}, (), 0)
    assert standing(run).regime == "unknown"
    assert standing(run).window == (0, 0)
    assert standing(run).verdicts == ()
    sgd = Run(Path("run"), {"format": 1, "optimizer": SGD}, (), 0)
    assert standing(sgd).headline == "Not known yet: no batch sharpness has been measured."
    silent = run_of(lr={}, batch_sharpness=flat(3.9))
    assert "no learning rate was recorded" in silent.standing().headline


def test_predicted_changes_are_handed_on():
    run = run_of(predicted_edge={4000: 1.45}, batch_sharpness=flat(3.9))
    assert [float(e) for e in run.standing().changes] == [1.45]


# --- the tools


def test_convert_takes_the_threshold_of_each_step_and_the_estimates_along():
    run = run_of(lr={0: 0.0, 100: 0.5, 200: 1.0}, batch_sharpness={0: 9.0, 100: 4.0, 150: 4.0, 200: 4.0})
    converted = EdgeUnits.of(run).convert(run["batch_sharpness"])
    assert converted.steps.tolist() == [100, 150, 200]
    assert converted.values.tolist() == [1, 1, 2]
    assert [float(e) for e in converted.estimates] == [1, 1, 2]
    assert converted.between(150, 200).values.tolist() == [1, 2]
    assert converted.standard_errors == pytest.approx([0.02, 0.02, 0.04])
    assert halved(run["batch_sharpness"]).values.tolist() == [4.5, 2, 2, 2]
    assert float(halved(run["batch_sharpness"]).latest) == 2


def series(pairs, error=0.0):
    return Series.of("x", [(step, 0.0, Estimate("x", value, error)) for step, value in pairs])


def test_window_mean_and_its_error():
    mean = window_mean(series([(0, 9.0), (1, 1.0), (2, 3.0), (3, 9.0)], 0.1), 1, 2)
    assert (mean.value, mean.count) == (2.0, 2)
    assert mean.standard_error == pytest.approx(math.sqrt(2) / math.sqrt(2))  # scatter: sd √2 over √2
    assert window_mean(series([(1, 2.0), (2, 2.0)], 0.3), 1, 2).standard_error == pytest.approx(0.3 / math.sqrt(2))
    solved = Series.of("x", [(s, 0.0, Estimate("x", (2.0, 1.0), residual=(r, 9.0))) for s, r in ((1, 0.1), (2, 0.3))])
    assert window_mean(solved, 1, 2).residual == 0.3  # the solver's doubt does not average out
    assert window_mean(solved, 1, 1).residual == 0.1
    assert window_mean(series([(1, 2.0)]), 1, 2).residual is None
    assert window_mean(series([]), 1, 2).reason == "no reading between steps 1 and 2"


def test_window_mean_error_covers_as_often_as_it_claims():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(400):
        mean = window_mean(series(enumerate(rng.normal(1.0, 0.2, 16)), 0.2), 0, 16)
        inside += abs(float(mean) - 1) < 2 * mean.standard_error
    assert 0.93 < inside / 400 < 0.995  # the larger of two errors: a little more than 0.954


def test_trend_and_its_error():
    exact = trend(series([(step, 1 + 0.002 * step) for step in range(0, 1000, 100)]), 200, 900)
    assert exact.value == pytest.approx(0.002 * 700)
    assert exact.standard_error == pytest.approx(0, abs=1e-12)
    rng = np.random.default_rng(2)
    found = [trend(series(enumerate(rng.normal(0, 0.1, 12))), 0, 11) for _ in range(400)]
    spread = np.std([float(e) for e in found])
    assert np.mean([e.standard_error**2 for e in found]) ** 0.5 == pytest.approx(spread, rel=0.15)
    assert "4 at different steps make a trend" in trend(series([(5, 1.0)] * 6), 0, 9).reason
    assert trend(series([(1, 1.0), (2, 2.0)]), 0, 9).value is None


def test_window_is_a_quarter():
    assert edge_units.WINDOW == 0.25
    assert EdgeUnits.of(run_of()).window(4000) == (3000, 4000)
    assert EdgeUnits.of(run_of()).window(0) == (0, 0)
