"""First passage on a line: closed forms, tables, the gap of a generator, symmetries."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import erfcx

from sgdscope.theory.escape import first_passage, log_mass_ratio, mean_first_passage_time

from .landscapes import (
    DOUBLE_WELL,
    STYBLINSKI_TANG,
    TILTED_CURVATURES,
    TILTED_NOISE,
    TILTED_SADDLE,
    curved_noise,
    generator_gap,
)

READINGS = ("ito", "stratonovich", "anti-ito")
SLOPE = DOUBLE_WELL.deriv()


def exact(gradient, diffusion, start=-1.0, target=1.0, **rest):
    return mean_first_passage_time(gradient, diffusion, start, target, **rest).value


@pytest.mark.parametrize(
    ("ratio", "times"),
    [
        (16, (90.197, 116.188, 152.943)),
        (24, (384.383, 512.245, 691.999)),
        (32, (1710.69, 2320.43, 3177.46)),
        (48, (35895.8, 49470.7, 68576.1)),
        (80, (1.68121e7, 2.34267e7, 3.27521e7)),
    ],
)
def test_curved_noise_under_each_reading(ratio, times):
    found = [exact(SLOPE, curved_noise(ratio), interpretation=reading) for reading in READINGS]
    assert found == pytest.approx(times, rel=1e-5)


@pytest.mark.parametrize(
    ("ratio", "times"),
    [(24, (386.90, 525.19, 721.00)), (32, (1744.5, 2416.3, 3366.6)), (48, (37591.8, 52829.3, 74378.5))],
)
def test_noise_that_jumps_at_the_inflection_points(ratio, times):
    found = [
        exact(SLOPE, lambda x: np.where(np.abs(x) > 3**-0.5, 2, 1) / ratio, interpretation=reading)
        for reading in READINGS
    ]
    assert found == pytest.approx(times, rel=2e-5)


@pytest.mark.parametrize(("temperature", "time"), [(0.05, 729.67), (0.04, 2483.03), (0.03, 19485.8)])
def test_white_noise_on_the_double_well(temperature, time):
    assert exact(SLOPE, temperature) == pytest.approx(time, rel=1e-5)
    assert exact(None, temperature, value=DOUBLE_WELL) == pytest.approx(exact(SLOPE, temperature), rel=1e-11)
    assert exact(None, lambda x: temperature, value=DOUBLE_WELL) == pytest.approx(exact(SLOPE, temperature), rel=1e-10)


@pytest.mark.parametrize(("temperature", "right", "left"), [(0.04, 3632.94, 2297.81), (0.03, 30551.7, 19200.2)])
def test_white_noise_between_a_flat_and_a_sharp_well(temperature, right, left):
    slope = TILTED_CURVATURES.deriv()
    assert exact(slope, temperature) == pytest.approx(right, rel=1e-5)
    assert exact(slope, temperature, 1.0, -1.0) == pytest.approx(left, rel=1e-5)


def test_white_noise_on_styblinski_tang():
    slope = STYBLINSKI_TANG.deriv()
    shallow, deep = 2.746803, -2.903534
    assert exact(slope, 0.105104, shallow, deep) == pytest.approx(4707.0 * 1.0736, rel=1e-4)
    assert exact(slope, 0.164007, deep, shallow) == pytest.approx(4330.4 * 1.1007, rel=1e-4)
    for k in (0.3, 1.0, 7.0):
        found = exact(
            None, 0.157657, shallow / k**0.5, deep / k**0.5, value=lambda x, k=k: STYBLINSKI_TANG(math.sqrt(k) * x)
        )
        assert found == pytest.approx(717.0 / k, rel=2e-4)


@pytest.mark.parametrize(
    ("ratio", "left", "right", "odds"),
    [
        (16, 868.10, 24.337, 38.005),
        (24, 10044.5, 60.672, 169.81),
        (32, 118359, 159.02, 751.78),
        (48, 1.69173e7, 1195.18, 14174.7),
    ],
)
def test_curved_noise_between_a_flat_and_a_sharp_well(ratio, left, right, odds):
    slope, diffusion = TILTED_CURVATURES.deriv(), TILTED_NOISE / ratio
    assert exact(slope, diffusion) == pytest.approx(left, rel=1e-5)
    assert exact(slope, diffusion, 1.0, -1.0) == pytest.approx(right, rel=3e-5)
    assert math.exp(log_mass_ratio(slope, diffusion, TILTED_SADDLE)) == pytest.approx(odds, rel=3e-4)


@pytest.mark.parametrize(
    ("temperature", "odds"),
    [(0.1, 1.52641), (0.05, 1.57292), (0.04, 1.58266), (0.03, 1.59142), (0.02, 1.59908), (0.01, 1.60599)],
)
def test_masses_under_white_noise(temperature, odds):
    found = log_mass_ratio(TILTED_CURVATURES.deriv(), temperature, TILTED_SADDLE)
    assert math.exp(found) == pytest.approx(odds, rel=3e-5)
    by_value = log_mass_ratio(None, temperature, TILTED_SADDLE, value=TILTED_CURVATURES)
    assert by_value == pytest.approx(found, abs=1e-11)


@pytest.mark.parametrize(("ratio", "product"), [(24, 1.025), (32, 1.006), (48, 1.0003)])
def test_gap_of_the_generator_is_twice_the_rate(ratio, product):
    diffusion = curved_noise(ratio)
    gap = generator_gap(SLOPE, diffusion)
    assert gap * exact(SLOPE, diffusion) / 2 == pytest.approx(product, abs=6e-4)


def test_closed_forms():
    # free diffusion between a wall and the target: L² / (2 D), variance L⁴ / (6 D²)
    free = first_passage(0.0, 0.7, 0.0, 3.0, reflecting=0.0)
    assert free.mean == pytest.approx(9 / 1.4, rel=1e-13)
    assert free.variance == pytest.approx(81 / (6 * 0.49), rel=1e-12)
    # drift −c towards the target at 0 from x, no wall in reach: x / c, variance 2 D x / c³
    drift = first_passage(2.0, 0.3, 1.5, 0.0)
    assert drift.mean == pytest.approx(1.5 / 2, rel=1e-12)
    assert drift.variance == pytest.approx(2 * 0.3 * 1.5 / 8, rel=1e-11)
    # from the bottom of a parabola: Ornstein-Uhlenbeck, a single integral
    reach = 3.0
    scaled = quad(lambda y: math.sqrt(math.pi) * math.exp(y * y) * (1 + math.erf(y)), 0, reach / math.sqrt(2))[0]
    assert exact(lambda x: x, 1.0, 0.0, reach) == pytest.approx(scaled, rel=1e-10)
    # geometric Brownian motion dx = −x dt + √2 x dW (Itô) up to a level: ln x drifts by −2, a wall at 1
    log_reach = 1.3
    found = exact(lambda x: x, lambda x: x * x, 1.0, math.exp(log_reach), reflecting=1.0)
    assert found == pytest.approx(((math.exp(2 * log_reach) - 1) / 2 - log_reach) / 2, rel=1e-11)


@pytest.mark.parametrize("height", [30.0, 300.0, 3000.0])
def test_barriers_of_any_height(height):
    # slope c up to the target from a wall: (e^Φ − 1 − Φ) D / c²; in logarithms beyond floating point
    passage = first_passage(1.0, 1 / height, 0.0, 1.0, reflecting=0.0)
    assert passage.log_mean == pytest.approx(height - math.log(height), abs=1e-11 * height + 1e-9 * (height < 40))
    assert passage.spread == pytest.approx(1, abs=1e-9)
    assert passage.error < 1e-10
    if height > 700:
        with pytest.raises(ValueError, match=r"e\^2991.99, beyond floating point"):
            _ = passage.mean


def test_a_high_curved_barrier_follows_its_asymptote():
    # Φ = 463.5: relative deviation from the low-noise law is of the order of 1 / q
    ratio = 2400
    found = first_passage(SLOPE, curved_noise(ratio), -1.0, 1.0)
    law = math.log(math.pi) + ratio * (math.log(2) - 0.5)
    assert 0 < found.log_mean - law < 5 / ratio
    assert found.error < 1e-11


def test_variance_by_second_route():
    # T₂ = 2 ∫ s ∫ m T₁ with T₁ itself by quadrature, plain nested sums on a fine grid
    temperature = 0.2
    x = np.linspace(-2.6, 1, 40001)
    step = x[1] - x[0]

    def running(f):
        return np.concatenate([[0], np.cumsum((f[1:] + f[:-1]) / 2 * step)])

    scale = np.exp(DOUBLE_WELL(x) / temperature)
    mass = 1 / scale / temperature
    first = scale * running(mass)
    mean = running(first)[-1] - running(first)
    second = 2 * scale * running(mass * mean)
    second = running(second)[-1] - running(second)
    start = int(np.searchsorted(x, -1))
    passage = first_passage(SLOPE, temperature, float(x[start]), 1.0, reflecting=-2.6)
    assert passage.mean == pytest.approx(mean[start], rel=1e-6)
    assert passage.second_moment == pytest.approx(second[start], rel=1e-6)
    assert passage.variance == pytest.approx(second[start] - mean[start] ** 2, rel=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.05, 2), st.floats(-0.8, 0.8), st.floats(-1.2, 1.0), st.floats(0.2, 1.0))
def test_times_add_mirror_and_shift(temperature, tilt, start, way):
    slope, noise = (lambda x: x**3 - x + tilt), (lambda x: temperature * (1 + x * x / 2))
    middle, target = start + way / 3, start + way
    whole = exact(slope, noise, start, target)
    assert whole == pytest.approx(exact(slope, noise, start, middle) + exact(slope, noise, middle, target), rel=1e-9)
    mirrored = exact(lambda x: -slope(-x), lambda x: noise(-x), -start, -target)
    assert mirrored == pytest.approx(whole, rel=1e-9)
    shifted = exact(lambda x: slope(x - 2), lambda x: noise(x - 2), start + 2, target + 2)
    assert shifted == pytest.approx(whole, rel=1e-9)
    faster = exact(lambda x: 3 * slope(x), lambda x: 3 * noise(x), start, target)
    assert 3 * faster == pytest.approx(whole, rel=1e-9)
    assert exact(slope, noise, start, target, reflecting=start - 0.1) < whole
    assert exact(slope, noise, start, target, reflecting=start - 9) == pytest.approx(whole, rel=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.1, 2), st.floats(0.0, 0.9))
def test_readings_differ_by_the_drift_they_stand_for(temperature, wave):
    # in the α reading the Itô drift gains α D'
    noise = lambda x: temperature * (1 + wave * np.sin(3 * x))  # noqa: E731
    change = lambda x: 3 * temperature * wave * np.cos(3 * x)  # noqa: E731
    for alpha, reading in zip((0.5, 1.0), READINGS[1:], strict=True):
        as_ito = exact(lambda x, alpha=alpha: x**3 - x - alpha * change(x), noise)
        assert exact(SLOPE, noise, interpretation=reading) == pytest.approx(as_ito, rel=1e-9)


def test_functions_that_take_one_number_at_a_time():
    noise = lambda x: 0.1 if x > 0 else 0.2  # noqa: E731
    several = lambda x: np.where(x > 0, 0.1, 0.2)  # noqa: E731
    assert exact(SLOPE, noise) == pytest.approx(exact(SLOPE, several), rel=1e-12)
    assert exact(lambda x: 1.0, 0.5, 1.0, 0.0) == pytest.approx(1.0, rel=1e-11)  # returns a constant for an array


def test_heavy_tails_of_the_stationary_law_are_followed_to_their_end():
    # D = L / 4 + 1 with L = x² / 2: density ∝ D^−5; from the bottom to 1, compared with a far wall
    found = exact(lambda x: x, lambda x: 1 + x * x / 8, 0.0, 1.0)
    assert found == pytest.approx(exact(lambda x: x, lambda x: 1 + x * x / 8, 0.0, 1.0, reflecting=-1e5), rel=1e-9)


def test_a_prediction_with_its_error():
    found = mean_first_passage_time(SLOPE, curved_noise(24), -1, 1)
    assert found.unit == "learning rate · iterations"
    assert 0 < found.error < 1e-10
    assert found.valid
    strained = mean_first_passage_time(SLOPE, curved_noise(24), -1, 1, relative_error=1e-17)
    assert strained.value == pytest.approx(found.value, rel=1e-12)
    assert "not the 1e-17 asked for" in strained.warnings[0]


def test_a_large_offset_of_the_loss_costs_digits_and_says_so():
    plain = first_passage(SLOPE, 0.05, -1, 1)
    for diffusion in (0.05, lambda x: 0.05 + 0 * x):
        found = first_passage(None, diffusion, -1, 1, value=lambda x: DOUBLE_WELL(x) + 1e6)
        assert abs(found.log_mean - plain.log_mean) < found.error < 1e-7


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_any_scale_and_place(scale, offset):
    found = exact(lambda x: SLOPE(x / scale - offset) / scale, 0.03, (offset - 1) * scale, (offset + 1) * scale)
    assert found / scale**2 == pytest.approx(exact(SLOPE, 0.03), rel=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: first_passage(None, 1.0, 0, 1), "expected the gradient or the value"),
        (lambda: log_mass_ratio(None, 1.0, 0), "expected the gradient or the value"),
        (lambda: first_passage(SLOPE, 1.0, 0, 0), "expected a target other than the start"),
        (lambda: first_passage(SLOPE, 1.0, 0, math.inf), "expected a finite target"),
        (lambda: first_passage(SLOPE, 1.0, 0, 1, reflecting=0.5), "expected the reflecting end beyond the start"),
        (lambda: first_passage(SLOPE, 1.0, 0, -1, reflecting=-0.5), "expected the reflecting end beyond the start"),
        (lambda: first_passage(SLOPE, 0.0, 0, 1), "expected a diffusion > 0 everywhere"),
        (lambda: first_passage(SLOPE, lambda x: x + 0.5, -1, 1), "expected a diffusion > 0 everywhere"),
        (
            lambda: first_passage(SLOPE, lambda x: np.abs(3 * x * x - 1) / 8, -1, 1),
            "diffusion vanishes near θ = -0.577",
        ),
        (lambda: first_passage(1.0, 1.0, 3, 4), "expected a loss that confines beyond θ = 3,"),
        (lambda: first_passage(SLOPE, lambda x: np.float32(x * x + 1), -1, 1), "double precision, got float32"),
        (lambda: first_passage(SLOPE, lambda x: np.abs(x - 0.5), 1, -1), "diffusion vanishes near θ = 0.5"),
        (lambda: first_passage(lambda x: np.log(x), 1.0, -1, 1, reflecting=-1), "finite gradient and value"),
        (lambda: first_passage(SLOPE, 1.0, 0, 1, interpretation="Ito"), "expected an interpretation among ito"),
        (lambda: first_passage(1e3, 1e-3, 0, 1, reflecting=0), "more than 10⁴ units"),
        (lambda: log_mass_ratio(SLOPE, 1.0, 0, left_end=1), "expected left_end < split"),
        (lambda: mean_first_passage_time(1.0, 1e-3, 0, 1, reflecting=0), "beyond floating point"),
    ],
)
def test_bad_input_is_told(call, message):
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=message):
        call()


def test_erfcx_agrees_at_a_barrier_of_a_parabola():
    # wall at −∞, L = −x² / 2 near a top reached from the bottom of a cusp: one-sided integral by scaled error function
    height = 25.0
    top = first_passage(lambda x: x, 1.0, 0.0, math.sqrt(2 * height), reflecting=0.0)
    single = quad(
        lambda y: (
            math.exp(y * y / 2 - height) * math.sqrt(math.pi / 2) * (1 - math.exp(-y * y / 2) * erfcx(y / 2**0.5))
        ),
        0,
        math.sqrt(2 * height),
        epsabs=0,
        epsrel=1e-11,
    )[0]
    assert top.log_mean == pytest.approx(height + math.log(single), abs=1e-9)
