"""Noise: the cell of gradient descent with injected noise, a stand-in for SGD without its batches."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sgdscope import train
from sgdscope.config import RunConfig
from sgdscope.monitor import Monitor
from sgdscope.records import RecordsError, Run, RunWriter, open_run
from sgdscope.simulate import batch_noise
from sgdscope.simulate.batch_noise import Shape
from sgdscope.studies.stochastic_edge.runs import found_in

_LOST = 1e6
"""Loss beyond which a run has diverged."""


def noisy(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Cell: as `runs.settle`, but steps are along the full gradient with Gaussian noise of ``shape``.

    The noise is that of a batch at the present weights: of its covariance, its diagonal, or its trace only.
    """
    return found_in(descended(RunConfig.from_json(settings["run"]), settings["shape"], folder), int(settings["first"]))


def descended(config: RunConfig, shape: Shape, folder: Path) -> Run:
    """The run in this folder, descended anew unless it is there to its end."""
    try:
        run = open_run(folder)
        if run.status in ("finished", "diverged"):
            return run
    except RecordsError:
        pass
    shutil.rmtree(folder, ignore_errors=True)
    config = config.resolved()
    assert config.batch_size is not None
    assert config.steps is not None
    with train.threads(config):
        training = train.Training(config)
        risk, generator = training.risk, torch.Generator().manual_seed(config.seed)
        writer = RunWriter.create(folder, {"config": config.to_json(), "noise": shape})
        with Monitor(
            risk, training.optimizer, batch_size=config.batch_size, every=config.every, cadence=config.cadences(),
            out=writer, seed=config.seed, final=False,
        ) as monitor:  # fmt: skip
            for step in range(config.steps):
                noise = batch_noise(risk, config.batch_size)
                drawn = noise.draw(shape, generator=generator)
                for parameter, mean, extra in zip(risk.parameters, noise.gradient, drawn, strict=True):
                    parameter.grad = mean + extra
                training.optimizer.step()
                if step % 100 == 0 and not risk.value() < _LOST:
                    monitor.close("diverged")
                    break
    return open_run(folder)
