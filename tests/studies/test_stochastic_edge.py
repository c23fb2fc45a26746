"""The study of the stochastic edge: judges follow theory and what was measured; its cells train, fork and change."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from hand_made import judged as judged_by_rows
from hand_made import outcomes
from tests.quick_readings import quick_readings

from sgdscope import train
from sgdscope.config import RunConfig
from sgdscope.estimate import Estimate
from sgdscope.records import open_run
from sgdscope.risk import Risk
from sgdscope.series import Series
from sgdscope.studies import SIZES, Study, carry_out, recipe
from sgdscope.studies.stochastic_edge import StochasticEdge, forks, noise, runs
from sgdscope.studies.stochastic_edge.window import QUANTITIES, mean_of_blocks, over_runs
from sgdscope.studies.trained import finished
from sgdscope.theory import stability

TOY = StochasticEdge.of_size("toy")
HOVERS, OF_MEANS = "rises and then hovers at 2 / lr", "The ratio of expectations"


def estimate(value: float, error: float = 0.002, name: str = "x") -> Estimate:
    return Estimate(name, value, abs(value) * error, count=20)


def settled(lr: float, batch_size: int, **given: float) -> dict:
    """A run in which everything is as the paper says, or as `given` (in edge units; trend and loss as they are)."""
    edge = 2 / lr
    units = {"batch_sharpness": 0.98, "ratio_of_expectations": 1.0, "lambda_max": 0.6 + batch_size / 1000,
             "gradient_noise_interaction": 1.0, "interaction_aware_sharpness": 0.3}  # fmt: skip
    values = {name: edge * given.get(name, value) for name, value in units.items()}
    values |= {"gradient_signal": 0.3, "edge_ratio": 2.0, "loss": 0.1, "trend": edge * given.get("trend", 0.01)}
    curve = {"steps": [0, 50, 100], "values": [0.5 * edge, edge, edge]}
    return {
        "status": "finished", "last_step": 100, "lr": lr, "batch_size": batch_size,
        **{name: estimate(value, name=name) for name, value in values.items()},
        "curves": dict.fromkeys(QUANTITIES, curve),
    }  # fmt: skip


def judged(nature) -> Study:
    """The toy, judged by what a world would give its cells."""
    return judged_by_rows(TOY, lambda cell: None if (found := nature(cell)) is None else rows(found))


def rows(result):
    """As cells keep it."""
    if isinstance(result, Estimate):
        return result.to_row()
    if isinstance(result, dict):
        return {key: rows(value) for key, value in result.items()}
    return [rows(value) for value in result] if isinstance(result, list) else result


def lost() -> dict:
    gone = Estimate.failed("x", "the run diverged at step 7", status="diverged")
    return {"status": "diverged", "last_step": 7, **dict.fromkeys((*QUANTITIES, "trend"), gone), "curves": {}}


def as_the_paper_says(cell):
    """Results of a cell in a world in which every claim holds."""
    s = cell.settings
    lr, b = s["run"]["lr"], s["run"]["batch_size"]
    edge, kind = 2 / lr, cell.name.split("-")[0]
    if kind == "forks":
        return {"lr": lr, "batch_size": b, "spike": 4.0, "calm": 2.0, "points": [
            {"step": at, "batch_sharpness": estimate(place * edge), "gradient_noise_interaction": estimate(edge),
             "mini_batch_sharpness": estimate(edge), "gradient_growth": estimate(1.5),
             "changes": [
                 {**change, "predicted": estimate(place * change["lr_factor"] * b / change["batch_size"]),
                  "excess": estimate(50.0 if place > 0.9 else 1.5), "diverged": 0, "orders": 2}
                 for change in s["changes"]]}
            for at, place in zip(s["at"], (0.4, 1.0), strict=True)]}  # fmt: skip
    if "changes" in s:
        after = []
        for change in s["changes"]:
            up = change["lr"] > lr or change["batch_size"] < b
            new = 2 / change["lr"]
            found = settled(change["lr"], change["batch_size"], lambda_max=(0.5 if up else 0.8) * edge / new)
            spike = {"steps": [150, 200], "values": [9 * edge, edge] if up else [edge, edge]}
            curves = found["curves"] | {"loss": spike}
            after.append({**found, "at_once": estimate((1.4 if up else 0.5) * new), "curves": curves})
        return {"before": settled(lr, b), "after": after}
    if kind == "descent":
        return settled(lr, b, lambda_max=1.01)
    if kind == "below":
        return settled(lr, b, batch_sharpness=0.2)
    if kind == "heavy":
        full = s["run"]["batch_size"] == s["run"]["subset"]
        return settled(lr, b, batch_sharpness=0.1, lambda_max=1.9 if full else 0.05)
    if kind == "noise":
        isotropic = s["shape"] == "isotropic"
        return settled(lr, b, **({"lambda_max": 1.0, "batch_sharpness": 1.4} if isotropic else {}))
    return settled(lr, b)


@pytest.fixture(scope="module")
def study():
    return judged(as_the_paper_says)


def again(**changed) -> Study:
    """As the paper says, but for the results of some cells, by the beginning of their names; None for no result."""

    def found(cell):
        for start, result in changed.items():
            if cell.name.startswith(start.replace("_", "-")):
                return result(cell) if callable(result) else result
        return as_the_paper_says(cell)

    return judged(found)


def test_where_all_holds_all_agrees_but_the_claim_about_noise_of_any_shape(study):
    left = [(f.claim.statement, f.of, f.verdict.outcome) for f in study.findings if f.verdict.outcome != "agrees"]
    assert [outcome for _, _, outcome in left] == ["disagrees", "unassessed"]
    assert "covariance noise" in left[0][1]
    assert "adaptive optimizers" in left[1][0]
    assert study.notes
    assert [figure.name for figure in study.figures] == [
        "curves", "plateaus", "lambda-max", "forks", "changes", "noise",
    ]  # fmt: skip


def test_another_threshold_turns_verdicts(monkeypatch):
    threshold = stability.sgd_threshold
    monkeypatch.setattr(stability, "sgd_threshold", lambda lr: threshold(2 * lr))
    turned = judged(as_the_paper_says)
    assert set(outcomes(turned, HOVERS)) == {"disagrees"}
    assert set(outcomes(turned, OF_MEANS)) == {"disagrees"}
    assert set(outcomes(turned, "λ_max of the full loss plateaus below")) == {"disagrees"}
    assert set(outcomes(turned, "After any such change")) == {"disagrees"}


def test_other_levels_of_momentum_and_of_descent_turn_verdicts(monkeypatch):
    monkeypatch.setattr(stability, "full_batch_threshold", lambda lr, *_, **__: stability.sgd_threshold(3 * lr))
    monkeypatch.setattr(stability, "gradient_growth_bound", lambda lr, sharpness: 4.0)
    monkeypatch.setattr(stability, "small_batch_momentum_threshold", lambda lr, momentum: stability.sgd_threshold(lr))
    turned = judged(as_the_paper_says)
    assert set(outcomes(turned, "With all data in one batch")) == {"disagrees"}
    assert set(outcomes(turned, "With momentum")) == {"disagrees"}
    assert set(outcomes(turned, "squared gradient grows")) == {"disagrees"}
    assert "disagrees" in outcomes(turned, "Noise that has the trace")


def test_a_run_below_the_edge_disagrees_and_one_that_climbs_is_not_assessed():
    flat = again(tanh=lambda c: settled(c.settings["run"]["lr"], 8, batch_sharpness=0.7))
    assert outcomes(flat, HOVERS)[:2] == ["disagrees"] * 2
    climbing = again(tanh=lambda c: settled(c.settings["run"]["lr"], 8, batch_sharpness=0.7, trend=0.2))
    finding = next(f for f in climbing.findings if HOVERS in f.claim.statement)
    assert finding.verdict.outcome == "unassessed"
    assert finding.measured == "still climbing at the end, at 0.70 of 2 / lr"


def test_a_run_that_diverged_is_told_and_the_others_are_judged():
    found = again(**{"tanh-lr0.7-b8": lost()})
    hovering = [f for f in found.findings if HOVERS in f.claim.statement]
    assert [f.verdict.outcome for f in hovering] == ["unassessed", "agrees", "agrees"]
    assert hovering[0].measured == "the run diverged at step 7"


def test_a_missing_cell_leaves_the_other_rows():
    found = again(**{"tanh-lr0.7-b8": None})
    hovering = [f for f in found.findings if HOVERS in f.claim.statement]
    assert [f.verdict.outcome for f in hovering] == ["unassessed", "agrees", "agrees"]
    assert "tanh-lr0.7-b8-0 is missing" in hovering[0].measured
    assert [figure.name for figure in found.figures] == ["plateaus", "forks", "changes", "noise"]


def test_forks_that_do_otherwise_than_predicted():
    def contrary(cell):
        found = as_the_paper_says(cell)
        for point in found["points"]:
            for change in point["changes"]:
                change["excess"] = estimate(1.0 if float(change["predicted"]) > 1 else 9.0)
        return found

    found = again(forks=contrary)
    assert outcomes(found, "past its edge blow up") == ["disagrees"]
    assert outcomes(found, "below its edge do not blow up") == ["disagrees"]
    assert set(outcomes(found, "At the edge, forks")) == {"disagrees"}
    assert outcomes(found, "Before the edge") == ["disagrees"]


def test_interaction_far_from_the_level_disagrees():
    def falling(cell):
        return {**as_the_paper_says(cell), "gradient_signal": estimate(0.6)}

    assert outcomes(again(below=falling), "Gradient-noise interaction") == ["disagrees"]


def test_noise_that_differs_from_batches():
    def other(cell):
        return settled(cell.settings["run"]["lr"], 8, lambda_max=0.9, batch_sharpness=1.3)

    found = again(noise_covariance=other)
    assert outcomes(found, "whatever its shape") == ["agrees", "agrees"]
    assert outcomes(found, "settles where SGD does") == ["disagrees", "disagrees"]


def test_an_optimizer_without_theory_is_never_judged(study):
    finding = study.findings[-1]
    assert finding.verdict.outcome == "unassessed"
    assert finding.predicted == "–"
    assert finding.measured == "1.0000 ± 0.0020"
    assert "exploratory" in finding.remark


def test_a_change_that_makes_no_difference():
    def idle(cell):
        found = as_the_paper_says(cell)
        (after,) = found["after"]
        after |= {"at_once": estimate(1.0), "lambda_max": found["before"]["lambda_max"]}
        after["curves"] = found["before"]["curves"]
        return found

    found = again(raised=idle)
    assert outcomes(found, "puts batch sharpness above") == ["disagrees"]
    assert outcomes(found, "λ_max settles lower") == ["undecided"]
    assert outcomes(found, "rises in a catapult") == ["disagrees"]


# -- windows ----------------------------------------------------------------------------------------------------------


def test_neighbouring_readings_are_alike_and_blocks_say_so():
    values = [1.0 + 0.1 * (k // 10) for k in range(50)]
    series = Series.of("x", [(k, 0.0, Estimate("x", v, 0.001)) for k, v in enumerate(values)])
    found = mean_of_blocks(series, 0, 49)
    assert found.value == pytest.approx(1.2)
    assert found.standard_error == pytest.approx(0.158 / 5**0.5, rel=0.01)
    assert mean_of_blocks(series, 20, 29).standard_error == pytest.approx(0.001 / 10**0.5)
    assert mean_of_blocks(series, 90, 99).value is None


def test_over_runs_counts_those_that_settled():
    runs_of = [estimate(1.0), Estimate.failed("x", "diverged", status="diverged"), estimate(1.2)]
    found = over_runs("x", runs_of)
    assert (found.value, found.count) == (pytest.approx(1.1), 2)
    assert found.standard_error == pytest.approx(0.1)
    assert over_runs("x", runs_of[1:2]).reason == "diverged"


# -- sizes and cells --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_every_size_makes_runs_that_can_be(size, tmp_path):
    made = StochasticEdge.of_size(size, data_dir=None if size == "toy" else tmp_path, seed=3)
    names = [cell.name for cell in made.cells()]
    assert len(set(names)) == len(names)
    for cell in made.cells():
        config = RunConfig.from_json(cell.settings["run"]).resolved()
        assert config.steps >= cell.settings.get("first", 0)
        if "at" in cell.settings:
            assert all(step % config.checkpoint_every == 0 for step in cell.settings["at"])
    assert len(made.claims()) >= 18


def test_the_papers_size_wants_data():
    with pytest.raises(ValueError, match="folder that holds CIFAR-10"):
        StochasticEdge.of_size("paper")
    assert {c.settings["run"]["data"] for c in StochasticEdge.of_size("small").cells()} == {"digits"}


def test_judging_needs_no_torch(tmp_path):
    code = (
        "import sys; from sgdscope.studies import recipe, reopened; "
        f"print(reopened(recipe('stochastic-edge'), {str(tmp_path)!r}).headline); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    headline, torch_loaded = done.stdout.splitlines()
    assert headline.endswith("not assessed")
    assert torch_loaded == "False"


SMALL = {"data": "digits", "subset": 48, "width": 6, "batch_size": 8, "lr": 0.2, "steps": 24, "every": 8,
         "checkpoint_every": 12, "keep_checkpoints": 0, "threads": 1, "seed": 0}  # fmt: skip


def test_a_training_is_changed_where_it_is(tmp_path, monkeypatch):
    quick_readings(monkeypatch)
    settings = {"run": SMALL, "first": 12, "changes": [{"lr": 0.4, "batch_size": 4}], "steps": 16, "settle": 8}
    found = runs.change(settings, tmp_path)
    (after,) = found["after"]
    assert (after["lr"], after["batch_size"], after["last_step"]) == (0.4, 4, 40)
    rows = open_run(tmp_path / "after-0")
    assert min(step for step, _, _ in rows.rows) >= 24
    assert set(rows["learning_rate"].values) == {0.4}
    assert {e.settings["batch_size"] for e in rows["batch_sharpness"].estimates} == {4}
    assert after["at_once"].settings["batch_size"] == 4
    before = open_run(tmp_path / "before")
    assert before.last_step == 24
    assert runs.change(settings, tmp_path)["after"][0]["curves"] == after["curves"]  # read back, not done again


def test_noise_takes_the_place_of_batches(tmp_path, monkeypatch):
    quick_readings(monkeypatch)
    settings = {"run": {**SMALL, "checkpoint_every": 24}, "shape": "isotropic", "first": 8}
    found = noise.noisy(settings, tmp_path)
    assert found["status"] == "finished"
    assert found["batch_sharpness"].value > 0
    assert found["lambda_max"].count == 3
    assert noise.noisy(settings, tmp_path)["curves"] == found["curves"]
    wild = noise.noisy({**settings, "run": {**SMALL, "lr": 50.0, "steps": 300}}, tmp_path / "wild")
    assert wild["status"] == "diverged"
    assert wild["batch_sharpness"].status == "diverged"


def test_forks_are_predicted_and_followed(tmp_path, monkeypatch):
    quick_readings(monkeypatch)
    monkeypatch.setattr(forks, "_BATCHES", 8)
    settings = {"run": SMALL, "at": [12, 24], "orders": 2, "steps": 5,
                "changes": [{"lr_factor": 1.2, "batch_size": 8}, {"lr_factor": 1.0, "batch_size": 4}]}  # fmt: skip
    found = forks.fork(settings, tmp_path)
    assert [point["step"] for point in found["points"]] == [12, 24]
    for point in found["points"]:
        assert [change["predicted"].name for change in point["changes"]] == ["predicted_edge"] * 2
        assert all(change["excess"].value > 0.5 for change in point["changes"])
        lr_up, smaller = (float(change["predicted"]) for change in point["changes"])
        assert 0 < lr_up < 1
        assert smaller > 0


def test_growth_of_a_gradient_on_a_quadratic():
    risk = Risk.of_function(lambda x, scale: (0.5 * scale * x[0] ** 2).mean(), [torch.tensor(2.0, dtype=torch.float64)],
                            torch.full((6,), 3.0, dtype=torch.float64))  # fmt: skip
    found = forks.gradient_growth(risk, 2, 0.5, 4, torch.Generator().manual_seed(0))
    assert found.value == pytest.approx((1 - 0.5 * 3.0) ** 2)
    assert found.standard_error == 0


def test_a_training_under_way_is_taken_up(tmp_path, monkeypatch):
    quick_readings(monkeypatch)
    whole = runs.settle({"run": SMALL, "first": 8}, tmp_path / "a")
    finished(RunConfig.from_json({**SMALL, "steps": 12}), tmp_path / "b")
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    manifest["status"], manifest["config"]["steps"] = "interrupted", 24
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(manifest))
    resumed = runs.settle({"run": SMALL, "first": 8}, tmp_path / "b")
    assert resumed["curves"]["loss"]["values"][-1] == whole["curves"]["loss"]["values"][-1]


def test_a_training_that_was_stopped_is_no_result(tmp_path, monkeypatch):
    quick_readings(monkeypatch)
    whole = train.train

    def stopped(config, path):
        def stop(step, *_):
            if step == 5:
                os.kill(os.getpid(), signal.SIGTERM)

        return whole(config, path, progress=stop)

    monkeypatch.setattr(train, "train", stopped)
    with pytest.raises(RuntimeError, match="stopped at step 5"):
        runs.settle({"run": SMALL, "first": 8}, tmp_path)
    assert runs.settle({"run": SMALL, "first": 8}, tmp_path)["last_step"] == 24


@pytest.mark.slow
def test_the_toy_is_carried_out(tmp_path):
    found = carry_out(recipe("stochastic-edge"), tmp_path, executor=0)
    assert found.results.failures == {}
    assert len(found.results) == len(TOY.cells())
    assessed = {f.claim.statement for f in found.findings if f.verdict.outcome != "unassessed"}
    assert [c.statement for c in TOY.claims() if c.statement not in assessed and "adaptive" not in c.statement] == []
    assert len(found.figures) == 6
    assert "disagrees" not in outcomes(found, HOVERS)
