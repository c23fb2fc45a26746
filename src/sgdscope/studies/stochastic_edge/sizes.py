"""Sizes: what each size of the study trains, learning rates and batch sizes included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sgdscope.studies.recipe import Size
from sgdscope.studies.stochastic_edge.grids import Changes, Forks, Grid

NOTES: dict[Size, tuple[str, ...]] = {
    "toy": ("Digits, 128 of them, and a network of 32 hidden units: the edge is reached within seconds.",),
    "small": (
        "Networks are narrower and data fewer than in the source, and learning rates larger, so that the edge is "
        "reached within minutes.",
    ),
    "paper": (
        "CIFAR-10, models and learning rates of the source as far as they are known; its initial scales are those of "
        "its own initialisation, here of torch's.",
    ),
}  # fmt: skip
"""What a reader should know of each size."""


def of_size(size: Size, data_dir: Path | None) -> dict[str, Any]:
    """Fields of the recipe. Raises ValueError for the paper's size without data."""
    if size == "toy":
        return _toy()
    if size == "small":
        return _small(data_dir is not None)
    if data_dir is None:
        raise ValueError("expected the folder that holds CIFAR-10 (binary version) for the size paper, got none\n"
                         "hint: --data-dir FOLDER, or --size small, which has digits only without it")  # fmt: skip
    return _paper()


def _toy() -> dict[str, Any]:
    run = {"data": "digits", "subset": 128}
    tanh = "MLP tanh, digits"
    heavy = {**run, "optimizer": "momentum"}
    return {
        "plateaus": (
            Grid("tanh", tanh, run, ((0.7, 8), (0.7, 32)), 2800, 1800),
            Grid("relu", "MLP ReLU, digits", {**run, "activation": "relu"}, ((1.0, 8),), 1400, 700),
        ),
        "full_batch": (Grid("descent", tanh, run, ((0.7, 128),), 1000, 500, full_batch=True),),
        "below": (Grid("below", tanh, run, ((0.1, 8),), 2000, 1000),),
        "momenta": (
            Grid("heavy", f"{tanh}, heavy ball", heavy, ((0.05, 4),), 2800, 1800),
            Grid("heavy-full", f"{tanh}, heavy ball", heavy, ((0.8, 128),), 1000, 600, full_batch=True),
        ),
        "adaptive": (Grid("adamw", f"{tanh}, AdamW", {**run, "optimizer": "adamw", "every": 100}, ((0.003, 8),), 1000,
                          500),),
        "noises": tuple(
            Grid(f"noise-{shape}", f"{tanh}, {shape} noise", run, ((0.7, 8),), 700, 400, noise=shape)
            for shape in ("isotropic", "covariance")
        ),
        "beside": (Grid("sgd", tanh, run, ((0.7, 8),), 700, 400),),
        "forks": (Forks("forks", tanh, run, (0.6, 8), (250, 2500), ((1.2, 8), (1.5, 8), (1.0, 4)), orders=2,
                        steps=120),),
        "changes": (
            Changes("raised", tanh, run, (0.5, 8), ((0.75, 8),), 2000, 1200, 1200, 700),
            Changes("lowered", tanh, run, (0.5, 8), ((0.5, 32),), 600, 400, 1200, 700),
        ),
    }  # fmt: skip


def _small(with_images: bool) -> dict[str, Any]:
    found = _digits()
    if with_images:
        for name, more in _cifar().items():
            found[name] = (*more, *found.get(name, ()))  # figures follow CIFAR-10 where it is there
    return found


def _digits() -> dict[str, Any]:
    """256 digits, and 128 where the edge is reached only after long."""
    run, less = {"data": "digits", "subset": 256}, {"data": "digits", "subset": 128}
    tanh = "MLP tanh, digits"
    heavy, nesterov = ({**less, "optimizer": name} for name in ("momentum", "nesterov"))
    return {
        "plateaus": (
            Grid("digits-tanh", tanh, run, ((0.5, 4), (0.5, 8), (0.5, 32), (0.7, 8)), 15_000, 9000, seeds=2),
            Grid("digits-relu", "MLP ReLU, digits", {**run, "activation": "relu"}, ((0.5, 4), (0.7, 8)), 10_000,
                 5000, seeds=2),
        ),
        "full_batch": (Grid("digits-descent", tanh, run, ((0.5, 256), (0.7, 256)), 4000, 2500, full_batch=True),),
        "below": (Grid("digits-below", tanh, run, ((0.1, 8),), 12_000, 6000),),
        "cross_entropy": (Grid("digits-ce", f"{tanh}, cross-entropy", {**run, "loss": "cross-entropy"}, ((2.0, 8),),
                               4000, 2000),),
        "momenta": (
            Grid("digits-heavy", f"{tanh}, heavy ball", heavy, ((0.05, 2), (0.05, 4), (0.05, 8)), 6000, 3600, seeds=2),
            Grid("digits-nesterov", f"{tanh}, Nesterov", nesterov, ((0.03, 2), (0.05, 4)), 6000, 3600, seeds=2),
            Grid("digits-heavy-full", f"{tanh}, heavy ball", heavy, ((0.8, 128),), 3000, 1500, full_batch=True),
            Grid("digits-nesterov-full", f"{tanh}, Nesterov", nesterov, ((0.3, 128),), 3000, 1500, full_batch=True),
        ),
        "adaptive": (Grid("digits-adamw", f"{tanh}, AdamW", {**run, "optimizer": "adamw", "every": 200},
                          ((0.003, 8), (0.01, 8)), 6000, 3000, seeds=2),),
        "noises": tuple(
            Grid(f"noise-{shape}", f"{tanh}, {shape} noise", less, ((0.6, 8),), 4000, 2400, seeds=3, noise=shape)
            for shape in ("isotropic", "covariance")
        ),
        "beside": (Grid("sgd", tanh, less, ((0.6, 8),), 4000, 2400, seeds=3),),
        "forks": (Forks("digits-forks", tanh, run, (0.5, 8), (600, 15_000), (
            (1.2, 8), (1.5, 8), (2.0, 8), (1.0, 6), (1.0, 4), (0.8, 8), (1.0, 16)), seeds=3),),
        "changes": (
            Changes("digits-raised", tanh, less, (0.5, 8), ((0.75, 8),), 3000, 2000, 4000, 2400, seeds=2),
            Changes("digits-lowered", tanh, run, (0.5, 8), ((0.5, 32), (0.25, 8)), 3000, 2000, 6000, 4000, seeds=2),
        ),
    }  # fmt: skip


