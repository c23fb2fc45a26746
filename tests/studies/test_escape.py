"""The study of escape: judges follow theory and nature; valleys and covariances are what they are said to be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hand_made import estimate, judged, outcomes

from sgdscope.cells import Cell, Results
from sgdscope.studies import Study
from sgdscope.studies.escape import Escape, claims, covariance
from sgdscope.studies.escape import landscapes as on
from sgdscope.studies.escape.landscapes import landscape
from sgdscope.studies.escape.valleys import leaving, valley
from sgdscope.theory import escape

TOY = Escape.of_size("toy")


def time_of(cell: Cell) -> float:
    """Exact mean times of the differential equation."""
    s, kind = cell.settings, cell.name.split("-")[0]
    process = s["process"]
    loss = landscape(s["potential"])
    start, end = s["start"], float(s["until"].split()[-1])
    if process["kind"] == "white-noise":
        noise = lambda x: process["temperature"] + 0 * np.asarray(x)  # noqa: E731
    elif kind == "momentum":
        return escape.momentum_escape_time(0.25, 2.0, -1.0, s["temperature"], s["lr"], s["momentum"]).value
    elif kind == "literal":
        return 100.0 * s["lr"] ** -1.78
    else:
        ratio, variance = 2 * process["batch_size"] / process["lr"], landscape(process["variance"])
        noise = lambda x: np.asarray(variance.value(x)) / ratio  # noqa: E731
    return escape.first_passage(loss.gradient, noise, start, end, value=loss.value).mean


def as_theory_says(cell: Cell):
    s, kind = cell.settings, cell.name.split("-")[0]
    if kind == "table":
        found = {"curvature": 0.1, "noise": 0.04, "reach": 0.5, "lr": 1.0}
        return found | {"mean_time": estimate(claims.slab_time(found, s["batch_size"], 0.04))}
    if kind in ("logistic", "linear", "network"):
        loss = {0.5: 0.125, 1.0: 0.5}.get(s.get("deviation"), 1.0)
        slope = 2 * loss if kind == "linear" else 1.0
        return {"slope": estimate(slope), "correlation": estimate(0.99), "loss": loss, "batch_scaling": estimate(4.0),
                "variances": {**estimate(1.0), "count": 100_000, "value": [1.0, 0.5], "standard_error": None},
                "eigenvalues": {**estimate(1.0), "value": [1.0, 0.5], "standard_error": None}}  # fmt: skip
    return {"mean_time": estimate(time_of(cell), 1e-4), "hazard_ratio": estimate(1.0)}


@pytest.fixture(scope="module")
def study() -> Study:
    return judged(TOY, as_theory_says)


def test_in_a_world_of_the_differential_equation(study):
    for words in (
        "slope of the exact", "(Itô), exactly", "one over the learning rate", "exponentially longer in flat",
        "exact integral", "1 / k", "measured at the minimum", "keeps to the flat one, by the quotient",
        "power of 1 / lr", "right log-likelihood", "2 L times", "kinetic law",
    ):  # fmt: skip
        assert set(outcomes(study, words)) <= {"agrees", "undecided"}, words
        assert "agrees" in outcomes(study, words), words
    assert "agrees" in outcomes(study, "prefactor 2π / H_a")


def test_what_the_source_overlooks_disagrees_there(study):
    assert set(outcomes(study, "that is the size of the curvature at every point")) == {"disagrees"}
    assert "disagrees" in outcomes(study, "prefactor 2π / |H_b|")
    assert "disagrees" in outcomes(study, "for squared errors too")
    assert set(outcomes(study, "slope of noise = Hessian")) == {"disagrees"}
    assert outcomes(study, "as white noise would") == ["disagrees"]


def test_another_theory_turns_the_verdicts(study, monkeypatch):
    original = escape.white_noise_escape_time
    monkeypatch.setattr(claims, "OVERSHOOT", 3.0)
    monkeypatch.setattr(claims.escape, "momentum_escape_time", lambda *a: original(0.25, 2.0, -1.0, 0.2))
    again = Study.of(study.recipe, study.results)
    assert set(outcomes(again, "kinetic law")) == {"disagrees"}
    assert set(outcomes(again, "measured at the minimum")) == {"disagrees"}


def test_another_nature_turns_the_verdicts():
    def faster(cell: Cell):
        found = as_theory_says(cell)
        if cell.name.startswith("sgd"):
            found["mean_time"] = estimate(time_of(cell) ** 0.5)
        return found

    assert set(outcomes(judged(TOY, faster), "slope of the exact")) == {"disagrees"}


def test_the_page_has_its_figures(study, tmp_path):
    assert study.write(tmp_path).read_text().count("<figure>") == 4


@pytest.mark.parametrize("size", ["toy", "small", "paper"])
def test_every_size_has_cells_of_their_own(size, tmp_path):
    made = Escape.of_size(size, data_dir=tmp_path)
    names = [cell.name for cell in made.cells()]
    assert len(set(names)) == len(names)
    assert Study.of(made, Results(made.cells(), {})).counts["unassessed"] > 10


def test_noise_and_curvature_of_the_double_well_are_one_at_both_ends():
    well = landscape(on.DOUBLE_WELL)
    for x in (-1.0, 0.0):
        bend = abs((well.gradient(x + 1e-5) - well.gradient(x - 1e-5)) / 2e-5)
        assert landscape(on.NOISE).value(x) == pytest.approx(bend, rel=1e-6)
    assert landscape(on.sharper(on.DOUBLE_WELL, 2)).value(0.5) == pytest.approx(well.value(0.5 * math.sqrt(2)))


def test_a_valley_is_a_minimum_of_its_landscape():
    found = valley("breast-cancer", None, 3)
    assert np.linalg.norm(found.landscape.gradient(found.at)) < 1e-6
    step = 1e-4
    for curvature, v in zip(found.curvatures, found.directions.T, strict=True):
        rise = found.landscape.value(found.at + step * v) - 2 * found.landscape.value(found.at)
        rise += found.landscape.value(found.at - step * v)
        assert rise / step**2 == pytest.approx(curvature, rel=1e-4)


@pytest.mark.slow
def test_out_of_a_valley_by_real_minibatches(tmp_path):
    found = leaving({"table": "breast-cancer", "data_dir": None, "features": 3, "direction": 0, "heights": 3.0,
                     "middle": 8, "batch_size": 8, "replicas": 1000, "seed": 0}, tmp_path)  # fmt: skip
    predicted = claims.slab_time(found, 8, found["noise"])
    assert float(found["mean_time"]) == pytest.approx(predicted, rel=0.15)


def test_covariance_of_least_squares(tmp_path):
    found = covariance.linear({"deviation": 0.5, "samples": 400, "features": 4, "seed": 0}, tmp_path)
    assert float(found["slope"]) == pytest.approx(2 * found["loss"], rel=0.15)
