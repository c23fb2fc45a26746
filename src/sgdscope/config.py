"""Configuration of a training run: plain values, checked at the door; what is left open is filled in per data set."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

OPTIMIZERS = ("sgd", "momentum", "nesterov", "adamw")
"""Optimizers with a name; any other is a class, given as ``package.module:Class``."""

_DEFAULTS: dict[str, dict[str, Any]] = {
    "": {"model": "mlp", "subset": 8192, "activation": "relu", "initialisation": "default",
         "loss": "squared-error", "lr": 0.01, "batch_size": 16, "steps": 40_000, "mlp": (512, 2)},
    "digits": {"subset": 256, "activation": "tanh", "initialisation": "uniform-zero-bias",
               "loss": "half-squared-error", "lr": 0.7, "batch_size": 8, "steps": 20_000, "mlp": (32, 1)},
    "folder": {"subset": 0},
    "npz": {"subset": 0},
    # tanh and not relu: tables have outliers (Avila one of 386 deviations), on which a relu network diverges at once
    "table": {"subset": 0, "activation": "tanh", "lr": 0.2, "batch_size": 8, "mlp": (64, 2)},
    "text": {"model": "transformer", "subset": 512, "context_length": 32, "activation": "gelu",
             "loss": "cross-entropy", "lr": 1.0, "batch_size": 8, "steps": 8_000},
}  # fmt: skip
"""What an open setting is filled in with, per data set; "" is for all that say nothing else. mlp: width and depth."""

_FILES = ("npz", "table", "text")
"""Data sets that are one file."""

_NEED_NO_FILES = ("digits", "text")

_ONLY_WITH = {"image_size": "folder", "context_length": "text", "target": "table", "task": "table",
              "ignore_columns": "table"}  # fmt: skip


class ConfigError(ValueError):
    """A run cannot be made of these settings; the message says what was expected, what was given, what to do."""


@dataclass(frozen=True)
class RunConfig:
    """A training run of the reference loop. Settings left at None take the default of the data set."""

    data: Literal["digits", "cifar10", "mnist", "fashion-mnist", "folder", "npz", "table", "text"] = "digits"
    """What to train on. `digits` ships with scikit-learn, `text` is a file of yours or the prose that ships with
    Python; the others are read from --data-dir or --data-file."""
    data_dir: Path | None = None
    """Folder that holds the data set."""
    data_file: Path | None = None
    """File that holds it: npz, a CSV table, or a text."""
    subset: int | None = None
    """Number of training samples to use. 0: all of them. [digits 256, text 512, folder, npz, table all, else 8192]"""
    image_size: int | None = None
    """Side to which the images of a folder are resized."""
    context_length: int | None = None
    """Characters per window of a text. [32]"""
    target: str | None = None
    """Column of a table to predict."""
    task: Literal["classification", "regression"] | None = None
    """What a table is used for. [regression if the target is numbers, but not whole ones of at most 20 values]"""
    ignore_columns: tuple[str, ...] = ()
    """Columns of a table to leave out."""

    model: Literal["mlp", "cnn", "resnet", "transformer"] | None = None
    """Network. [text transformer, else mlp]"""
    width: int | None = None
    """Units per hidden layer, channels of the first stage, or numbers per position.
    [mlp 512, of digits 32, of tables 64; cnn 64, resnet 16, transformer 32]"""
    depth: int | None = None
    """Hidden layers (mlp), convolutions before the first pool (cnn), blocks per stage (resnet), blocks (transformer).
    [digits mlp 1, else 2]"""
    heads: int | None = None
    """Attention heads of the transformer. [4]"""
    activation: (
        Literal["tanh", "relu", "gelu", "silu", "sigmoid", "softplus", "elu", "leaky_relu", "identity"] | None
    ) = None
    """Activation. [digits and table tanh, text gelu, else relu]"""
    norm: Literal["default", "none", "batch", "group", "layer"] = "default"
    """BatchNorm, GroupNorm or LayerNorm in cnn and resnet; LayerNorm or none in the transformer. By default layer in
    the transformer, else none."""
    initialisation: Literal["default", "uniform-zero-bias", "he"] | None = None
    """Initial weights: uniform ±1/√fan_in, biases likewise (default) or zero; he: ±√(6/fan_in), biases zero.
    [resnet without norm he, digits uniform-zero-bias]"""
    init_scale: float = 1.0
    """Factor on all initial weights."""

    loss: Literal["half-squared-error", "squared-error", "cross-entropy"] | None = None
    """Squared errors are on one-hot labels, summed over classes, mean over samples; with or without the ½.
    [digits half-squared-error, text cross-entropy, else squared-error]"""
    optimizer: str = "sgd"
    """sgd, momentum, nesterov, adamw, or any torch optimizer as package.module:Class."""
    optimizer_options: tuple[str, ...] = ()
    """Further options of the optimizer, as key=value, e.g. betas=(0.9,0.95)."""
    lr: float | None = None
    """Learning rate. [digits 0.7, table 0.2, text 1, else 0.01, times 1 − momentum with momentum; adamw and classes
    0.001]"""
    momentum: float = 0.9
    """Of momentum and nesterov."""
    schedule: Literal["constant", "cosine", "linear", "step"] = "constant"
    """Learning-rate schedule over the run; cosine and linear end at 0, step divides by 10 at 1/2 and 3/4."""
    warmup: int = 0
    """Steps of linear warm-up."""
    weight_decay: float = 0.0
    """Weight decay, as the optimizer defines it."""
    batch_size: int | None = None
    """Samples per step; of a text, windows. [digits, table and text 8, else 16]"""
    sampling: Literal["reshuffle", "replacement"] = "reshuffle"
    """Each epoch a new order, or every batch drawn afresh with replacement."""
    steps: int | None = None
    """Steps of training. [digits 20000, text 8000, else 40000]"""
    seed: int = 0
    """Of initial weights, batches and measurements."""

    device: str = "cpu"
    """Torch device, e.g. cpu, cuda, cuda:1."""
    precision: Literal["float32", "float64", "bfloat16"] = "float32"
    """float32, float64, or float32 weights under bfloat16 autocast."""
    threads: int | None = None
    """CPU threads for torch. [torch's choice; 1 for networks so small that more only cost]"""

    mode: Literal["train", "eval"] = "train"
    """Mode in which the loss is measured (BatchNorm, dropout); train is what decides stability."""
    budget: float = 0.05
    """Share of time that measuring may take during training."""
    every: int | None = None
    """Measure every so many steps instead (then the budget is not used)."""
    cadence: tuple[str, ...] = ()
    """Single measurements at a cadence of their own, as name=steps: spectrum=1000, edge_map=500, lambda_max=200, …;
    charges=1 follows the charges of layers step by step."""
    eigenvalues: int = 1
    """Number of leading eigenvalues of the full-loss Hessian."""
    checkpoint_every: int | None = None
    """Steps between checkpoints. [a twentieth of the run]"""
    keep_checkpoints: int = 2
    """How many of the latest checkpoints to keep; 0 keeps all."""

    def resolved(self) -> RunConfig:
        """With every open setting filled in. Raises ConfigError for settings that make no run."""
        default = _DEFAULTS[""] | _DEFAULTS.get(self.data, {})
        sizes = default.pop("mlp")
        model = self.model or default["model"]
        norm = ("layer" if model == "transformer" else "none") if self.norm == "default" else self.norm
        if model == "mlp":
            default |= {"width": sizes[0], "depth": sizes[1]}
        if self.optimizer not in ("sgd", "momentum", "nesterov"):
            default["lr"] = 0.001
        elif self.optimizer != "sgd" and 0 <= self.momentum < 1:  # the same effective learning rate, lr / (1 − β)
            default["lr"] = round(default["lr"] * (1 - self.momentum), 12)
        if model == "resnet" and norm == "none":
            default["initialisation"] = "he"  # without norm, torch's own weights let the signal fade
        steps = _or(self.steps, default["steps"])
        default["checkpoint_every"] = max(1, steps // 20) if isinstance(steps, int) else None
        filled = {name: value for name, value in default.items() if getattr(self, name) is None}
        full = replace(self, norm=norm, **filled)
        full.check()
        return full

    def check(self) -> None:
        """Raises ConfigError for the first setting out of range."""
        types = get_type_hints(type(self))
        for field in fields(self):
            choices = [c for part in (types[field.name], *get_args(types[field.name])) if get_origin(part) is Literal
                       for c in get_args(part)]  # fmt: skip
            value = getattr(self, field.name)
            option = field.name.replace("_", "-")
            if choices and value is not None and value not in choices:
                raise ConfigError(f"expected --{option} among {', '.join(choices)}, got {value!r}")
            if int in (types[field.name], *get_args(types[field.name])) and type(value) not in (int, type(None)):
                raise ConfigError(f"expected --{option} as a whole number, got {value!r}")
            owner = _ONLY_WITH.get(field.name)
            if owner is not None and value and self.data != owner:
                raise ConfigError(f"expected --{option} only with --data {owner}, got it with --data {self.data}")
        positive = {"lr": self.lr, "batch-size": self.batch_size, "init-scale": self.init_scale,
                    "checkpoint-every": self.checkpoint_every, "every": self.every, "eigenvalues": self.eigenvalues,
                    "threads": self.threads, "image-size": self.image_size,
                    "context-length": self.context_length}  # fmt: skip
        for name, value in positive.items():
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"expected --{name} > 0, got {value}")
        counts = {"subset": self.subset, "steps": self.steps, "warmup": self.warmup, "seed": self.seed,
                  "weight-decay": self.weight_decay, "keep-checkpoints": self.keep_checkpoints}  # fmt: skip
        for name, value in counts.items():
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise ConfigError(f"expected --{name} ≥ 0, got {value}")
        if self.seed >= 2**63:
            raise ConfigError(f"expected --seed below 2^63, got {self.seed}")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"expected --momentum in [0, 1), got {self.momentum}")
        if not 0 < self.budget <= 1:
            raise ConfigError(f"expected --budget in (0, 1], the share of time for measuring, got {self.budget}")
        self.cadences()
        self._check_data()
        self._check_optimizer()

    def cadences(self) -> dict[str, int]:
        """Steps between readings by name; the names are the monitor's to judge. Raises ConfigError for other forms."""
        found = {}
        for text in self.cadence:
            name, equals, steps = text.partition("=")
            if not (equals and name.isidentifier() and steps.isdecimal() and 0 < int(steps) <= 10**12):
                raise ConfigError(f"expected --cadence as name=steps, such as spectrum=1000, got {text!r}")
            found[name] = int(steps)
        return found

    def _check_data(self) -> None:
        """That the data are given in the right way, and suit model and loss."""
        one_file = self.data in _FILES
        if self.data_file is not None and (self.data_dir is not None or not one_file):
            wanted = "--data-file or --data-dir, not both" if one_file else "--data-dir"
            raise ConfigError(f"expected {wanted} with --data {self.data}, got --data-file {self.data_file}")
        if self.data not in _NEED_NO_FILES and self.data_dir is None and self.data_file is None:
            what = "--data-file" if one_file else "--data-dir"
            raise ConfigError(
                f"expected {what} with --data {self.data}: the {'file' if one_file else 'folder'} that holds it\n"
                "hint: nothing is downloaded; --data digits and --data text need no files"
            )
        if self.model is not None and (self.data == "text") != (self.model == "transformer"):
            fitting = "transformer" if self.data == "text" else "mlp, cnn or resnet"
            raise ConfigError(f"expected --model {fitting} with --data {self.data}, got {self.model}")
        if self.norm == "batch" and self.batch_size == 1:
            raise ConfigError("expected --batch-size of at least 2 with --norm batch, got 1\n"
                              "hint: --norm group and --norm layer need no other samples")  # fmt: skip
        if self.data == "text" and self.loss not in (None, "cross-entropy"):
            raise ConfigError(f"expected --loss cross-entropy with --data text, got {self.loss}")

    def _check_optimizer(self) -> None:
        """That the optimizer is written as it should be; what it is, is known only once it has been imported."""
        path = r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*"
        if self.optimizer not in OPTIMIZERS and not re.fullmatch(path, self.optimizer):
            raise ConfigError(
                f"expected --optimizer among {', '.join(OPTIMIZERS)}, or a class as package.module:Class, "
                f"got {self.optimizer!r}\nhint: torch's own are torch.optim:Adam, torch.optim:RMSprop, …"
            )
        for option in self.optimizer_options:
            key, equals, _ = option.partition("=")
            if not equals or not key.isidentifier():
                raise ConfigError(
                    f"expected --optimizer-options as key=value, got {option!r}\n"
                    "hint: several stand one after the other: --optimizer-options betas=(0.9,0.95) eps=1e-6"
                )

    def learning_rate(self, step: int) -> float:
        """Of the step with this number (from 0), by schedule and warm-up."""
        assert self.lr is not None
        assert self.steps is not None
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        factor = {
            "constant": 1.0,
            "cosine": 0.5 * (1 + math.cos(math.pi * min(done, 1.0))),
            "linear": max(1 - done, 0.0),
            "step": 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01,
        }[self.schedule]
        return self.lr * factor

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RunConfig:
        """Rebuild from `to_json`; entries of other versions are ignored. Raises ConfigError for wrong types."""
        known = {f.name for f in fields(cls)}
        values = {key: value for key, value in content.items() if key in known}
        try:
            values |= {name: Path(values[name]) for name in ("data_dir", "data_file") if values.get(name) is not None}
            values |= {
                name: tuple(values[name])
                for name in ("ignore_columns", "optimizer_options", "cadence")
                if name in values
            }
            config = cls(**values)
            config.check()
        except (TypeError, ValueError) as error:
            raise ConfigError(f"the run's manifest holds no usable configuration: {error}") from error
        return config


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