def _cifar() -> dict[str, Any]:
    """Part of CIFAR-10, and networks narrow enough for minutes."""
    run = {"data": "cifar10", "subset": 2048, "width": 128}
    few = {"data": "cifar10", "subset": 1024}
    relu = "MLP ReLU, CIFAR-10"
    return {
        "plateaus": (
            Grid("cifar-mlp", relu, run, ((0.02, 8), (0.02, 16), (0.02, 32), (0.04, 16)), 7000, 4500),
            Grid("cifar-tanh", "MLP tanh, CIFAR-10", {**run, "subset": 1024, "activation": "tanh"}, ((0.04, 16),),
                 4000, 2500),
            Grid("cifar-cnn", "CNN, CIFAR-10", {**few, "model": "cnn", "width": 16}, ((0.05, 8), (0.05, 16)), 4000,
                 2600),
            Grid("cifar-resnet", "ResNet with GroupNorm, CIFAR-10", {
                **few, "subset": 256, "model": "resnet", "width": 8, "depth": 1, "norm": "group",
            }, ((0.1, 8), (0.1, 16)), 3500, 2200),
        ),
        "below": (Grid("cifar-below", relu, run, ((0.002, 16),), 4000, 2500),),
        "cross_entropy": (Grid("cifar-ce", f"{relu}, cross-entropy", {**run, "loss": "cross-entropy"}, ((0.04, 16),),
                               5000, 3000),),
        "forks": (Forks("cifar-forks", relu, run, (0.04, 16), (200, 3000), (
            (1.2, 16), (1.5, 16), (2.0, 16), (1.0, 8), (1.0, 32)), orders=3, steps=100),),
        "changes": (
            Changes("cifar-changes", relu, run, (0.02, 16), ((0.04, 16), (0.02, 8), (0.02, 64)), 3000, 2000, 3000,
                    1800),
            Changes("cifar-early", f"{relu}, early", run, (0.02, 16), ((0.02, 64),), 1000, 800, 4000, 2400),
        ),
    }  # fmt: skip


def _paper() -> dict[str, Any]:
    """Squared error on 8,192 images, for ResNet 4,096; 150,000 steps."""
    run = {"data": "cifar10", "init_scale": 0.2}
    cnn, resnet = {**run, "model": "cnn", "init_scale": 0.3}, {**run, "model": "resnet", "subset": 4096}
    relu = "MLP ReLU, CIFAR-10"
    heavy = {**run, "optimizer": "momentum"}
    steps, first = 150_000, 100_000
    return {
        "plateaus": (
            Grid("mlp", relu, run, (*((0.01, b) for b in (8, 16, 32, 64)), (0.02, 16)), steps, first),
            Grid("mlp-tanh", "MLP tanh, CIFAR-10", {**run, "activation": "tanh"}, ((0.01, 16),), steps, first),
            Grid("cnn", "CNN, CIFAR-10", cnn, ((0.02, 8), (0.02, 16)), steps, first),
            Grid("resnet", "ResNet, CIFAR-10", resnet, ((0.02, 8), (0.02, 16), (0.02, 32)), steps, first),
        ),
        "full_batch": (Grid("descent", relu, run, ((0.01, 8192),), 5000, 3000, full_batch=True),),
        "below": (Grid("below", relu, run, ((0.001, 16),), steps, first),),
        "cross_entropy": (Grid("ce", f"{relu}, cross-entropy", {**run, "loss": "cross-entropy"}, ((0.01, 16),), steps,
                               first),),
        "momenta": (Grid("heavy", f"{relu}, heavy ball", heavy, ((0.004, 16), (0.001, 4)), steps, first),),
        "adaptive": (Grid("adamw", f"{relu}, AdamW", {**run, "optimizer": "adamw"}, ((0.001, 16),), steps, first),),
        "forks": (Forks("forks", relu, run, (0.01, 16), (5000, 75_000), (
            (1.2, 16), (1.5, 16), (2.0, 16), (1.0, 8), (1.0, 32)), seeds=3),),
        "changes": (Changes("changes", relu, run, (0.01, 16), ((0.02, 16), (0.01, 8), (0.01, 64)), 75_000, 60_000,
                            75_000, 40_000),),
    }  # fmt: skip
