"""Trained: cells that train a network under the monitor, and measure it closely once it is done.

Settings: ``config`` (of a `RunConfig`, as JSON), ``measure`` (names of `MEASURED`), ``series`` (quantities whose rows
are wanted, as ``[step, value, standard error]``) and ``latest`` (those of which the last row is). The run folder is
``run`` in the cell's own; an unfinished one is taken up again from its checkpoint.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from sgdscope import measure, train
from sgdscope.config import RunConfig
from sgdscope.estimate import Estimate
from sgdscope.evaluation import Mode
from sgdscope.hessian import Hessian
from sgdscope.records import RecordsError, Run, open_run
from sgdscope.risk import Risk

Settings = Mapping[str, Any]


def training(settings: Settings, folder: Path) -> dict[str, Any]:
    """Train, then measure: status, steps, regime, and what the settings name."""
    config = RunConfig.from_json(settings["config"])
    run = finished(config, folder / "run")
    found: dict[str, Any] = {
        "status": run.status, "steps": run.last_step, "regime": run.standing().regime,
        "latest": {name: run[name].estimates[-1] for name in settings.get("latest", ()) if name in run},
        "series": {name: series(run, name) for name in settings.get("series", ())},
    }  # fmt: skip
    wanted = settings.get("measure", ())
    if wanted and run.status == "finished":
        resolved = RunConfig.from_json(run.config).resolved()
        with train.threads(resolved):
            restored, _, _ = train.restored(run, resolved)
            held_out = train.Training(resolved, held_out=True).held_out if "held_out" in wanted else None
            found["measured"] = {
                name: MEASURED[name](restored, held_out, torch.Generator().manual_seed(1)) for name in wanted
            }
    return found


def finished(config: RunConfig, path: Path) -> Run:
    """The run of this folder, trained as far as it was not yet; a folder that cannot be taken up is begun anew.

    Raises RuntimeError if training was stopped on the way, so that no cell takes part of a run for the whole.
    """
    run = _trained(config, path)
    if run.status == "interrupted":
        raise RuntimeError(f"training was stopped at step {run.last_step:,}; the same study goes on from there")
    return run


def _trained(config: RunConfig, path: Path) -> Run:
    with contextlib.suppress(RecordsError):
        run = open_run(path)
        if run.status in ("finished", "diverged"):
            return run
        return train.resume(path)
    shutil.rmtree(path, ignore_errors=True)
    return train.train(config, path)


def series(run: Run, name: str) -> list[list[float | None]]:
    """Rows of one quantity that have a value: step, value, standard error; of several values the first."""
    rows = run.get(name)
    found: list[list[float | None]] = []
    for step, estimate in zip(rows.steps, rows.estimates, strict=True):
        if estimate.value is not None:
            error = estimate.standard_error
            found.append([float(step), float(estimate), error[0] if isinstance(error, tuple) else error])
    return found


def _lambda_max(training: train.Training, _: Any, generator: torch.Generator) -> Estimate:
    return measure.leading_eigenvalues(training.risk, 1, tolerance=0.01, generator=generator)


def _trace(training: train.Training, _: Any, generator: torch.Generator) -> Estimate:
    return measure.hessian_trace(training.risk, tolerance=0.02, max_probes=60, generator=generator)


def _frobenius(training: train.Training, _: Any, generator: torch.Generator) -> Estimate:
    """‖H‖_F from E‖Hv‖² over signs v."""
    squares = []
    with Hessian(training.risk) as hessian:
        for _probe in range(24):
            signs = [
                torch.randint(0, 2, p.shape, generator=generator).to(p).mul_(2).sub_(1)
                for p in training.risk.parameters
            ]
            squares.append(sum(float(image.square().sum()) for image in hessian.product(signs)))
        cost = hessian.cost
    mean = sum(squares) / len(squares)
    error = math.sqrt(sum((s - mean) ** 2 for s in squares) / (len(squares) - 1) / len(squares))
    return Estimate("hessian_norm", math.sqrt(mean), error / (2 * math.sqrt(mean)), count=len(squares), cost=cost,
                    unit="loss / parameter²")  # fmt: skip


def _train_loss(training: train.Training, _: Any, generator: torch.Generator) -> Estimate:
    return Estimate("train_loss", training.risk.value(), 0.0, unit="loss")


def _held_out_accuracy(training: train.Training, held_out: Any, generator: torch.Generator) -> Estimate:
    """Share of held-out samples whose largest output is the right one, with its binomial error."""
    if held_out is None:
        return Estimate.failed("held_out_accuracy", "the data set has no held-out samples")
    mode: Mode = "eval"
    risk = Risk(training.model, training.loss_fn, held_out, mode=mode, seed=0)
    inputs, targets = held_out
    classes = targets if targets.ndim == 1 else targets.argmax(1)
    with risk.evaluating(), torch.no_grad():
        right = sum(
            int((training.model(x).argmax(-1) == y).sum())
            for x, y in zip(inputs.split(1024), classes.split(1024), strict=True)
        )
    share = right / len(classes)
    return Estimate("held_out_accuracy", share, math.sqrt(share * (1 - share) / len(classes)), count=len(classes))


MEASURED: dict[str, Callable[[train.Training, Any, torch.Generator], Estimate]] = {
    "lambda_max": _lambda_max, "trace": _trace, "hessian_norm": _frobenius, "train_loss": _train_loss,
    "held_out": _held_out_accuracy,
}  # fmt: skip
"""What can be measured at the end: of the weights of the last checkpoint."""
