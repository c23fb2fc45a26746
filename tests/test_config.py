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
    assert RunConfig(steps=10).resolved().checkpoint_every == 1


def test_your_own_data_are_used_whole_by_default():
    for data in ("folder", "npz"):
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
                            "hint: nothing is downloaded; --data digits needs no files"),
        ({"data": "imagenet"}, "expected --data among digits, cifar10, mnist, fashion-mnist, folder, npz, "
                               "got 'imagenet'"),
        ({"optimizer": "adam"}, "expected --optimizer among sgd, momentum, nesterov, adamw, got 'adam'"),
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
    config = RunConfig(data="npz", data_dir=Path("a") / "b.npz", lr=0.1).resolved()
    content = json.loads(json.dumps(config.to_json()))
    assert RunConfig.from_json(content) == config
    assert RunConfig.from_json(content | {"of a later version": 1}) == config


@pytest.mark.parametrize("content", [{"lr": "fast"}, {"steps": "many"}, {"model": "vit"}, {"lr": -1.0}])
def test_a_manifest_of_something_else_is_refused(content):
    with pytest.raises(ConfigError, match="the run's manifest holds no usable configuration: "):
        RunConfig.from_json(content)
