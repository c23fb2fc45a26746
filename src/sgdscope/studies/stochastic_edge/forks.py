"""Forks: the cell that goes on from checkpoints of a run with something changed, and says what became of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sgdscope import train
from sgdscope.config import RunConfig
from sgdscope.edge_test import CALM, SPIKE, edge_test
from sgdscope.estimate import Estimate
from sgdscope.measure import batch_sharpness, gradient_noise_interaction, mini_batch_sharpness
from sgdscope.records import Run
from sgdscope.risk import Risk
from sgdscope.studies.trained import finished
from sgdscope.vectors import dot
from sgdscope.what_if import predict_change

_BATCHES = 256
"""Drawn at each point: batch sharpness to 1.2 % at the edge."""


def fork(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Cell: train by ``run``, then look at ``at``, some steps of it, closely, and fork them with each of ``changes``.

    A change has ``lr_factor`` and ``batch_size``. Settings of the forks: ``orders`` of the data and ``steps``.
    """
    config = RunConfig.from_json(settings["run"])
    run = finished(config, folder)
    found = [_point(run, config.resolved(), int(step), settings) for step in settings["at"]]
    return {"points": found, "spike": SPIKE, "calm": CALM, "lr": config.lr, "batch_size": config.batch_size}


def _point(run: Run, config: RunConfig, step: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    assert config.lr is not None
    assert config.batch_size is not None
    with train.threads(config):
        training, at, _ = train.restored(run, config, step=step)
        risk, b, lr = training.risk, config.batch_size, config.lr
        found = {
            "step": at,
            "batch_sharpness": batch_sharpness(risk, b, tolerance=1e-9, max_batches=_BATCHES, generator=_generator()),
            "mini_batch_sharpness": mini_batch_sharpness(risk, b, generator=_generator()),
            "gradient_noise_interaction": gradient_noise_interaction(risk, b, batches=64, generator=_generator()),
            "gradient_growth": gradient_growth(risk, b, lr, _BATCHES, _generator()),
        }
        changes = []
        for each in settings["changes"]:
            factor, size = float(each["lr_factor"]), int(each["batch_size"])
            predicted = predict_change(risk, lr=factor * lr, batch_size=size, generator=_generator())
            tested = edge_test(run, lr_factor=factor, batch_size=size, step=at, seeds=int(settings["orders"]),
                               steps=int(settings["steps"]))  # fmt: skip
            changes.append({
                "lr_factor": factor, "batch_size": size, "predicted": predicted, "excess": tested.excess,
                "diverged": tested.diverged, "orders": len(tested.forks),
            })  # fmt: skip
    return {**found, "changes": changes}


def gradient_growth(risk: Risk, batch_size: int, lr: float, batches: int, generator: torch.Generator) -> Estimate:
    """Mean over batches of ‖g(θ⁺)‖² / ‖g(θ)‖², the batch's gradient after its own step θ⁺ = θ − lr · g and before."""
    grown = []
    for _ in range(batches):
        batch = risk.draw(batch_size, generator)
        _, before = risk.gradient(batch)
        _, after = risk.gradient(batch, at=risk.displaced(before, -lr))
        grown.append(dot(after, after) / dot(before, before))
    error = statistics.stdev(grown) / math.sqrt(batches)
    return Estimate("gradient_growth", statistics.fmean(grown), error, count=batches, cost=2.0 * batches)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
