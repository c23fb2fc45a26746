import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sgdscope.theory.stationary import DiagonalNoise

X, Y = [1, 2, -1, 0.5], [0.5, 1, 1.5, -0.3]
sizes = st.floats(0.1, 10)
samples = st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=2, max_size=12)


def arrays(pairs):
    x, y = np.array(pairs).T
    assume(np.mean(x**2) > 0.01)
    return x, y


def numbers(noise):
    return np.array([vars(noise)[name] for name in vars(noise)])


def test_the_reference_data():
    noise = DiagonalNoise.of_data(X, Y)
    assert numbers(noise) == pytest.approx([2.07421875, 1.40859375, 1.58546875, 1.5625, 0.2125], rel=1e-14)
    assert noise.discriminant == pytest.approx(1.30447265625, rel=1e-14)
    assert noise.critical_temperature() == pytest.approx(0.13402976, rel=1e-7)
    v = 1.2 * 0.5
    assert noise.g(v) == pytest.approx(0.641875, rel=1e-13)
    assert noise.gradient_variance(v) == pytest.approx(2.5675, rel=1e-13)
    assert noise.mean_gradient(v) == pytest.approx(1.45, rel=1e-13)


def test_gaussian_data_in_closed_form_and_from_moments():
    k, variance, s = 1.5, 0.7, 2.0
    noise = DiagonalNoise.gaussian(k, variance, s)
    moments = DiagonalNoise.of_moments(
        x2=s, xy=k * s, x4=3 * s * s, x3y=3 * k * s * s, x2y2=3 * k * k * s * s + s * variance
    )
    assert numbers(noise) == pytest.approx(numbers(moments), rel=1e-14)
    assert numbers(DiagonalNoise.gaussian(1, 1)) == pytest.approx([2, 2, 3, 1, 1])


def test_sampled_gaussian_data_agree_with_the_closed_form():
    rng = np.random.default_rng(0)
    x = rng.normal(size=400_000)
    y = 0.8 * x + rng.normal(size=x.size)
    assert numbers(DiagonalNoise.of_data(x, y)) == pytest.approx(numbers(DiagonalNoise.gaussian(0.8, 1)), rel=0.03)


@given(samples, st.floats(-3, 3))
def test_g_is_the_variance_over_the_samples(pairs, v):
    x, y = arrays(pairs)
    noise = DiagonalNoise.of_data(x, y)
    derivative = 2 * x * (v * x - y)
    assert noise.gradient_variance(v) == pytest.approx(derivative.var(), abs=1e-9)
    assert noise.mean_gradient(v) == pytest.approx(derivative.mean(), abs=1e-9)
    assert noise.g(v) >= 0


@given(samples, sizes, sizes)
def test_scales_of_the_data(pairs, a, b):
    x, y = arrays(pairs)
    assume(np.var(x * y) > 1e-3)
    noise, scaled = DiagonalNoise.of_data(x, y), DiagonalNoise.of_data(a * x, b * y)
    assert numbers(scaled) == pytest.approx(
        numbers(noise) * [a**4, a**3 * b, a**2 * b**2, a**2, a * b], rel=1e-9, abs=1e-9
    )
    assert scaled.optimum == pytest.approx(noise.optimum * b / a, abs=1e-9)
    assert scaled.critical_temperature() == pytest.approx(noise.critical_temperature() / (a * b), rel=1e-9)


@given(samples)
def test_the_other_sign(pairs):
    x, y = arrays(pairs)
    noise = DiagonalNoise.of_data(x, y)
    assert numbers(noise.flipped) == pytest.approx(numbers(DiagonalNoise.of_data(x, -y)), abs=1e-12)
    assert noise.flipped.flipped == noise
    assert noise.oriented.product_mean == abs(noise.product_mean)
    assert noise.sign * noise.oriented.optimum == pytest.approx(noise.optimum)


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=9), st.floats(0.1, 3))
def test_data_that_one_weight_fits(inputs, k):
    x = np.array(inputs)
    assume(np.mean(x**2) > 0.1)
    noise = DiagonalNoise.of_data(x, k * x)
    assert noise.interpolating
    assert noise.noiseless_weight == pytest.approx(k, rel=1e-6)
    assert noise.g(noise.noiseless_weight) == 0


def test_vanishing_noise_off_the_optimum_is_not_interpolation():
    x = np.array([1.0, 2.0, 0.5])
    noise = DiagonalNoise.of_data(x, 0.5 * x - 0.3 / x)
    assert noise.discriminant == 0
    assert noise.noiseless_weight == pytest.approx(0.5)
    assert not noise.interpolating
    assert not DiagonalNoise.gaussian(1, 1).interpolating
    assert DiagonalNoise.gaussian(1, 1).noiseless_weight is None


def test_inputs_of_one_size_have_constant_noise():
    noise = DiagonalNoise.of_data([1, 1, -1, -1], [1.5, 0.5, -1.5, -0.5])
    assert noise.square_variance == 0
    assert noise.noiseless_weight is None
    assert list(noise.g(np.array([-1.0, 5.0]))) == [0.25, 0.25]
    assert DiagonalNoise.of_data([1, -1], [2, -2]).noiseless_weight == 2


def test_weight_decay_lowers_the_critical_temperature():
    noise = DiagonalNoise(1.5, 0.7, 2, 1.2, 0.9)
    assert noise.critical_temperature() == pytest.approx(0.45)
    assert noise.critical_temperature(0.2) == pytest.approx(0.35)
    assert noise.critical_temperature(1.0) == 0
    assert noise.flipped.critical_temperature(0.2) == pytest.approx(0.35)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: DiagonalNoise(1, 2, 1, 1, 1), "no data have these moments"),
        (lambda: DiagonalNoise(-1, 0, 1, 1, 1), "no data have these moments"),
        (lambda: DiagonalNoise(1, 0, 1, 0, 1), "E\\[x²\\] > 0"),
        (lambda: DiagonalNoise(1, 0, float("nan"), 1, 1), "finite product variance"),
        (lambda: DiagonalNoise.of_data([1, 2], [1]), "one shape"),
        (lambda: DiagonalNoise.of_data([], []), "one shape"),
        (lambda: DiagonalNoise.of_data([1, float("inf")], [1, 1]), "finite x and y"),
        (lambda: DiagonalNoise.gaussian(1, -1), "noise variance"),
        (lambda: DiagonalNoise.gaussian(1, 1).critical_temperature(-1), "weight decay"),
        (lambda: DiagonalNoise(1, 0, 0, 1, 1).critical_temperature(), "no critical temperature"),
    ],
)
def test_bad_input_gets_a_sentence(build, said):
    with pytest.raises(ValueError, match=said):
        build()
