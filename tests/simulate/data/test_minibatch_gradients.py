"""Gradients of batches: the formulas against autograd, and the very steps that SGD takes against every possible one."""

import itertools
import pickle

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdscope.simulate import ensemble
from sgdscope.simulate.data import SGD, DiagonalNetwork, LogisticRegression, Pairs, Quadratics, ScalarNetwork, Stream

RANDOM = np.random.default_rng(3)
X, Y = RANDOM.normal(size=5), RANDOM.normal(size=5)
ROOTS = RANDOM.normal(size=(5, 2, 2))
LANDSCAPES = {
    "scalar network": (ScalarNetwork(1, Pairs(X, Y)), [0.8, -0.6]),
    "with decay": (ScalarNetwork(2, Pairs(X, Y), 0.3), [0.8, -0.6, 1.1]),
    "wide network": (DiagonalNetwork(1, Pairs(X, Y), 2), [0.8, -0.6, 0.3, 1.2]),
    "many weights": (DiagonalNetwork(2, Pairs(X, Y), 4), list(RANDOM.normal(size=12))),
    "one quadratic": (Quadratics([1.0, 2.0, 0.5, -1.0, 3.0], X), 0.7),
    "quadratics": (Quadratics(ROOTS @ ROOTS.transpose(0, 2, 1), RANDOM.normal(size=(5, 2))), [0.7, -1.0]),
    "logistic regression": (LogisticRegression(RANDOM.normal(size=(5, 3)), Y > 0, 0.1), [0.5, -1.0, 0.2]),
}


def rows(landscape, theta):
    """Gradients of all samples at a point, by autograd; of shape (samples, n)."""
    risk = landscape.risk(theta)
    return np.stack([
        risk.gradient(risk.source.take(torch.tensor([i])))[1][0].numpy() for i in range(risk.size)
    ])  # fmt: skip


def positions(result):
    return result.positions.reshape(result.replicas, -1)


@pytest.mark.parametrize(
    ("name", "batch_size", "replacement"),
    [("scalar network", 1, True), ("scalar network", 2, True), ("scalar network", 3, True), ("one quadratic", 2, False),
     ("scalar network", 3, False), *((name, 2, False) for name in LANDSCAPES)],
)  # fmt: skip
def test_every_step_is_that_of_a_batch_and_all_batches_are_as_likely(name, batch_size, replacement):
    landscape, start = LANDSCAPES[name]
    gradients = rows(landscape, start)
    process = SGD(0.05, batch_size, replacement=replacement)
    result = ensemble(landscape, process, steps=1, start=start, replicas=4096, threads=1, precision="float64")
    if replacement:
        batches = list(itertools.product(range(5), repeat=batch_size))
    else:
        batches = list(itertools.combinations(range(5), batch_size))
    possible = np.array([start - 0.05 * gradients[list(batch)].mean(0) for batch in batches])
    distance = np.abs(positions(result)[:, None] - possible).max(-1)
    assert distance.min(1).max() < 1e-14
    sets = [tuple(sorted(batch)) for batch in batches]
    kinds = sorted(set(sets))
    found = np.bincount([kinds.index(sets[at]) for at in distance.argmin(1)], minlength=len(kinds))
    expected = np.array([sets.count(kind) for kind in kinds]) / len(sets) * len(distance)
    assert np.square(found - expected).sum() < (len(kinds) - 1 + 5 * np.sqrt(2 * len(kinds))) * expected.max()


