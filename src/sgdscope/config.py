"""Configuration of a training run: plain values, checked at the door; what is left open is filled in per data set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints


class ConfigError(ValueError):
    """A run cannot be made of these settings; the message says what was expected, what was given, what to do."""


@dataclass(frozen=True)
class RunConfig:
    """A training run of the reference loop. Settings left at None take the default of the data set."""

    data: Literal["digits", "cifar10", "mnist", "fashion-mnist", "folder", "npz"] = "digits"
    """What to train on. `digits` ships with scikit-learn; the others are read from --data-dir."""
    data_dir: Path | None = None
    """Folder that holds the data set (for npz: the file)."""
    subset: int | None = None
    """Number of training samples to use. 0: all of them. [digits 256, folder and npz all, else 8192]"""
    image_size: int | None = None
    """Side to which the images of a folder are resized."""

    model: Literal["mlp", "cnn", "resnet"] = "mlp"
    """Network."""
    width: int | None = None
    """Units per hidden layer, or channels of the first stage. [digits mlp 32, else mlp 512, cnn 64, resnet 16]"""
    depth: int | None = None
    """Hidden layers (mlp), convolutions before the first pool (cnn), blocks per stage (resnet).
    [digits mlp 1, else 2]"""
    activation: (
        Literal["tanh", "relu", "gelu", "silu", "sigmoid", "softplus", "elu", "leaky_relu", "identity"] | None
    ) = None
    """Activation. [digits tanh, else relu]"""
    norm: Literal["none", "batch"] = "none"
    """BatchNorm in the resnet, or none."""
    initialisation: Literal["default", "uniform-zero-bias"] | None = None
    """Initial weights: uniform ±1/√fan_in, biases likewise (default) or zero. [digits uniform-zero-bias]"""
    init_scale: float = 1.0
    """Factor on all initial weights."""

    loss: Literal["half-squared-error", "squared-error", "cross-entropy"] | None = None
    """Squared errors are on one-hot labels, summed over classes, mean over samples; with or without the ½.
    [digits half-squared-error, else squared-error]"""
    optimizer: Literal["sgd", "momentum", "nesterov", "adamw"] = "sgd"
    """Optimizer."""
    lr: float | None = None
    """Learning rate. [digits 0.7, else 0.01; adamw 0.001]"""
    momentum: float = 0.9
    """Of momentum and nesterov."""
    schedule: Literal["constant", "cosine", "linear", "step"] = "constant"
    """Learning-rate schedule over the run; cosine and linear end at 0, step divides by 10 at 1/2 and 3/4."""
    warmup: int = 0
    """Steps of linear warm-up."""
    weight_decay: float = 0.0
    """Weight decay, as the optimizer defines it."""
    batch_size: int | None = None
    """Samples per step. [digits 8, else 16]"""
    sampling: Literal["reshuffle", "replacement"] = "reshuffle"
    """Each epoch a new order, or every batch drawn afresh with replacement."""
    steps: int | None = None
    """Steps of training. [digits 20000, else 40000]"""
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
    eigenvalues: int = 1
    """Number of leading eigenvalues of the full-loss Hessian."""
    checkpoint_every: int | None = None
    """Steps between checkpoints. [a twentieth of the run]"""
    keep_checkpoints: int = 2
    """How many of the latest checkpoints to keep; 0 keeps all."""

    def resolved(self) -> RunConfig:
        """With every open setting filled in. Raises ConfigError for settings that make no run."""
        small = self.data == "digits"
        mlp = self.model == "mlp"
        lr = (0.001 if self.optimizer == "adamw" else 0.7 if small else 0.01) if self.lr is None else self.lr
        batch_size = _or(self.batch_size, 8 if small else 16)
        steps = _or(self.steps, 20000 if small else 40000)
        full = replace(
            self,
            subset=_or(self.subset, 256 if small else 0 if self.data in ("folder", "npz") else 8192),
            width=_or(self.width, (32 if small else 512) if mlp else None),
            depth=_or(self.depth, (1 if small else 2) if mlp else None),
            activation=self.activation or ("tanh" if small else "relu"),
            initialisation=self.initialisation or ("uniform-zero-bias" if small else "default"),
            loss=self.loss or ("half-squared-error" if small else "squared-error"),
            lr=lr, batch_size=batch_size, steps=steps,
            checkpoint_every=_or(self.checkpoint_every, max(1, steps // 20)),
        )  # fmt: skip
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
        positive = {"lr": self.lr, "batch-size": self.batch_size, "init-scale": self.init_scale,
                    "checkpoint-every": self.checkpoint_every, "every": self.every, "eigenvalues": self.eigenvalues,
                    "threads": self.threads, "image-size": self.image_size}  # fmt: skip
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
        if self.data != "digits" and self.data_dir is None:
            raise ConfigError(
                f"expected --data-dir with --data {self.data}: the folder that holds it\n"
                "hint: nothing is downloaded; --data digits needs no files"
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
        if values.get("data_dir") is not None:
            values["data_dir"] = Path(values["data_dir"])
        try:
            config = cls(**values)
            config.check()
        except (TypeError, ValueError) as error:
            raise ConfigError(f"the run's manifest holds no usable configuration: {error}") from error
        return config


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
