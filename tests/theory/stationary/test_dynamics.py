"""The equation of motion: against one step of the real network, and no flux in its stationary density."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdscope.theory.stationary import DiagonalDynamics, DiagonalNoise
from sgdscope.theory.stationary.zero_flux import ZeroFlux

from .cases import GENERAL, noises

X, Y = np.array([1, 2, -1, 0.5]), np.array([0.5, 1, 1.5, -0.3])


def one_step(depth, width, v, lr, weight_decay=0.0):
    """Mean and mean square of the change of v in a step of SGD at batch size 1, all factors balanced, all samples."""
    factors = depth + 1
    u = (v / width) ** (1 / factors)
    derivative = 2 * X * (v * X - Y)
    after = width * (u - lr * (derivative * u**depth + 2 * weight_decay * u)) ** factors
    return np.mean(after - v), np.mean((after - v) ** 2)


@pytest.mark.parametrize(("depth", "width"), [(0, 1), (0, 3), (1, 1), (1, 4), (2, 1), (3, 2), (6, 5)])
def test_one_step_of_the_network_at_the_optimum(depth, width):
    # there the mean gradient vanishes, so the drift is all of order lr: product term and weight decay
    noise, lr = DiagonalNoise.of_data(X, Y), 1e-5
    v, weight_decay = noise.optimum, 1e-5
    dynamics = DiagonalDynamics(noise, lr, depth, width, weight_decay)
    mean, square = one_step(depth, width, v, lr, weight_decay)
    assert mean / lr == pytest.approx(dynamics.drift(v), rel=2e-3)
    assert square / lr == pytest.approx(dynamics.diffusion(v) ** 2, rel=1e-4)


@pytest.mark.parametrize(("depth", "width"), [(0, 2), (1, 2), (2, 1), (4, 3)])
def test_one_step_of_the_network_downhill(depth, width):
    noise, lr = DiagonalNoise.of_data(X, Y), 1e-8
    dynamics = DiagonalDynamics(noise, lr, depth, width, weight_decay=0.3)
    mean, square = one_step(depth, width, 0.7, lr, 0.3)
    assert mean / lr == pytest.approx(dynamics.drift(0.7), rel=1e-5)
    assert square / lr == pytest.approx(dynamics.diffusion(0.7) ** 2 + lr * dynamics.drift(0.7) ** 2, rel=1e-5)


@given(
    noises(),
    st.sampled_from([0, 1, 1.5, 2, 3, 7, math.inf]),
    st.sampled_from([1, 2, 5]),
    st.floats(0.02, 3),
    st.sampled_from([0, 0.1]),
    st.floats(0.1, 3),
)
def test_the_density_carries_no_flux(noise, depth, width, temperature, weight_decay, v):
    # d log(diffusion² p) / dv = 2 drift / diffusion², whether p can be normalised or not
    if math.isinf(depth):
        dynamics = DiagonalDynamics(noise, temperature, depth, width_per_depth=width / 3)
    else:
        dynamics = DiagonalDynamics(noise, temperature, depth, width, weight_decay)
    flux = ZeroFlux(dynamics)

    def logarithm(at):
        return flux.log_density(np.array([at]))[0] + 2 * math.log(dynamics.diffusion(at))

    h = 1e-3 * v
    left = (8 * (logarithm(v + h) - logarithm(v - h)) - logarithm(v + 2 * h) + logarithm(v - 2 * h)) / (12 * h)
    force = 2 * dynamics.drift(v) / dynamics.diffusion(v) ** 2
    scale = 2 * dynamics.diffusion(v) ** -2 * (abs(dynamics.speed * v**dynamics.power * noise.mean_gradient(v)) + 1)
    assert left == pytest.approx(force, rel=1e-7, abs=1e-7 * scale + 1e-9 / h)
    slope = flux.slope(np.array([v]))[0]
    change = (math.log(dynamics.diffusion(v * 1.0001)) - math.log(dynamics.diffusion(v * 0.9999))) / (1e-4 * v)
    assert slope == pytest.approx(force - change, rel=1e-6, abs=1e-6 * scale)


def test_depth_one_as_printed():
    dynamics = DiagonalDynamics(GENERAL, 0.1, 1, 3, 0.2)
    v = np.array([0.2, 0.8, 2.0])
    g = GENERAL.g(v)
    assert dynamics.drift(v) == pytest.approx(-4 * v * (1.2 * v - 0.9 + 0.2) + 4 * 0.1 * v * g)
    assert dynamics.diffusion(v) == pytest.approx(4 * v * np.sqrt(0.1 * g))
    assert type(dynamics.drift(0.5)) is float
    assert type(dynamics.diffusion(0.5)) is float


def test_infinite_depth_is_the_limit():
    deep, infinite = (
        DiagonalDynamics(GENERAL, 0.1, 1e7, 5e6),
        DiagonalDynamics(GENERAL, 0.1, math.inf, width_per_depth=0.5),
    )
    v = np.array([0.3, 0.75, 1.5])
    assert infinite.drift(v) == pytest.approx(deep.drift(v), rel=1e-4)
    assert infinite.diffusion(v) == pytest.approx(deep.diffusion(v), rel=1e-4)


def test_mirrored_data_mirror_the_motion():
    for depth in (0, 1, 2, 3):
        one, two = DiagonalDynamics(GENERAL, 0.1, depth), DiagonalDynamics(GENERAL.flipped, 0.1, depth)
        v = np.array([-0.7, 0.4])
        assert two.drift(-v) == pytest.approx(-one.drift(v))
        assert two.diffusion(-v) == pytest.approx(one.diffusion(v))
