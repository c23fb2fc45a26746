"""The law of balance on networks that really train: where SGD comes to rest, and what moves charges on real data."""

import os

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from tests.balance.networks import crossed
from torch import nn

from sgdscope import measure
from sgdscope.balance import drift_along, drift_test, standing
from sgdscope.data import load
from sgdscope.risk import Risk

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("variances", "squared_ratio"), [((1.0, 4.0), 2.5), ((1.0, 1.0), 1.0)])
def test_sgd_comes_to_rest_where_standing_says(variances, squared_ratio):
    """f = U W x, one hidden unit, from (2, ½) and (½, 2): |W|² / |U|² ends at 2.5, or at 1 where data are isotropic."""
    replicas, lr = 64, 0.005
    row = standing(crossed(variances, 2.0, 0.5), lr=lr, batch_size=1)
    predicted = 1 / row.beside["equilibrium_ratio"].value[0] ** 2
    assert predicted == pytest.approx(squared_ratio)
    x, y = crossed(variances, 2.0, 0.5).source.batch
    start = torch.tensor([[2.0, 0.0], [0.5, 0.0]], dtype=torch.float64).repeat(replicas // 2, 1)
    u, w = start.clone(), start.flip(0).clone()
    generator = torch.Generator().manual_seed(0)
    steps, seen = int(8 * row.beside["relaxation_steps"].value[0]), []
    for step in range(steps):
        rows = torch.randint(len(x), (replicas,), generator=generator)
        hidden = (w * x[rows]).sum(1, keepdim=True)
        residual = u * hidden - y[rows]
        back = (u * residual).sum(1, keepdim=True)
        u, w = u - lr * 2 * residual * hidden, w - lr * 2 * back * x[rows]
        if step > steps // 2 and step % 20 == 0:
            seen.append((w.square().sum(1) / u.square().sum(1)).log())
    ratio = torch.stack(seen).mean(0).exp()
    for of_one_start in (ratio[::2], ratio[1::2]):
        assert float(of_one_start.mean()) == pytest.approx(predicted, rel=0.03)


def classified(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def trained(risk, *, steps, lr, batch_size, seed=0):
    optimizer = torch.optim.SGD(risk.parameters, lr=lr)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        classified(risk.model, risk.draw(batch_size, generator)).backward()
        optimizer.step()
    risk.model.zero_grad()


def seeded(*layers):
    """The network of these functions that make layers, drawn with seed 1."""
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        return nn.Sequential(*(layer() for layer in layers))


def together(tests):
    """Probability of all z-scores if the law holds: χ² over networks and places, pairs of one network as one."""
    degrees = sum(len(tested.pairs) for tested in tests)
    return float(stats.chi2.sf(sum(tested.chi_square for tested in tests), degrees))


def test_digits():
    data = load("digits", test=False)
    model = seeded(nn.Flatten, lambda: nn.Linear(64, 24), nn.ReLU, lambda: nn.Linear(24, 16), nn.ReLU,
                   lambda: nn.Linear(16, 10))  # fmt: skip
    risk = Risk(model, classified, (data.inputs, data.labels))
    found = measure.symmetries(risk)
    tests = []
    for seed, steps in enumerate((0, 300, 3000), start=1):
        trained(risk, steps=steps, lr=0.1, batch_size=16)
        generator = torch.Generator().manual_seed(seed)
        tests.append(drift_test(risk, found, lr=0.1, batch_size=16, forks=800, generator=generator))
    for tested in tests:
        assert len(tested.pairs) == 2
        assert all(abs(pair.z) < 3 for pair in tested.pairs), str(tested)
    assert together(tests) > 0.003
    assert max(abs(pair.z_continuous) for tested in tests for pair in tested.pairs) > 6
    along = drift_along(risk, found, lr=0.1, batch_size=16, steps=300, every=20, samples=1000)
    assert all(abs(pair.z) < 3 for pair in along.pairs), str(along)


CIFAR = {
    "mlp": (nn.Flatten, lambda: nn.Linear(3072, 128), nn.ReLU, lambda: nn.Linear(128, 128), nn.ReLU,
            lambda: nn.Linear(128, 10)),
    "cnn": (lambda: nn.Conv2d(3, 8, 3, padding=1), nn.ReLU, lambda: nn.MaxPool2d(2),
            lambda: nn.Conv2d(8, 16, 3, padding=1), nn.ReLU, lambda: nn.MaxPool2d(4), nn.Flatten,
            lambda: nn.Linear(256, 32), nn.ReLU, lambda: nn.Linear(32, 10)),
}  # fmt: skip


@pytest.mark.skipif("SGDSCOPE_DATA" not in os.environ, reason="set SGDSCOPE_DATA to a folder with the real files")
@pytest.mark.parametrize("name", CIFAR)
def test_cifar10(name):
    """At initialisation, on the way and late, within three standard errors for every pair of layers."""
    data = load("cifar10", data_dir=os.environ["SGDSCOPE_DATA"], subset=5000, test=False)
    risk = Risk(seeded(*CIFAR[name]), classified, (data.inputs, data.labels))
    found = measure.symmetries(risk)
    tests = []
    for steps in (0, 400, 2000):
        trained(risk, steps=steps, lr=0.05, batch_size=32)
        tests.append(drift_test(risk, found, lr=0.05, batch_size=32, forks=300, samples=5000))
    for tested in tests:
        assert len(tested.pairs) == {"mlp": 2, "cnn": 3}[name]
        assert all(abs(pair.z) < 3 for pair in tested.pairs), str(tested)
    assert together(tests) > 0.003
