"""Initial weights: the distributions asked for, drawn from the seed alone."""

import math

import pytest
import torch
from torch import nn

from sgdscope.models import build, initialise


def two_layers():
    return nn.Sequential(nn.Conv2d(3, 40, 3), nn.Flatten(), nn.Linear(1000, 50))


FAN_IN = (27, 1000)


@pytest.mark.parametrize("how", ["default", "uniform-zero-bias", "he"])
def test_weights_are_uniform_within_their_bound(how):
    model = two_layers()
    initialise(model, how=how, seed=3)
    for layer, fan_in in zip((model[0], model[2]), FAN_IN, strict=True):
        bound = math.sqrt((6 if how == "he" else 1) / fan_in)
        weight = layer.weight.detach() / bound
        assert 0.98 < weight.abs().max() <= 1
        # a uniform variable in ±1 has mean 0, variance 1/3 and fourth moment 1/5: each within four standard errors
        n = weight.numel()
        assert abs(weight.mean()) < 4 * math.sqrt(1 / 3 / n)
        assert abs(weight.square().mean() - 1 / 3) < 4 * math.sqrt((1 / 5 - 1 / 9) / n)
        if how == "default":
            assert 0.8 < layer.bias.abs().max() / bound <= 1
        else:
            assert layer.bias.abs().max() == 0


def test_default_has_the_bounds_of_torch():
    torch.manual_seed(0)
    own, theirs = two_layers(), two_layers()
    initialise(own)
    for p, q in zip(own.parameters(), theirs.parameters(), strict=True):
        assert p.abs().max().item() == pytest.approx(q.abs().max().item(), rel=0.15)
        assert p.std().item() == pytest.approx(q.std().item(), rel=0.3 if p.ndim == 1 else 0.1)


def test_scale_multiplies_weights_only_and_both_ways_share_them():
    plain, scaled, zero = two_layers(), two_layers(), two_layers()
    initialise(plain, seed=1)
    initialise(scaled, scale=0.25, seed=1)
    initialise(zero, how="uniform-zero-bias", seed=1)
    for i in (0, 2):
        torch.testing.assert_close(scaled[i].weight, plain[i].weight * 0.25)
        assert torch.equal(scaled[i].bias, plain[i].bias)
        assert torch.equal(zero[i].weight, plain[i].weight)


def test_a_double_precision_model_starts_at_the_same_point():
    single, double = two_layers(), two_layers().double()
    initialise(single, seed=1)
    initialise(double, seed=1)
    for p, q in zip(single.parameters(), double.parameters(), strict=True):
        assert torch.equal(p, q.float())


def test_batch_norm_is_reset():
    model = build("resnet", input_shape=(1, 8, 8), classes=2, width=2, depth=1, norm="batch", scale=0.5)
    model(torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    norm = model[1]
    nn.init.constant_(norm.weight, 3.0)
    initialise(model, scale=0.5)
    assert torch.equal(norm.weight, torch.ones(2))
    assert torch.equal(norm.bias, torch.zeros(2))
    assert torch.equal(norm.running_mean, torch.zeros(2))
    assert norm.num_batches_tracked == 0


def test_layers_of_other_kinds_are_not_left_undrawn():
    with pytest.raises(ValueError, match=r"expected Linear, Conv2d, Embedding, .* and LayerNorm layers, got Bilinear"):
        initialise(nn.Sequential(nn.Linear(2, 2), nn.Bilinear(2, 2, 2)))


def test_he_keeps_the_size_of_a_signal_through_relu():
    layers = [layer for _ in range(20) for layer in (nn.Linear(256, 256), nn.ReLU())]
    model = nn.Sequential(*layers)
    x = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    initialise(model, how="he")
    assert 0.3 < (model(x).square().mean() / x.square().mean()).item() < 3  # mean square: 1, halved by ReLU, doubled
    initialise(model)
    assert model(x).square().mean() < 1e-3


def test_embeddings_are_standard_normal_whatever_the_way():
    plain, other = nn.Embedding(300, 50), nn.Embedding(300, 50)
    initialise(plain, seed=1)
    initialise(other, how="he", scale=3.0, seed=1)
    assert torch.equal(plain.weight, other.weight)
    n = plain.weight.numel()
    assert abs(plain.weight.mean()) < 4 / math.sqrt(n)
    assert abs(plain.weight.square().mean() - 1) < 4 * math.sqrt(2 / n)
