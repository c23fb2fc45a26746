"""Settings: starts, laws, and how long runs take to settle."""

import math

import numpy as np
import pytest

from sgdscope.diagonal import GaussianData, SampledData, Setting


def setting(depth=1, width=1, slope=1.0, noise_variance=1.0, lr=0.01, weight_decay=0.0):
    return Setting(GaussianData(slope, noise_variance), lr, 1, depth, width, weight_decay)


def test_starts():
    one = setting(depth=2, width=2, slope=-1.0)
    np.testing.assert_allclose(one.subnetworks(one.weights()), [-0.5, -0.5])
    np.testing.assert_allclose(one.subnetworks(one.weights((0.8,))), [0.4, 0.4])
    np.testing.assert_allclose(one.subnetworks(one.weights((0.8, -0.1))), [0.8, -0.1])
    given = (1.0, 2.0, 3.0, 0.5, 1.0, -1.0)
    np.testing.assert_allclose(one.weights(given), given)
    layers = one.weights((0.8, -0.1)).reshape(2, 3)
    np.testing.assert_allclose(np.abs(layers), np.abs(layers[:, :1]) * np.ones((2, 3)))  # balanced
    assert setting(slope=0.0, noise_variance=4.0).weights() == pytest.approx([math.sqrt(2.0)] * 2)


@pytest.mark.parametrize("start", [(1.0, 2.0, 3.0), (math.nan,)])
def test_starts_that_do_not_fit(start):
    with pytest.raises(ValueError, match="start"):
        setting(depth=2, width=2).weights(start)


def test_living_subnetworks_are_those_on_the_side_of_the_optimum():
    one = setting(depth=2, width=3, slope=-1.0)
    weights = one.weights((-0.4, 0.2, -0.1))
    assert one.living(weights) == 2
    assert one.law(weights).width == 2
    assert one.law(weights).median < 0
    assert setting(depth=0, width=3).living(np.array([-1.0, 1.0, 1.0])) == 3


def test_laws():
    assert setting().law(setting().weights()).collapsed is False
    wrong = setting().law(setting().weights((-0.5,)))
    assert wrong.collapsed
    assert wrong.places == (0.0,)
    held = setting(depth=2, weight_decay=0.1, noise_variance=4.0, lr=0.005)
    assert held.law(held.weights()).metastable
    lost = setting(depth=2, weight_decay=5.0)
    assert lost.law(lost.weights()).collapsed
    flat = setting(slope=0.0)
    assert "no mean" in flat.law(flat.weights()).reason


def test_relative_temperature():
    assert setting(lr=0.1).relative_temperature == pytest.approx(0.3)
    assert setting(depth=2).relative_temperature is None
    assert setting(weight_decay=2.0).relative_temperature is None


def test_settling_takes_longer_close_to_the_critical_temperature():
    times = []
    for lr in (0.05, 0.2, 0.3):
        one = setting(lr=lr)
        times.append(one.settling_steps(one.law(one.weights())) * lr)
    assert times[0] < times[1] < times[2]
    for other in (setting(depth=0), setting(depth=2), setting(slope=0.0), setting(weight_decay=2.0), setting(lr=0.5),
                  setting(depth=3, slope=0.0)):  # fmt: skip
        assert 1 <= other.settling_steps(other.law(other.weights())) < 1e7


def test_data_keep_their_line_when_their_noise_changes():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(200)
    data = SampledData(x, 2 * x + rng.standard_normal(200))
    louder = data.with_deviation(3.0)
    assert louder.deviation == pytest.approx(3.0)
    assert louder.noise.optimum == pytest.approx(data.noise.optimum)
    assert GaussianData(2.0, 1.0).with_deviation(3.0).deviation == 3.0
    with pytest.raises(ValueError, match="off the best line"):
        SampledData(x, 2 * x).with_deviation(1.0)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: setting(lr=0.0), "lr > 0"),
        (lambda: setting(depth=-1), "depth"),
        (lambda: setting(weight_decay=-1.0), "weight decay"),
        (lambda: GaussianData(1.0, -1.0), "noise variance"),
        (lambda: SampledData(np.ones(3), np.ones(2)), "one shape"),
    ],
)
def test_bad_input_gets_a_sentence(ask, said):
    with pytest.raises(ValueError, match=said):
        ask()
