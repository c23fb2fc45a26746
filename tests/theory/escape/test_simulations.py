"""Escape laws and exact times against replicas of the discrete recursions themselves."""

import math

import numpy as np
import pytest

from sgdscope.theory.escape import (
    first_passage,
    in_iterations,
    in_time,
    mean_first_passage_time,
    momentum_escape_time,
    transverse_factor,
    vanishing_noise_exponent,
)

from .landscapes import DOUBLE_WELL, curved_noise

SLOPE = DOUBLE_WELL.deriv()


def slope(x):
    return x * x * x - x


def mean_iterations(step, start, target, replicas, iterations, seed):
    """Mean first-passage iterations from -1 to `target`, each arrival sent back to the start: exposure / arrivals.

    `step(x, generator)` makes one iteration of all replicas, on rows; the first row is the coordinate that arrives.
    Returns the mean and its standard error for exponential times.
    """
    generator = np.random.default_rng(seed)
    x = np.repeat(np.array(start, dtype=float)[:, None], replicas, axis=1)
    arrivals = 0
    for _ in range(iterations):
        x = step(x, generator)
        there = x[0] >= target
        if there.any():
            arrivals += int(there.sum())
            x[:, there] = np.array(start, dtype=float)[:, None]
    mean = replicas * iterations / arrivals
    return mean, mean / math.sqrt(arrivals)


def sgd_step(lr, noise):
    def step(x, generator):
        return x - lr * slope(x) + np.sqrt(2 * lr * noise(x)) * generator.standard_normal(x.shape)

    return step


@pytest.mark.slow
def test_sgd_is_ito():
    # 2 B / lr = 24: Itô 384, Stratonovich 512, anti-Itô 692
    lr = 0.02
    mean, error = mean_iterations(sgd_step(lr, curved_noise(24)), [-1], 1, 2000, 60_000, 0)
    exact = {name: mean_first_passage_time(SLOPE, curved_noise(24), -1, 1, interpretation=name).value
             for name in ("ito", "stratonovich", "anti-ito")}  # fmt: skip
    assert lr * mean == pytest.approx(exact["ito"], rel=0.02 + 3 * error / mean)
    assert lr * (mean + 6 * error) < 0.85 * exact["stratonovich"]


def test_variance_of_the_first_passage():
    # a low barrier, where the law of times is far from exponential; steps are small against the time
    lr, temperature = 0.005, 0.5
    passage = first_passage(SLOPE, temperature, -1, 1)
    assert passage.spread < 0.9
    generator = np.random.default_rng(4)
    x, times = np.full(1500, -1.0), np.zeros(1500)
    alive = np.ones(1500, dtype=bool)
    for i in range(1, 12_000):
        x = x - lr * slope(x) + math.sqrt(2 * lr * temperature) * generator.standard_normal(len(x))
        done = x >= 1 - 0.5826 * math.sqrt(2 * lr * temperature)  # mean overshoot of a Gaussian walk
        times[np.flatnonzero(alive)[done]] = i * lr
        alive[np.flatnonzero(alive)[done]] = False
        x = x[~done]
        if not len(x):
            break
    assert not alive.any()
    assert times.mean() == pytest.approx(passage.mean, rel=0.08)
    assert times.std() / times.mean() == pytest.approx(passage.spread, abs=0.08)


@pytest.mark.slow
def test_bounded_noise_and_large_steps():
    # at fixed 2 B / lr = 24: signs as noise per sample, one per batch, slow escape; Gaussian noise hardly does
    lr = 1 / 12

    def signs(x, generator):
        return x - lr * slope(x) + np.sqrt(2 * lr * curved_noise(24)(x)) * generator.choice([-1.0, 1.0], size=x.shape)

    bounded, error = mean_iterations(signs, [-1], 1, 1000, 50_000, 1)
    assert lr * bounded == pytest.approx(487, abs=15 + 3 * lr * error)
    gaussian, error = mean_iterations(sgd_step(lr, curved_noise(24)), [-1], 1, 1000, 40_000, 2)
    assert lr * gaussian == pytest.approx(373, abs=8 + 3 * lr * error)


@pytest.mark.slow
def test_noise_equal_to_the_curvature_escapes_by_the_size_of_steps_only():
    ratio, times = 8, []
    for seed, (lr, iterations) in enumerate([(0.1, 15_000), (0.05, 80_000)]):
        mean, error = mean_iterations(
            sgd_step(lr, lambda x: np.abs(3 * x * x - 1) / ratio), [-1], 1, 500, iterations, seed
        )
        times.append(lr * mean)
        assert error / mean < 0.05
    assert times == pytest.approx([139, 761], rel=0.15)
    power = vanishing_noise_exponent(SLOPE(-(3**-0.5)), DOUBLE_WELL.deriv(3)(-(3**-0.5)), 0.1, 0.4)
    assert power < math.log2(times[1] / times[0]) < 1.45 * power


@pytest.mark.slow
def test_a_valley_that_narrows():
    lr, ratio = 0.02, 24

    def step(state, generator):
        x, y = state
        gradient = np.stack([slope(x) + 2 * x * y * y, (1 + 2 * x * x) * y])
        noise = np.sqrt(2 * lr / ratio * np.stack([1 + x * x, 1 + 2 * x * x]))
        return state - lr * gradient + noise * generator.standard_normal(state.shape)

    mean, error = mean_iterations(step, [-1, 0], 1, 1000, 40_000, 5)
    found = lr * mean / mean_first_passage_time(SLOPE, curved_noise(ratio), -1, 1).value
    x = np.linspace(-1, 0, 101)
    adiabatic = transverse_factor(x, 1 + 2 * x * x, 1 + x * x)
    assert found == pytest.approx(0.538, abs=0.02 + 3 * found * error / mean)
    assert abs(found - adiabatic) < 0.08 < 1 - found


@pytest.mark.slow
def test_momentum():
    lr, momentum, temperature = 0.01, 0.9, 1 / 24
    kick = math.sqrt(2 * (1 - momentum) * temperature / lr)  # lr σ² / (2 B (1 − μ)) = T

    def step(state, generator):
        x, v = state
        v = momentum * v - lr * (slope(x) + kick * generator.standard_normal(x.shape))
        return np.stack([x + v, v])

    mean, error = mean_iterations(step, [-1, 0], 1, 1500, 60_000, 6)
    law = in_iterations(momentum_escape_time(0.25, 2, -1, temperature, lr, momentum), lr)
    assert law.value == pytest.approx(29001, rel=1e-4)
    # the law leaves out 5 to 8 % at ΔL / T = 6
    assert mean / law.value == pytest.approx(1.065, abs=0.02 + 3 * error / law.value)
    assert in_time(law, lr).value * 1.62 < law.value


@pytest.mark.slow
def test_adam_with_ideal_second_moment():
    lr, batch_size = 0.08, 0.5

    def step(x, generator):
        scale = np.sqrt((1 + x * x) / batch_size)
        return x - lr * (slope(x) / scale + generator.standard_normal(x.shape))

    exact = mean_first_passage_time(lambda x: math.sqrt(batch_size) * SLOPE(x) / np.sqrt(1 + x * x), lr / 2, -1, 1)
    mean, error = mean_iterations(step, [-1], 1, 1000, 25_000, 7)
    assert lr * mean == pytest.approx(exact.value, rel=0.05 + 3 * error / mean)
