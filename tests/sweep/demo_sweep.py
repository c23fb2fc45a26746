"""Sweep folders as real sweeps leave them, written without training anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sgdscope.estimate import Estimate
from sgdscope.records import RunWriter
from sgdscope.sweep import Grid, Sweep
from sgdscope.sweep.folder import manifest_of
from sgdscope.sweep_records import write_manifest, write_note

CURVATURE = "loss / parameter²"
Ending = Callable[[Mapping[str, Any]], float | str]
"""Of a cell's configuration: its position in edge units, or the status that it ends with."""


def edge_of(config: Mapping[str, Any]) -> float | str:
    """Stable at small steps, at the edge further up, diverged beyond: as on digits."""
    reach = config["lr"] * (3.2 + 42 / config["batch_size"]) / 4
    return "diverged" if reach > 9 else min(1.0, reach)


def make(
    folder: Path, grid: Grid, ending: Ending = edge_of, *, status: str = "finished", steps: int = 4000,
    reports: bool = True, momentum: float = 0.0,
) -> Sweep:  # fmt: skip
    """Write a sweep folder and read it back."""
    write_manifest(folder, {**manifest_of(grid.cells, None, ["sgdscope", "sweep", "--lr", "0.1"]), "status": status})
    for seed, cell in enumerate(grid.cells):
        path = folder / "cells" / cell.name
        end = ending(cell.config.to_json())
        if end == "waiting":
            continue
        write_note(path, end if isinstance(end, str) else "finished", "out of memory" if end == "failed" else "",
                   attempts=2 if end == "failed" else 1)  # fmt: skip
        if end == "failed":
            continue
        method = "momentum" if momentum else "sgd"
        writer = RunWriter.create(path, {
            "created": "2026-01-01T00:00:00Z", "config": cell.config.to_json(), "batch_size": cell.config.batch_size,
            "optimizer": {"method": method, "momentum": momentum, "full_batch": False}, "seed": cell.config.seed,
        })  # fmt: skip
        _fill(writer, cell.config.lr or 0.1, end, steps, seed)
        writer.close(end if end in ("diverged", "interrupted") else "finished")  # type: ignore[arg-type]
        if reports:
            (path / "report.html").write_text("<!doctype html>")
    return Sweep.open(folder)


def _fill(writer: RunWriter, lr: float, end: float | str, steps: int, seed: int) -> None:
    """Rows that climb to their position, or beyond it."""
    rng = np.random.default_rng(seed)
    level = end if isinstance(end, float | int) else 1.6 if end == "diverged" else 0.5
    last = steps // 5 if end == "diverged" else steps // 2 if end in ("running", "interrupted") else steps
    writer.append(0, Estimate("learning_rate", lr))
    for step in range(0, last + 1, max(1, steps // 40)):
        x = level * (1 - 0.9 * math.exp(-12 * step / steps * (0.6 + lr)))
        writer.append(step, Estimate("loss", 2 * math.exp(-step * lr / 900) + 0.01, 0.001, count=50, unit="loss"))
        if step:
            writer.append(step, Estimate("edge_ratio", 2 * (x + 0.03 * rng.normal()), 0.06, count=50))
        if step % (steps // 8) == 0:
            threshold = 2 / lr
            writer.append(step, Estimate("batch_sharpness", x * threshold, 0.02 * threshold, count=400, unit=CURVATURE))
            writer.append(step, Estimate("lambda_max", 0.6 * x * threshold, residual=0.01, unit=CURVATURE))
