"""White noise: Kramers and Eyring-Kramers against exact times."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdscope.theory.escape import (
    eyring_kramers_escape_time,
    first_passage,
    minimum_anharmonicity,
    saddle_anharmonicity,
    temperature,
    white_noise_escape_time,
    with_exact_error,
)

from .landscapes import DOUBLE_WELL, STYBLINSKI_TANG

SLOPE = DOUBLE_WELL.deriv()
KAPPA = minimum_anharmonicity(2, -6, 6) + saddle_anharmonicity(-1, 0, 6)


@pytest.mark.parametrize(("noise", "time"), [(0.05, 659.38), (0.04, 2301.47), (0.03, 18483.6)])
def test_double_well(noise, time):
    found = white_noise_escape_time(0.25, 2, -1, noise)
    assert found.value == pytest.approx(time, rel=1e-5)
    assert eyring_kramers_escape_time([2.0], [[-1.0]], 0.25, noise).value == pytest.approx(found.value, rel=1e-12)
    assert found.unit == "learning rate · iterations"
    assert found.valid


@pytest.mark.parametrize(
    ("noise", "start", "target", "barrier", "curvature", "time"),
    [(0.105104, 2.746803, -2.903534, 6, 0.731739, 4707.0), (0.164007, -2.903534, 2.746803, 6, 0.864576, 4330.4)],
)
def test_styblinski_tang(noise, start, target, barrier, curvature, time):
    found = white_noise_escape_time(barrier * noise, curvature, -0.396315, noise)
    assert found.value == pytest.approx(time, rel=1e-4)
    checked = with_exact_error(found, STYBLINSKI_TANG.deriv(), noise, start, target)
    assert 0.06 < checked.error < 0.1
    assert checked.value == found.value
    as_logarithm = white_noise_escape_time(barrier * noise, curvature, -0.396315, noise, logarithm=True)
    assert with_exact_error(as_logarithm, STYBLINSKI_TANG.deriv(), noise, start, target).error == pytest.approx(
        checked.error, rel=1e-9
    )


def test_next_order_leaves_an_error_of_second_order():
    assert pytest.approx(1.5) == KAPPA

    def missed(noise, **rest):
        found = white_noise_escape_time(0.25, 2, -1, noise, logarithm=True, **rest)
        return math.expm1(first_passage(SLOPE, noise, -1, 1).log_mean - found.value)

    leading = [missed(noise) for noise in (0.004, 0.002)]
    assert leading == pytest.approx([0.004 * KAPPA, 0.002 * KAPPA], rel=0.05)
    both = [missed(noise, anharmonicity=KAPPA, next_order=True) for noise in (0.004, 0.002)]
    assert both[0] / both[1] == pytest.approx(4, rel=0.05)
    assert white_noise_escape_time(0.25, 2, -1, 0.05, anharmonicity=KAPPA).error == pytest.approx(0.075)


@pytest.mark.parametrize(
    ("height", "low", "high"), [(2, 0.19, 0.34), (4, 0.12, 0.17), (8, 0.05, 0.07), (12, 0.03, 0.04)]
)
def test_exact_excess_over_the_law(height, low, high):
    noise = 0.25 / height
    law = white_noise_escape_time(0.25, 2, -1, noise)
    excess = first_passage(SLOPE, noise, -1, 1).mean / law.value - 1
    assert low - 0.005 < excess < high + 0.005
    assert law.valid == (height >= 4)
    top_alone = first_passage(SLOPE, noise, -1, 0).mean / law.value
    if height >= 4:
        assert 0.5 < top_alone < 0.6


def spectra(size):
    return st.lists(st.floats(0.05, 20), min_size=size, max_size=size)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5).flatmap(lambda n: st.tuples(spectra(n), spectra(n))), st.integers(0, 2**31))
def test_eyring_kramers_of_rotated_hessians(pair, seed):
    at_minimum, at_saddle = np.array(pair[0]), np.array(pair[1])
    at_saddle[0] *= -1
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(at_minimum),) * 2))[0]
    rotate = lambda values: (rotation * values) @ rotation.T  # noqa: E731
    found = eyring_kramers_escape_time(rotate(at_minimum), rotate(at_saddle), 1.0, 0.2).value
    one = white_noise_escape_time(
        1.0, at_minimum[0], at_saddle[0], 0.2, transverse_ratio=np.prod(at_saddle[1:]) / np.prod(at_minimum[1:])
    )
    assert found == pytest.approx(one.value, rel=1e-9)
    assert found == pytest.approx(eyring_kramers_escape_time(at_minimum, at_saddle, 1.0, 0.2).value, rel=1e-9)


def test_two_dimensions_of_the_note():
    # L = (x² − 1)² / 4 + ½ (1 + 2x²) y² at D = 1/24: transverse 3 at the minimum, 1 at the saddle
    found = eyring_kramers_escape_time([2, 3], [-1, 1], 0.25, 1 / 24)
    assert found.value == pytest.approx(1035, rel=1e-3)


def test_temperature_of_gradient_noise():
    assert temperature(0.1, 5.0, 2) == 0.125


def test_what_the_call_breaks_is_said():
    assert "below 4" in white_noise_escape_time(0.25, 2, -1, 0.1).warnings[0]
    assert "above 0.1" in white_noise_escape_time(0.25, 2, -1, 0.03, lr=0.06).warnings[0]
    assert "above 0.1" in eyring_kramers_escape_time([2, 3], [-1, 4], 0.25, 0.03, lr=0.03).warnings[0]
    assert white_noise_escape_time(0.25, 2, -1, 0.03, lr=0.05).valid


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: white_noise_escape_time(0.25, 2, 1, 0.1), "expected curvature_saddle < 0"),
        (lambda: white_noise_escape_time(0.25, -2, -1, 0.1), "expected curvature_minimum > 0"),
        (lambda: white_noise_escape_time(-1, 2, -1, 0.1), "expected barrier > 0 and finite, got -1"),
        (lambda: white_noise_escape_time(1, 2, -1, math.nan), "expected temperature > 0"),
        (lambda: white_noise_escape_time(100, 2, -1, 0.1), "beyond floating point; ask for it with logarithm=True"),
        (lambda: white_noise_escape_time(1, 2, -1, 0.1, next_order=True), "expected an anharmonicity"),
        (lambda: white_noise_escape_time(1, 2, -1, 0.1, next_order=True, anharmonicity=-20), "expected an anharmon"),
        (lambda: minimum_anharmonicity(-1, 0, 0), "expected curvature > 0"),
        (lambda: saddle_anharmonicity(1, 0, 0), "expected curvature_saddle < 0"),
        (lambda: eyring_kramers_escape_time([1, 0], [-1, 1], 1, 0.1), "restrict both Hessians"),
        (lambda: eyring_kramers_escape_time([1, 1], [1, 1], 1, 0.1), "exactly one negative"),
        (lambda: eyring_kramers_escape_time([1, 1], [-1, -1], 1, 0.1), "exactly one negative"),
        (lambda: eyring_kramers_escape_time([1, 1], [-1], 1, 0.1), "Hessians of one size"),
        (lambda: eyring_kramers_escape_time([[1, 2], [0, 1]], [-1, 1], 1, 0.1), "expected a symmetric hessian_minimum"),
        (lambda: eyring_kramers_escape_time(np.ones((2, 3)), [-1, 1], 1, 0.1), "finite square matrix"),
        (lambda: temperature(0, 1, 1), "expected lr > 0"),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
