"""The law of balance against brute force: every batch of a small data set, and steps of SGD as they are."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdscope.theory import balance
from sgdscope.theory.stationary.noise import DiagonalNoise

X, Y = np.array([1.0, 2.0, -1.0, 0.5]), np.array([0.5, 1.0, 1.5, -0.3])
NOISE = DiagonalNoise.of_data(X, Y)


def gradients(u, w, x=X, y=Y):
    """Per-sample gradients of (u w x − y)² by u and w, shape (samples, 2)."""
    psi = 2 * (u * w * x - y) * x
    return np.stack([w * psi, u * psi], axis=1)


def sides(u, w):
    g = gradients(u, w)
    return g.var(0), g.mean(0) ** 2


def change(u, w, lr, size, *, charge=0.0, **rest):
    variance, mean = sides(u, w)
    return balance.expected_change(
        variance[0] - variance[1], mean[0] - mean[1], lr=lr, batch_size=size, charge=charge, **rest
    )


def test_reference_values_of_the_four_points():
    # moments by hand: α = (2.07421875, 1.40859375, 1.58546875), β = (1.5625, .2125); u = 1.2, w = .5
    variance, _ = sides(1.2, 0.5)
    assert variance == pytest.approx([0.641875, 3.6972], rel=1e-9)
    assert NOISE.g(0.6) == pytest.approx(0.641875)
    lr = 0.1
    assert change(1.2, 0.5, lr, 2).value / lr == pytest.approx(-0.40296375, rel=1e-9)
    continuous = balance.drift(variance[0] - variance[1], temperature=lr / 2)
    assert continuous.value == pytest.approx(-0.15276625, rel=1e-9)


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.01, 0.3), st.floats(0, 0.5), st.integers(1, 3))
def test_mean_change_is_that_over_all_batches(u, w, lr, gamma, size):
    per_sample, q = gradients(u, w), u * u - w * w
    shrink = 1 - 2 * lr * gamma
    for population, batches in ((None, itertools.product(range(4), repeat=size)),
                                (4, itertools.permutations(range(4), size))):  # fmt: skip
        after = []
        for batch in batches:
            g = per_sample[list(batch)].mean(0)
            u_next, w_next = shrink * u - lr * g[0], shrink * w - lr * g[1]
            after.append(u_next**2 - w_next**2)
            said = balance.charge_after_step(q, g[0] ** 2 - g[1] ** 2, lr=lr, weight_decay=gamma)
            assert said == pytest.approx(after[-1], rel=1e-9, abs=1e-9)
        predicted = change(u, w, lr, size, charge=q, weight_decay=gamma, population=population)
        assert predicted.value == pytest.approx(np.mean(after) - q, rel=1e-9, abs=1e-9)


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(0, 0.5))
def test_two_layers_decay_as_the_drift_of_their_charge(u, w, gamma):
    variance, _ = sides(u, w)
    q = u * u - w * w
    drift = balance.drift(variance[0] - variance[1], temperature=0.3, charge=q, weight_decay=gamma)
    rate = balance.decay_rate(NOISE, u * w, temperature=0.3, weight_decay=gamma)
    assert drift.value == pytest.approx(-rate * q, rel=1e-9, abs=1e-9)
    assert rate >= balance.slowest_decay_rate(NOISE, temperature=0.3, weight_decay=gamma) * (1 - 1e-12)


@given(st.floats(0.3, 2), st.floats(-2, -0.3), st.floats(0.3, 2))
def test_a_pair_in_a_deep_network_feels_the_product_of_the_others(a, b, c):
    v = a * b * c
    psi = gradients(1, v)[:, 1]  # ∂ℓ/∂v
    of_a, of_b = (b * c * psi).var(), (a * c * psi).var()
    rate = balance.decay_rate(NOISE, v, temperature=0.3, factor=v / (a * b))
    assert 0.3 * (of_a - of_b) == pytest.approx(-rate * (a * a - b * b), rel=1e-9, abs=1e-12)


def test_exact_factor_per_step():
    rng = np.random.default_rng(0)
    u, w, lr = 1.2, 0.5, 0.05
    start, derivatives = u * u - w * w, []
    for _ in range(200):
        x = X[i := rng.integers(4, size=2)]
        psi = (2 * (u * w * x - Y[i]) * x).mean()
        derivatives.append(psi)
        u, w = u - lr * w * psi, w - lr * u * psi
    said = balance.log_charge_factor(lr, derivatives)
    assert said == pytest.approx(math.log(abs((u * u - w * w) / start)), rel=1e-9)
    with pytest.raises(ValueError, match="exactly 0"):
        balance.log_charge_factor(0.5, [1.0, 2.0])


@pytest.mark.slow
def test_decay_along_a_path_of_sgd():
    lr, size, steps = 0.005, 1, 20_000
    rng = np.random.default_rng(1)
    u, w = np.full(200, 2.0), np.full(200, 0.3)
    q, path = u * u - w * w, [u * w]
    for _ in range(steps):
        x = rng.standard_normal((size, 200))
        psi = (2 * (u * w * x - x - rng.standard_normal((size, 200))) * x).mean(0)
        u, w = u - lr * w * psi, w - lr * u * psi
        path.append(u * w)
    found = np.log(np.abs((u * u - w * w) / q))
    noise = DiagonalNoise.gaussian(1.0, 1.0)
    time = lr * np.arange(steps + 1)
    said = [balance.log_charge_along(noise, v, time, temperature=lr / size)[-1] for v in np.array(path).T[:50]]
    assert np.mean(said) == pytest.approx(np.mean(found), rel=0.02)
    assert np.mean(said) < -1  # there was something to decay


@given(st.floats(-2, 2), st.integers(1, 5))
def test_second_order_noise_is_the_raw_second_moment(v, size):
    psi = 2 * (v * X - Y) * X
    raised = balance.second_order_noise(NOISE, size)
    assert raised.gradient_variance(v) == pytest.approx(psi.var() + size * psi.mean() ** 2, rel=1e-9)


def simulate(first, second, depth, lr, steps, replicas):
    """ln of the weights of two subnetworks of depth + 1 equal layers each, under SGD on Gaussian data."""
    rng = np.random.default_rng(0)
    layers = [np.full((replicas, depth + 1), abs(v) ** (1 / (depth + 1))) for v in (first, second)]
    for layer, v in zip(layers, (first, second), strict=True):
        layer[:, 0] *= np.sign(v)
    path = []
    for _ in range(steps):
        products = [layer.prod(1) for layer in layers]
        x = rng.standard_normal(replicas)
        psi = 2 * (sum(products) * x - x - rng.standard_normal(replicas)) * x
        path.append(products)
        layers = [layer - lr * (psi * product)[:, None] / layer
                  for layer, product in zip(layers, products, strict=True)]  # fmt: skip
    return np.array(path)


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "pair"), [(1, (1.2, -0.4)), (2, (0.7, 0.3)), (2, (1.2, -0.4))])
def test_competition_of_subnetworks(depth, pair):
    lr, steps = 0.001, 300
    path = simulate(*pair, depth, lr, steps, 4000)
    if depth == 1:
        told = np.log(np.abs(path)).sum(1)
    else:
        power = -(depth - 1) / (depth + 1)
        z = np.abs(path) ** power
        told = np.log(np.abs(z[:, 0] - z[:, 1])) if pair[0] * pair[1] > 0 else np.log(z.sum(1))
    change = (told[-1] - told[0]) / (lr * (steps - 1))
    noise = DiagonalNoise.gaussian(1.0, 1.0)
    rate = balance.competition_rate(noise, path.sum(1), path[:, 0], path[:, 1], depth=depth, temperature=lr)
    error = change.std() / math.sqrt(len(change))
    assert change.mean() == pytest.approx(np.mean(rate), rel=0.05, abs=3 * error)
    assert 3 * error < 0.5 * abs(np.mean(rate))  # so that a factor 4 would be seen


def test_equal_signs_keep_their_ratio_in_two_layers():
    assert balance.competition_rate(NOISE, 0.5, 0.2, 0.3, depth=1, temperature=0.1) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: balance.charge_after_step(1, 1, lr=0), "learning rate > 0"),
        (lambda: balance.expected_change(1, 1, lr=0.1, batch_size=0), "batch size ≥ 1"),
        (lambda: balance.expected_change(1, 1, lr=0.1, batch_size=8, population=4), "population of at least 8"),
        (lambda: balance.drift(1, temperature=-1), "temperature"),
        (lambda: balance.decay_rate(NOISE, 1, temperature=math.inf), "temperature"),
        (lambda: balance.competition_rate(NOISE, 1, 0, 1, depth=1, temperature=1), "stays there"),
        (lambda: balance.competition_rate(NOISE, 1, 1, 1, depth=0, temperature=1), "depth ≥ 1"),
        (lambda: balance.log_charge_along(NOISE, [1, 2], [1, 0], temperature=1), "rising time"),
        (lambda: balance.second_order_noise(NOISE, 0), "batch size ≥ 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
