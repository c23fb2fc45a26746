"""SGD on quadratics that curve differently: mean squares grow as the exact theory of them says."""

import numpy as np
import pytest

from sgdscope.simulate import Course, ensemble
from sgdscope.simulate.data import SGD, Quadratics
from sgdscope.theory.mean_square import boundary, contraction

HESSIANS = np.array([[[2.0, 0.3], [0.3, 1.0]], [[1.8, -0.2], [-0.2, 1.2]], [[2.2, 0.1], [0.1, 0.8]]])


def exact(lr, momentum, nesterov, steps, start):
    """E‖θ‖² step by step, from the mean of (θ, v)(θ, v)ᵀ, v = PyTorch's buffer."""
    n, moments, found = 2, np.zeros((4, 4)), []
    moments[:n, :n] = np.outer(start, start)
    maps = []
    for H in HESSIANS:
        buffer = np.hstack([H, momentum * np.eye(n)])
        move = np.hstack([H, np.zeros((n, n))]) + momentum * buffer if nesterov else buffer
        maps.append(np.vstack([np.hstack([np.eye(n), np.zeros((n, n))]) - lr * move, buffer]))
    for _ in range(steps):
        found.append(np.trace(moments[:n, :n]))
        moments = np.mean([M @ moments @ M.T for M in maps], axis=0)
    return np.array(found)


@pytest.mark.slow
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.7, False), (0.7, True)])
@pytest.mark.parametrize("share", [0.9, 1.0, 1.05])
def test_mean_squares_grow_as_theory_says(momentum, nesterov, share):
    lr = share * boundary(HESSIANS, momentum=momentum, nesterov=nesterov).value
    result = ensemble(
        Quadratics(HESSIANS), SGD(lr, 1, momentum, nesterov), steps=41, start=[1.0, 0.5], replicas=200_000, seed=2,
        record=Course("x0**2 + x1**2", every=1),
    )  # fmt: skip
    values, errors = result.course.values[:, 0], result.course.errors[:, 0]
    expected = exact(lr, momentum, nesterov, 41, [1.0, 0.5])
    known = errors < 0.02 * values  # later few replicas carry the mean, and its error is not known either
    assert known[:10].all()
    assert (np.abs(values - expected) < 4.5 * errors + 1e-6 * expected)[known].all()
    rate = contraction(HESSIANS, lr, momentum=momentum, nesterov=nesterov).value
    assert (expected[-1] / expected[-11]) ** 0.1 == pytest.approx(rate, rel=0.01)  # what they grow by in the end
    assert rate == pytest.approx(1.0) if share == 1 else (rate > 1) == (share > 1)


def test_common_centres_hold_and_others_are_left():
    still = ensemble(Quadratics(HESSIANS, [1.0, -2.0]), SGD(0.3), steps=9, start=[1.0, -2.0], replicas=100)
    assert np.ptp(still.positions, axis=0).max() < 1e-6
    apart = ensemble(Quadratics([1.0, 1.0], [-1.0, 1.0]), SGD(0.5), steps=40, start=0.0, replicas=50_000)
    assert apart.positions.var() == pytest.approx(0.5 / (2 - 0.5), rel=0.03)  # lr C / (2 h − lr h²)
