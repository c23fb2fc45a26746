"""The study of the Fokker-Planck view: judges follow theory and nature; small ensembles are carried out."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from hand_made import estimate, judged, outcomes

from sgdscope.studies import carry_out, recipe
from sgdscope.studies.fokker_planck import FokkerPlanck, claims
from sgdscope.studies.fokker_planck.landscapes import DOUBLE_WELL, SKEWED, SPLIT, TILTED, landscape
from sgdscope.theory import escape, fokker_planck

TOY = FokkerPlanck.of_size("toy")


def share(odds: float):
    return {"averages": {f"x < {SPLIT}": estimate(odds / (1 + odds))}}


def as_theory_says(cell):
    """Cells of a world in which the exact laws of the differential equation hold."""
    kind, s = cell.name.split("-")[0], cell.settings
    well = landscape(DOUBLE_WELL)
    if kind == "weak":
        equation = fokker_planck.Line.of_potential(well, lambda x: 0.1 * (1 + x * x) / 2, cells=6000)
        (law,) = equation.evolve(equation.point(-1.0), (2.0,))
        return {"means": {"x²": estimate(float(law @ equation.centres**2) - 0.1 * s["lr"])}}
    if kind in ("skewed", "tilted"):
        return share(claims.exact_odds({"skewed": SKEWED, "tilted": TILTED}[kind], s["temperature"]))
    if kind == "curvature":
        return share(math.exp(claims.noisy_log_odds(s["ratio"])))
    if kind == "escape":
        mean = escape.first_passage(well.gradient, lambda x: s["temperature"] + 0 * x, -1.0, 1.0, value=well.value).mean
        return {"mean_time": estimate(mean)}
    if kind == "between":
        return {"rate": estimate(fokker_planck.relaxation_rates(well, s["temperature"]).gap)}
    if kind == "in":
        return {"rate": estimate(-math.log1p(-TOY.lr) / TOY.lr)}
    if kind == "momentum":
        time = escape.momentum_escape_time(0.25, 2.0, -1.0, s["temperature"], s["lr"], s["momentum"]).value
        return {"mean_time": estimate(1.06 * time)}
    flatter = 1.0 / s["batch_size"]
    values = {"lambda_max": 1 / flatter, "hessian_norm": 1 / flatter, "held_out": 0.9 + flatter + 1e-3 * s["of_seed"]}
    return {"measured": {name: estimate(value) for name, value in values.items()}}


@pytest.fixture(scope="module")
def study():
    return judged(TOY, as_theory_says)


def test_in_a_world_of_the_differential_equation(study):
    assert outcomes(study, "to first order") == ["agrees"]
    assert set(outcomes(study, "exp(−L / D) integrated")) == {"agrees"}
    assert set(outcomes(study, "integral over the stationary law")) == {"agrees"}
    assert set(outcomes(study, "gap of the Fokker-Planck operator")) == {"agrees"}
    assert outcomes(study, "where noise follows the curvature, ln odds") == ["agrees"]
    assert set(outcomes(study, "as the kinetic equation says")) == {"agrees"}
    assert set(outcomes(study, "larger batches")) <= {"agrees"}


def test_what_the_source_overlooks_disagrees_there(study):
    assert outcomes(study, "does not depend on batch size where noise follows") == ["disagrees"]
    assert outcomes(study, "rate of convergence is proportional") == ["disagrees"]
    assert "disagrees" in outcomes(study, "also where the sharp one is deeper")
    assert set(outcomes(study, "as plain SGD at lr / (1 − momentum)")) == {"disagrees"}
    assert "disagrees" in outcomes(study, "that of Eyring and Kramers")


@pytest.mark.parametrize(
    ("name", "words"),
    [("first_passage", "integral over the stationary law"), ("momentum_escape_time", "as the kinetic equation says"),
     ("log_mass_ratio", "exp(−L / D) integrated")],
)  # fmt: skip
def test_another_theory_turns_the_verdict(study, monkeypatch, name, words):
    original = getattr(escape, name)

    def doubled(*arguments, **named):
        found = original(*arguments, **named)
        if name == "first_passage":
            return replace(found, log_mean=found.log_mean + math.log(2))
        return replace(found, value=2 * found.value) if hasattr(found, "value") else found + math.log(2)

    assert set(outcomes(study, words)) == {"agrees"}
    monkeypatch.setattr(escape, name, doubled)
    again = type(study).of(study.recipe, study.results)
    assert set(outcomes(again, words)) == {"disagrees"}


def test_missing_networks_are_said(study):
    found = judged(TOY, lambda cell: None if "-mlp-" in cell.name else as_theory_says(cell))
    assert set(outcomes(found, "larger batches end")) == {"unassessed"}


def test_the_page_has_its_figures(study, tmp_path):
    page = study.write(tmp_path).read_text()
    assert page.count("<figure>") == 3
    assert not re.search(r"\bnan\b", page)


@pytest.mark.parametrize("size", ["toy", "small", "paper"])
def test_every_size_has_cells_of_their_own(size):
    made = FokkerPlanck.of_size(size)
    names = [cell.name for cell in made.cells()]
    assert len(set(names)) == len(names)
    assert len(made.claims()) > 15


def test_real_data_need_their_folder():
    with pytest.raises(ValueError, match="expected --data-dir for mnist"):
        FokkerPlanck(data=("mnist",)).cells()


@pytest.mark.slow
def test_carried_out_on_small_ensembles(tmp_path):
    tiny = FokkerPlanck(
        temperatures=(0.1, 0.125), selection=(0.1, 0.125), ratios=(5.0, 6.0), in_well=(1,), steps_of_sgd=(0.05, 0.1),
        replicas=500, settled=500, batch_sizes=(16, 64), updates=64, seeds=2, momenta=((0.01, 0.9, 0.125),),
    )  # fmt: skip
    found = carry_out(tiny, tmp_path, executor=0)
    assert found.results.failures == {}
    assert not found.counts["unassessed"]
    assert recipe("fokker-planck") == TOY
