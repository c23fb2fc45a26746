"""Growth of a small weight under real steps: first order, Gaussian data in closed form, weight decay."""

import numpy as np
import pytest
from scipy.integrate import quad

from sgdscope.theory.stationary import (
    DiagonalNoise,
    discrete_critical_temperature,
    gaussian_discrete_critical_temperature,
    gaussian_growth_rate,
    growth_rate,
)
from sgdscope.theory.stationary.gaussian_threshold import mean_log_size

X, Y = np.array([1.0, 2.0, -1.0, 0.5]), np.array([0.5, 1.0, 1.5, -0.3])


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_small_steps_grow_at_the_rate_of_the_differential_equation(batch_size, weight_decay):
    noise, lr = DiagonalNoise.of_data(X, Y), 1e-4
    found = growth_rate(X, Y, lr=lr, batch_size=batch_size, weight_decay=weight_decay)
    drift = noise.product_mean - weight_decay - lr / batch_size * noise.product_variance
    assert found == pytest.approx(4 * lr * drift, rel=1e-2)
    mirrored = growth_rate(X, -Y, lr=lr, batch_size=batch_size, weight_decay=weight_decay)
    assert mirrored == pytest.approx(found, rel=1e-12)


def test_growth_is_that_of_the_product_of_two_balanced_layers():
    lr, size, gamma = 0.3, 2, 0.05
    logs = []
    for i in range(4):
        for j in range(4):
            pull = (X[[i, j]] * Y[[i, j]]).mean()
            u = w = 1e-8
            u, w = u - lr * (-2 * pull * w + 2 * gamma * u), w - lr * (-2 * pull * u + 2 * gamma * w)
            logs.append(np.log(abs(u * w) / 1e-16))
    assert growth_rate(X, Y, lr=lr, batch_size=size, weight_decay=gamma) == pytest.approx(np.mean(logs), rel=1e-9)


@pytest.mark.parametrize(("centre", "spread"), [(1, 0.12), (1, 0.1251), (1, 0.4), (0.3, 1), (0, 1), (-2, 0.7), (1, 0)])
def test_mean_logarithm_of_a_gaussian_number(centre, spread):
    def weighted(z):
        return np.log(abs(centre + spread * z)) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)

    zero = [-centre / spread] if spread and abs(centre) < 13 * spread else []
    expected = quad(weighted, -13, 13, points=zero, limit=500)[0]
    assert mean_log_size(centre, spread) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(("batch_size", "weight_decay"), [(1, 0.0), (1, 0.3), (8, 0.0)])
def test_gaussian_data_in_closed_form(batch_size, weight_decay):
    rng = np.random.default_rng(0)
    x = 1.3 * rng.standard_normal((400_000, batch_size))
    y = -0.7 * x + 6 * rng.standard_normal(x.shape)
    lr = 0.01 * batch_size
    logs = 2 * np.log(np.abs(1 + 2 * lr * (-(x * y).mean(1) - weight_decay)))
    found = gaussian_growth_rate(-0.7, 36.0, 1.69, lr=lr, batch_size=batch_size, weight_decay=weight_decay)
    assert found == pytest.approx(logs.mean(), abs=4 * logs.std() / np.sqrt(len(logs)))


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_gaussian_threshold_follows_the_expansion(batch_size):
    errors = []
    for noise_variance in (1e4, 1e5):
        continuous = DiagonalNoise.gaussian(1.0, noise_variance).critical_temperature()
        found = gaussian_discrete_critical_temperature(1.0, noise_variance, batch_size=batch_size).value
        lr = batch_size * continuous
        # xy = x² + σ x ε with excess kurtosis 6 and third cumulant 6 σ² for strong noise
        shift = -lr * (3 + 12 / batch_size) + 8 * lr**2 * noise_variance / batch_size**2
        errors.append(found / continuous - 1 - shift)
        assert abs(errors[-1]) < 0.4 * abs(shift)
        zero = gaussian_growth_rate(1.0, noise_variance, lr=found * batch_size, batch_size=batch_size)
        assert abs(zero) < 1e-10
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.25)  # of second order in lr


def test_weight_decay_lowers_the_threshold():
    x, y = np.array([1.0, 1, -1, -1]), np.array([51.0, -49, -51, 49])
    for find in (
        lambda gamma: discrete_critical_temperature(x, y, 4, gamma).value,
        lambda gamma: gaussian_discrete_critical_temperature(1.0, 2500.0, batch_size=4, weight_decay=gamma).value,
    ):
        assert find(0.5) / find(0.0) == pytest.approx(0.5, rel=0.02)


def test_weak_noise_never_collapses_real_steps():
    with pytest.raises(ValueError, match="steps get too large"):
        gaussian_discrete_critical_temperature(1.0, 1.0, batch_size=1)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: growth_rate(X, Y, lr=0, batch_size=1), "learning rate"),
        (lambda: growth_rate(X, Y, lr=1, batch_size=1.5), "whole batch size"),
        (lambda: growth_rate(X, Y, lr=1, batch_size=1, weight_decay=-1), "weight decay"),
        (lambda: discrete_critical_temperature(X, Y, 1, 0.5), "mean above weight decay 0.5"),
        (lambda: gaussian_growth_rate(1, 1, lr=-1, batch_size=1), "learning rate"),
        (lambda: gaussian_growth_rate(1, 1, lr=1, batch_size=0), "batch size"),
        (lambda: gaussian_growth_rate(1, -1, lr=1, batch_size=1), "noise variance"),
        (lambda: gaussian_discrete_critical_temperature(1, 9, batch_size=1, weight_decay=2), "weight decay < "),
        (lambda: gaussian_discrete_critical_temperature(1, 0, batch_size=1), "one sign"),
    ],
)
def test_bad_input_gets_a_sentence(ask, said):
    with pytest.raises(ValueError, match=said):
        ask()
