"""Products by hand: against autograd for every kind of layer, in pieces, in both memory layouts; and when refused."""

import pytest
import torch
import torch.nn.functional as F
from tests.cases import CASES, cross_entropy, flat, mlp, squared
from torch import nn

from sgdscope import vectors
from sgdscope.chain import products
from sgdscope.hessian import Hessian
from sgdscope.hessian.refusal import chain_refusal
from sgdscope.risk import Risk

POINTWISE = [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Softplus, nn.ELU, nn.LeakyReLU, nn.CELU, nn.Mish,
             nn.LogSigmoid]  # fmt: skip
POOLS = [nn.MaxPool2d(2), nn.MaxPool2d(3, stride=2, padding=1), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(3)]


def agree(risk, dtype, *, batches=(None,)):
    """Gradient and products of two vectors by both ways, to rounding."""
    g = torch.Generator().manual_seed(0)
    v, w = (vectors.random_like([p.detach() for p in risk.parameters], g) for _ in range(2))
    for batch in batches:
        with Hessian(risk, batch, method="graph") as plain, Hessian(risk, batch, method="chain") as by_hand:
            assert by_hand.refusal == ""
            assert by_hand.value == pytest.approx(plain.value, rel=1e-6)
            pairs = [(plain.gradient, by_hand.gradient), *zip(plain.products([v, w]), by_hand.products([v, w]),
                                                             strict=True)]  # fmt: skip
            again = by_hand.product(v)
        assert torch.equal(flat(again), flat(pairs[1][1]))  # a product leaves nothing behind
        for right, found in pairs:
            assert [x.shape for x in found] == [p.shape for p in risk.parameters]
            error = vectors.norm(vectors.plus(right, found, -1.0))
            assert error <= 300 * torch.finfo(dtype).eps * vectors.norm(right)


@pytest.mark.parametrize("activation", POINTWISE)
@pytest.mark.parametrize("loss", [squared, cross_entropy])
def test_activations(activation, loss, monkeypatch):
    monkeypatch.setitem(products._PIECE, "cpu", 640)  # five samples of the widest layer
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), activation(),
                              nn.Sequential(nn.Linear(5, 4, bias=False), activation()), nn.Linear(4, 3))  # fmt: skip
    agree(Risk(model.double(), loss, CASES[0].data()), torch.float64)


@pytest.mark.parametrize("pool", POOLS, ids=repr)
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.SiLU])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_convolutions(pool, activation, dtype, monkeypatch):
    """Strides, groups, dilation, a convolution without bias, overlapping pools; single precision has its own layout."""
    monkeypatch.setitem(products._PIECE, "cpu", 1 << 13)
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), activation(), pool, nn.Conv2d(4, 4, 3, stride=2, padding=2, groups=2,
            bias=False, dilation=2), activation(), nn.Conv2d(4, 2, 1), nn.Identity(), nn.Flatten(), nn.LazyLinear(3),
        )  # fmt: skip
        x, y = torch.randn(24, 2, 6, 6, dtype=dtype), torch.randn(24, 3, dtype=dtype)
        model = model.to(dtype)
        model(x)
    agree(Risk(model, squared, (x, y)), dtype, batches=(None, (x[:7], y[:7])))


def test_several_positions_per_sample():
    """Linear layers on the last of three dimensions."""
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)).double()
        data = (torch.randn(6, 4, 3, dtype=torch.float64), torch.randn(6, 4, 2, dtype=torch.float64))
    agree(Risk(model, squared, data), torch.float64)


def contrastive(model, batch):
    features = model(batch[0])
    return F.cross_entropy(features @ features.T, torch.arange(len(features)))


def test_losses_that_use_the_batch_as_a_whole(monkeypatch):
    monkeypatch.setitem(products._PIECE, "cpu", 640)
    agree(Risk(mlp("tanh").double(), contrastive, CASES[0].data(), check=False), torch.float64)


def penalty(model, batch):
    return squared(model, batch) + 1e-9 * sum(p.square().sum() for p in model.parameters())


def two_calls(model, batch):
    return squared(model, batch) + 0.1 * model(0 * batch[0]).square().mean()


def inputs_of_weights(model, batch):
    return squared(model, (batch[0] * model[1].weight.mean(), batch[1]))


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (penalty, "the loss reaches the parameters past the model's output"),
        (two_calls, "the loss calls the model more than once"),
        (inputs_of_weights, "the model's input depends on the parameters"),
    ],
)
def test_refused(loss, why):
    risk = Risk(mlp("tanh").double(), loss, CASES[0].data(), check=False)
    assert chain_refusal(risk) == why
    with Hessian(risk) as hessian:
        assert hessian.refusal == why
    with pytest.raises(ValueError, match=f"one that cannot: {why}\nhint: method='auto'"):
        Hessian(risk, method="chain")
    with pytest.raises(ValueError, match="expected method 'auto', 'chain' or 'graph', got 'hand'"):
        Hessian(risk, method="hand")


def test_a_wrong_derivative_is_refused(monkeypatch):
    """The self-check can fail: a fault in one layer's second derivative is found."""
    from sgdscope.chain.pointwise import Tanh

    monkeypatch.setattr(Tanh, "add_bent_", lambda self, rate, velocity: rate)
    risk = Risk(mlp("tanh").double(), squared, CASES[0].data())
    assert chain_refusal(risk).startswith("self-check: Hv by hand differs from autograd's by ")
    assert Hessian(risk).refusal


def test_a_hook_added_later_is_noticed():
    risk = Risk(mlp("tanh").double(), squared, CASES[0].data())
    assert chain_refusal(risk) == ""
    handle = next(m for m in risk.model.modules() if isinstance(m, nn.Linear)).register_forward_hook(lambda *_: None)
    assert chain_refusal(risk) == "Linear has forward hooks"
    handle.remove()
    assert chain_refusal(risk) == ""
