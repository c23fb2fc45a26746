"""The edge on a network (eoss.md, section 9): the edge test's table, Gauss-Newton versions, mini-batch sharpness."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sgdscope.data import load_digits
from sgdscope.edge_test import Origin, edge_test
from sgdscope.measure import batch_sharpness, mini_batch_sharpness, second_moment_contraction
from sgdscope.models import build
from sgdscope.risk import Risk
from sgdscope.sampler import Sampler
from sgdscope.what_if import edge_map

pytestmark = pytest.mark.slow
LR, BATCH = 0.5, 8


def loss_fn(model, batch):
    return 0.5 * (model(batch[0]) - batch[1]).square().sum(1).mean()


@pytest.fixture(scope="module")
def states():
    """256 digits, tanh, width 32, after 600 steps (batch sharpness 0.52 in edge units) and 15,000 (at the edge)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    digits = load_digits(subset=256, test=False)
    x, y = digits.inputs.double(), nn.functional.one_hot(digits.labels, 10).double()
    model = build("mlp", input_shape=digits.input_shape, classes=10, width=32, depth=1, activation="tanh",
                  initialisation="uniform-zero-bias").double()  # fmt: skip
    parameters, sampler, kept = list(model.parameters()), Sampler(256, BATCH, replacement=False, seed=0), {}
    for step in range(1, 15_001):
        rows = sampler.next()
        gradient = torch.autograd.grad(loss_fn(model, (x[rows], y[rows])), parameters)
        with torch.no_grad():
            torch._foreach_add_(parameters, gradient, alpha=-LR)
        if step in (600, 15_000):
            kept[step] = Risk(copy.deepcopy(model), loss_fn, (x, y))
    yield kept
    torch.set_num_threads(threads)


def forked(risk, **change):
    return edge_test(Origin(risk, torch.optim.SGD(risk.parameters, lr=LR), BATCH), **change)


@pytest.mark.parametrize(
    ("change", "at_the_edge", "before"),
    [
        ({"lr_factor": 1.2}, (4, 25), (1, 2)),
        ({"batch_size": 6}, (3, 30), (1, 2)),
        ({"lr_factor": 1.05}, (1, 2.2), (1, 1.5)),
    ],
    ids=str,
)
def test_the_edge_test(states, change, at_the_edge, before):
    for step, (low, high) in ((15_000, at_the_edge), (600, before)):
        found = forked(states[step], **change)
        assert low <= found.excess.value < high
        assert all(fork.control_diverged_at is None for fork in found.forks)


def test_the_edge_test_judges(states):
    assert forked(states[15_000], lr_factor=1.2).verdict.outcome == "agrees"
    assert forked(states[600], lr_factor=1.2).verdict.outcome == "disagrees"
    assert forked(states[15_000], lr_factor=1.3).diverged >= 3
    assert forked(states[600], lr_factor=1.3).diverged == 0


def test_gauss_newton_is_the_hessian_near_the_edge(states):
    # the same batches: what differs is the network's own curvature, 0.1 % here
    one, other = (batch_sharpness(states[15_000], BATCH, kind=kind) for kind in ("hessian", "gauss_newton"))
    assert other.value == pytest.approx(one.value, rel=0.005)
    early, straight = (batch_sharpness(states[600], BATCH, kind=kind) for kind in ("hessian", "gauss_newton"))
    assert abs(straight.value / early.value - 1) > 0.005


@pytest.mark.parametrize("step", [600, 15_000])
def test_the_map_to_3_percent_for_less_than_60_gradients(states, step):
    risk, sizes = states[step], [1, 2, 4, 8, 16, 32, 64]
    long = [batch_sharpness(risk, b, tolerance=0.006, max_batches=4000).value for b in sizes]
    deviations, inside = [], 0
    for seed in range(20):
        found = edge_map(risk, lr=LR, batch_size=BATCH, generator=torch.Generator().manual_seed(seed))
        assert (found.estimate.status, list(found.batch_sizes)) == ("ok", sizes)
        assert found.estimate.cost <= 60
        off = np.array([edge * value / 2 - 1 for edge, value in zip(found.edges, long, strict=True)])
        deviations.append(off)
        errors = np.array(found.estimate.standard_error) / found.edges
        assert errors.max() <= 0.03
        inside += int((np.abs(off) < 2 * np.hypot(errors, 0.006)).sum())
    assert np.sqrt(np.mean(np.square(deviations), axis=0)).max() < 0.04
    assert np.abs(np.mean(deviations, axis=0)).max() < 0.025
    assert inside / 140 > 0.88  # of 95 %


def test_mini_batch_sharpness_is_above_the_edge_where_batch_sharpness_is_at_it(states):
    mini = mini_batch_sharpness(states[15_000], BATCH).scaled(LR / 2)
    assert 1.15 < mini.value < 1.45  # eoss.md: 1.25 where batch sharpness is 0.93
    assert 0.84 < batch_sharpness(states[15_000], BATCH).value * LR / 2 < 1.03


def test_second_moment(states):
    straight = {
        step: second_moment_contraction(risk, BATCH, LR, kind="gauss_newton", batches=64)
        for step, risk in states.items()
    }
    assert straight[600].value == pytest.approx(1, abs=0.002)  # flat directions, and no step too large
    assert 1.2 < straight[15_000].value < 1.7
    assert straight[15_000].beside["curvature_along"].value > 0
    early = second_moment_contraction(states[600], BATCH, LR, batches=64)
    assert early.value > 1.1  # but along negative curvature
    assert early.beside["curvature_along"].value < 0
