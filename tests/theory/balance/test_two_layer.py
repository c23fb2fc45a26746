"""Bounds and matrix charges of linear networks, against per-sample gradients written out."""

import numpy as np
import pytest

from sgdscope.theory import balance
from sgdscope.theory.balance import two_layer

RNG = np.random.default_rng(0)
U, W = RNG.normal(size=(2, 3)), RNG.normal(size=(3, 4))
X, Y = RNG.normal(size=(30, 4)) * [1, 2, 0.5, 1], RNG.normal(size=(30, 2))


def gradients(U, W):
    r = X @ (U @ W).T - Y
    of_u = 2 * np.einsum("no,nh->noh", r, X @ W.T)
    of_w = 2 * np.einsum("nh,ni->nhi", r @ U, X)
    return of_u, of_w


def test_sides_are_covariances_of_per_sample_gradients():
    of_u, of_w = gradients(U, W)
    centred_u, centred_w = of_u - of_u.mean(0), of_w - of_w.mean(0)
    side_u, side_w = two_layer.noise_sides(U, W, X, Y)
    assert side_u == pytest.approx(np.einsum("noh,nok->hk", centred_u, centred_u) / len(X), abs=1e-11)
    assert side_w == pytest.approx(np.einsum("nhi,nki->hk", centred_w, centred_w) / len(X), abs=1e-11)


def test_mean_change_over_all_batches_of_one_and_two():
    of_u, of_w = gradients(U, W)
    lr = 0.03
    start = two_layer.charges(U, W)
    for batches in ([[i] for i in range(30)], [[i, j] for i in range(30) for j in range(30)]):
        after = [two_layer.charges(U - lr * of_u[batch].mean(0), W - lr * of_w[batch].mean(0)) for batch in batches]
        said = two_layer.expected_change(U, W, X, Y, lr=lr, batch_size=len(batches[0]))
        assert said == pytest.approx(np.mean(after, axis=0) - start, abs=1e-11)


def test_one_hidden_unit_has_the_published_ratio():
    # y = (x₁, 0) + ε: 2.5 with Σ_x = diag(1, 4), Σ_ε = I, 1 where both are isotropic; SGD gave 2.489 and .997
    e = [1.0, 0.0]
    assert two_layer.norm_ratio_at_minimum(e, e, np.diag([1.0, 4.0]), np.eye(2)).value == pytest.approx(2.5)
    assert two_layer.norm_ratio_at_minimum(e, e, np.eye(2), np.eye(2)).value == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.parametrize("start", [(2.0, 0.5), (0.5, 2.0)])
def test_sgd_goes_there(start):
    rng = np.random.default_rng(1)
    lr, u, w = 0.008, np.array([start[0], 0.0]), np.array([start[1], 0.0])
    u, w = (np.tile(v, (40, 1)) for v in (u, w))
    ratios = []
    for step in range(12_000):
        x = rng.standard_normal((40, 2)) * [1, 2]
        y = x * [1, 0] + rng.standard_normal((40, 2))
        hidden = (w * x).sum(1, keepdims=True)
        r = u * hidden - y
        u, w = u - lr * 2 * r * hidden, w - lr * 2 * (r * u).sum(1, keepdims=True) * x
        if step >= 6000 and step % 10 == 0:
            ratios.append(((w * w).sum(1).mean(), (u * u).sum(1).mean()))
    w2, u2 = np.mean(ratios, axis=0)
    assert w2 / u2 == pytest.approx(2.5, rel=0.06)


def test_bounds_hold_and_are_reached():
    u, w = RNG.normal(size=3), RNG.normal(size=2)
    A = RNG.normal(size=(40, 2, 3))  # any per-sample derivatives by u_i w_k
    C1, C2 = balance.interaction_covariances(A)
    of_u, of_w = np.einsum("ski,k->si", A, w), np.einsum("ski,i->sk", A, u)
    assert u @ C1 @ u == pytest.approx(of_w.var(0).sum())
    assert w @ C2 @ w == pytest.approx(of_u.var(0).sum())
    drift = 0.3 * (of_u.var(0).sum() - of_w.var(0).sum())
    assert drift in balance.drift_bounds(C1, C2, u @ u, w @ w, temperature=0.3)
    bounds = balance.stationary_ratio_bounds(C1, C2)
    scale = balance.rescaling_equilibrium(w @ C2 @ w, u @ C1 @ u).scale
    assert (scale * u) @ (scale * u) / ((w / scale) @ (w / scale)) in bounds
    # along extreme eigenvectors the bounds are met
    bottom, top = np.linalg.eigh(C1)[1][:, 0], np.linalg.eigh(C2)[1][:, -1]
    reached = balance.rescaling_equilibrium(top @ C2 @ top, bottom @ C1 @ bottom).scale ** 4
    assert reached == pytest.approx(bounds.upper)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: balance.interaction_covariances(np.zeros((3, 2))), "shape"),
        (lambda: balance.stationary_ratio_bounds(np.diag([1.0, 0.0]), np.eye(2)), "singular"),
        (lambda: balance.stationary_ratio_bounds([[1, 2], [0, 1]], np.eye(2)), "symmetric"),
        (lambda: two_layer.charges(U, W.T), "hidden"),
        (lambda: two_layer.noise_sides(U, W, X[:, :2], Y), "expected x"),
        (lambda: two_layer.expected_change(U, W, X, Y, lr=0.1, batch_size=0), "batch size"),
        (lambda: two_layer.norm_ratio_at_minimum([1, 0], [1, 0], np.eye(2), np.zeros((2, 2))), "without either"),
        (lambda: two_layer.norm_ratio_at_minimum([1, 0], [1, 0], np.eye(3), np.eye(2)), "shape"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
