"""Reference models: shapes, parameter counts, seeds, and every refusal."""

import math

import pytest
import torch
from torch import nn

from sgdscope.models import ACTIVATIONS, NAMES, build

COLOUR, GREY = (3, 32, 32), (1, 8, 8)


def count(model):
    return sum(p.numel() for p in model.parameters())


def vector(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


@pytest.mark.parametrize(("name", "norm"), [*((name, "none") for name in NAMES), ("resnet", "batch")])
@pytest.mark.parametrize("shape", [GREY, (3, 9, 6), (2, 4, 4)])
def test_a_batch_of_images_gives_one_number_per_class(name, shape, norm):
    model = build(name, input_shape=shape, classes=7, width=4, depth=2, norm=norm)
    assert model(torch.zeros(5, *shape)).shape == (5, 7)
    assert model.training


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives_exist_for_every_activation(name, activation):
    model = build(name, input_shape=GREY, classes=3, width=4, depth=1, activation=activation)
    x = torch.randn(2, *GREY, generator=torch.Generator().manual_seed(0))
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(model(x).square().mean(), parameters, create_graph=True)
    product = torch.autograd.grad(sum((g * g).sum() for g in gradients), parameters)
    assert all(torch.isfinite(p).all() for p in product)


def test_the_mlp_is_a_plain_sequence():
    model = build("mlp", input_shape=GREY, classes=10, width=32, depth=2, activation="tanh")
    kinds = [type(layer) for layer in model]
    assert kinds == [nn.Flatten, nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert count(model) == (64 + 1) * 32 + (32 + 1) * 32 + (32 + 1) * 10
    linear = build("mlp", input_shape=(5,), classes=2, depth=0)
    assert [type(layer) for layer in linear] == [nn.Flatten, nn.Linear]


def test_the_cnn_is_that_of_the_paper_and_smaller_for_small_images():
    model = build("cnn", input_shape=COLOUR, classes=10)
    shapes = [tuple(p.shape) for p in model.parameters() if p.ndim > 1]
    assert shapes == [(64, 3, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3), (512, 128 * 8 * 8), (10, 512)]
    assert [type(layer).__name__ for layer in model if not isinstance(layer, nn.ReLU)] == [
        "Conv2d", "Conv2d", "MaxPool2d", "Conv2d", "MaxPool2d", "Flatten", "Linear", "Linear",
    ]  # fmt: skip
    small = build("cnn", input_shape=GREY, classes=10)
    assert [tuple(p.shape) for p in small.parameters() if p.ndim > 1] == [
        (16, 1, 3, 3), (32, 16, 3, 3), (128, 32 * 2 * 2), (10, 128),
    ]  # fmt: skip


def test_the_resnet_has_the_size_of_the_paper():
    # He et al. 2016, table 6: 0.27 million parameters with 3 blocks per stage (20 layers), 0.46 with 5 (32 layers)
    for depth, layers, millions in ((3, 20, 0.27), (5, 32, 0.46)):
        model = build("resnet", input_shape=COLOUR, classes=10, depth=depth, norm="batch")
        assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules()) == layers
        assert round(count(model) / 1e6, 2) == millions


def test_without_norm_the_signal_does_not_grow_with_depth():
    # with branches that keep the variance of their input (He's scale), L of them at 1/√L add a bounded variance
    x = torch.randn(8, *GREY, generator=torch.Generator().manual_seed(1))
    sizes = [
        build("resnet", input_shape=GREY, classes=10, width=8, depth=depth, scale=math.sqrt(6))(x).std().item()
        for depth in (1, 12)
    ]
    assert sizes[1] < 3 * sizes[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_short_training_lowers_the_loss(name):
    model = build(name, input_shape=GREY, classes=2, width=4, depth=1, scale=2.0)
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(32) % 2
    x = torch.randn(32, *GREY, generator=generator) + 2 * y.reshape(-1, 1, 1, 1) - 1
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_and_the_global_state_is_left_alone(name):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = vector(build(name, input_shape=GREY, classes=3, width=4, seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(vector(build(name, input_shape=GREY, classes=3, width=4, seed=1)), first)
    assert not torch.equal(vector(build(name, input_shape=GREY, classes=3, width=4, seed=2)), first)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "vit"}, "expected a model among mlp, cnn, resnet, got 'vit'"),
        ({"width": 0}, "expected width to be a whole number ≥ 1, got 0"),
        ({"name": "mlp", "depth": -1}, "expected depth to be a whole number ≥ 0, got -1"),
        ({"depth": 0}, "expected depth to be a whole number ≥ 1, got 0"),
        ({"depth": 1.5}, "expected depth to be a whole number ≥ 1, got 1.5"),
        ({"classes": 0}, "expected classes to be a whole number ≥ 1, got 0"),
        ({"input_shape": ()}, "expected input_shape with at least one dimension, got none"),
        ({"input_shape": (1, 0, 8)}, "expected every side of input_shape to be a whole number ≥ 1, got 0"),
        ({"input_shape": (64,)}, r"expected input_shape \(channels, height, width\) for cnn, got \(64,\)\nhint: "),
        ({"input_shape": (1, 3, 8)}, "images of at least 4x4 pixels for cnn, which .* got 3x8\nhint: use an mlp"),
        ({"name": "resnet", "input_shape": (1, 8, 3)}, "images of at least 4x4 pixels for resnet, which .* got 8x3"),
        ({"activation": "swish"}, "expected an activation among relu, tanh, .*, identity, got 'swish'"),
        ({"norm": "batch"}, "expected norm 'none' for cnn, got 'batch'\nhint: norm='batch' is an option of resnet"),
        ({"name": "mlp", "norm": "layer"}, "expected norm 'none' for mlp, got 'layer'\nhint: "),
        ({"name": "resnet", "norm": "layer"}, "expected a norm among batch, none for resnet, got 'layer'"),
        ({"initialisation": "he"}, "expected an initialisation among default, uniform-zero-bias, got 'he'"),
        ({"scale": 0.0}, "expected scale to be a finite number > 0, got 0.0"),
        ({"scale": float("nan")}, "expected scale to be a finite number > 0, got nan"),
        ({"seed": -1}, "expected seed to be a whole number from 0 to 2⁶³ - 1, got -1"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**{"name": "cnn", "input_shape": GREY, "classes": 3} | changes)
