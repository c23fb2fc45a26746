"""Optimizers by name and by import path: what they are given, and every refusal."""

import re
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from sgdscope import optimizers
from sgdscope.config import ConfigError, RunConfig
from sgdscope.monitor.optimizers import description

MINE = """\
import torch

class Signs(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, sharp=False, name="signs"):
        super().__init__(params, {"lr": lr, "sharp": sharp, "name": name})

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.data -= group["lr"] * p.grad.sign()

class SGD(Signs):
    pass

class Keeps(Signs):
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["who"] = {1, 2}

class Fussy(Signs):
    def __init__(self, params, lr):
        raise ValueError("not today\\nnor tomorrow")

helper = 3
"""


@pytest.fixture
def model():
    return nn.Linear(3, 2)


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    """Modules in the working folder, one of which breaks when it is imported."""
    (tmp_path / "my_optimizers.py").write_text(MINE)
    (tmp_path / "broken_optimizers.py").write_text("raise RuntimeError('no accelerator')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_optimizers", raising=False)


def config(optimizer, *options, **others):
    return RunConfig(optimizer=optimizer, optimizer_options=options, **others).resolved()


def settings(optimizer):
    return {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("sgd", torch.optim.SGD, {"lr": 0.7, "momentum": 0.0, "nesterov": False, "weight_decay": 0.25}),
        ("momentum", torch.optim.SGD, {"lr": 0.35, "momentum": 0.5, "nesterov": False, "weight_decay": 0.25}),
        ("nesterov", torch.optim.SGD, {"lr": 0.35, "momentum": 0.5, "nesterov": True, "weight_decay": 0.25}),
        ("adamw", torch.optim.AdamW, {"lr": 0.001, "weight_decay": 0.25}),
        ("torch.optim:Adam", torch.optim.Adam, {"lr": 0.001, "weight_decay": 0.25}),
        ("torch.optim:SGD", torch.optim.SGD, {"lr": 0.001, "momentum": 0, "weight_decay": 0.25}),
    ],
)
def test_each_gets_its_settings(model, name, kind, expected):
    built = optimizers.build(config(name, momentum=0.5, weight_decay=0.25), model)
    assert type(built) is kind
    assert settings(built) | expected == settings(built)
    assert [id(p) for p in built.param_groups[0]["params"]] == [id(p) for p in model.parameters()]


def test_weight_decay_of_0_is_left_to_the_class(model):
    assert settings(optimizers.build(config("torch.optim:AdamW"), model))["weight_decay"] == 0.01  # its own default


def test_options_are_read_as_python_writes_them(model):
    options = ("betas=(0.8,0.95)", "eps=1e-6", "amsgrad=TRUE", "fused=none")
    built = settings(optimizers.build(config("adamw", *options), model))
    assert (built["betas"], built["eps"], built["amsgrad"], built["fused"]) == ((0.8, 0.95), 1e-6, True, None)
    built = settings(optimizers.build(config("my_optimizers:Signs", "sharp=false", "name=a=b"), model))
    assert (built["sharp"], built["name"], built["lr"]) == (False, "a=b", 0.001)


def test_a_module_in_the_working_folder_is_found_and_the_path_is_left_as_it_was(model):
    before = list(sys.path)
    assert type(optimizers.build(config("my_optimizers:Signs"), model)).__name__ == "Signs"
    assert sys.path == before


def test_trying_it_out_does_not_touch_the_model(model):
    before = [p.detach().clone() for p in model.parameters()]
    built = optimizers.build(config("torch.optim:Adam", "eps=1e-6"), model)
    assert all(torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())
    assert not built.state


def test_theory_is_claimed_for_plain_sgd_alone(model):
    methods = {
        "sgd": "sgd", "nesterov": "nesterov", "torch.optim:SGD": "sgd", "torch.optim:Adam": "Adam",
        "my_optimizers:Signs": "Signs", "my_optimizers:SGD": "my_optimizers.SGD",
    }  # fmt: skip
    for name, method in methods.items():
        assert description(optimizers.build(config(name), model), full_batch=False)["method"] == method
    damped = optimizers.build(config("momentum", "dampening=0.5"), model)
    assert description(damped, full_batch=False)["method"] == "SGD with dampening"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nowhere.at.all:Adam", (),
         "expected a module that can be imported in --optimizer nowhere.at.all:Adam, but nowhere.at.all raised "
         "ModuleNotFoundError: No module named 'nowhere'\n"
         "hint: install its package, or start from the folder that holds the file"),
        ("broken_optimizers:A", (),
         "expected a module that can be imported in --optimizer broken_optimizers:A, but broken_optimizers raised "
         "RuntimeError: no accelerator\nhint: "),
        ("my_optimizers:Sign", (),
         "expected a subclass of torch.optim.Optimizer in --optimizer my_optimizers:Sign, got nothing of that name\n"
         "hint: my_optimizers has Fussy, Keeps, SGD, Signs"),
        ("my_optimizers:helper", (), "expected a subclass of torch.optim.Optimizer in --optimizer "
                                     "my_optimizers:helper, got int helper\nhint: "),
        ("torch.optim:Optimizer", (), "expected a subclass of torch.optim.Optimizer in --optimizer "
                                      "torch.optim:Optimizer, got type Optimizer\nhint: torch.optim has "),
        ("math:sin", (), "expected a subclass of torch.optim.Optimizer in --optimizer math:sin, got "
                         "builtin_function_or_method sin\nhint: math has none"),
        ("my_optimizers:Signs", ("rate=3",),
         "expected options that Signs takes, got lr=0.001, rate=3: Signs.__init__() got an unexpected keyword argument "
         "'rate'\nhint: it takes lr, sharp, name"),
        ("my_optimizers:Fussy", (), "expected options that Fussy takes, got lr=0.001: not today\nhint: it takes lr"),
        ("adamw", ("betas=2",), "expected options that AdamW takes, got lr=0.001, weight_decay=0.0, betas=2: "),
        ("adamw", ("lr=2",), "expected lr as --lr, got it in --optimizer-options\nhint: --optimizer-options is"),
        ("sgd", ("momentum=0.5",), "expected momentum as --momentum, got it in --optimizer-options\nhint: "),
        ("torch.optim:LBFGS", (),
         "expected an optimizer that can step this model by optimizer.step(), but LBFGS raised TypeError: "),
        ("torch.optim:SparseAdam", (),
         "expected an optimizer that can step this model by optimizer.step(), but SparseAdam raised RuntimeError: "),
        ("my_optimizers:Keeps", (), "expected an optimizer whose state is made of tensors and plain numbers, but Keeps "
                                    "keeps who, which no checkpoint can hold"),
    ],
)  # fmt: skip
def test_each_refusal_says_what_was_expected(model, name, options, message):
    with pytest.raises(ConfigError, match="^" + re.escape(message)) as caught:
        optimizers.build(config(name, *options), model)
    assert len(str(caught.value).splitlines()) <= 2


def test_momentum_is_told_by_its_own_option(model):
    changed = replace(config("torch.optim:SGD", "momentum=0.5"), momentum=0.9)
    assert settings(optimizers.build(changed, model))["momentum"] == 0.5  # a class has no --momentum
