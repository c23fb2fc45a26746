"""Mean-square boundaries against closed forms in one dimension, and against iterates themselves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdscope.theory import mean_square, stability

RNG = np.random.default_rng(0)


def batch_hessians(batches, n, rank, seed=0):
    J = np.random.default_rng(seed).normal(size=(batches, rank, n))
    return np.einsum("bri,brj->bij", J, J) / rank


curvatures = st.lists(st.floats(0.05, 20), min_size=1, max_size=6)


@given(curvatures)
def test_one_dimension(h):
    h = np.array(h)
    found = mean_square.boundary(h)
    assert found.value == pytest.approx(stability.mean_square_boundary(h.mean(), (h * h).mean()), rel=1e-10)
    assert mean_square.contraction(h, found.value).value == pytest.approx(1, rel=1e-9)


@settings(max_examples=40)
@given(curvatures, st.sampled_from([0.3, 0.9, 0.99]))
def test_heavy_ball_in_one_dimension(h, beta):
    h = np.array(h)
    closed = stability.momentum_mean_square_boundary(h.mean(), h.var(), beta)
    assert mean_square.boundary(h, momentum=beta).value == pytest.approx(closed, rel=1e-7)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("beta", [0.5, 0.9])
def test_equal_batches_have_the_full_batch_threshold(beta, nesterov):
    top = 3.0
    H = np.diag([top, 1.0, 0.2])[None]
    lr = mean_square.boundary(H, momentum=beta, nesterov=nesterov).value
    assert stability.full_batch_threshold(lr, beta, nesterov=nesterov).value == pytest.approx(top, rel=1e-9)


@pytest.mark.parametrize("n", [1, 3, 6])
def test_boundary_is_where_the_contraction_is_one(n):
    H = batch_hessians(12, n, 2)
    lr = mean_square.boundary(H).value
    assert mean_square.contraction(H, lr).value == pytest.approx(1, rel=1e-9)
    assert mean_square.contraction(H, 0.9 * lr).value < 1 < mean_square.contraction(H, 1.1 * lr).value
    # below it everywhere: the interval has no holes
    assert all(mean_square.contraction(H, share * lr).value < 1 for share in np.linspace(0.05, 0.95, 10))
    # noise in the curvature only ever lowers it
    assert lr <= 2 / np.linalg.eigvalsh(H.mean(0))[-1] * (1 + 1e-12)


@pytest.mark.parametrize(("beta", "nesterov"), [(0.0, False), (0.8, False), (0.8, True)])
def test_contraction_is_the_growth_of_mean_squares(beta, nesterov):
    # second moments carried on exactly over all batches; growth per step tends to ρ
    H, lr = batch_hessians(5, 2, 1, seed=3), 0.11
    P = np.zeros((4, 4))
    P[:2, :2] = np.eye(2)
    sizes = []
    for _ in range(400):
        moved = np.zeros_like(P)
        for h in H:  # torch.optim.SGD: v ← β v + g; θ ← θ − lr (g + β v) or θ − lr v; here v times lr
            step = np.zeros((4, 4))
            for column in range(4):
                x, m = np.eye(4)[column, :2], np.eye(4)[column, 2:]
                g = lr * h @ x
                m_next = beta * m + g
                step[:, column] = np.concatenate([x - (g + beta * m_next if nesterov else m_next), m_next])
            moved += step @ P @ step.T / len(H)
        P = moved
        sizes.append(np.trace(P[:2, :2]))
    said = mean_square.contraction(H, lr, momentum=beta, nesterov=nesterov).value
    assert (sizes[-1] / sizes[-101]) ** 0.01 == pytest.approx(said, rel=1e-3)


def test_leading_order_where_noise_rules_and_where_it_does_not():
    rare = np.array([100.0] + [0.01] * 99)  # relative variance of curvature ~ 97
    exact = mean_square.boundary(rare, momentum=0.9).value
    leading = mean_square.leading_order_boundary(rare, momentum=0.9).value
    assert leading == pytest.approx(exact, rel=0.02)
    same = np.array([2.0, 2.0])
    exact, leading = (f(same, momentum=0.9).value for f in (mean_square.boundary, mean_square.leading_order_boundary))
    assert exact / leading == pytest.approx(1.9 / 0.1, rel=1e-6)


def test_weights_are_probabilities():
    twice = mean_square.boundary([1.0, 1.0, 5.0]).value
    assert mean_square.boundary([1.0, 5.0], weights=[2 / 3, 1 / 3]).value == pytest.approx(twice, rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_square.boundary(np.zeros((2, 3))), "shape"),
        (lambda: mean_square.boundary([[[1, 2], [0, 1]]]), "symmetric"),
        (lambda: mean_square.boundary([1.0, -1.0]), "positive definite"),
        (lambda: mean_square.boundary([1.0], weights=[0.5]), "add up to 1"),
        (lambda: mean_square.contraction([1.0], 0), "learning rate > 0"),
        (lambda: mean_square.contraction([1.0], 1, momentum=1), "momentum"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
