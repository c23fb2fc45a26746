"""Edge test: forks of a run that take a slightly larger step or a smaller batch. At its edge they blow up.

A quantity at its threshold shows where a run should be; forks show where it is. Each fork goes on from the same weights
with one thing changed, beside a control with nothing changed and the same order of the data. At the edge the fork's
loss rises far above what the control's own oscillation reaches; below the edge it does not. Source: Andreyev &
Beneventano 2412.20553 (the test: a quantity that sits at 2 / lr but fails it is no edge); the bars, 4 and 2 times the
control's own peak for a learning rate raised by a fifth, were measured at 36 places of seven runs (digits; dense and
convolutional, tanh and ReLU; squared loss; batches of 8 to 32). Medians of four orders: 1.1 to 1.9 below 0.7 in edge
units of batch sharpness, 2.0 to 4.0 (once 12) from there to 0.85, 3.3 to 15 above; from 0.87 on all but one over 4.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from sgdscope import train
from sgdscope.batches import Batch, length
from sgdscope.config import RunConfig
from sgdscope.estimate import Estimate, plain, short
from sgdscope.records import Run, open_run
from sgdscope.risk import Risk
from sgdscope.sampler import Sampler
from sgdscope.verdict import Outcome, Verdict

SPIKE, CALM = 4.0, 2.0
"""Median of the forks' peaks over their controls' own: at the edge from the first on, not at it below the second."""
DIVERGED = 1e4
"""Times the loss before, at which a fork has diverged: it ends there, and its peak counts as that."""
LOSS_SAMPLES = 128
"""Samples on which the loss is looked at unless told otherwise: enough, as peaks are compared on the same ones."""


@dataclass(frozen=True)
class Origin:
    """Where forks begin, for a model outside of a run folder. It is copied, and stays as it is.

    Attributes:
        risk: model, loss and data.
        optimizer: of the risk's parameters, with its state.
        batch_size: samples per step.
        replacement: whether batches are drawn with replacement rather than by reshuffling each epoch.
    """

    risk: Risk
    optimizer: torch.optim.Optimizer
    batch_size: int
    replacement: bool = False


@dataclass(frozen=True)
class Fork:
    """One order of the data, with the change and without. Peaks are over the loss before.

    Attributes:
        seed: of the order.
        peak: largest loss of the fork; `DIVERGED` if it diverged.
        control: largest loss of the control.
        diverged_at: step of the fork at which it diverged, or None.
        control_diverged_at: the same of the control.
    """

    seed: int
    peak: float
    control: float
    diverged_at: int | None
    control_diverged_at: int | None


@dataclass(frozen=True)
class EdgeTest:
    """What forks did after a change.

    Attributes:
        change: in words.
        loss_before: mean loss over the samples looked at, where the forks begin.
        forks: one per order of the data.
        settings: learning rate and batch size before and after, steps, samples and steps between looks.
        cost: gradient evaluations of a batch before the change.
    """

    change: str
    loss_before: float
    forks: tuple[Fork, ...]
    settings: dict[str, Any]
    cost: float

    @property
    def diverged(self) -> int:
        """Forks that diverged."""
        return sum(fork.diverged_at is not None for fork in self.forks)

    @property
    def excess(self) -> Estimate:
        """Median over the orders of the fork's peak over its control's own peak; 1 means that nothing happened.

        Standard error: 1.25 standard deviations of the logarithms over √n. A diverged fork counts as `DIVERGED` times
        the loss before, so that with such forks the value is a lower bound.
        """
        ratios = [fork.peak / fork.control for fork in self.forks]
        median = statistics.median(ratios)
        alone = len(ratios) < 2
        error = None if alone else (
            1.2533 * median * statistics.stdev(map(math.log, ratios)) / math.sqrt(len(ratios))
        )  # fmt: skip
        return Estimate(
            "edge_test_excess", median, error, count=len(ratios), cost=self.cost, settings=self.settings,
            status="few_samples" if alone else "ok", reason="one order of the data only" if alone else "",
        )  # fmt: skip

    @property
    def verdict(self) -> Verdict:
        """Whether the run is at its edge: agrees from `SPIKE` on, disagrees below `CALM`, undecided in between."""
        excess = self.excess
        lost = sum(fork.control_diverged_at is not None for fork in self.forks)
        outcome: Outcome = (
            "agrees" if float(excess) >= SPIKE else "disagrees" if float(excess) < CALM else "undecided"
        )  # fmt: skip
        if 2 * lost >= len(self.forks):
            outcome = "unassessed"
            excess = Estimate.failed(
                excess.name, f"{lost} of {len(self.forks)} controls diverged with nothing changed", status="diverged"
            )
        return Verdict(
            f"the run is at its edge: {self.change}, the loss rises to {SPIKE:g} times the control's own peak or more",
            excess, SPIKE, "above", 0.0, outcome, None if excess.value is None else float(excess) / SPIKE - 1,
            scope=f"undecided between {CALM:g} and {SPIKE:g}; bars measured on small networks for a learning rate "
            "raised by a fifth; a smaller change may pass unseen, a larger one makes spikes below the edge too",
            source="Andreyev & Beneventano 2412.20553 (the test)",
        )  # fmt: skip

    def __str__(self) -> str:
        controls = sorted(fork.control for fork in self.forks)
        answer = {
            "agrees": "At the edge", "disagrees": "Not at the edge", "undecided": "Undecided",
            "unassessed": "No answer, as controls diverge with nothing changed",
        }[self.verdict.outcome]  # fmt: skip
        said = f"the loss peaks at {short(self.excess)} times the control's own peak"
        if 2 * self.diverged >= len(self.forks):
            said = "training diverges"
        lines = [
            f"{answer}: {self.change}, {said} (median of {len(self.forks)} orders of the data).",
            f"  diverged  {self.diverged} of {len(self.forks)} forks within {self.settings['steps']} steps",
            f"  controls  peak at {controls[0]:.3g} to {controls[-1]:.3g} times the loss before "
            f"({self.loss_before:.3g})",
            f"  looked    after every {_ordinal(self.settings['look_every'])}step, at the loss of "
            f"{self.settings['loss_samples']:,} samples",
        ]  # fmt: skip
        return "\n".join(lines)

    def to_row(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "change": self.change, "loss_before": self.loss_before, "diverged": self.diverged,
            "forks": [asdict(fork) for fork in self.forks], "excess": self.excess.to_row(),
            "verdict": self.verdict.to_row(), "settings": plain(self.settings),
        }  # fmt: skip


Progress = Callable[[int, int], None]
"""Called once the input has been checked, and after each fork and each control, with how many are done, of all."""


def edge_test(
    origin: str | Path | Run | Origin,
    *,
    lr_factor: float = 1.0,
    batch_size: int | None = None,
    seeds: int = 4,
    steps: int = 200,
    step: int | None = None,
    look_every: int = 1,
    loss_samples: int = LOSS_SAMPLES,
    progress: Progress | None = None,
) -> EdgeTest:
    """Fork a run where it is, with the learning rate times `lr_factor` or another batch size, and see what happens.

    Args:
        origin: a run folder (its last checkpoint, or the last one up to `step`), or an `Origin`.
        lr_factor: what the learning rate is multiplied by; 1.2 tells runs at the edge from others.
        batch_size: samples per step after the change.
        seeds: orders of the data, each for one fork and one control.
        steps: length of forks and controls.
        step: fork the last checkpoint up to this step of a run folder.
        look_every: steps between looks at the loss.
        loss_samples: samples on which the loss is looked at, the same ones throughout; all data if they are fewer.
        progress: called along the way.

    The learning rate of a fork is constant, whatever schedule the run had; optimizer state goes on. Nothing of the run,
    the model or the optimizer is changed.

    A peak between two looks is missed. A fifth past the edge the loss along the sharpest direction grows by
    (1 − 2.4)² ≈ 2 a step, so that spikes last a few steps: on digits, peaks at every tenth step are a third to three
    quarters of those at every step. Looking on fewer samples loses nothing of the sort, as fork and control are looked
    at on the same ones: 16, 64 and 256 of them gave the same ratios within their scatter. So the default is every step
    and few samples; `look_every` saves time where even that is dear, and the bars are for 1.

    Cost: `seeds` times `steps` gradient evaluations for the controls and as many for the forks (times the ratio of
    batch sizes), and for each of both a third of `loss_samples` / batch size as many again, over `look_every`.

    Raises ValueError if nothing is changed, for numbers out of range, data that cannot be drawn sample by sample and a
    loss that is zero or not finite where the forks begin; for run folders RecordsError if there is no readable
    checkpoint, and ConfigError or DataError if its training cannot be set up again.
    """
    if not (lr_factor > 0 and math.isfinite(lr_factor)):
        raise ValueError(f"expected lr_factor > 0, got {lr_factor}")
    plan = _Plan(lr_factor, batch_size, seeds, steps, look_every, loss_samples)
    for name in ("seeds", "steps", "look_every", "loss_samples"):
        if getattr(plan, name) < 1:
            raise ValueError(f"expected {name} ≥ 1, got {getattr(plan, name)}")
    if isinstance(origin, Origin):
        if step is not None:
            raise ValueError("expected a run folder with `step`, got an Origin, which is at one step only")
        return _tested(origin, plan, progress, {})
    run = origin if isinstance(origin, Run) else open_run(origin)
    config = RunConfig.from_json(run.config).resolved()
    with train.threads(config), torch.random.fork_rng(range(torch.cuda.device_count())):
        training, at, _ = train.restored(run, config, step=step)
        assert config.batch_size is not None
        here = Origin(training.risk, training.optimizer, config.batch_size, config.sampling == "replacement")
        return _tested(here, plan, progress, {"step": at})


class _Plan(NamedTuple):
    """What forks do, in the words of `edge_test`."""

    lr_factor: float
    batch_size: int | None
    seeds: int
    steps: int
    look_every: int
    loss_samples: int


def _tested(origin: Origin, plan: _Plan, progress: Progress | None, known: dict[str, Any]) -> EdgeTest:
    lr_factor, batch_size, seeds, steps, every, loss_samples = plan
    risk, old = origin.risk, origin.batch_size
    new = old if batch_size is None else batch_size
    if lr_factor == 1 and new == old:
        raise ValueError("expected a change to test, got lr_factor 1 and the batch size as it is\n"
                         "hint: lr_factor=1.2, or a smaller batch_size")  # fmt: skip
    if risk.source.batch_lengths is not None:
        raise ValueError("expected data that can be drawn sample by sample, got batches of different shapes")
    for size in (old, new):
        risk.source.check_batch_size(size, replacement=origin.replacement)
    probe = _probe(risk, loss_samples)
    samples = sum(length(batch) for batch in probe)
    before = _mean_loss(risk, probe)
    if not (math.isfinite(before) and before != 0):
        raise ValueError(f"expected a loss that is finite and not zero where the forks begin, got {before}")
    tell = progress if progress is not None else lambda done, of: None
    tell(0, 2 * seeds)
    forks = []
    for seed in range(seeds):
        found = []
        for number, (factor, size) in enumerate(((1.0, old), (lr_factor, new))):
            found.append(_followed(origin, factor, size, seed, steps, every, probe, before))
            tell(2 * seed + number + 1, 2 * seeds)
        (control, control_at), (peak, at) = found
        forks.append(Fork(seed, peak, control, at, control_at))
    lr = float(origin.optimizer.param_groups[0]["lr"])
    parts = [f"with the learning rate {lr:g} → {lr * lr_factor:g}"] * (lr_factor != 1)
    parts += [f"with batches of {old} → {new}"] * (new != old)
    looks = math.ceil(steps / every) * samples / (3 * old)
    return EdgeTest(
        " and ".join(parts), before, tuple(forks),
        {**known, "lr_before": lr, "lr_after": lr * lr_factor, "batch_size_before": old, "batch_size_after": new,
         "steps": steps, "loss_samples": samples, "look_every": every, "mode": risk.mode},
        cost=seeds * (steps * (1 + new / old) + 2 * looks),
    )  # fmt: skip


def _ordinal(number: int) -> str:
    """Nothing for 1, ``2nd `` for 2."""
    if number == 1:
        return ""
    ending = "th" if 10 < number % 100 < 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending} "


def _probe(risk: Risk, most: int) -> list[Batch]:
    """The samples on which the loss is looked at, a chunk at a time."""
    if risk.size <= most:
        return list(risk.chunks())
    rows = torch.randperm(risk.size, generator=torch.Generator().manual_seed(0))[:most]
    with torch.inference_mode(False):
        return [risk.to_device(risk.source.take(part)) for part in rows.split(risk.chunk_size)]


def _mean_loss(risk: Risk, probe: list[Batch]) -> float:
    return sum(risk.value(batch) * length(batch) for batch in probe) / sum(length(batch) for batch in probe)


def _followed(
    origin: Origin, factor: float, batch_size: int, seed: int, steps: int, every: int, probe: list[Batch], before: float
) -> tuple[float, int | None]:
    """Largest loss over the loss before, and the step at which the fork diverged, of one fork or control."""
    risk = origin.risk
    model, optimizer = _copied(risk.model, origin.optimizer)
    own = Risk(model, risk.loss_fn, risk.source, mode=risk.mode, seed=risk.seed, check=False)
    if risk.mode != "current":
        model.train()
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * factor
    sampler = Sampler(risk.size, batch_size, replacement=origin.replacement, seed=seed)
    peak = 1.0
    cuda = [risk.device] if risk.device.type == "cuda" else []
    with torch.random.fork_rng(cuda), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(seed)  # dropout: the same masks with the change and without
        for number in range(1, steps + 1):
            batch = risk.to_device(risk.source.take(sampler.next()))
            optimizer.zero_grad()
            loss = risk.loss_fn(model, batch)
            loss.backward()
            optimizer.step()
            lost = not math.isfinite(loss.item())
            if not lost and (number % every == 0 or number == steps):
                seen = _mean_loss(own, probe) / before
                lost = not seen < DIVERGED
                peak = max(peak, seen)
            if lost:
                return DIVERGED, number
    return peak, None


def _copied(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Copies that belong together; hooks of the optimizer stay behind. Raises ValueError if they cannot be copied."""
    try:
        copies = copy.deepcopy((model, optimizer))
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"expected a model and an optimizer that can be copied, but {type(error).__name__}: "
            f"{str(error).splitlines()[0][:200]}"
        ) from error
    model_copy, optimizer_copy = copies
    return model_copy, optimizer_copy
