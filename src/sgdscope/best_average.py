"""Best average: which average of a run's checkpoints to keep, what it will give, and the file of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sgdscope import train
from sgdscope.average import Checkpoints, combine, recompute_batch_norm, save
from sgdscope.average.files import opened
from sgdscope.config import RunConfig
from sgdscope.estimate import Estimate, with_error
from sgdscope.picture import Line, Mark, Picture, Points
from sgdscope.predict.answer import Answer, Table
from sgdscope.records import Run, open_run
from sgdscope.risk import Risk
from sgdscope.trajectory import Gain, PredictedAverage, gain

_SHOWN = 8
"""Averages listed."""
_EVALUATED = 4
"""Of the best predicted, how many are measured."""
FEW = 5
"""Checkpoints below which more of them would be worth having."""


def average(
    run: Path, out: Path | None = None, samples: int | None = None, evaluate: int = _EVALUATED, last: int | None = None,
    dry_run: bool = False, overwrite: bool = False, seed: int = 0,
) -> Answer:  # fmt: skip
    """Which average of a run's checkpoints should be kept? Says why and what it gives, and writes it.

    Losses and gradients at the checkpoints predict what every average is worth; the best are then measured.

    Args:
        run: run folder.
        out: file to write; .safetensors, .pt or .pth. [RUN/average.safetensors]
        samples: take losses and gradients on so many training samples. [all]
        evaluate: how many of the best predicted averages are measured.
        last: look at the last so many checkpoints only. [all]
        dry_run: write nothing.
        overwrite: write over a file that is there.
        seed: of the draw of samples.
    """
    opened_run = open_run(run)
    checkpoints = Checkpoints.of(opened_run.path)
    if last is not None:
        if last < 2:
            raise ValueError(f"expected --last of at least 2 checkpoints, got {last}")
        checkpoints = checkpoints[-last:]
    if len(checkpoints) < 2:
        raise ValueError(
            f"expected at least two checkpoints in {opened_run.path}, got {len(checkpoints)}\n"
            "hint: sgdscope run --keep-checkpoints 0 keeps all of a run"
        )
    target = out if out is not None else opened_run.path / "average.safetensors"
    if not dry_run and target.exists() and not overwrite:
        raise ValueError(f"expected a new file, but {target} exists: choose another --out, or pass --overwrite")
    if samples is not None and samples < 1:
        raise ValueError(f"expected --samples of at least 1, got {samples}")
    config = RunConfig.from_json(opened_run.config).resolved()
    with train.threads(config), torch.random.fork_rng(range(torch.cuda.device_count())):
        training = train.Training(config, held_out=True)
        train.check_same_data(opened_run, training.dataset)
        points = _Points(checkpoints)
        found = gain(
            training.risk, points, evaluate=max(evaluate, 1), seed=seed,
            samples=None if samples is None or samples >= training.risk.size else samples,
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        best = _chosen(found)
        state = combine(checkpoints, best.average) if best is not None else None
        notes = _warnings(found, checkpoints)
        held = None
        if state is not None and best is not None:
            notes += best.warnings
            held, recomputed = _held_out(training, points[len(points) - 1], state)
            notes += recomputed
            if not dry_run:
                save(state, target, overwrite=overwrite, metadata={"average": best.average.name, "run": str(run)})
    if len(checkpoints) < FEW:
        notes.append(f"{len(checkpoints)} checkpoints only: sgdscope run --keep-checkpoints 0 keeps all of a run")
    notes.append(f"cost: {found.cost:.3g} gradient evaluations of {found.settings['samples']:,} samples")
    if best is not None and not dry_run:
        notes.append(f"written: {target}")
    return Answer([_advice(found, best, checkpoints, held), _averages(found)], notes,
                  lambda: [_picture(found, best, checkpoints, opened_run)])  # fmt: skip


class _Points(Sequence[Mapping[str, Tensor]]):
    """Weights of checkpoints, loaded when they are asked for."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints

    def __len__(self) -> int:
        return len(self.checkpoints)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        with opened(self.checkpoints.paths[index], self.checkpoints.entry) as file:
            return {name: file.read(name).clone() for name in file.names}


def _chosen(found: Gain) -> PredictedAverage | None:
    """The best measured one that lies below the newest checkpoint beyond doubt; else the best predicted; else none."""
    measured = [p for p in found.averages if p.measured is not None and p.measured.value is not None]
    below = [p for p in measured if p.measured is not None and _surely_positive(p.measured)]
    if measured:
        return max(below, key=lambda p: float(p.measured or p.gain)) if below else None
    return found.best


def _surely_positive(gained: Estimate) -> bool:
    error = gained.standard_error
    return float(gained) > 2 * (error if isinstance(error, float) else 0.0)


