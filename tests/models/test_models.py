"""Reference models: shapes, parameter counts, seeds, and every refusal."""

import math

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sgdscope.models import ACTIVATIONS, NAMES, NORMS, build

COLOUR, GREY = (3, 32, 32), (1, 8, 8)
IMAGE_MODELS = ("mlp", "cnn", "resnet")
WINDOW, SYMBOLS = 6, 11


def built(name, **options):
    """A small model of each kind, and inputs it takes."""
    generator = torch.Generator().manual_seed(0)
    if name == "transformer":
        inputs = torch.randint(SYMBOLS, (2, WINDOW), generator=generator)
        options = {"input_shape": (WINDOW,), "classes": SYMBOLS, "vocabulary": SYMBOLS, "norm": "layer"} | options
    else:
        inputs = torch.randn(2, *GREY, generator=generator)
        options = {"input_shape": GREY, "classes": 3} | options
    return build(name, **{"width": 4, "depth": 1} | options), inputs


def count(model):
    return sum(p.numel() for p in model.parameters())


def vector(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


@pytest.mark.parametrize(
    ("name", "norm"), [("mlp", "none"), *((name, norm) for name in ("cnn", "resnet") for norm in NORMS)]
)
@pytest.mark.parametrize("shape", [GREY, (3, 9, 6), (2, 4, 4)])
def test_a_batch_of_images_gives_one_number_per_class(name, shape, norm):
    model = build(name, input_shape=shape, classes=7, width=4, depth=2, norm=norm)
    assert model(torch.zeros(5, *shape)).shape == (5, 7)
    assert model.training


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives_exist_for_every_activation(name, activation):
    model, inputs = built(name, activation=activation)
    assert all_finite_second_derivatives(model, inputs)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["cnn", "resnet"])
def test_second_derivatives_exist_for_every_norm(name, norm):
    assert all_finite_second_derivatives(*built(name, norm=norm))


def all_finite_second_derivatives(model, inputs):
    parameters = list(model.parameters())
    with sdpa_kernel(SDPBackend.MATH):  # as the risk does
        gradients = torch.autograd.grad(model(inputs).square().mean(), parameters, create_graph=True)
        product = torch.autograd.grad(sum((g * g).sum() for g in gradients), parameters)
    return all(torch.isfinite(p).all() for p in product)


@pytest.mark.parametrize("name", ["cnn", "resnet"])
def test_norms_over_a_sample_do_not_mix_samples_and_batch_norm_does(name):
    for norm in NORMS:
        model, inputs = built(name, norm=norm)
        alone = torch.cat([model(x[None]) for x in inputs])
        assert torch.allclose(model(inputs), alone, atol=1e-3) == (norm != "batch")


def test_batch_norm_in_train_mode_is_a_function_of_the_batch_alone():
    model, inputs = built("resnet", norm="batch")
    before = model(inputs)
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.fill_(7.0)
    assert torch.equal(model(inputs), before)


def test_group_norm_has_groups_that_divide_the_channels():
    for channels, groups in ((64, 32), (16, 16), (48, 16), (6, 2)):
        model = build("cnn", input_shape=GREY, classes=2, width=channels, norm="group")
        assert model[1].num_groups == groups
    assert build("cnn", input_shape=GREY, classes=2, width=6, norm="layer")[1].num_groups == 1


# -- transformer ----------------------------------------------------------------------------------------------------


def test_a_position_sees_what_came_before_and_nothing_later():
    for norm in ("layer", "none"):
        model, tokens = built("transformer", depth=2, width=8, norm=norm)
        for position in range(WINDOW):
            changed = tokens.clone()
            changed[:, position] = (changed[:, position] + 1) % SYMBOLS
            differs = (model(tokens) - model(changed)).abs().amax((0, 2)) > 1e-6
            assert differs.tolist() == [other >= position for other in range(WINDOW)]
        torch.testing.assert_close(model(tokens[:, :3]), model(tokens)[:, :3])


def test_the_transformer_is_the_written_down_one():
    model, tokens = built("transformer", depth=1, width=8, heads=2, activation="gelu", scale=2.0)
    block, width = model.blocks[0], 8
    x = model.token.weight[tokens] + model.position.weight
    normed = block.attention_norm(x)
    q, k, v = block.attention.queries_keys_values(normed).split(width, dim=-1)
    mixed = torch.zeros_like(x)
    for head in (slice(0, 4), slice(4, 8)):
        for i in range(WINDOW):
            scores = (q[:, i, None, head] * k[:, : i + 1, head]).sum(-1) / math.sqrt(4)
            mixed[:, i, head] = (scores.softmax(-1)[..., None] * v[:, : i + 1, head]).sum(1)
    x = x + block.attention.out(mixed)
    x = x + block.hidden[2](nn.functional.gelu(block.hidden[0](block.hidden_norm(x))))
    torch.testing.assert_close(model(tokens), model.out(model.norm(x)))


