"""Trials and their answers: what agrees, what is open, what is doubted, and how it reads."""

import numpy as np
import pytest

from sgdscope.diagonal import GaussianData, SampledData, Setting, diagonal, run_trial
from sgdscope.report.draw import save

FAST = {"replicas": 2000, "seed": 1}


def outcomes(trial):
    return {row.verdict.measured.name if row.shown is None else row.shown.name: row.verdict.outcome
            for row in trial.rows}  # fmt: skip


def seen(trial):
    return {one.measured.name: float(one.measured) for one in trial.observations}


@pytest.fixture(scope="module")
def two_layers():
    return run_trial(Setting(GaussianData(1.0, 1.0), 0.01), replicas=8000, seed=1)


def test_small_steps_agree(two_layers):
    found = outcomes(two_layers)
    for name in ("distance", "mean", "median", "5 % quantile", "95 % quantile", "standard deviation", "share near 0",
                 "growth_rate", "balance_decay"):  # fmt: skip
        assert found[name] == "agrees", name
    assert two_layers.warnings == []
    assert two_layers.replicas.steps == two_layers.wanted


def test_ergodicity_is_broken_at_two_layers(two_layers):
    found = seen(two_layers)
    assert found["at 0 from this start"] == 0
    assert found["at 0 from minus this start"] == 1
    assert found["distance of the ends from both starts"] == 1
    assert found["has crossed 0"] == found["diverged"] == 0
    assert found["distance of half time and end"] < 0.06


def test_regression_forgets_its_start():
    found = run_trial(Setting(GaussianData(1.0, 1.0), 0.02, depth=0), (3.0,), **FAST)
    assert outcomes(found)["distance"] == "agrees"
    assert seen(found)["distance of the ends from both starts"] < 0.06
    assert found.decay is None


def test_large_steps_do_not_agree():
    found = outcomes(run_trial(Setting(GaussianData(1.0, 1.0), 0.05), **FAST))
    assert found["distance"] == "disagrees"
    assert found["growth_rate"] == "agrees"  # which is that of the steps themselves


def test_networks_collapse_above_the_critical_temperature():
    found = run_trial(Setting(GaussianData(-1.0, 100.0), 0.02), **FAST)
    assert found.law.places == (0.0,)
    assert all(outcome in ("agrees", "undecided") for name, outcome in outcomes(found).items() if "within" in name)
    assert seen(found)["at 0 from this start"] == 1
    assert found.growth.rate.value < 0


def test_subnetworks_of_the_wrong_sign_die():
    found = run_trial(Setting(GaussianData(1.0, 1.0), 0.01, depth=2, width=3), (0.5, 0.4, -0.3), steps=20_000, **FAST)
    assert found.law.width == 2
    assert seen(found)["live subnetworks"] == pytest.approx(2.0, abs=0.05)
    assert outcomes(found)["distance"] == "agrees"
    ends = found.replicas.end
    assert np.median(np.abs(ends[:, 0] - ends[:, 1])) < 0.05  # of equal sign: they become equal


def test_weight_decay_at_three_layers_is_compared_before_the_collapse():
    setting = Setting(GaussianData(1.0, 4.0), 0.005, depth=2, weight_decay=0.36)
    found = run_trial(setting, (0.85**3,), steps=16_000, **FAST)
    assert found.law.metastable
    assert 0.01 < seen(found)["has collapsed"] < 0.15
    assert len(found.held) < len(found.replicas.v)
    assert any("metastable" in warning for warning in found.warnings)
    assert outcomes(found)["distance"] == "agrees"


def test_too_few_steps_are_said():
    found = run_trial(Setting(GaussianData(1.0, 1.0), 0.01), (0.05,), steps=20, **FAST)
    assert any("may not have settled" in warning for warning in found.warnings)
    assert any("half time" in warning for warning in found.warnings)


def test_unlike_layers_are_given_time():
    setting = Setting(GaussianData(1.0, 1.0), 0.01)
    alike, unlike = (run_trial(setting, start, **FAST).wanted for start in ((0.6,), (2.0, 0.3)))
    assert unlike > 5 * alike


