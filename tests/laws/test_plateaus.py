"""Where batch sharpness settles: SGD, gradient descent with injected noise, momentum, and noise below the edge.

Bands of eoss.md, sections 8 and 9; the whole table with three seeds is docs/tables/edge_of_stochastic_stability.md.
"""

import statistics

import pytest
import torch
from tests.laws.digits_runs import QUANTITIES, Setting, readings

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def plateau(setting, *window):
    """Means over a window in edge units."""
    _, found = readings(setting, window, count=8)
    return {name: statistics.fmean(r[name] for r in found) for name in QUANTITIES}


@pytest.mark.parametrize("lr", [0.5, 0.7])
def test_sgd_settles_at_the_edge_and_its_largest_eigenvalue_below(lr):
    found = plateau(Setting(lr, 8), 10_000, 20_000)
    assert 0.84 < found["eor"] < 1.03
    assert 0.88 < found["roe"] < 1.08
    assert found["eor"] < found["roe"]
    assert found["lambda_max"] < 0.75
    assert 0.8 < found["gni"] < 1.5
    assert found["ias"] < found["lambda_max"]


def test_larger_batches_let_the_largest_eigenvalue_rise():
    found = plateau(Setting(0.5, 32), 8_000, 16_000)
    assert 0.84 < found["eor"] < 1.03
    assert 0.9 < found["lambda_max"] < 1.05


def test_noise_of_the_batches_covariance_is_as_sgd():
    found = plateau(Setting(0.5, 8, noise="covariance"), 6_000, 8_000)
    assert 0.8 < found["eor"] < 1.05
    assert found["lambda_max"] < 0.75


def test_isotropic_noise_of_the_same_trace_is_not():
    found = plateau(Setting(0.5, 8, noise="isotropic"), 6_000, 7_000)
    assert found["eor"] > 1.25
    assert 0.95 < found["lambda_max"] < 1.05  # as gradient descent
    assert found["gni"] > 2


def test_momentum_at_small_batch_settles_at_one_minus_beta():
    found = plateau(Setting(0.05, 4, momentum=0.9), 10_000, 20_000)
    assert 0.084 < found["eor"] < 0.103  # the bands of SGD, times 1 − 0.9
    assert 0.088 < found["roe"] < 0.108


def test_noise_alone_makes_the_loss_oscillate_below_the_edge():
    found = plateau(Setting(0.1, 8), 10_000, 14_000)
    assert 0.8 < found["gni"] < 1.5
    assert 0.24 < found["eor"] < 0.34
    assert 0.24 < found["lambda_max"] < 0.34