def test_heads_divide_the_width_unless_told_otherwise():
    for width, heads in ((32, 4), (6, 2), (5, 1)):
        assert built("transformer", width=width)[0].blocks[0].attention.heads == heads


def test_the_parameters_of_a_transformer_are_counted_by_hand():
    model, _ = built("transformer", width=8, depth=3)
    block = (8 + 1) * 24 + (8 + 1) * 8 + (8 + 1) * 32 + (32 + 1) * 8 + 4 * 8
    assert count(model) == (SYMBOLS + WINDOW) * 8 + 3 * block + 2 * 8 + (8 + 1) * SYMBOLS


# -- all ------------------------------------------------------------------------------------------------------------


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
    # with branches that keep the variance of their input (He's weights), L of them at 1/√L add a bounded variance
    x = torch.randn(8, *GREY, generator=torch.Generator().manual_seed(1))
    sizes = [
        build("resnet", input_shape=GREY, classes=10, width=8, depth=depth, initialisation="he")(x).std().item()
        for depth in (1, 12)
    ]
    assert sizes[0] / 3 < sizes[1] < 3 * sizes[0]


@pytest.mark.parametrize(
    ("name", "norm"), [("mlp", "none"), *((name, norm) for name in ("cnn", "resnet") for norm in NORMS)]
)
def test_a_short_training_lowers_the_loss(name, norm):
    model, _ = built(name, classes=2, scale=2.0, norm=norm)
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(32) % 2
    x = torch.randn(32, *GREY, generator=generator) + 2 * y.reshape(-1, 1, 1, 1) - 1
    assert falls_to_a_fifth(model, x, y)


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_a_transformer_learns_to_look_back(norm):
    # the next token is the one before this one: only attention can find it
    tokens = torch.randint(2, (64, 2), generator=torch.Generator().manual_seed(0)).repeat(1, 4)
    model = build("transformer", input_shape=(7,), classes=2, vocabulary=2, width=16, depth=1, norm=norm)
    assert falls_to_a_fifth(model, tokens[:, :-1], tokens[:, 1:], steps=300, chance=1 / 7 * math.log(2))


def falls_to_a_fifth(model, x, y, steps=60, chance=0.0):
    """Whether gradient descent lowers the loss to a fifth of what can be foretold (the rest is left to `chance`)."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9 if chance else 0.0)
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(x).flatten(0, -2), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[-1] - chance < 0.2 * (losses[0] - chance)


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_and_the_global_state_is_left_alone(name):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = vector(built(name, seed=1)[0])
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(vector(built(name, seed=1)[0]), first)
    assert not torch.equal(vector(built(name, seed=2)[0]), first)


TEXT = {"name": "transformer", "input_shape": (6,), "vocabulary": 5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "vit"}, "expected a model among mlp, cnn, resnet, transformer, got 'vit'"),
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
        ({"norm": "instance"}, "expected a norm among none, batch, group, layer, got 'instance'"),
        ({"name": "mlp", "norm": "layer"}, "expected norm 'none' for mlp, got 'layer'\nhint: "),
        (
            {"vocabulary": 5},
            "expected inputs that are numbers for cnn, got tokens of a text\nhint: text goes into a tr",
        ),
        ({"name": "mlp", "vocabulary": 5}, "expected inputs that are numbers for mlp, got tokens of a text\nhint: "),
        ({"vocabulary": 0}, "expected vocabulary to be a whole number ≥ 1, got 0"),
        ({"heads": 2}, "expected no heads for cnn, got 2\nhint: heads are an option of transformer"),
        (
            {"name": "transformer"},
            r"expected tokens of a text for transformer, got inputs of shape \(1, 8, 8\)\nhint: ",
        ),
        (TEXT | {"heads": 3, "width": 8}, "expected heads that divide the width 8, got 3"),
        (TEXT | {"heads": 0}, "expected heads to be a whole number ≥ 1, got 0"),
        (TEXT | {"norm": "batch"}, "expected norm 'layer' or 'none' for transformer, got 'batch'\nhint: "),
        ({"initialisation": "xavier"}, "expected an initialisation among default, uniform-zero-bias, he, got 'xavier'"),
        ({"scale": 0.0}, "expected scale to be a finite number > 0, got 0.0"),
        ({"scale": float("nan")}, "expected scale to be a finite number > 0, got nan"),
        ({"seed": -1}, "expected seed to be a whole number from 0 to 2⁶³ - 1, got -1"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**{"name": "cnn", "input_shape": GREY, "classes": 3} | changes)
