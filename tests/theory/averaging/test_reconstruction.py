"""Reconstruction of power EMAs from snapshots: reference errors, profiles by quadrature, what cannot be rebuilt."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from sgdscope.theory.averaging import averages, profile_products, reconstruct

STORED = (16.9722, 6.9372)


def snapshots(every, last=1024):
    steps = np.arange(every, last + 1, every)
    return np.tile(steps, 2), np.repeat(STORED, steps.size)


@pytest.mark.parametrize(
    ("every", "exponent", "error", "digits"),
    [
        (128, 10, 0.0120, 5e-5), (128, 3.5579, 0.0329, 5e-5), (128, 1.8262, 0.0753, 5e-5),
        (32, 10, 0.00085, 5e-6), (32, 3.5579, 0.0023, 5e-5), (32, 1.8262, 0.0064, 5e-5),
    ],
)  # fmt: skip
def test_profiles_are_rebuilt(every, exponent, error, digits):
    steps, exponents = snapshots(every)
    found = reconstruct(steps, exponents, exponent, normalise=False)
    # error of the weights on the 1024 iterates themselves
    stored = np.stack([
        np.r_[averages.power(g, int(t)).weights, np.zeros(1024 - t)] for t, g in zip(steps, exponents, strict=True)
    ])  # fmt: skip
    wanted = averages.power(exponent, 1024).weights
    on_iterates = np.linalg.norm(found.coefficients @ stored - wanted) / np.linalg.norm(wanted)
    assert on_iterates == pytest.approx(error, abs=digits)
    assert found.profile_error == pytest.approx(on_iterates, rel=0.005)  # in continuous time


@settings(max_examples=30)
@given(st.floats(-0.4, 30), st.floats(-0.4, 30), st.integers(1, 500), st.integers(1, 500))
def test_inner_products_by_quadrature(a, b, t_a, t_b):
    def profile(s, g, t):
        return (g + 1) / t * (s / t) ** g

    end = min(t_a, t_b)

    # s = end · x^5 takes the singularity at 0 away
    def product(x):
        return profile(end * x**5, a, t_a) * profile(end * x**5, b, t_b) * 5 * end * x**4

    expected = quad(product, 0, 1, epsabs=0)[0]
    assert float(profile_products(a, t_a, b, t_b)) == pytest.approx(expected, rel=1e-6, abs=1e-300)


def test_a_stored_profile_is_rebuilt_exactly():
    steps, exponents = snapshots(128)
    found = reconstruct(steps, exponents, 6.9372)
    assert found.profile_error < 1e-7
    assert found.coefficients[-1] == pytest.approx(1, abs=1e-6)
    earlier = reconstruct(steps, exponents, 16.9722, 512)
    assert earlier.profile_error < 1e-7
    assert earlier.coefficients[3] == pytest.approx(1, abs=1e-6)


def test_coefficients_sum_to_one_unless_asked_otherwise():
    steps, exponents = snapshots(128)
    plain = reconstruct(steps, exponents, 1.8262, normalise=False)
    found = reconstruct(steps, exponents, 1.8262)
    assert plain.coefficients.sum() == pytest.approx(plain.total, rel=1e-14)
    assert found.coefficients.sum() == pytest.approx(1, abs=1e-14)
    assert found.coefficients == pytest.approx(plain.coefficients / plain.total, rel=1e-12)
    assert plain.profile_error < found.profile_error < 0.08
    assert found.amplification == pytest.approx(np.abs(found.coefficients).sum())
    assert found.coefficients.dtype == np.float64


def test_repeated_snapshots_do_no_harm():
    steps, exponents = snapshots(128)
    single = reconstruct(steps, exponents, 3.5579)
    double = reconstruct(np.tile(steps, 2), np.tile(exponents, 2), 3.5579)
    assert double.profile_error == pytest.approx(single.profile_error, rel=1e-6)
    assert double.amplification == pytest.approx(single.amplification, rel=1e-5)


def test_more_snapshots_rebuild_better():
    errors = [reconstruct(*snapshots(every), 3.5579).profile_error for every in (256, 128, 64, 32)]
    assert (np.diff(errors) < 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: reconstruct([1, 2], [1.0], 2.0), "expected one exponent per snapshot, got 1 for 2 snapshots"),
        (
            lambda: reconstruct([1, 2], [1.0, 2], 2.0, 3),
            "expected steps > 0 and a target no later than the last .* at 3",
        ),
        (lambda: reconstruct([0, 2], [1.0, 2], 2.0), "expected steps > 0"),
        (lambda: reconstruct([1, 2], [1.0, 2], -0.7), "expected exponents > −½"),
        (lambda: reconstruct([], [], 1.0), "expected snapshot steps as 1-dimensional array, not empty"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
