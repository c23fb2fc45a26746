"""Inner products of per-sample gradients: layer by layer against one after the other; refused with the reason."""

import pytest
import torch
import torch.nn.functional as F
from tests.cases import CASES, by_case, mlp, squared
from torch import nn

from sgdscope import vectors
from sgdscope.per_sample import directional_derivatives, gradient_gram, layers, per_sample_gradients
from sgdscope.risk import Risk

LAYERED = {"mlp tanh", "mlp relu", "mlp gelu", "linear", "cnn", "attention", "BatchNorm", "dict", "mapping"}
WHY = {
    "tied": "tied parameters",
    "frozen": "Linear is partly frozen",
    "LSTM": "LSTM has parameters of its own kind",
    "weight norm": "ParametrizedLinear has parameters of its own kind",
    "MultiheadAttention": "MultiheadAttention has parameters of its own kind",
}


def plain(risk, batch):
    rows = per_sample_gradients(risk, batch, method="loop")
    return torch.cat([g.flatten(1) for g in rows], 1)


@pytest.mark.parametrize(**by_case(only=lambda case: case.name != "dropout"))
def test_against_plain_gradients(case):
    risk = case.risk(mode="eval")
    rows = plain(risk, case.data())
    found = gradient_gram(risk, case.data())
    torch.testing.assert_close(found.total, rows @ rows.t(), rtol=1e-9, atol=1e-12)
    assert found.loss == pytest.approx(risk.value(), rel=1e-10)
    if case.name in LAYERED:
        assert found.method == "layer by layer"
        assert found.cost == 1
    else:
        assert found.method == "explicit: " + WHY[case.name]
        assert found.cost == len(rows)
    explicit = gradient_gram(risk, case.data(), method="explicit")
    assert explicit.method == "explicit"
    torch.testing.assert_close(explicit.total, found.total, rtol=1e-9, atol=1e-12)