def _advice(
    found: Gain, best: PredictedAverage | None, checkpoints: Checkpoints, held: tuple[float, float] | None
) -> Table:
    newest = found.losses[-1]
    rows = [["newest checkpoint", f"step {checkpoints.steps[-1]:,}, training loss {_shown(newest)}"]]
    if best is None:
        rows.insert(0, ["keep", "the newest checkpoint: no average lies below it beyond doubt"])
        return Table("Which average to keep", ["what", "answer"], rows)
    reach = [step for step, weight in zip(checkpoints.steps, best.average.weights, strict=True) if weight]
    gained = best.measured if best.measured is not None and best.measured.value is not None else best.gain
    share = f", {100 * float(gained) / float(newest):.2g} % of the loss" if float(newest) > 0 else ""
    rows.insert(0, ["keep", f"{best.average.name}, of steps {reach[0]:,} to {reach[-1]:,}"])
    rows.append(["gain, measured" if gained is best.measured else "gain, predicted", f"{_shown(gained)}{share}"])
    if gained is best.measured:
        rows.append(["gain, predicted", _shown(best.gain)])
    rows.append(["why", _why(found, best)])
    if held is not None:
        rows.append(["loss on held-out data", f"{held[1]:.6g} instead of {held[0]:.6g}"])
    return Table("Which average to keep", ["what", "answer"], rows)


def _warnings(found: Gain, checkpoints: Checkpoints) -> list[str]:
    """What speaks against averages of these checkpoints, in steps."""
    others = [said for said in found.warnings if not said.startswith("far above the newest")]
    if not found.early:
        return others
    first, last = checkpoints.steps[found.early[0]], checkpoints.steps[found.early[-1]]
    of = f"step {first:,}" if first == last else f"{len(found.early)} checkpoints of steps {first:,} to {last:,}"
    return [f"too far above the newest to help with any weight: {of}", *others]


def _why(found: Gain, best: PredictedAverage) -> str:
    """Where the gain comes from: the drop by averaging against the mean of the checkpoints, and their own losses."""
    losses = np.array([float(loss) for loss in found.losses])
    mean = float(best.average.weights @ losses)
    drop = mean - float(best.loss)
    behind = mean - losses[-1]
    said = f"averaging takes away {drop:.3g} of oscillation"
    return said if behind <= 0 else f"{said}, more than the {behind:.3g} by which its checkpoints lie higher"


def _averages(found: Gain) -> Table:
    rows = []
    for one in found.averages[:_SHOWN]:
        measured = "–" if one.measured is None else _shown(one.measured)
        verdict = "–" if one.verdict is None else one.verdict.outcome
        rows.append([one.average.name, _shown(one.loss), _shown(one.gain), measured, verdict])
    columns = ["average", "predicted loss", "predicted gain", "measured gain", "prediction"]
    return Table(f"The best of {len(found.averages)} averages, by predicted loss", columns, rows)


def _shown(estimate: Estimate) -> str:
    if estimate.value is None:
        return estimate.reason
    error = estimate.standard_error
    return with_error(float(estimate), error if isinstance(error, float) and error > 0 else None)


def _held_out(
    training: train.Training, newest: Mapping[str, Tensor], state: dict[str, Tensor]
) -> tuple[tuple[float, float] | None, list[str]]:
    """Loss on held-out data of the newest checkpoint and of the average, whose running statistics are recomputed."""
    model, risk = training.model, training.risk
    model.load_state_dict(state)
    done = recompute_batch_norm(model, list(risk.chunks()), training.loss_fn)
    if done.layers:
        state.update({name: value.detach().clone() for name, value in model.state_dict().items()})
    notes = [f"of the average: {done}"] if done.layers else []
    if training.held_out is None:
        return None, notes
    apart = Risk(model, training.loss_fn, training.held_out, mode="eval", seed=training.config.seed)
    averaged = apart.value()
    model.load_state_dict(dict(newest))
    return (apart.value(), averaged), notes


def _picture(found: Gain, best: PredictedAverage | None, checkpoints: Checkpoints, run: Run) -> Picture:
    steps = np.array(checkpoints.steps)
    losses = np.array([float(loss) for loss in found.losses])
    shapes: list[Line | Points | Mark] = [Line(steps, losses, "checkpoints")]
    if best is not None:
        span = np.array([steps[np.flatnonzero(best.average.weights)[0]], steps[-1]])
        level = np.full(2, float(best.loss))
        shapes.append(Line(span, level, f"{best.average.name}, predicted", "second", dashed=True))
        if best.measured is not None and best.measured.value is not None:
            at = losses[-1] - float(best.measured)
            shapes.append(Points(steps[-1:], np.array([at]), None, "measured", "second"))
    title = "No average lies below the newest checkpoint" if best is None else "The average lies below its checkpoints"
    return Picture(f"{title}: {run.path.name}", "step", "training loss", shapes)
