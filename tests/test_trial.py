"""Trials: ensembles beside theory, with verdicts that can go both ways."""

import pytest

from sgdscope.theory.fokker_planck import Line
from sgdscope.theory.potential import Potential
from sgdscope.trial import trial

QUARTIC = "(x**2-1)**2/4"


def rows(table):
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def value(cell):
    return float(cell.split(" ± ")[0])


@pytest.fixture(scope="module")
def small_steps():
    return trial(QUARTIC, lr=0.02, batch_size=0.24, variance="1+x**2", replicas=4000, seed=1, threads=1)


def test_sgd_agrees_with_the_diffusion_at_small_steps(small_steps):
    found = rows(small_steps.tables[1])
    escape = found["mean time from -1 to 1"]
    assert float(escape["predicted"]) == pytest.approx(384.383, rel=1e-5)  # 2 B / lr = 24
    assert value(escape["simulated"]) == pytest.approx(384.383, rel=0.06)
    assert escape["verdict"].startswith(("agrees", "undecided"))
    assert found["distance of distributions at the end"]["verdict"].startswith("agrees")
    assert found["mean x at the end"]["verdict"] == "agrees within errors"


def test_disagreement_is_said():
    # large steps: faster by far than the diffusion of the same temperature
    answer = trial(QUARTIC, lr=1 / 3, batch_size=4, variance="1+x**2", replicas=4000, steps=4000, threads=1)
    found = rows(answer.tables[1])
    escape = found["mean time from -1 to 1"]
    assert float(escape["predicted"]) == pytest.approx(384.383, rel=1e-5)
    assert value(escape["simulated"]) < 230
    assert escape["verdict"].startswith("disagrees (-")


@pytest.mark.parametrize(
    ("arguments", "name", "predicted"),
    [
        ({"process": "diffusion", "temperature": 0.1, "step": 0.02}, "mean time from -1 to 1", 66.27),
        ({"process": "white-noise", "lr": 0.02, "temperature": 0.1}, "mean time from -1 to 1", 66.27),
        ({"process": "kinetic", "lr": 0.01, "batch_size": 0.5, "momentum": 0.9},
         "mean time from -1 to 1 (predicted to leading order)", None),
        ({"process": "sgd", "lr": 0.01, "batch_size": 0.5, "momentum": 0.9, "nesterov": True},
         "mean time from -1 to 1 (predicted to leading order)", None),
    ],
)  # fmt: skip
def test_every_process(arguments, name, predicted):
    found = rows(trial(QUARTIC, **arguments, replicas=2000, threads=1).tables[1])
    if predicted is not None:
        assert float(found[name]["predicted"]) == pytest.approx(predicted, rel=0.01)
        assert value(found[name]["simulated"]) == pytest.approx(predicted, rel=0.12)
    else:
        assert value(found[name]["simulated"]) == pytest.approx(float(found[name]["predicted"]), rel=0.35)
    if "nesterov" not in arguments:  # at this step no heavy ball
        assert found["distance of distributions at the end"]["verdict"].startswith("agrees")


def test_the_time_step_of_kinetic_motion_does_not_change_its_clock():
    # learning rate · iterations is √lr times kinetic time, however finely that is cut
    settings = {"process": "kinetic", "lr": 0.01, "batch_size": 0.5, "momentum": 0.9, "replicas": 2000, "threads": 1}
    name = "mean time from -1 to 1 (predicted to leading order)"
    whole, half = (rows(trial(QUARTIC, **settings, step=step).tables[1])[name] for step in (0.1, 0.05))
    assert value(half["simulated"]) == pytest.approx(value(whole["simulated"]), rel=0.12)


def test_the_prediction_is_the_generator_s():
    line = Line.of_potential(Potential(QUARTIC), 0.1)
    assert line.mean_first_passage_time(1.0, start=-1.0) == pytest.approx(66.27, rel=1e-3)


def test_two_dimensions_and_a_condition_of_ones_own():
    answer = trial(f"{QUARTIC}+y**2", lr=0.1, variables=("x", "y"), until="x > 0", replicas=500, steps=2000, threads=1)
    found = rows(answer.tables[1])
    assert value(found["mean time until x > 0"]["simulated"]) > 50
    assert found["mean y at the end"]["verdict"] == "–"
    assert answer.draw() == []


def test_noise_that_never_escapes_is_simulated_all_the_same():
    answer = trial(QUARTIC, lr=0.1, variance="x**2", replicas=200, steps=1000, threads=1)
    assert "nothing escaped" in rows(answer.tables[1])["mean time from -1 to 1"]["simulated"]
    assert "no escape time: expected a diffusion > 0" in str(answer)


def test_pictures(small_steps):
    paths, law, survival = small_steps.draw()
    assert len(paths.shapes) == 3
    assert [shape.label for shape in law.shapes] == ["simulated", "predicted, Fokker-Planck"]
    assert [shape.label for shape in survival.shapes][-1] == "predicted mean"


def test_processes_give_the_same_numbers():
    one = trial(QUARTIC, lr=0.05, batch_size=0.6, replicas=1000, steps=300, threads=1)
    shared = trial(QUARTIC, lr=0.05, batch_size=0.6, replicas=1000, steps=300, executor="1")
    assert shared.tables[1] == one.tables[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"potential": QUARTIC, "lr": 0.1, "executor": "many"}, "number of processes or an address"),
        ({"potential": "x**3-x", "lr": 0.1}, "not confining"),
        ({"potential": QUARTIC, "lr": 3}, "stable in some minimum"),
        ({"potential": QUARTIC, "temperature": 0.1}, "learning rate and a variance with process sgd"),
        ({"potential": QUARTIC, "lr": 0.1, "process": "diffusion", "momentum": 0.9}, "momentum with process sgd"),
        ({"potential": QUARTIC, "lr": 0.1, "step": 0.1}, "step with diffusion and kinetic only"),
        ({"potential": QUARTIC, "lr": 0.1, "process": "kinetic", "two_point": True}, "two-point noise with"),
        ({"potential": QUARTIC, "lr": 0.1, "process": "flow"}, "among sgd, white-noise"),
        ({"potential": QUARTIC, "lr": 0.1, "start": (1.0, 2.0)}, "1 coordinates, got 2"),
        ({"potential": QUARTIC, "lr": 0.1, "process": "kinetic", "variance": "1+x**2"}, "constant variance"),
        ({"potential": "x**4", "lr": 0.1}, "no minimum of positive curvature"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        trial(**arguments)