class Mixed(nn.Module):
    """Every kind of layer that is known, on sequences and images; no chain."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4, padding_idx=0)
        self.rows = nn.Conv1d(4, 6, 3, padding=1, stride=2, groups=2)
        self.norm = nn.LayerNorm((6, 3))
        self.mixing = nn.Linear(3, 5, bias=False)
        self.images = nn.Conv2d(2, 4, (3, 2), padding=(1, 0), stride=(2, 1), dilation=(1, 2), groups=2)
        self.group = nn.GroupNorm(2, 4)
        self.batch = nn.BatchNorm2d(4)
        self.head = nn.Linear(6 * 5 + 4, 3)

    def forward(self, tokens, images):
        a = self.mixing(self.norm(self.rows(self.embedding(tokens).transpose(1, 2))).relu_())  # in place
        b = self.batch(self.group(self.images(images)).sigmoid()).mean((2, 3))
        return self.head(torch.cat([a.flatten(1), b], 1))


@pytest.mark.parametrize("block", [1 << 26, 100])
def test_every_kind_of_layer(block, monkeypatch):
    monkeypatch.setattr(layers, "_BLOCK", block)
    g = torch.Generator().manual_seed(0)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = Mixed().double()
    batch = {
        "tokens": torch.randint(7, (8, 6), generator=g),
        "images": torch.randn(8, 2, 6, 6, generator=g, dtype=torch.float64),
        "y": torch.randint(3, (8,), generator=g),
    }
    risk = Risk(model, lambda m, b: F.cross_entropy(m(b["tokens"], b["images"]), b["y"]), batch, mode="eval")
    found = gradient_gram(risk, batch)
    assert found.method == "layer by layer"
    rows = per_sample_gradients(risk, batch, method="loop")
    by_name = dict(zip(risk.names, rows, strict=True))
    for name, gram in found.layers.items():
        own = torch.cat([v.flatten(1) for k, v in by_name.items() if k.rsplit(".", 1)[0] == name], 1)
        torch.testing.assert_close(gram, own @ own.t(), rtol=1e-9, atol=1e-12)


def test_norms_alone():
    """The shortcut for norms of linear layers on several positions, on both sides of its threshold."""
    for positions in (2, 40):
        layer = nn.Linear(6, 5).double()
        g = torch.Generator().manual_seed(0)
        a, slope = (torch.randn(3, positions, w, generator=g, dtype=torch.float64) for w in (6, 5))
        full = layers.gradients(layer, a, slope)
        torch.testing.assert_close(layers.squared_norms(layer, a, slope), full.square().sum(1))
        torch.testing.assert_close(layers.gram(layer, a, slope), full @ full.t())


@pytest.mark.parametrize(**by_case(only=lambda case: case.name not in ("dropout", "LSTM")))
def test_vmap_and_loop_give_the_same(case):
    risk = case.risk(mode="eval")
    loop, fast = (per_sample_gradients(risk, case.data(), method=m) for m in ("loop", "auto"))
    for a, b in zip(loop, fast, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_where_vmap_does_not_go():
    def branching(model, batch):
        loss = squared(model, batch)
        return loss if loss.item() > 0 else -loss

    risk = Risk(mlp("tanh").double(), branching, CASES[0].data())
    assert per_sample_gradients(risk, CASES[0].data())[0].shape[0] == 12
    with pytest.raises(ValueError, match="expected a model and loss that go through vmap, got: "):
        per_sample_gradients(risk, CASES[0].data(), method="vmap")
    with pytest.raises(ValueError, match="expected method 'auto', 'vmap' or 'loop', got 'fast'"):
        per_sample_gradients(risk, CASES[0].data(), method="fast")


def contrastive(model, batch):
    features = model(batch[0])
    return F.cross_entropy(features @ features.T, torch.arange(len(features)))


def test_the_fast_way_is_refused_where_it_would_be_wrong():
    risk = Risk(mlp("tanh").double(), contrastive, CASES[0].data(), check=False)
    with pytest.raises(ValueError, match="got one that cannot: self-check: "):
        gradient_gram(risk, CASES[0].data(), method="layers")
    for why, change in [("tied parameters", "tied"), ("LSTM has parameters of its own kind", "LSTM")]:
        case = next(c for c in CASES if c.name == change)
        with pytest.raises(ValueError, match=f"got one that cannot: {why}"):
            gradient_gram(case.risk(), case.data(), method="layers")


def test_used_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, 16)

        def forward(self, x):
            return self.layer(torch.tanh(self.layer(x.flatten(1))))[:, :3]

    risk = Risk(Twice().double(), squared, CASES[0].data())
    found = gradient_gram(risk, CASES[0].data())
    assert found.method == "explicit: Linear is used more than once"
    rows = plain(risk, CASES[0].data())
    torch.testing.assert_close(found.total, rows @ rows.t(), rtol=1e-9, atol=1e-12)
    assert not risk.model.layer._forward_hooks


def test_bad_input():
    case = next(c for c in CASES if c.name == "BatchNorm")
    with pytest.raises(
        ValueError, match="got BatchNorm in train mode: samples have no gradients of their own\nhint: Risk"
    ):
        gradient_gram(case.risk(), case.data())
    risk = CASES[0].risk()
    with pytest.raises(ValueError, match="expected at least 2 samples, got 1"):
        gradient_gram(risk, tuple(t[:1] for t in CASES[0].data()))
    with pytest.raises(ValueError, match="expected method 'auto', 'layers' or 'explicit', got 'ghost'"):
        gradient_gram(risk, CASES[0].data(), method="ghost")


def test_too_large_to_form(monkeypatch):
    from sgdscope.per_sample import gram

    monkeypatch.setattr(gram, "_BYTES", 1 << 10)
    risk = CASES[0].risk()
    with pytest.raises(
        ValueError, match=r"expected per-sample gradients within 0 GiB, got 0\.0\nhint: at most 2 samples"
    ):
        gradient_gram(risk, CASES[0].data(), method="explicit")


@pytest.mark.parametrize(**by_case(only=lambda case: case.name not in ("dropout", "MultiheadAttention")))
def test_directional_derivatives(case):
    risk = case.risk(mode="eval")
    g = torch.Generator().manual_seed(0)
    vs = [vectors.random_like(risk.parameters, g) for _ in range(2)]
    rows = plain(risk, case.data())
    flat = torch.stack([torch.cat([x.reshape(-1) for x in v]) for v in vs])
    torch.testing.assert_close(directional_derivatives(risk, case.data(), vs), flat @ rows.t(), rtol=1e-9, atol=1e-11)
