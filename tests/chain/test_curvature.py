"""Gram form: against dense derivatives for every activation, and what stands in its way."""

import pytest
import torch
from tests.cases import CASES, cross_entropy, dense, squared
from torch import nn

from sgdscope.chain import NotAChainError, check_chain
from sgdscope.chain.curvature import batch_curvatures
from sgdscope.risk import Risk

POINTWISE = [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Softplus, nn.ELU, nn.LeakyReLU, nn.CELU, nn.Mish,
             nn.LogSigmoid]  # fmt: skip


def assert_dense_agrees(risk, data):
    """Curvatures and squared norms of batches of four, in one pass, against those from the whole Hessian of each."""
    found = batch_curvatures(risk, data, 4)
    assert len(found.curvatures) == len(data[0]) // 4
    for index, batch in enumerate(zip(*(t.split(4) for t in data), strict=True)):
        with torch.random.fork_rng([]):
            g, matrix = dense(risk, batch)
        assert float(found.curvatures[index]) == pytest.approx(float(g @ matrix @ g), rel=1e-10)
        assert float(found.squared_norms[index]) == pytest.approx(float(g @ g), rel=1e-10)
    assert found.loss == pytest.approx(risk.value(), rel=1e-12)


@pytest.mark.parametrize("activation", POINTWISE)
@pytest.mark.parametrize("loss", [squared, cross_entropy])
def test_against_dense(activation, loss):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), activation(),
                              nn.Sequential(nn.Linear(5, 4, bias=False), activation()), nn.Linear(4, 3))  # fmt: skip
    data = CASES[0].data()
    risk = Risk(model.double(), loss, data)
    assert_dense_agrees(risk, data)


POOLS = [nn.MaxPool2d(2), nn.MaxPool2d(3, stride=2, padding=1), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(3)]


@pytest.mark.parametrize("pool", POOLS, ids=repr)
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_convolutions_against_dense(pool, activation):
    """Strides, groups, a convolution without bias, overlapping pools; three batches in one pass."""
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), activation(), pool, nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2,
            bias=False), activation(), nn.Conv2d(4, 2, 1), nn.Identity(), nn.Flatten(), nn.LazyLinear(3),
        )  # fmt: skip
        x, y = torch.randn(12, 2, 6, 6, dtype=torch.float64), torch.randn(12, 3, dtype=torch.float64)
        model = model.double()
        model(x)
    data = (x, y)
    risk = Risk(model, squared, data)
    assert len(check_chain(risk)) == 4
    assert_dense_agrees(risk, data)


def test_several_positions_per_sample():
    """Linear layers on the last of three dimensions."""
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
        x, y = torch.randn(8, 4, 3, dtype=torch.float64), torch.randn(8, 4, 2, dtype=torch.float64)
    assert_dense_agrees(Risk(model, squared, (x, y)), (x, y))


@pytest.mark.parametrize("samples", [2, 12])
def test_cost_counts_multiplications(samples):
    """Of 16-5-3: forward, back, the first layer's and the second's Gram products, against a gradient's five."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    risk = Risk(model, squared, CASES[0].data())
    found = batch_curvatures(risk, tuple(t[:samples] for t in CASES[0].data()), samples)
    first, second = 16 * 5, 5 * 3
    grams = min(samples * 21, 2 * first), min(samples * 8, 2 * second)
    assert found.cost == pytest.approx((first + grams[0] + 3 * second + 2 * grams[1]) / (2 * first + 3 * second))


def reflecting(model):
    model[1] = nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")


def with_indices(model):
    model.append(nn.MaxPool2d(2, return_indices=True))


def hooked(model):
    model[1].register_forward_hook(lambda *_: None)


def own_forward(model):
    model.forward = lambda x: x


def frozen(model):
    model[1].bias.requires_grad_(False)


def shared(model):
    model[3].weight = model[1].weight


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (hooked, "Linear has forward hooks"),
        (own_forward, "Sequential has a forward of its own"),
        (reflecting, "Conv2d with padding other than a number of zeros"),
        (with_indices, "MaxPool2d that returns indices"),
        (frozen, "frozen or tied parameters"),
        (shared, "frozen or tied parameters"),
        (lambda m: m.append(nn.Dropout()), "Dropout is neither linear, convolution, pooling nor pointwise activation"),
        (lambda m: m.append(nn.Flatten(0)), "Flatten over other dimensions than all but the first"),
    ],
)
def test_what_stands_in_the_way(change, said):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16)).double()
    change(model)
    risk = Risk(model, lambda m, b: squared(m, (b[0], 0)), CASES[0].data(), check=False)
    with pytest.raises(NotAChainError) as error:
        check_chain(risk)
    assert str(error.value) == said


def test_groups_must_fit():
    with pytest.raises(ValueError, match="expected a batch of a multiple of 5 samples, got 12"):
        batch_curvatures(CASES[0].risk(), CASES[0].data(), 5)
