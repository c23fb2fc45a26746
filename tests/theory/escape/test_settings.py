"""What each setting does to the escape time: slopes, rescaled landscapes, noise that vanishes."""

import math

import numpy as np
import pytest

from sgdscope.theory.escape import (
    TIME,
    in_iterations,
    kinetic_escape_time,
    log_slopes,
    loss_proportional_escape_time,
    mean_first_passage_time,
    minus_log_rate,
    momentum_escape_time,
    sgd_escape_time,
    sgd_exponent,
    sharpened_sgd_time,
    sharpened_white_noise_time,
    vanishing_noise_escape_time,
    vanishing_noise_exponent,
    white_noise_escape_time,
)
from sgdscope.theory.prediction import Prediction

from .landscapes import DOUBLE_WELL, curved_noise

SLOPE = DOUBLE_WELL.deriv()
WELL = {"barrier": 0.25, "curvature_minimum": 2.0, "curvature_saddle": -1.0}


def test_effects_on_sgd():
    setting = {**WELL, "lr": 0.02, "batch_size": 0.6, "fraction": 0.4}
    exponent = sgd_exponent(**setting)
    slopes = log_slopes(sgd_escape_time, **setting)
    expected = {"batch_size": exponent, "lr": -exponent, "barrier": exponent, "sharpness": -exponent - 1}
    assert {name: slopes[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert slopes["curvature_minimum"] + slopes["curvature_saddle"] == pytest.approx(slopes["sharpness"], rel=1e-9)
    counted = log_slopes(sgd_escape_time, iterations=True, **setting)
    assert counted["lr"] == pytest.approx(-exponent - 1, rel=1e-9)
    assert counted["batch_size"] == pytest.approx(exponent, rel=1e-9)
    # beyond floating point only the logarithm exists, and the slopes are of that
    huge = log_slopes(sgd_escape_time, **{**setting, "batch_size": 600})
    assert huge["batch_size"] == pytest.approx(1000 * exponent, rel=1e-9)


def test_effects_on_white_noise():
    slopes = log_slopes(white_noise_escape_time, temperature=0.03, **WELL)
    assert slopes["sharpness"] == pytest.approx(-1, abs=1e-9)
    assert slopes["barrier"] == pytest.approx(0.25 / 0.03, rel=1e-9)
    assert slopes["temperature"] == pytest.approx(-0.25 / 0.03, rel=1e-9)
    assert "batch_size" not in slopes
    counted = log_slopes(white_noise_escape_time, iterations=True, temperature=0.03, lr=0.01, **WELL)
    assert counted["lr"] == pytest.approx(-1, abs=1e-9)
    with pytest.raises(ValueError, match="expected lr among the settings"):
        log_slopes(white_noise_escape_time, iterations=True, temperature=0.03, **WELL)


def test_effects_on_the_other_laws():
    strong = log_slopes(kinetic_escape_time, temperature=0.03, friction=1e4, **WELL)
    assert strong["friction"] == pytest.approx(1, abs=1e-6)  # overdamped: time ∝ Γ
    momentum = log_slopes(momentum_escape_time, temperature=0.03, lr=1e-8, momentum=0.5, iterations=True, **WELL)
    assert momentum["lr"] == pytest.approx(-1, abs=1e-5)
    power = {"loss_minimum": 0.1, "loss_saddle": 0.4, "curvature_minimum": 2.0, "curvature_saddle": -1.0}
    found = log_slopes(loss_proportional_escape_time, lr=0.05, batch_size=1.0, **power)
    assert found["batch_size"] == pytest.approx(10 * math.log(4), rel=1e-9)
    assert found["lr"] == pytest.approx(-10 * math.log(4), rel=1e-9)
    assert found["sharpness"] == pytest.approx(-10 * math.log(4) - 1, rel=1e-9)


@pytest.mark.parametrize("k", [0.5, 1.7, 4.0])
def test_sharper_copies_are_exact(k):
    root = math.sqrt(k)
    white = mean_first_passage_time(SLOPE, 0.05, -1, 1)
    copy = mean_first_passage_time(lambda x: root * SLOPE(root * x), 0.05, -1 / root, 1 / root)
    assert sharpened_white_noise_time(white, k).value == pytest.approx(copy.value, rel=1e-10)
    ratio = 24
    time_at = lambda q: mean_first_passage_time(SLOPE, curved_noise(q), -1, 1)  # noqa: E731
    copy = mean_first_passage_time(
        lambda x: root * SLOPE(root * x), lambda x: k * (1 + k * x * x) / ratio, -1 / root, 1 / root
    )
    assert sharpened_sgd_time(time_at, ratio, k).value == pytest.approx(copy.value, rel=1e-10)


def test_rates_against_sharpness_need_the_logarithm():
    k = np.array([1.0, 2, 3, 5])
    setting = {**WELL, "lr": 0.02, "batch_size": 1.2, "fraction": 0.4}
    exponent = sgd_exponent(**setting)
    prefactor = math.log(2 * math.pi / 2)
    scaled = {name: np.array([2.0, -1.0])[i] for i, name in enumerate(("curvature_minimum", "curvature_saddle"))}
    direct = [
        sgd_escape_time(**{**setting, **{name: h * factor for name, h in scaled.items()}}, logarithm=True).value
        for factor in k
    ]
    assert minus_log_rate(k, exponent, prefactor) == pytest.approx(direct, rel=1e-12)
    # a fit without −ln k misses the slope, one with it does not
    slope, _ = np.polyfit(1 / k, direct, 1)
    assert abs(slope / exponent - 1) > 0.05
    slope, _ = np.polyfit(1 / k, direct + np.log(k), 1)
    assert slope == pytest.approx(exponent, rel=1e-12)
    assert isinstance(minus_log_rate(2.0, exponent, prefactor), float)


def test_power_of_the_learning_rate_where_noise_vanishes():
    at = -(3**-0.5)
    third = DOUBLE_WELL.deriv(3)(at)
    power = vanishing_noise_exponent(SLOPE(at), third, 0.1, 0.4)
    assert power == pytest.approx(1.78, abs=0.005)
    found = vanishing_noise_escape_time(139, 0.1, 0.05, SLOPE(at), third, 8)
    assert found.value == pytest.approx(139 * 2**power)
    assert not found.valid
    # the cutoff law itself: Φ with a gap of ±ε around c grows as p ln(1 / ε)
    phi = []
    for epsilon in (1e-4, 1e-5):
        total = 0.0
        for low, high in ((-1, at - epsilon), (at + epsilon, 0)):
            u = np.geomspace(epsilon, abs(at - (low if high < at else high)), 200001)
            x = at - u if high < at else at + u
            total += np.trapezoid(8 * SLOPE(x) / np.abs(3 * x * x - 1) * u, np.log(u))
        phi.append(total)
    assert (phi[1] - phi[0]) / math.log(10) == pytest.approx(power, rel=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vanishing_noise_exponent(0, 1, 0.1, 1), "slope_at_the_inflection > 0"),
        (lambda: vanishing_noise_escape_time(1, 0.1, 0, 1, 1, 1), "expected lr > 0"),
        (lambda: minus_log_rate([1, 0], 1, 1), "expected sharpness > 0"),
        (lambda: sharpened_white_noise_time(mean_first_passage_time(SLOPE, 0.05, -1, 1), 0), "expected sharpness > 0"),
        (
            lambda: sharpened_white_noise_time(in_iterations(mean_first_passage_time(SLOPE, 0.05, -1, 1), 0.1), 2),
            "got mean first-passage time in iterations",
        ),
        (
            lambda: vanishing_noise_escape_time(
                Prediction(1, "mean escape time", "τ", "", "", "iterations"), 0.1, 0.05, 1, 1, 8
            ),
            f"expected the known time in {TIME}",
        ),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
