"""Rebalance: the weights of a run moved to balance of noise or norms between its layers, and the file of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sgdscope import checkpoint, train
from sgdscope.average import save
from sgdscope.average.files import SUFFIXES
from sgdscope.balance import LayerPair, Rescaled, law_reasons, rescale, sharpness_change
from sgdscope.balance.layer_pair import COLUMNS
from sgdscope.balance.rescaled import Goal
from sgdscope.config import RunConfig
from sgdscope.estimate import Estimate, with_error
from sgdscope.monitor import Monitor
from sgdscope.picture import Line, Mark, Picture, Points
from sgdscope.predict.answer import Answer, Table
from sgdscope.records import Run, RunWriter, open_run
from sgdscope.theory import stability

Floats = npt.NDArray[np.float64]

_BATCHES = 8
"""Least number of batches where only batches have gradients."""
_BEYOND = 1.1
"""Batch sharpness over 2 / lr from which a run is said to be beyond its edge."""
_NAMED = 8
"""Layer pairs up to which the picture names them."""


def rebalance(
    run: Path, to: Goal = "noise", out: Path | None = None, step: int | None = None, samples: int = 1024,
    exact: bool = False, sharpness: bool = True, fork: Path | None = None, dry_run: bool = False,
    overwrite: bool = False, seed: int = 0,
) -> Answer:  # fmt: skip
    """Move the weights of a run to balance between its layers. The network computes the same function as before.

    Layers that ReLU-like functions join can trade scale: one is multiplied, the next divided, unit by unit. Noise
    balance is where minibatch noise pulls at both alike, and SGD would drift to; norm balance is where ‖u‖ = ‖w‖.

    Args:
        run: run folder (its last checkpoint), or a folder step-NUMBER of its checkpoints.
        to: where to. With the run's weight decay, noise balance is the equilibrium of both.
        out: file to write the weights to; .safetensors, .pt or .pth. [RUN/NOISE-or-NORM-balance.safetensors]
        step: take the last checkpoint up to this step.
        samples: training samples that noise is measured on.
        exact: scales are powers of two: outputs stay the same bit for bit, and balance is coarser.
        sharpness: measure sharpness before and after.
        fork: new run folder that goes on from the balanced weights, with what the optimizer remembers moved along:
            sgdscope run --resume FORK --steps N.
        dry_run: write nothing.
        overwrite: write over a file that is there.
        seed: of the draws.
    """
    folder, step = _place(run, step)
    opened = open_run(folder)
    target = out if out is not None else opened.path / f"{to}-balance.safetensors"
    if target.suffix not in SUFFIXES:
        raise ValueError(f"expected --out to end in {', '.join(SUFFIXES)}, got {target.name!r}")
    if not dry_run and target.exists() and not overwrite:
        raise ValueError(f"expected a new file, but {target} exists: choose another --out, or pass --overwrite")
    if fork is not None and (fork / "manifest.json").exists():
        raise ValueError(f"expected a new folder as --fork, but {fork} already holds a run")
    if samples < 4:
        raise ValueError(f"expected --samples of at least 4, got {samples}")
    config = RunConfig.from_json(opened.config).resolved()
    with train.threads(config), torch.random.fork_rng(range(torch.cuda.device_count())):
        training, at, _ = train.restored(opened, config, step=step)
        found = _rescaled(training, at, to, samples, exact, seed)
        changes = sharpness_change(found, batch_size=config.batch_size, seed=seed) if sharpness else {}
        notes = [*found.notes, *_conditions(found, training), *_cost(found, changes)]
        threshold = None if law_reasons(training.optimizer) else stability.threshold(found.settings["lr"])
        if not dry_run:
            written = found.there().model.state_dict()
            forked = [] if fork is None else _forked(fork, opened, training, at, found)
            save(written, target, overwrite=overwrite, metadata={"balance": to, "run": str(run), "step": str(at)})
            notes += [f"written: {target}", *forked]
    rows, warned = _sharpness(changes, None if threshold is None else float(threshold))
    return Answer(
        [_summary(found, rows, at), Table("Layer pairs, before → after", list(COLUMNS), found.rows)],
        [*warned, *notes], lambda: [_picture(found, opened, at)],
    )  # fmt: skip


def _place(run: Path, step: int | None) -> tuple[Path, int | None]:
    """The run folder and the step: of the checkpoint, if one was given."""
    path = run.parent if run.name == "tensors.safetensors" else run
    known = [number for number, folder in checkpoint.steps(path.parent.parent) if folder.name == path.name]
    if path.parent.name != "checkpoints" or not known:
        return run, step
    if step is not None:
        raise ValueError(f"expected a run folder with --step, got a checkpoint of it: {run}")
    return path.parent.parent, known[0]


def _rescaled(training: train.Training, at: int, to: Goal, samples: int, exact: bool, seed: int) -> Rescaled:
    config, risk = training.config, training.risk
    assert config.batch_size is not None
    if risk.batch_dependent:
        samples = max(samples, _BATCHES * config.batch_size)
    decay = config.weight_decay if to == "noise" else 0.0
    return rescale(
        risk, to=to, lr=config.learning_rate(at), batch_size=config.batch_size, weight_decay=decay,
        replacement=config.sampling == "replacement", samples=samples, exact=exact,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip


def _summary(found: Rescaled, sharpness: list[list[str]], at: int) -> Table:
    moved = sum(len(scales) for scales in found.scales.values()) - sum(found.left_alone.values())
    what = "gradient noise" if found.to == "noise" else "squared norm"
    if found.settings["weight_decay"]:
        what = "T · noise + 4 γ · squared norm"
    same = "the same bit for bit" if found.difference == 0 else f"the same to {found.difference:.0e}, relative"
    (before, after), least = found.least, "" if found.settings["exact"] else ", the least there is"
    rows = [
        ["moved", f"{_count(moved, 'unit')} of {_count(len(found.scales), 'layer pair')}, at step {at:,}"],
        ["outputs", same],
        [what, f"{before:.4g} → {after:.4g}{least}"],
        *sharpness,
    ]
    return Table(f"Moved to {found.to} balance", ["what", "answer"], rows)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _sharpness(
    changes: Mapping[str, tuple[Estimate, Estimate]], threshold: float | None
) -> tuple[list[list[str]], list[str]]:
    """Rows of what changed; and what to expect where batch sharpness lies beyond the edge then."""
    rows, said = [], []
    for name, (before, after) in changes.items():
        gauge = ""
        if name == "batch sharpness" and threshold is not None and None not in (before.value, after.value):
            one, other = (float(e) / threshold for e in (before, after))
            gauge = f", {one:.2f} → {other:.2f} of 2 / lr"
            if other > max(one, _BEYOND):
                said.append("beyond the edge at the learning rate of the run: expect a spike or divergence; go on with "
                            f"{1 / other:.2g} of it")  # fmt: skip
        rows.append([name, f"{_shown(before)} → {_shown(after)}{gauge}"])
    return rows, said


def _shown(estimate: Estimate) -> str:
    if estimate.value is None:
        return f"not measured ({estimate.reason})"
    errors = estimate.standard_error or estimate.residual
    error = errors[0] if isinstance(errors, tuple) else errors
    return with_error(float(estimate), error or None)


def _conditions(found: Rescaled, training: train.Training) -> list[str]:
    settings = found.settings
    said = []
    if settings["samples"] < settings["of"]:
        apart = "; after, from others than it was balanced on" if found.to == "noise" else ""
        said.append(f"noise from {settings['samples']:,} of {settings['of']:,} samples{apart}")
    if settings["weight_decay"]:
        said.append(
            f"equilibrium of noise and weight decay {settings['weight_decay']:g} at learning rate {settings['lr']:g}, "
            f"batch size {settings['batch_size']}: noise alone is not balanced"
        )
    reasons = law_reasons(training.optimizer)
    if found.to == "noise" and reasons:
        said.append(f"SGD would drift here, but this run has {', '.join(reasons)}: there the law of balance is silent")
    return said


def _cost(found: Rescaled, changes: Mapping[str, tuple[Estimate, Estimate]]) -> list[str]:
    cost = found.cost + sum(e.cost for name, pair in changes.items() for e in pair if name != "batch sharpness")
    return [f"cost: {cost:.3g} gradient evaluations on all data"]


def _forked(folder: Path, run: Run, training: train.Training, at: int, found: Rescaled) -> list[str]:
    """A run folder whose one checkpoint holds the balanced weights; the way to go on from it."""
    kept = ("config", "data", "data_checksum", "versions")
    entries: dict[str, Any] = {key: run.manifest[key] for key in kept if key in run.manifest}
    entries["forked_from"] = {"run": str(run.path), "step": at, "balance": found.to}
    found.apply(training.optimizer)
    assert training.config.batch_size is not None
    new = Monitor(training.risk, training.optimizer, batch_size=training.config.batch_size, start_step=at)
    with RunWriter.create(folder, entries) as writer:
        checkpoint.save(folder, at, training.model, training.optimizer, training.sampler, new.state_dict(), keep=0)
        writer.close("interrupted")
    return [f"to go on from there: sgdscope run --resume {folder} --steps {2 * at}"]


def _picture(found: Rescaled, run: Run, at: int) -> Picture:
    """How unequal the two sides of every unit are, layer pair by layer pair: balance is one."""
    noise = found.to == "noise"
    before, after = (np.concatenate([_ratios(pair, noise) for pair in pairs]) for pairs in (found.before, found.after))
    numbers = np.arange(1, len(before) + 1)
    starts = np.cumsum([1, *(pair.units for pair in found.before)])[:-1]
    shapes: list[Line | Mark | Points] = [
        Line(numbers[[0, -1]], np.ones(2), "balance", "ink", dashed=True),
        Points(numbers[before > 0], before[before > 0], None, "before", "soft"),
        Points(numbers[after > 0], after[after > 0], None, "after", "first"),
    ]
    if len(starts) <= _NAMED:
        shapes += [Mark(start - 0.5, pair.name) for start, pair in zip(starts.tolist(), found.before, strict=True)]
    what = "noise" if noise else "squared norm"
    title = f"The same function at {found.to} balance: {run.path.name}, step {at:,}"
    return Picture(title, "unit, through the layers", f"{what} of weights out / in", shapes, log_up=True)


def _ratios(pair: LayerPair, noise: bool) -> Floats:
    """U over w of each unit; 0 where one of them is nothing."""
    u, w = pair.squared_norm_u, pair.squared_norm_w
    if noise and pair.noise is not None:
        u, w = pair.noise.noise_u, pair.noise.noise_w
    return np.where(w > 0, u / w.clamp(min=1e-300), 0.0)
