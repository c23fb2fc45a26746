"""Runs: the cells that train, and what each run settled at."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sgdscope import checkpoint, train
from sgdscope.config import RunConfig
from sgdscope.estimate import Estimate
from sgdscope.measure import batch_sharpness
from sgdscope.records import Run, RunWriter, open_run, write_json
from sgdscope.studies.stochastic_edge.window import curves, settled
from sgdscope.studies.trained import finished


def settle(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Cell: train by ``run``, a `RunConfig` as JSON, and say where it settled from step ``first`` on."""
    return found_in(finished(RunConfig.from_json(settings["run"]), folder), int(settings["first"]))


def change(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Cell: train, then go on from the same checkpoint with each of some changes by itself.

    Settings: ``run``; ``first``, of the window before the change; ``changes``, each with ``lr`` and ``batch_size``;
    ``steps`` after a change, and ``settle``, after how many of them its window begins. Beside what the runs settled at,
    ``at_once`` is batch sharpness at the new batch size where the change is made.
    """
    before = finished(RunConfig.from_json(settings["run"]), folder / "before")
    at = before.last_step
    after = []
    for number, each in enumerate(settings["changes"]):
        run = branched(before, folder / f"after-{number}", steps=at + int(settings["steps"]), **each)
        at_once = _batch_sharpness(before, each["batch_size"])
        after.append({**found_in(run, at + int(settings["settle"])), "at_once": at_once})
    return {"before": found_in(before, int(settings["first"])), "after": after}


def branched(run: Run, folder: Path, *, steps: int, lr: float, batch_size: int) -> Run:
    """A run that goes on from another's last checkpoint up to `steps`, with another learning rate or batch size.

    Weights, the state of the optimizer and the order of the data go on; its rows begin where the other run ended.
    """
    if not (folder / "manifest.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _, last = checkpoint.steps(run.path)[-1]
        copy = folder / "checkpoints" / last.name
        shutil.copytree(last, copy)
        state = json.loads((copy / "state.json").read_text(encoding="utf-8"))
        write_json(copy / "state.json", {**state, "monitor": {**state["monitor"], "batch_size": batch_size}})
        config = replace(RunConfig.from_json(run.config), lr=lr, batch_size=batch_size, steps=steps)
        known = {key: value for key, value in run.manifest.items() if key != "created"}
        RunWriter.create(folder, {**known, "config": config.to_json()}).close("interrupted")
    return finished(RunConfig.from_json(open_run(folder).config), folder)


def _batch_sharpness(run: Run, batch_size: int) -> Estimate:
    """At a batch size, on the weights of a run's last checkpoint."""
    config = RunConfig.from_json(run.config).resolved()
    with train.threads(config):
        training, _, _ = train.restored(run, config)
        return batch_sharpness(training.risk, batch_size, generator=torch.Generator().manual_seed(0))


def found_in(run: Run, first: int) -> dict[str, Any]:
    """What a run settled at from step `first` on, and its curves; curvatures in loss / parameter²."""
    config = RunConfig.from_json(run.config)
    return {
        "status": run.status, "last_step": run.last_step, "lr": config.lr, "batch_size": config.batch_size,
        **settled(run, first), "curves": curves(run),
    }  # fmt: skip