@pytest.mark.parametrize(
    ("name", "momentum", "nesterov"),
    [("with decay", 0.8, False), ("with decay", 0.8, True), *((name, 0.0, False) for name in LANDSCAPES)],
)
def test_whole_set_as_batch_is_gradient_descent_as_torch_has_it(name, momentum, nesterov):
    landscape, start = LANDSCAPES[name]
    process = SGD(0.03, 5, momentum, nesterov, replacement=False)
    result = ensemble(landscape, process, steps=12, start=start, replicas=3, threads=1, precision="float64")
    risk = landscape.risk(start)
    optimizer = torch.optim.SGD(risk.parameters, lr=0.03, momentum=momentum, nesterov=nesterov)
    for _ in range(12):
        risk.parameters[0].grad = risk.gradient()[1][0]
        optimizer.step()
    expected = risk.parameters[0].detach().numpy()
    np.testing.assert_allclose(positions(result), np.tile(expected, (3, 1)), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", LANDSCAPES)
def test_value_and_gradient_are_those_of_the_risk(name):
    landscape, start = LANDSCAPES[name]
    risk = landscape.risk(start)
    value, gradient = risk.gradient()
    assert landscape.value(start) == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(np.atleast_1d(landscape.gradient(start)), gradient[0].numpy(), rtol=1e-12)
    line = np.linspace(-1, 1, 4)
    points = line if len(landscape.symbols) == 1 else np.outer(line, start)
    assert landscape.value(points).shape == (4,)
    assert landscape.gradient(points).shape == points.shape


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 5), st.integers(1, 3), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.4]))
def test_formulas_of_a_network_are_the_derivatives_of_its_loss(depth, width, seed, decay):
    network = DiagonalNetwork(depth, Stream.gaussian(1.0, 1.0), width, decay)
    batch = network.minibatch()
    known = dict(zip(network.symbols, np.random.default_rng(seed).normal(size=99), strict=False))
    x, y = 0.7, -1.3
    known |= dict(zip(batch.sampling.symbols, (0.7, -2.0), strict=True)) | dict(batch.parameters)
    known |= dict(batch.sampling.parameters)  # z0 = x, y = x + z1
    for symbol, expression in (*batch.parts, *batch.averaged, *batch.step):
        known[symbol] = float(sympy.sympify(expression).xreplace(known))
    weight = sympy.sympify(network.weight, locals={s.name: s for s in network.symbols})
    loss = (weight * x - y) ** 2 + decay * sum(u * u for u in network.symbols)
    for u, slope in zip(network.symbols, batch.gradient, strict=True):
        expected = float(sympy.diff(loss, u).xreplace(known))
        assert float(sympy.sympify(slope).xreplace(known)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def drawn(stream, replicas=100_000):
    """x² and xy of the one sample that each replica draws: halves of the derivatives of its loss at weights 0 and 1."""

    def derivative(weight):
        net, sgd = ScalarNetwork(0, stream), SGD(1.0)
        return weight - ensemble(net, sgd, steps=1, start=weight, replicas=replicas, precision="float64").positions

    product = -derivative(0.0) / 2
    return derivative(1.0) / 2 + product, product  # the same samples, as the seed is


def test_a_stream_gives_samples_by_its_formulas():
    square, product = drawn(Stream("1 + z0", "s*(1 + z0)", parameters={"s": -2.5}), replicas=2000)
    assert square.std() > 1
    np.testing.assert_allclose(product, -2.5 * square, rtol=1e-12)


@pytest.mark.parametrize("draw", ["normal", "uniform"])
def test_samples_of_a_stream_have_its_moments(draw):
    stream = Stream("1 + z0", "2*(1 + z0) + 3*z0*z1", draw)
    square, product = drawn(stream)
    for values, name in ((square, "x2"), (product, "xy"), (square**2, "x4"), (square * product, "x3y"),
                         (product**2, "x2y2")):  # fmt: skip
        assert values.mean() == pytest.approx(stream.moments[name], abs=5 * values.std() / np.sqrt(len(values)))
    x, y = stream.pairs(100_000)
    assert (x * y).mean() == pytest.approx(stream.moments["xy"], abs=5 * (x * y).std() / np.sqrt(len(x)))


def test_equal_seeds_draw_equal_batches_whatever_the_learning_rate():
    net = ScalarNetwork(0, Pairs(X, Y))
    small, large, other = (
        1.0 - ensemble(net, SGD(lr, 3), steps=1, start=1.0, replicas=999, seed=seed, precision="float64").positions
        for lr, seed in ((0.25, 0), (0.5, 0), (0.25, 1))
    )
    np.testing.assert_allclose(2 * small, large, rtol=1e-12, atol=1e-14)
    assert (small != other).mean() > 0.5


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("process", [SGD(0.05), SGD(0.05, 3), SGD(0.05, 3, replacement=False)], ids=str)
def test_threads_and_stops_make_no_difference(process, fast):
    net, settings = ScalarNetwork(1, Pairs(X, Y)), {"replicas": 1500, "seed": 5, "fast": fast}
    whole = ensemble(net, process, steps=11, start=[0.8, 0.5], threads=1, **settings)
    half = ensemble(net, process, steps=5, start=[0.8, 0.5], threads=3, **settings)
    rest = ensemble(net, process, steps=6, start=half, threads=2)
    np.testing.assert_array_equal(whole.positions, rest.positions)
    assert whole.positions.std() > 0


@pytest.mark.parametrize("process", [SGD(0.05, 2), SGD(0.05, 2, 0.5, replacement=False)], ids=str)
def test_torch_draws_the_same_batches(process):
    net, settings = ScalarNetwork(1, Pairs(X, Y)), {"steps": 7, "replicas": 600, "start": [0.8, 0.5]}
    compiled = ensemble(net, process, precision="float64", **settings)
    eager = ensemble(net, process, precision="float64", backend="torch", **settings)
    np.testing.assert_allclose(eager.positions, compiled.positions, rtol=1e-12)


@pytest.mark.parametrize("name", LANDSCAPES)
def test_landscapes_travel_to_other_processes(name):
    landscape, start = LANDSCAPES[name]
    landscape.risk(start)  # nothing that it keeps may hold it back
    there = pickle.loads(pickle.dumps(landscape))
    assert there.value(start) == landscape.value(start)
    assert SGD(0.1).update(there).new == SGD(0.1).update(landscape).new