def test_data_without_a_slope():
    found = run_trial(Setting(GaussianData(0.0, 1.0), 0.01), steps=100, **FAST)
    assert "no mean" in found.law.reason
    assert found.growth is None


def test_interpolating_data_are_learned():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(50)
    found = run_trial(Setting(SampledData(x, 2 * x), 0.02), (0.5,), **FAST)
    assert found.law.places == (pytest.approx(2.0),)
    assert set(outcomes(found).values()) <= {"agrees", "undecided"}


def test_interrupted_runs_are_compared_as_far_as_they_came():
    def stop(share):
        raise KeyboardInterrupt

    found = run_trial(Setting(GaussianData(1.0, 1.0), 0.01), steps=4_000_000, progress=stop, **FAST)
    assert 0 < found.replicas.steps < 4_000_000
    assert any(warning.startswith("interrupted after") for warning in found.warnings)
    assert outcomes(found)["mean"] == "agrees"


def test_too_few_replicas_are_refused():
    with pytest.raises(ValueError, match="at least 100 replicas"):
        run_trial(Setting(GaussianData(), 0.01), replicas=50)


@pytest.fixture(scope="module")
def from_a_file(tmp_path_factory):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(300)
    path = tmp_path_factory.mktemp("data") / "pairs.csv"
    lines = [f"{a},{b}" for a, b in zip(x, 0.8 * x + 12 * rng.standard_normal(300), strict=True)]
    path.write_text("\n".join(["x,y", *lines]))
    return diagonal(lr=0.001, data_file=path, replicas=2000)


def test_an_answer_from_a_file_states_errors(from_a_file):
    moments, phases, comparison, open_ = from_a_file.tables
    assert moments.title == "Data: 300 pairs of pairs.csv, drawn with replacement; errors: the data as a sample of more"
    assert all(" ± " in value for _, value in moments.rows)
    named = dict(phases.rows)
    assert " ± " in named["T_c: from here on all mass at 0"]
    assert " ± " in named["T_c of steps of finite size"]
    assert named["regime"].split(":")[0] in ("III", "IIa", "IIb", "Ia")
    assert comparison.rows[0][0] == "distance of distributions"
    assert {row[0] for row in open_.rows} >= {"at 0 from minus this start", "diverged"}
    assert str(from_a_file).endswith("sections 4.2 and A.8")


def test_pictures(from_a_file, tmp_path):
    density, tail = from_a_file.draw()
    assert "stationary law (distance" in density.title
    assert tail.log_up
    assert save([density, tail], tmp_path / "a.png").stat().st_size > 10_000
    (collapse,) = diagonal(lr=0.02, noise_variance=100.0, replicas=1000, steps=2000).draw()
    assert collapse.title == "The networks collapse to 0"
    assert save(collapse, tmp_path / "b.svg").stat().st_size > 5_000


def test_negative_optima_are_drawn_the_other_way_round():
    density, _ = diagonal(slope=-1.0, replicas=1000, steps=300).draw()
    assert density.across == "−v"
    assert density.span_across[0] > 0


def test_depth_two_has_no_phases():
    answer = diagonal(depth=2, replicas=500, steps=100)
    assert not any("Phases" in table.title for table in answer.tables)


def test_without_a_slope_there_are_no_phases():
    answer = diagonal(slope=0.0, replicas=500, steps=100)
    assert dict(answer.tables[1].rows)["no phases"].startswith("expected weight decay")


def test_when_everything_diverges_that_is_what_is_said():
    answer = diagonal(lr=1.5, replicas=500)
    assert "100 % of the replicas diverged" in str(answer)
    assert {row[0]: row[1] for row in answer.tables[-1].rows}["diverged"].startswith("1.0")
    assert answer.draw() == []
    regression = run_trial(Setting(GaussianData(1.0, 1.0), 5.0, depth=0), replicas=500)
    assert regression.replicas.diverged == 1
    assert regression.rows == []
