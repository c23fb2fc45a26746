"""SGD with noise that follows the curvature: exponent, prefactors, the path with measured noise, transverse factor."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdscope.theory.escape import (
    escape_path,
    first_passage,
    low_noise_escape_time,
    path_escape_time,
    sgd_escape_time,
    sgd_exponent,
    switch_fraction,
    transverse_factor,
    with_exact_error,
)

from .landscapes import DOUBLE_WELL, TILTED_CURVATURES, TILTED_NOISE, curved_noise

SLOPE = DOUBLE_WELL.deriv()
READINGS = ("ito", "stratonovich", "anti-ito")
BOUNDARY = np.linspace(-1, 0, 201)
SWITCH = switch_fraction(DOUBLE_WELL(-1), DOUBLE_WELL(-(3**-0.5)), DOUBLE_WELL(0))
curved = escape_path(BOUNDARY, lambda x: 1 + x * x, slope=SLOPE)


def settings_at(ratio, lr=0.01):
    return {"lr": lr, "batch_size": ratio * lr / 2}


@pytest.mark.parametrize(
    ("ratio", "exponent", "time"),
    [(16, 3.0904, 69.07), (24, 4.6355, 323.8), (32, 6.1807, 1518.4), (48, 9.2711, 33383), (80, 15.4518, 1.6135e7)],
)
def test_path_integral_of_the_table(ratio, exponent, time):
    assert curved.exponent(**settings_at(ratio)) == pytest.approx(exponent, abs=6e-5)
    found = path_escape_time(curved, 2, -1, **settings_at(ratio))
    assert found.value == pytest.approx(time, rel=2e-4)
    assert found.valid == (exponent > 4)


def test_implied_fraction():
    assert curved.integral() == pytest.approx(math.log(2) - 0.5, rel=1e-8)
    assert curved.barrier == pytest.approx(0.25, rel=1e-8)
    assert curved.relative_error() < 1e-7
    assert curved.implied_fraction(2, -1) == pytest.approx(0.4548, abs=5e-5)
    assert pytest.approx(4 / 9) == SWITCH
    steps = escape_path(np.sort(np.append(BOUNDARY, [-(3**-0.5) - 1e-9, -(3**-0.5) + 1e-9])),
                        lambda x: np.where(np.abs(x) > 3**-0.5, 2, 1), slope=SLOPE)  # fmt: skip
    assert steps.implied_fraction(2, -1) == pytest.approx(4 / 9, abs=1e-6)
    tilted = TILTED_CURVATURES.deriv()
    left = escape_path(np.linspace(-1, 0.122894, 401), TILTED_NOISE, slope=tilted)
    right = escape_path(np.linspace(-1, -0.122894, 401), lambda x: TILTED_NOISE(-x), slope=lambda x: -tilted(-x))
    assert [left.integral(), right.integral()] == pytest.approx([0.312071, 0.131452], abs=1e-6)


def test_measured_points_in_place_of_functions():
    points = np.linspace(-1, 0, 15)
    by_slope = escape_path(points, 1 + points**2, slope=SLOPE(points))
    by_loss = escape_path(points, 1 + points**2, loss=DOUBLE_WELL(points))
    assert by_slope.integral() == pytest.approx(curved.integral(), rel=2e-3)
    assert by_loss.integral() == pytest.approx(curved.integral(), rel=5e-3)
    assert abs(by_slope.integral() / curved.integral() - 1) < by_slope.relative_error() < 0.03
    assert escape_path(points[1:], 1.0, slope=SLOPE).relative_error() is None
    shifted = escape_path(points + 4, 1 + points**2, slope=SLOPE(points))
    assert shifted.integral() == pytest.approx(by_slope.integral(), rel=1e-12)


def test_published_formula_and_its_ito_form():
    # q = 24 with the switch at the inflection point: 668.2 as published, 334.1 for Itô
    here = {"fraction": SWITCH, **settings_at(24)}
    published = sgd_escape_time(0.25, 2, -1, prefactor="paper", **here)
    assert published.value == pytest.approx(668.2, rel=1e-4)
    ito = sgd_escape_time(0.25, 2, -1, **here)
    assert ito.value == pytest.approx(334.1, rel=1e-4)
    middle = sgd_escape_time(0.25, 2, -1, prefactor="stratonovich", **here)
    assert middle.value == pytest.approx(math.sqrt(published.value * ito.value))
    assert sgd_escape_time(0.25, 2, -1, prefactor="anti-ito", **here).value == published.value
    assert "0.5 of this" in published.warnings[0]
    assert ito.valid
    # the vanishing-noise table quotes both at q = 8
    assert sgd_escape_time(0.25, 2, -1, prefactor="paper", fraction=SWITCH, **settings_at(8)).value == pytest.approx(
        29.8, abs=0.05
    )
    assert sgd_escape_time(0.25, 2, -1, fraction=SWITCH, **settings_at(8)).value == pytest.approx(14.9, abs=0.05)


@pytest.mark.parametrize("reading", READINGS)
def test_prefactor_is_the_limit_of_the_exact_time(reading):
    def excess(ratio):
        noise = np.array([2, 1]) / ratio
        law = low_noise_escape_time(ratio * curved.integral(), 2, -1, *noise, interpretation=reading, logarithm=True)
        published = sgd_escape_time(
            0.25, 2, -1, fraction=curved.implied_fraction(2, -1), prefactor=reading, logarithm=True,
            **settings_at(ratio),
        )  # fmt: skip
        assert published.value == pytest.approx(law.value, abs=1e-9)
        return first_passage(SLOPE, curved_noise(ratio), -1, 1, interpretation=reading).log_mean - law.value

    assert abs(excess(1000)) < 0.01
    assert excess(500) / excess(1000) == pytest.approx(2, rel=0.05)


@settings(max_examples=30)
@given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0, 1), st.floats(1, 9), st.floats(0.5, 3))
def test_noise_per_curvature_acts_as_the_learning_rate_does(at_minimum, at_saddle, fraction, ratio, slope):
    common = {"fraction": fraction, "logarithm": True, "batch_size": ratio}
    here = sgd_escape_time(1, at_minimum, -at_saddle, lr=0.5 * slope, **common)
    there = sgd_escape_time(1, at_minimum, -at_saddle, lr=0.5, noise_per_curvature=slope, **common)
    assert here.value == pytest.approx(there.value, rel=1e-12)


def test_arrays_of_settings():
    batches = np.array([8.0, 16, 32])
    found = sgd_exponent(0.5, 4.0, -2.0, 0.1, batches, fraction=0.5)
    assert found == pytest.approx(2 * batches * 0.5 / 0.1 * (0.125 + 0.25))
    assert isinstance(sgd_exponent(0.5, 4.0, -2.0, 0.1, 8, fraction=0.5), float)


def test_error_on_request():
    found = with_exact_error(path_escape_time(curved, 2, -1, **settings_at(32)), SLOPE, curved_noise(32), -1, 1)
    assert found.error == pytest.approx(1 - 1518.4 / 1710.69, abs=1e-4)


def test_transverse_factor():
    # m = 1 + 2x², h = 1 + x²: exactly ½; the simulation of the same loss gave 0.538 ± 0.013
    found = transverse_factor(BOUNDARY, 1 + 2 * BOUNDARY**2, 1 + BOUNDARY**2)
    assert found == pytest.approx(0.5, rel=1e-8)
    # white noise: the determinants
    across = np.stack([1 + 2 * BOUNDARY**2, np.exp(BOUNDARY), 0 * BOUNDARY + 3], axis=1)
    white = transverse_factor(BOUNDARY, across, 0 * BOUNDARY + 0.3, transverse_noise=0 * across + 0.3)
    assert white == pytest.approx(math.sqrt(np.prod(across[-1]) / np.prod(across[0])), rel=1e-8)
    both = transverse_factor(BOUNDARY, np.stack([1 + 2 * BOUNDARY**2] * 2, axis=1), 1 + BOUNDARY**2)
    assert both == pytest.approx(0.25, rel=1e-8)
    with_it = sgd_escape_time(
        0.25, 2, -1, fraction=0.5, transverse_factor=0.5, transverse_ratio=1 / 3, **settings_at(24)
    )
    without = sgd_escape_time(0.25, 2, -1, fraction=0.5, transverse_ratio=1 / 3, **settings_at(24))
    assert with_it.value == pytest.approx(without.value / 2)
    assert with_it.valid
    assert "transverse curvature changes by a factor 0.333" in without.warnings[0]


def test_vanishing_noise_is_seen_between_points():
    for count in (20, 50, 201):
        path = escape_path(np.linspace(-1, 0, count), lambda x: np.abs(3 * x * x - 1), slope=SLOPE)
        assert path.zeros == pytest.approx((-(3**-0.5),), abs=1e-6)
        assert "never escapes" in path.warnings[0]
        with pytest.raises(ValueError, match=r"vanishes at x = -0.57735 .* never escapes"):
            path_escape_time(path, 2, -1, 0.01, 1)
    at_a_point = escape_path([0, 1, 2], [1, 0, 1], slope=[0, 1, 0])
    assert at_a_point.zeros == (1.0,)
    dip = escape_path(BOUNDARY, lambda x: np.abs(3 * x * x - 1) + 0.05, slope=SLOPE)
    assert dip.zeros == ()
    assert "falls to" in dip.warnings[0]
    assert "falls to" in path_escape_time(dip, 2, -1, 0.01, 0.5).warnings[-1]


def test_flags_of_the_call():
    said = sgd_escape_time(0.25, 2, -1, 0.06, 2, fraction=0.5, bounded_noise=True).warnings
    assert any("bounded noise" in sentence for sentence in said)
    assert any("above 0.1" in sentence for sentence in said)
    assert not sgd_escape_time(0.25, 2, -1, 0.01, 0.03, fraction=0.5).valid


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sgd_escape_time(0.25, 2, -1, 0.1, 1, fraction=1.5), r"expected fraction in \[0, 1\]"),
        (lambda: sgd_escape_time(0.25, 2, -1, 0.1, 1, fraction=0.5, prefactor="best"), "expected a prefactor among"),
        (lambda: sgd_escape_time(0.25, 2, -1, 0.1, 0, fraction=0.5), "expected batch_size > 0"),
        (lambda: sgd_escape_time(0.25, 2, -1, 0.1, 1, fraction=0.5, transverse_ratio=0), "transverse_ratio > 0"),
        (lambda: sgd_escape_time(0.25, 2, -1, 0.1, 1, fraction=0.5, transverse_factor=0), "transverse_factor > 0"),
        (lambda: switch_fraction(0, 2, 1), "expected loss at minimum ≤ at switch"),
        (lambda: low_noise_escape_time(1, 2, -1, 0, 1), "expected diffusion_minimum > 0"),
        (lambda: escape_path([0, 0, 1], 1.0, slope=1.0), "increasing positions"),
        (lambda: escape_path([0, 1, 2], 1.0), "either the slope or the loss"),
        (lambda: escape_path([0, 1, 2], [1, 1], slope=1.0), "expected noise finite at each of the 3 positions"),
        (lambda: escape_path([0, 1, 2], [1, -1, 1], slope=1.0), "pass its absolute value"),
        (lambda: escape_path([0, 1, 2], 1.0, slope=-1.0), "rises from the minimum to the saddle"),
        (lambda: curved.implied_fraction(1, -1), "every fraction fits"),
        (lambda: transverse_factor([0, 1], [1, 1], [1, 1]), "at least 3"),
        (lambda: transverse_factor([0, 1, 2], [1, 1], [1, 1, 1]), "expected curvatures > 0"),
        (lambda: transverse_factor([0, 1, 2], [1, 1, 0], [1, 1, 1]), "expected curvatures > 0"),
        (lambda: transverse_factor([0, 1, 2], [1, 1, 1], np.ones((3, 2))), r"expected noise of shape \(3,\)"),
        (lambda: transverse_factor([0, 1, 2], [1, 1, 1], [1, 1, 1], transverse_noise=np.ones((3, 2))), "in the shape"),
        (lambda: transverse_factor([0, 1, 2], [1, 1, 1e4], [1, 1, 1]), "changes too much"),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
