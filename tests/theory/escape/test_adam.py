"""Adam with ideal second moment, against exact times of the diffusion it stands for."""

import math

import numpy as np
import pytest

from sgdscope.theory.escape import (
    adam_escape_time,
    adam_exponent,
    adam_path_escape_time,
    escape_path,
    first_passage,
    log_slopes,
)

from .landscapes import DOUBLE_WELL

SLOPE = DOUBLE_WELL.deriv()
PATH = escape_path(np.linspace(-1, 0, 201), lambda x: 1 + x * x, slope=SLOPE)


def exact(lr, batch_size):
    return first_passage(lambda x: math.sqrt(batch_size) * SLOPE(x) / np.sqrt(1 + x * x), lr / 2, -1, 1)


def test_reference_values():
    assert adam_path_escape_time(PATH, 2, -1, 0.05, 0.5).value == pytest.approx(3656, rel=2e-4)
    assert exact(0.05, 0.5).mean == pytest.approx(3957.3, rel=1e-5)


def test_low_noise_limit():
    excess = [
        exact(lr, 0.5).log_mean - adam_path_escape_time(PATH, 2, -1, lr, 0.5, logarithm=True).value
        for lr in (0.002, 0.001)
    ]
    assert abs(excess[1]) < 0.002
    assert excess[0] / excess[1] == pytest.approx(2, rel=0.05)


def test_two_values_of_noise():
    # with the fraction that the path implies, both forms are one
    implied = (PATH.integral(0.5) / 0.25 - 1) / (1 / math.sqrt(2) - 1)
    found = adam_escape_time(0.25, 2, -1, 0.05, 0.5, fraction=implied, logarithm=True)
    path = adam_path_escape_time(PATH, 2, -1, 0.05, 0.5, logarithm=True)
    assert found.value == pytest.approx(path.value, abs=1e-8)
    scaled = adam_escape_time(0.25, 2, -1, 0.05, 2.0, fraction=implied, noise_per_curvature=4, logarithm=True)
    assert scaled.value == pytest.approx(found.value, abs=1e-12)


def test_square_roots():
    setting = {"barrier": 0.25, "curvature_minimum": 2, "curvature_saddle": -1, "lr": 0.02, "batch_size": 1.0}
    exponent = adam_exponent(*setting.values(), fraction=0.4)
    slopes = log_slopes(adam_escape_time, fraction=0.4, **setting)
    assert slopes["batch_size"] == pytest.approx(exponent / 2 - 0.5, rel=1e-9)
    assert slopes["lr"] == pytest.approx(-exponent, rel=1e-9)
    assert slopes["sharpness"] == pytest.approx(-exponent / 2 - 0.5, rel=1e-9)
    assert adam_exponent(0.25, 2, -1, 0.02, np.array([1.0, 4.0]), fraction=0.4) == pytest.approx(
        [exponent, 2 * exponent]
    )


def test_flags_and_refusals():
    assert "above 0.1" in adam_escape_time(0.25, 2, -1, 0.05, 16, fraction=0.4).warnings[0]
    vanishing = escape_path([0, 1, 2], [1, 0, 1], slope=[0, 1, 0])
    with pytest.raises(ValueError, match="never escapes"):
        adam_path_escape_time(vanishing, 2, -1, 0.05, 0.5)
    with pytest.raises(ValueError, match="expected fraction"):
        adam_escape_time(0.25, 2, -1, 0.05, 0.5, fraction=-0.1)
    with pytest.raises(ValueError, match="expected lr > 0"):
        adam_path_escape_time(PATH, 2, -1, 0, 0.5)
