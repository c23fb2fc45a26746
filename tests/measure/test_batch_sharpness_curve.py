"""Batch sharpness as a function of the batch size: exact cases, honest errors, the budget."""

import math

import numpy as np
import pytest
import torch
from tests.cases import CASES, quadratics

from sgdscope.measure import batch_sharpness, batch_sharpness_curve

SIZES = [1, 2, 3, 4, 6, 8]


@pytest.fixture(scope="module")
def network():
    risk = CASES[0].risk()
    truth = [batch_sharpness(risk, size, tolerance=0.006, max_batches=10_000).value for size in SIZES]
    return risk, np.array(truth)


def test_equal_samples_are_exact():
    found = batch_sharpness_curve(quadratics([3.0] * 20), [1, 2, 4, 8, 16, 20])
    assert found.value == pytest.approx([3.0] * 6, rel=1e-9)
    assert max(found.standard_error) <= 0.01 * 3 * 1.01  # nothing but the misfit allowed for
    assert found.settings["batch_sizes"] == [1, 2, 4, 8, 16, 20]
    assert (found.status, found.settings["counts"][-1]) == ("ok", 1)


def test_errors_are_honest(network):
    risk, truth = network
    deviations, costs = [], []
    for seed in range(16):
        found = batch_sharpness_curve(risk, SIZES, max_cost=400, generator=torch.Generator().manual_seed(seed))
        assert found.status == "ok"
        assert max(np.array(found.standard_error) / found.value) <= 0.03
        deviations.append((np.array(found.value) - truth) / truth)
        costs.append(found.cost)
    rms = np.sqrt(np.mean(np.square(deviations), axis=0))
    assert rms.max() < 0.045
    assert np.abs(np.mean(deviations, axis=0)).max() < 0.03


def test_the_fit_gives_values_in_between(network):
    risk, _ = network
    found = batch_sharpness_curve(risk, SIZES, tolerance=0.02, max_cost=1000)
    a, b, c, d = found.settings["coefficients"]
    curve = [(a + b / size + c / size**2) / (1 + d / size) for size in SIZES]
    assert found.value == pytest.approx(curve)
    between = batch_sharpness(risk, 5, tolerance=0.005, max_batches=20_000)
    assert (a + b / 5 + c / 25) / (1 + d / 5) == pytest.approx(between.value, rel=0.05)
    assert found.beside["measured"].value == pytest.approx(found.value, rel=0.15)


def test_few_sizes_are_the_means(network):
    risk, truth = network
    found = batch_sharpness_curve(risk, [1, 4, 8], max_cost=200)
    assert "coefficients" not in found.settings
    assert found.value == found.beside["measured"].value
    assert found.value == pytest.approx(truth[[0, 3, 5]], rel=0.1)
    whole = batch_sharpness_curve(risk, [12])
    assert whole.value == pytest.approx((batch_sharpness(risk, 12).value,))
    assert (whole.standard_error, whole.count) == ((0,), 1)


def test_the_budget_is_kept_and_said(network):
    risk, _ = network
    found = batch_sharpness_curve(risk, SIZES, tolerance=1e-3, max_cost=60)
    assert found.status == "few_samples"
    assert 40 < found.cost <= 60
    assert "0.1 % was asked for" in found.reason
    small = batch_sharpness_curve(quadratics([1.0, 3.0]), [1, 2], tolerance=1e-9, max_cost=50)
    assert small.status == "few_samples"


def test_the_same_seed_gives_the_same_and_order_does_not_matter(network):
    risk, _ = network
    one, two, other = (
        batch_sharpness_curve(risk, sizes, generator=torch.Generator().manual_seed(seed))
        for sizes, seed in ((SIZES, 1), (SIZES[::-1], 1), (SIZES, 2))
    )
    assert one == two
    assert one.value != other.value


def test_curvature_below_zero_is_not_fitted():
    found = batch_sharpness_curve(quadratics([-1.0] * 12), [1, 2, 3, 4, 6])
    assert found.value == pytest.approx([-1.0] * 5)
    assert "coefficients" not in found.settings


def test_what_cannot_be_had_says_why():
    for risk, status in ((quadratics([math.nan] * 4), "diverged"), (quadratics([0.0] * 4), "diverged")):
        found = batch_sharpness_curve(risk, [1, 2])
        assert (found.value, found.status) == (None, status)
        assert "zero or not finite in batches of 1" in found.reason
    for wrong, words in (
        ({"batch_sizes": []}, "at least one"), ({"batch_sizes": [2, 2]}, "different batch sizes"),
        ({"batch_sizes": [9]}, "expected a batch size"), ({"tolerance": 0}, "expected tolerance and max_cost"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            batch_sharpness_curve(quadratics([1.0] * 8), **{"batch_sizes": [1, 2], **wrong})
