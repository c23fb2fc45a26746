"""Walk: a network trained at a constant learning rate to where it has settled, and its path from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sgdscope.config import RunConfig
from sgdscope.train import Training

Point = list[Tensor]


def ready(settings: Mapping[str, Any]) -> Training:
    """The training of ``config``, with a share ``label_noise`` of its labels drawn anew."""
    config = replace(RunConfig.from_json(settings["config"]), threads=1).resolved()
    torch.manual_seed(config.seed)
    training = Training(config, held_out=True)
    share = settings["label_noise"]
    if share:
        generator = torch.Generator().manual_seed(1000 + config.seed)
        wrong = torch.rand(len(training.targets), generator=generator) < share
        others = torch.randint(0, 10, (int(wrong.sum()),), generator=generator)
        if training.targets.ndim > 1:
            others = torch.nn.functional.one_hot(others, training.targets.shape[1]).to(training.targets)
        training.targets[wrong] = others
    return training


def walk(
    training: Training, steps: int, *, first: int = 0, schedule: Sequence[float] | None = None,
    seen: Callable[[int], None] = lambda step: None,
) -> None:  # fmt: skip
    """Take `steps` steps, at the learning rates of `schedule` if given; `seen(step)` is called after each."""
    settled = training.config
    for step in range(first, first + steps):
        if schedule is not None:
            training.config = replace(settled, lr=float(schedule[step - first]))
        training.step(step, training.next_batch())
        seen(step + 1)
    training.config = settled


def point(training: Training) -> Point:
    """The weights as they are, copied."""
    return [p.detach().clone() for p in training.risk.parameters]


def followed(training: Training, warm: int, span: int, stride: int) -> list[Point]:
    """Weights after `warm` steps and every `stride` steps of the `span` that follow; before the last, the last but one.

    Raises ValueError for strides of one step, among which the last but one would be met twice.
    """
    if stride < 2:
        raise ValueError(f"expected a stride of at least 2 steps, got {stride}")
    walk(training, warm)
    points = [point(training)]

    def seen(step: int) -> None:
        if (step - warm) % stride == 0 or step == warm + span - 1:
            points.append(point(training))

    walk(training, span, first=warm, seen=seen)
    return points


def combined(points: Sequence[Point], weights: Sequence[float]) -> Point:
    """Σ w_i θ_i over the last points, one for each weight."""
    total = [torch.zeros_like(p, dtype=torch.float64) for p in points[0]]
    for weight, each in zip(weights, points[len(points) - len(weights) :], strict=True):
        for sum_, p in zip(total, each, strict=True):
            sum_.add_(p.double(), alpha=weight)
    return [sum_.to(p.dtype) for sum_, p in zip(total, points[0], strict=True)]
