"""Noise equilibrium: the zero of the drift along the orbit, whatever the start."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdscope.theory import balance

X, Y = np.random.default_rng(0).normal(size=(2, 50))
sizes = st.floats(0.1, 3)


def variances(u, w):
    psi = 2 * (u * w * X - Y) * X
    return (w * psi).var(), (u * psi).var()


@given(sizes, sizes, st.floats(0, 0.3), sizes)
def test_rescaling_in_closed_form(u, w, gamma, temperature):
    of_u, of_w = variances(u, w)
    found = balance.rescaling_equilibrium(
        of_u, of_w, squared_norm_u=u * u, squared_norm_w=w * w, temperature=temperature, weight_decay=gamma
    )
    closed = (temperature * of_u + 4 * gamma * w * w) / (temperature * of_w + 4 * gamma * u * u)
    assert found.scale**4 == pytest.approx(closed, rel=1e-9)
    # there the drift vanishes, and the charge is what it says; one scalar each: balance of norms
    scale = found.scale
    there = variances(scale * u, w / scale)
    charge = (scale * u) ** 2 - (w / scale) ** 2
    drift = balance.drift(there[0] - there[1], temperature=temperature, charge=charge, weight_decay=gamma)
    assert abs(drift.value) < 1e-9 * (temperature * sum(there) + 1)
    assert found.charge == pytest.approx(charge, abs=1e-9)
    rate = temperature * (2 * (u * w * X - Y) * X).var() + 4 * gamma
    assert found.relaxation_rate == pytest.approx(rate, rel=1e-9)


@given(sizes, sizes, sizes, sizes, st.floats(0, 0.3))
def test_many_ratios_at_once(noise_u, noise_w, u, w, gamma):
    many = balance.log_ratio_to_equilibrium(
        [noise_u, 1.0], [noise_w, 1.0], [u, 2.0], [w, 2.0], temperature=0.2, weight_decay=gamma
    )
    one = balance.rescaling_equilibrium(
        noise_u, noise_w, squared_norm_u=u, squared_norm_w=w, temperature=0.2, weight_decay=gamma
    )
    assert many == pytest.approx([2 * one.log_scale, 0.0], abs=1e-9)


def test_ratios_without_equilibrium():
    found = balance.log_ratio_to_equilibrium([1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    assert found.tolist() == [math.inf, -math.inf, 0.0]
    with pytest.raises(ValueError, match="finite noise and squared norms"):
        balance.log_ratio_to_equilibrium([-1.0], [1.0])


@given(sizes, sizes, sizes, sizes, st.floats(-1, 1))
def test_does_not_depend_on_where_on_the_orbit_one_starts(s1, s2, c1, c2, start):
    a = np.array([1.0, -0.5])
    s, c = np.array([s1, s2]), np.array([c1, c2])
    here = balance.equilibrium(a, s, c, temperature=0.3, weight_decay=0.1)
    moved = balance.equilibrium(
        a, s * np.exp(-2 * start * a), c * np.exp(2 * start * a), temperature=0.3, weight_decay=0.1
    )
    assert moved.log_scale == pytest.approx(here.log_scale - start, abs=1e-9)
    assert moved.charge == pytest.approx(here.charge, rel=1e-9, abs=1e-9)


def test_relaxation_rate_is_the_slope_of_the_drift():
    a, s, c = np.array([1.0, -1.0]), np.array([0.3, 2.0]), np.array([1.0, 0.4])
    temperature, gamma = 0.2, 0.05
    found = balance.equilibrium(a, s, c, temperature=temperature, weight_decay=gamma)

    def at(log_scale):
        rate = (a * (temperature * np.exp(-2 * log_scale * a) * s - 4 * gamma * np.exp(2 * log_scale * a) * c)).sum()
        return rate, (a * np.exp(2 * log_scale * a) * c).sum()

    (rate_above, above), (rate_below, below) = at(found.log_scale + 1e-5), at(found.log_scale - 1e-5)
    assert found.relaxation_rate == pytest.approx(-(rate_above - rate_below) / (above - below), rel=1e-6)


def test_scale_invariance_needs_weight_decay():
    with pytest.raises(ValueError, match="only raise the charge"):
        balance.equilibrium([1.0], [2.0], [3.0])
    found = balance.equilibrium([1.0], [2.0], [3.0], temperature=0.5, weight_decay=0.01)
    # ‖θ‖⁴ = T Tr Σ ‖θ‖² / (4 γ), all at the present weights
    assert found.charge**2 == pytest.approx(0.5 * 2 * 3 / (4 * 0.01), rel=1e-9)
    assert found.relaxation_rate == pytest.approx(8 * 0.01, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "rest", "message"),
    [
        (([1, -1], [1, 0]), {}, "only raise"),
        (([1, -1], [0, 1]), {}, "only lower"),
        (([1, -1], [0, 0]), {}, "do not move"),
        (([1, -1], [1]), {}, "one length"),
        (([1, -1], [1, -1]), {}, "noise ≥ 0"),
        (([1, -1], [1, math.nan]), {}, "finite noise"),
        (([1, -1], [1, 1]), {"weight_decay": 0.1}, "squared norms"),
        (([1, -1], [1, 1]), {"temperature": 0}, "temperature > 0"),
        (([1, -1], [1, 1e-290]), {}, "next to none"),
    ],
)
def test_bad_input(arguments, rest, message):
    with pytest.raises(ValueError, match=message):
        balance.equilibrium(*arguments, **rest)
