"""The differential equation of a two-layer network: its coordinate, its step, and the law it settles in."""

import math

import numpy as np
import pytest

from sgdscope.simulate import Average, ensemble
from sgdscope.simulate.data import SGD, BalancedWeight, DiagonalNetwork, Stream, WeightDiffusion
from sgdscope.theory.stationary import DiagonalDynamics, DiagonalLaw, DiagonalNoise

G11 = DiagonalNoise.gaussian(1.0, 1.0)
GEN = DiagonalNoise(1.5, 0.7, 2.0, 1.2, 0.9)


@pytest.mark.parametrize("noise", [G11, GEN])
def test_the_coordinate_is_an_arc_of_even_noise(noise):
    v = np.geomspace(1e-6, 1e3, 50)
    state = BalancedWeight(noise).start(v)
    np.testing.assert_allclose(state[:, 0], np.log(v), rtol=1e-12)
    slope = -np.diff(BalancedWeight(noise).start(np.stack([v, v * (1 + 1e-6)]))[..., 1], axis=0)[0] / (v * 1e-6)
    np.testing.assert_allclose(slope * v * np.sqrt(noise.g(v)), math.sqrt(noise.product_variance), rtol=1e-4)


@pytest.mark.parametrize("noise", [G11, GEN])
@pytest.mark.parametrize("v", [0.1, 0.8, 3.0])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_short_steps_have_the_drift_and_the_noise_of_the_equation(noise, v, weight_decay):
    temperature, step = 0.1, 1e-5
    landscape = BalancedWeight(noise, weight_decay)
    found = ensemble(
        landscape, WeightDiffusion(temperature, step), steps=1, start=landscape.start(v), replicas=100_000,
        precision="float64",
    )  # fmt: skip
    change = np.exp(found.positions[:, 0]) - v
    dynamics = DiagonalDynamics(noise, temperature, 1, weight_decay=weight_decay)
    size = dynamics.diffusion(v) * math.sqrt(step)
    assert change.std() == pytest.approx(size, rel=0.01)
    assert change.mean() == pytest.approx(dynamics.drift(v) * step, abs=4 * size / math.sqrt(100_000))
    again = BalancedWeight(noise, weight_decay).start(np.exp(found.positions[:, 0]))
    np.testing.assert_allclose(found.positions[:, 1], again[:, 1], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "ratio", "weight_decay", "time"),
    [(G11, 0.15, 0.0, 20), (G11, 0.6, 0.0, 120), (GEN, 0.4, 0.3, 80), (DiagonalNoise.gaussian(1, 100), 0.5, 0.0, 80)],
)
def test_it_settles_in_the_stationary_law(noise, ratio, weight_decay, time):
    temperature = ratio * noise.critical_temperature(weight_decay)
    landscape, process = BalancedWeight(noise, weight_decay), WeightDiffusion.usual(noise, temperature)
    mean = Average("exp(log_v)", every=20, after=int(time / process.step / 2))
    found = ensemble(
        landscape, process, steps=int(time / process.step), start=landscape.start(0.8), replicas=20_000, record=mean,
        fast=True,
    )  # fmt: skip
    law = DiagonalLaw(noise, temperature, 1, weight_decay=weight_decay)
    values = np.sort(np.exp(found.positions[:, 0].astype(float)))
    assert not found.diverged.any()
    assert np.abs(law.cdf(values) - (np.arange(20_000) + 0.5) / 20_000).max() < 0.015
    assert found.averages["exp(log_v)"].value == pytest.approx(law.mean, rel=0.01)


@pytest.mark.slow
def test_real_steps_approach_it():
    data = Stream.gaussian(1.0, 25.0)
    lr, time = 0.004, 1.0
    network = DiagonalNetwork(1, data)
    steps = ensemble(network, SGD(lr), steps=int(time / lr), start=network.balanced(0.2), replicas=40_000)
    landscape, process = BalancedWeight(data.noise), WeightDiffusion(lr, 0.002)
    smooth = ensemble(landscape, process, steps=500, start=landscape.start(0.2), replicas=40_000)
    of_steps, of_flow = np.log(steps.positions.prod(1)), smooth.positions[:, 0]
    for share in (0.1, 0.5, 0.9):
        assert np.quantile(of_steps, share) == pytest.approx(np.quantile(of_flow, share), abs=0.06)


def test_above_the_critical_temperature_log_v_falls_at_its_rate():
    temperature, time = 2 * GEN.critical_temperature(), 5.0
    landscape, process = BalancedWeight(GEN), WeightDiffusion.usual(GEN, temperature)
    found = ensemble(landscape, process, steps=int(time / process.step), start=landscape.start(1e-30), replicas=8000)
    change = (found.positions[:, 0].astype(float) - math.log(1e-30)) / found.time
    assert change.mean() == pytest.approx(-4 * GEN.product_mean, abs=4 * change.std() / math.sqrt(8000))


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: BalancedWeight(DiagonalNoise.gaussian(1, 0)), "vanishes at no weight"),
        (lambda: BalancedWeight(DiagonalNoise.gaussian(-1, 1)), "flip the sign"),
        (lambda: BalancedWeight(G11, -1), "weight decay"),
        (lambda: BalancedWeight(G11).start(0.0), "weights v > 0"),
        (lambda: WeightDiffusion(0.1, 0.0), "step > 0"),
        (lambda: ensemble("x**2", WeightDiffusion(0.1, 0.1), steps=1, start=0.0, replicas=1), "BalancedWeight"),
    ],
)
def test_bad_input_gets_a_sentence(ask, said):
    with pytest.raises(ValueError, match=said):
        ask()
