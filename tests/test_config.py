"""Settings of a run: defaults by data set, every refusal in the user's words, schedules, and the way through JSON."""

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from sgdscope.config import ConfigError, RunConfig


def test_what_is_left_open_depends_on_the_data():
    digits = RunConfig().resolved()
    assert (digits.subset, digits.width, digits.depth, digits.activation) == (256, 32, 1, "tanh")
    assert (digits.loss, digits.lr, digits.batch_size, digits.steps) == ("half-squared-error", 0.7, 8, 20_000)
    cifar = RunConfig(data="cifar10", data_dir=Path("x"), model="cnn").resolved()
    assert (cifar.subset, cifar.width, cifar.activation, cifar.lr) == (8192, None, "relu", 0.01)
    assert RunConfig(optimizer="adamw").resolved().lr == 0.001
    assert RunConfig(optimizer="torch.optim:Adam").resolved().lr == 0.001
    text = RunConfig(data="text").resolved()
    assert (text.model, text.norm, text.loss, text.context_length) == ("transformer", "layer", "cross-entropy", 32)
    table = RunConfig(data="table", data_file=Path("x")).resolved()
    assert (table.model, table.width, table.depth, table.norm) == ("mlp", 64, 2, "none")
    assert RunConfig(data="text", norm="none").resolved().norm == "none"


def test_a_resnet_without_norm_has_weights_that_keep_the_signal():
    assert RunConfig(model="resnet").resolved().initialisation == "he"
    assert RunConfig(model="resnet", norm="none").resolved().initialisation == "he"
    assert RunConfig(model="resnet", norm="batch").resolved().initialisation == "uniform-zero-bias"
    assert RunConfig(model="resnet", initialisation="default").resolved().initialisation == "default"
    assert RunConfig(steps=10).resolved().checkpoint_every == 1


def test_your_own_data_are_used_whole_by_default():
    for data in ("folder", "npz", "table"):
        assert RunConfig(data=data, data_dir=Path("x")).resolved().subset == 0


def test_what_is_given_stays():
    given = RunConfig(subset=0, width=7, depth=3, lr=0.1, batch_size=3, steps=0, checkpoint_every=9)
    resolved = given.resolved()
    assert all(getattr(resolved, name) == getattr(given, name) for name in ("subset", "width", "lr", "steps"))
    assert resolved.resolved() == resolved


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.0}, "expected --lr > 0, got 0.0"),
        ({"lr": -1.0}, "expected --lr > 0, got -1.0"),
        ({"lr": math.nan}, "expected --lr > 0, got nan"),
        ({"lr": math.inf}, "expected --lr > 0, got inf"),
        ({"batch_size": 0}, "expected --batch-size > 0, got 0"),
        ({"init_scale": 0.0}, "expected --init-scale > 0, got 0.0"),
        ({"checkpoint_every": 0}, "expected --checkpoint-every > 0, got 0"),
        ({"every": 0}, "expected --every > 0, got 0"),
        ({"eigenvalues": 0}, "expected --eigenvalues > 0, got 0"),
        ({"threads": 0}, "expected --threads > 0, got 0"),
        ({"image_size": 0}, "expected --image-size > 0, got 0"),
        ({"subset": -1}, "expected --subset ≥ 0, got -1"),
        ({"steps": -1}, "expected --steps ≥ 0, got -1"),
        ({"warmup": -1}, "expected --warmup ≥ 0, got -1"),
        ({"seed": -1}, "expected --seed ≥ 0, got -1"),
        ({"seed": 2**63}, "expected --seed below 2^63, got 9223372036854775808"),
        ({"weight_decay": -0.1}, "expected --weight-decay ≥ 0, got -0.1"),
        ({"keep_checkpoints": -1}, "expected --keep-checkpoints ≥ 0, got -1"),
        ({"momentum": 1.0}, "expected --momentum in [0, 1), got 1.0"),
        ({"budget": 0.0}, "expected --budget in (0, 1], the share of time for measuring, got 0.0"),
        ({"data": "mnist"}, "expected --data-dir with --data mnist: the folder that holds it\n"
                            "hint: nothing is downloaded; --data digits and --data text need no files"),
        ({"data": "npz"}, "expected --data-file with --data npz: the file that holds it\n"
                          "hint: nothing is downloaded; --data digits and --data text need no files"),
        ({"data_file": Path("x")}, "expected --data-dir with --data digits, got --data-file x"),
        ({"data": "text", "data_file": Path("x"), "data_dir": Path("y")},
         "expected --data-file or --data-dir, not both with --data text, got --data-file x"),
        ({"data": "text", "model": "cnn"}, "expected --model transformer with --data text, got cnn"),
        ({"model": "transformer"}, "expected --model mlp, cnn or resnet with --data digits, got transformer"),
        ({"data": "text", "loss": "squared-error"},
         "expected --loss cross-entropy with --data text, got squared-error"),
        ({"model": "cnn", "norm": "batch", "batch_size": 1},
         "expected --batch-size of at least 2 with --norm batch, got 1\n"
         "hint: --norm group and --norm layer need no other samples"),
        ({"image_size": 8}, "expected --image-size only with --data folder, got it with --data digits"),
        ({"context_length": 8}, "expected --context-length only with --data text, got it with --data digits"),
        ({"target": "y"}, "expected --target only with --data table, got it with --data digits"),
        ({"task": "regression"}, "expected --task only with --data table, got it with --data digits"),
        ({"ignore_columns": ("x",)}, "expected --ignore-columns only with --data table, got it with --data digits"),
        ({"data": "text", "context_length": 0}, "expected --context-length > 0, got 0"),
        ({"data": "imagenet"}, "expected --data among digits, cifar10, mnist, fashion-mnist, folder, npz, "
                               "table, text, got 'imagenet'"),
        ({"norm": "instance"}, "expected --norm among default, none, batch, group, layer, got 'instance'"),
        *(({"optimizer": name}, "expected --optimizer among sgd, momentum, nesterov, adamw, or a class as "
                                f"package.module:Class, got {name!r}\n"
                                "hint: torch's own are torch.optim:Adam, torch.optim:RMSprop, …")
          for name in ("adam", "torch.optim.Adam", "torch.optim:", ":Adam", "a-b:C")),
        *(({"optimizer_options": ("eps=1e-6", text)}, f"expected --optimizer-options as key=value, got {text!r}\n"
           "hint: several stand one after the other: --optimizer-options betas=(0.9,0.95) eps=1e-6")
          for text in ("nesterov", "=1", "a b=1")),
        ({"loss": "hinge"}, "expected --loss among half-squared-error, squared-error, cross-entropy, got 'hinge'"),
        ({"schedule": "wsd"}, "expected --schedule among constant, cosine, linear, step, got 'wsd'"),
        ({"steps": 1.5}, "expected --steps as a whole number, got 1.5"),
        ({"batch_size": True}, "expected --batch-size as a whole number, got True"),
    ],
)  # fmt: skip
def test_each_refusal_says_what_was_expected(change, message):
    with pytest.raises(ConfigError) as caught:
        replace(RunConfig(), **change).resolved()
    assert str(caught.value) == message


