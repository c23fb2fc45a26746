"""Landscapes made of data: what they say about themselves, and what they refuse."""

import numpy as np
import pytest

from sgdscope.simulate import ensemble
from sgdscope.simulate.data import SGD, DiagonalNetwork, LogisticRegression, Pairs, Quadratics, ScalarNetwork, Stream
from sgdscope.theory.potential import Potential
from sgdscope.theory.stationary import DiagonalNoise

GAUSSIAN = Stream.gaussian(1.0, 4.0)


def test_a_gaussian_stream_has_the_noise_that_theory_states():
    found, stated = Stream.gaussian(1.5, 4.0, 0.7).noise, DiagonalNoise.gaussian(1.5, 4.0, 0.7)
    for name in ("square_variance", "covariance", "product_variance", "square_mean", "product_mean"):
        assert getattr(found, name) == pytest.approx(getattr(stated, name), rel=1e-12)


def test_moments_of_formulas_are_exact():
    uniform = Stream("z0", "z0**2 + z1", "uniform").moments
    assert uniform == pytest.approx({
        "x2": 1 / 3, "xy": 1 / 4 + 1 / 4, "y2": 1 / 5 + 1 / 3 + 1 / 3, "x4": 1 / 5, "x3y": 1 / 6 + 1 / 8,
        "x2y2": 1 / 7 + 1 / 9 + 1 / 5,
    }, rel=1e-13)  # fmt: skip


def test_weights_and_charges_are_formulas_of_the_state():
    wide = DiagonalNetwork(2, GAUSSIAN, 2)
    assert wide.variables == ("u0_0", "u0_1", "u0_2", "u1_0", "u1_1", "u1_2")
    assert wide.weight == "u0_0*u0_1*u0_2 + u1_0*u1_1*u1_2"
    assert wide.charges == ("u0_0**2 - u0_1**2", "u0_1**2 - u0_2**2", "u1_0**2 - u1_1**2", "u1_1**2 - u1_2**2")
    assert ScalarNetwork(1, GAUSSIAN).weight == "u0*u1"
    assert ScalarNetwork(0, GAUSSIAN).charges == ()


@pytest.mark.parametrize("v", [0.0, 1.7, -1.7])
@pytest.mark.parametrize(("depth", "width"), [(0, 1), (1, 1), (1, 3), (2, 2), (3, 1)])
def test_balanced_weights(v, depth, width):
    weights = DiagonalNetwork(depth, GAUSSIAN, width).balanced(v).reshape(width, depth + 1)
    assert weights.prod(1).sum() == pytest.approx(v, abs=1e-14)
    assert np.ptp(np.abs(weights)) == pytest.approx(0, abs=1e-14)


def test_the_mean_loss_is_a_potential():
    net = ScalarNetwork(1, GAUSSIAN, 0.25)
    assert isinstance(net.potential, Potential)
    assert net.value([0.5, 0.6]) == pytest.approx((0.3 - 1) ** 2 + 4 + 0.25 * (0.25 + 0.36))
    assert net.expression.free_symbols == set(net.symbols)


def test_logistic_optimum_and_hessian():
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 4))
    y = random.random(300) < 1 / (1 + np.exp(-x @ [1.0, -1.0, 0.5, 0.0]))
    for decay in (0.0, 0.05):
        model = LogisticRegression(x, y, decay)
        at = model.optimum
        assert np.abs(model.gradient(at)).max() < 1e-9
        step = 1e-5 * np.eye(4)
        numeric = [(model.gradient(at + e) - model.gradient(at - e)) / 2e-5 for e in step]
        np.testing.assert_allclose(model.hessian(at), numeric, rtol=1e-7, atol=1e-9)
    one = LogisticRegression(x[:, 0], y)
    assert one.hessian(one.optimum).shape == (1, 1)


def test_logistic_loss_of_huge_logits_is_finite():
    model = LogisticRegression([1.0, -1.0], [1, 0])
    assert model.value(-1e4) == pytest.approx(1e4)
    assert model.gradient(-1e4) == pytest.approx(-1.0)
    assert model.risk(-1e4).value() == pytest.approx(1e4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScalarNetwork(-1, GAUSSIAN), "depth ≥ 0"),
        (lambda: DiagonalNetwork(1, GAUSSIAN, 0), "width ≥ 1"),
        (lambda: ScalarNetwork(1, GAUSSIAN, -0.1), "weight decay ≥ 0"),
        (lambda: ScalarNetwork(1, ([1.0], [2.0])), "a Stream or as Pairs, got tuple"),
        (lambda: ScalarNetwork(1, GAUSSIAN).risk([1.0, 1.0]), "a number of samples"),
        (lambda: ScalarNetwork(1, Pairs([1.0], [2.0])).risk([1.0]), "2 finite numbers"),
        (lambda: Stream.gaussian(1.0, -1.0), "noise variance ≥ 0"),
        (lambda: Stream("1", "2"), "drawn numbers z0"),
        (lambda: Stream("z0", "q"), "unknown name 'q'"),
        (lambda: Stream("z0", "z0", "cauchy"), "'normal' or 'uniform'"),
        (lambda: Stream("z0", "s*z0", parameters={"s": float("nan")}), "finite number for s"),
        (lambda: Pairs([1.0, 2.0], [1.0]), "one shape"),
        (lambda: Pairs([1.0], [float("inf")]), "finite"),
        (lambda: Quadratics(np.ones((2, 3, 2))), r"shape \(losses, n, n\)"),
        (lambda: Quadratics([[[1.0, 2.0], [0.0, 1.0]]]), "symmetric"),
        (lambda: Quadratics([1.0, 2.0], [1.0, 2.0, 3.0]), "centres of shape"),
        (lambda: Quadratics([1.0, 2.0], [1.0, np.nan]), "finite centres"),
        (lambda: LogisticRegression([[1.0, 2.0]], [1, 0]), r"y of shape \(samples,\)"),
        (lambda: LogisticRegression([1.0, 2.0], [1, 2]), "labels 0 or 1, got 1 to 2"),
        (lambda: LogisticRegression([1.0, np.nan], [1, 0]), "finite features"),
        (lambda: LogisticRegression([1.0, 2.0], [0, 1], -1), "weight decay ≥ 0"),
        (lambda: LogisticRegression([1.0, -2.0], [1, 0]).optimum, "a plane separate"),
        (lambda: LogisticRegression(np.ones((9, 2)), np.arange(9) % 2).optimum, "depend on each other"),
        (lambda: SGD(0.0), "lr > 0"),
        (lambda: SGD(0.1, 0), "batch size ≥ 1"),
        (lambda: SGD(0.1, 2.5), "batch size ≥ 1"),
        (lambda: SGD(0.1, nesterov=True), "momentum > 0"),
        (lambda: SGD(0.1, 3, replacement=False).update(Quadratics([1.0, 2.0])), "at most 2 samples"),
        (lambda: SGD(0.1).update(Potential("x**2")), "made of data"),
    ],
)
def test_bad_input_is_told_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_replicas_that_diverge_are_counted():
    result = ensemble(ScalarNetwork(1, GAUSSIAN), SGD(0.3), steps=300, start=[1.0, 1.0], replicas=1000)
    assert 0 < result.diverged.sum() <= 1000
    assert np.isfinite(result.positions[~result.diverged]).all()
