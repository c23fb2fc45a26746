"""Moments of data and phase boundaries with standard errors."""

import numpy as np
import pytest

from sgdscope.diagonal import data_moments
from sgdscope.theory.stationary import DiagonalNoise, discrete_critical_temperature

NAMES = ("square_variance", "product_variance", "square_mean", "product_mean", "discriminant", "optimum",
         "critical_temperature", "mode_temperature", "discrete_critical_temperature")  # fmt: skip


def sample(seed, n=400, noise=6.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    return x, x + noise * rng.standard_normal(n)


def test_reference_data():
    found = data_moments([1, 2, -1, 0.5], [0.5, 1, 1.5, -0.3], batch_size=2)
    values = [float(getattr(found, name)) for name in ("square_variance", "covariance", "product_variance")]
    assert values == pytest.approx([2.07421875, 1.40859375, 1.58546875])
    assert float(found.discriminant) == pytest.approx(1.30447265625)
    assert float(found.critical_temperature) == pytest.approx(0.13402976, rel=1e-7)
    assert found.critical_temperature.standard_error is None  # of four samples nothing can be said
    assert found.critical_temperature.status == "few_samples"


@pytest.mark.slow
def test_errors_are_those_between_samples_of_the_same_law():
    found = [data_moments(*sample(seed)) for seed in range(100)]
    for name in NAMES:
        values = [float(getattr(one, name)) for one in found if getattr(one, name).value is not None]
        errors = [getattr(one, name).standard_error for one in found if getattr(one, name).value is not None]
        assert np.mean(errors) == pytest.approx(np.std(values), rel=0.35), name


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_discrete_threshold_moves_as_newton_s_step_says(batch_size):
    x, y = sample(0, 4000, 20.0)
    found = data_moments(x, y, batch_size=batch_size)
    assert float(found.discrete_critical_temperature) == discrete_critical_temperature(x, y, batch_size).value
    # without each of twenty blocks in truth
    kept = [np.arange(4000) % 20 != block for block in range(20)]
    others = [discrete_critical_temperature(x[part], y[part], batch_size).value for part in kept]
    spread = np.sqrt(19 / 20 * np.square(np.array(others) - np.mean(others)).sum())
    assert found.discrete_critical_temperature.standard_error == pytest.approx(spread, rel=0.25)


def test_leaving_out_blocks_is_exact():
    x, y = sample(3, 60)
    one_by_one = data_moments(x, y, blocks=60)
    values = []
    for left in range(60):
        kept = np.arange(60) != left
        values.append(DiagonalNoise.of_data(x[kept], y[kept]).critical_temperature())
    spread = np.sqrt(59 / 60 * np.square(np.array(values) - np.mean(values)).sum())
    assert one_by_one.critical_temperature.standard_error == pytest.approx(spread, rel=1e-9)


def test_what_does_not_exist_says_why():
    x = np.arange(1.0, 21.0)
    same = data_moments(x, 2 * x)  # y = 2 x
    assert same.discrete_critical_temperature.value is None
    assert "one sign" in same.discrete_critical_temperature.reason
    assert float(same.critical_temperature) > 0
    flat = data_moments(np.ones(20), np.ones(20))
    assert "Var[xy] > 0" in flat.critical_temperature.reason
    decayed = data_moments(*sample(0), weight_decay=50.0)
    assert "weight decay" in decayed.critical_temperature.reason


def test_a_quantity_that_part_of_the_data_lacks_has_no_error():
    x, y = np.ones(10), np.zeros(10)
    y[0], y[1] = 1.0, -0.5  # without the first, E[xy] < 0, and with it > 0; without both there is no noise
    found = data_moments(x[:8], np.array([1.0, 0, 0, 0, 0, 0, 0, 0]))
    assert found.critical_temperature.value is not None
    assert found.critical_temperature.standard_error is None
    assert "not of every part" in found.critical_temperature.reason