def rates(**settings):
    config = RunConfig(lr=1.0, steps=8, **settings).resolved()
    return [round(config.learning_rate(step), 6) for step in range(8)]


def test_schedules():
    assert rates() == [1.0] * 8
    assert rates(schedule="linear") == [1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
    assert rates(schedule="step") == [1.0] * 4 + [0.1] * 2 + [0.01] * 2
    cosine = rates(schedule="cosine")
    assert (cosine[0], cosine[4]) == (1.0, 0.5)
    assert all(a > b > 0 for a, b in pairwise(cosine))
    assert rates(warmup=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert rates(warmup=4, schedule="linear")[3:] == [1.0, 1.0, 0.75, 0.5, 0.25]


def test_a_run_longer_than_its_schedule_stays_at_the_end():
    config = RunConfig(lr=1.0, steps=4, schedule="cosine").resolved()
    assert config.learning_rate(9) == 0
    assert replace(config, schedule="linear").learning_rate(9) == 0


def test_through_json_and_back():
    for config in (
        RunConfig(data="npz", data_dir=Path("a") / "b.npz", lr=0.1),
        RunConfig(data="table", data_file=Path("a.csv"), target="y", task="regression", ignore_columns=("b", "c")),
        RunConfig(data="text", optimizer="a.b:C", optimizer_options=("betas=(0.9,0.95)",)),
    ):
        content = json.loads(json.dumps(config.resolved().to_json()))
        assert RunConfig.from_json(content) == config.resolved()
        assert RunConfig.from_json(content | {"of a later version": 1}) == config.resolved()


def test_a_run_of_an_earlier_version_can_be_read():
    content = RunConfig().resolved().to_json()
    for name in ("data_file", "context_length", "target", "task", "ignore_columns", "heads", "optimizer_options"):
        del content[name]
    assert RunConfig.from_json(content) == RunConfig().resolved()


@pytest.mark.parametrize(
    "content",
    [
        {"lr": "fast"},
        {"steps": "many"},
        {"model": "vit"},
        {"lr": -1.0},
        {"optimizer": 3},
        {"ignore_columns": 3},
        {"data_file": 3},
    ],
)
def test_a_manifest_of_something_else_is_refused(content):
    with pytest.raises(ConfigError, match="the run's manifest holds no usable configuration: "):
        RunConfig.from_json(content)


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.7), ("momentum", 0.14), ("nesterov", 0.14), ("adamw", 0.001)])
def test_momentum_keeps_the_effective_learning_rate(optimizer, lr):
    assert RunConfig(optimizer=optimizer, momentum=0.8).resolved().lr == lr
    assert RunConfig(optimizer=optimizer, momentum=0.8, lr=0.3).resolved().lr == 0.3


def test_cadences():
    config = RunConfig(cadence=("spectrum=1000", "edge_map=50")).resolved()
    assert config.cadences() == {"spectrum": 1000, "edge_map": 50}
    assert RunConfig.from_json(config.to_json()).cadences() == config.cadences()


@pytest.mark.parametrize("text", ["spectrum", "spectrum=", "spectrum=0", "spectrum=-5", "a b=5", "=5", "spectrum=1e3"])
def test_cadences_are_written_as_name_and_steps(text):
    with pytest.raises(ConfigError, match="expected --cadence as name=steps"):
        RunConfig(cadence=(text,)).resolved()
