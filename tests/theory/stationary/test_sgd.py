"""Discrete SGD of the whole network against the law, as the source does it."""

import numpy as np
import pytest

from sgdscope.theory.stationary import DiagonalLaw, DiagonalNoise


def sgd(depth, k, noise_deviation, lr, *, start=1.0, weight_decay=0.0, chains=1500, burn_in=3000, draws=12, apart=150):
    """Weights v of independent runs at batch size 1 on fresh Gaussian data, factors balanced at the start."""
    rng = np.random.default_rng(depth)
    factors = np.full((depth + 1, chains), start ** (1 / (depth + 1)))
    seen = []
    for step in range(1, burn_in + draws * apart + 1):
        x, error = rng.normal(size=(2, chains))
        v = factors.prod(axis=0)
        derivative = 2 * x * (v * x - k * x - noise_deviation * error)
        factors = factors - lr * (derivative * v / factors + 2 * weight_decay * factors)
        if step > burn_in and (step - burn_in) % apart == 0:
            seen.append(factors.prod(axis=0))
    return np.concatenate(seen)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "noise_deviation", "lr", "weight_decay", "distance"),
    [(0, 1, 0.005, 0, 0.02), (1, 1, 0.01, 0, 0.03), (1, 3, 0.01, 0.3, 0.03), (2, 1, 0.01, 0, 0.03)],
)
def test_runs_follow_the_law(depth, noise_deviation, lr, weight_decay, distance):
    noise = DiagonalNoise.gaussian(1, noise_deviation**2)
    samples = np.sort(sgd(depth, 1.0, noise_deviation, lr, weight_decay=weight_decay))
    law = DiagonalLaw(noise, lr, depth, weight_decay=weight_decay)
    ranks = (np.arange(samples.size) + 0.5) / samples.size

    def kolmogorov_smirnov(law):
        return np.abs(law.cdf(samples) - ranks).max()

    assert kolmogorov_smirnov(law) < distance
    # and not that of twice the temperature, nor of another depth
    assert kolmogorov_smirnov(DiagonalLaw(noise, 2 * lr, depth, weight_decay=weight_decay)) > 2 * distance
    assert kolmogorov_smirnov(DiagonalLaw(noise, lr, 1 if depth == 0 else 0, weight_decay=weight_decay)) > 2 * distance


@pytest.mark.slow
def test_runs_stay_in_the_metastable_law_before_they_collapse():
    # 1 % have collapsed after 10⁴ steps
    noise = DiagonalNoise.gaussian(1, 4)
    samples = np.sort(
        sgd(2, 1.0, 2, 0.005, start=0.85**3, weight_decay=0.36, chains=1000, burn_in=3000, draws=6, apart=400)
    )
    law = DiagonalLaw(noise, 0.005, 2, weight_decay=0.36, metastable=True)
    ranks = (np.arange(samples.size) + 0.5) / samples.size
    assert np.abs(law.cdf(samples) - ranks).max() < 0.04
