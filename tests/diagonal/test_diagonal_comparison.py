"""Samples beside laws: distances, and verdicts that can go both ways."""

import numpy as np
import pytest
from scipy import stats

from sgdscope.diagonal.comparison import (
    beside_law,
    beside_places,
    chance_distance,
    distance,
    distance_of_samples,
    portion,
)
from sgdscope.theory.stationary import DiagonalLaw, DiagonalNoise

G11 = DiagonalNoise.gaussian(1.0, 1.0)


def outcomes(rows):
    return {row.verdict.measured.name if row.shown is None else row.shown.name: row.verdict.outcome for row in rows}


def test_distances_are_those_of_scipy():
    law = DiagonalLaw(G11, 0.1, 1)
    first, second = law.sample(300, 1), law.sample(200, 2)
    assert distance(first, law) == pytest.approx(stats.ks_1samp(first, law.cdf).statistic, abs=1e-12)
    assert distance_of_samples(first, second) == pytest.approx(stats.ks_2samp(first, second).statistic, abs=1e-12)


def test_chance_exceeds_its_distance_in_one_case_of_twenty():
    rng = np.random.default_rng(0)
    found = [stats.ks_1samp(rng.random(400), lambda x: x).statistic for _ in range(400)]
    assert np.mean(np.array(found) > chance_distance(400)) == pytest.approx(0.05, abs=0.03)
    found = [stats.ks_2samp(rng.random(300), rng.random(200)).statistic for _ in range(400)]
    assert np.mean(np.array(found) > chance_distance(300, 200)) == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("depth", "temperature"), [(1, 0.1), (1, 0.25), (0, 0.05), (2, 0.2)])
def test_samples_of_the_law_agree_with_it(sign, depth, temperature):
    noise = G11 if sign > 0 else G11.flipped
    law = DiagonalLaw(noise, temperature, depth)
    rows = beside_law(law.sample(40_000, 3), law, noise.optimum)
    found = outcomes(rows)
    assert {"distance", "mean", "median", "5 % quantile", "95 % quantile", "share near 0"} <= set(found)
    assert set(found.values()) <= {"agrees", "undecided"}
    assert found["distance"] == "agrees"
    tail = next(row for row in rows if row.verdict.measured.name == "slope of the tail")
    error = tail.verdict.measured.standard_error
    assert float(tail.verdict.measured) == pytest.approx(tail.predicted, abs=4 * error)


def test_samples_of_another_law_do_not():
    law, other = DiagonalLaw(G11, 0.1, 1), DiagonalLaw(G11, 0.2, 1)
    found = outcomes(beside_law(other.sample(20_000, 3), law, 1.0))
    for name in ("distance", "mean", "median", "5 % quantile"):
        assert found[name] == "disagrees", name
    wrong = outcomes(beside_law(-law.sample(20_000, 3), law, 1.0))
    assert wrong["share on the other side of 0"] == "disagrees"
    near = outcomes(beside_law(np.concatenate([np.full(2000, 1e-4), law.sample(18_000, 3)]), law, 1.0))
    assert near["share near 0"] == "disagrees"


def test_point_masses():
    law = DiagonalLaw(DiagonalNoise.gaussian(1.0, 0.0), 0.75, 1, start=0.5)  # θ = 1/3
    mass = law.masses[1]
    rng = np.random.default_rng(0)
    v = np.where(rng.random(20_000) < mass, 1.0, 0.0)
    assert mass == pytest.approx(0.92779202, rel=1e-7)
    assert set(outcomes(beside_places(v, law, 1.0)).values()) == {"agrees"}
    assert "disagrees" in outcomes(beside_places(0 * v, law, 1.0)).values()


def test_portions():
    assert portion("a", np.array([True, False, False, False])).value == 0.25
    found = portion("a", 0.1, 400)
    assert (found.value, found.count) == (0.1, 400)
    assert found.standard_error == pytest.approx(0.015)
    assert portion("a", 0.0, 400).standard_error == pytest.approx(1 / 400)
