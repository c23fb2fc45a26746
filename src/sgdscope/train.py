"""Train: the reference loop. Data, model, loss and optimizer from a configuration, under the monitor."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgdscope import checkpoint, data, models, optimizers
from sgdscope._version import __version__
from sgdscope.config import ConfigError, RunConfig
from sgdscope.estimate import Estimate
from sgdscope.evaluation import Mode
from sgdscope.monitor import Monitor
from sgdscope.monitor.agenda import check_pace
from sgdscope.monitor.optimizers import description
from sgdscope.records import Run, RunStatus, RunWriter, open_run
from sgdscope.risk import Risk
from sgdscope.sampler import Sampler
from sgdscope.what_if import usual_changes

Batch = tuple[Tensor, Tensor]
Progress = Callable[[int, int, float, Monitor], None]
"""Called after every step with the number of steps taken, of all steps, the loss and the monitor."""
Load = Callable[..., data.Dataset]
"""Reads a data set as `data.load` does, or keeps one that it has read before."""


class Training:
    """Model, data, loss and optimizer of a configuration, ready to step. Raises ConfigError or DataError.

    With `held_out` the data that are not trained on are loaded as well, if the data set has any; `load` reads them.
    """

    def __init__(self, config: RunConfig, *, held_out: bool = False, load: Load | None = None) -> None:
        self.config = config
        self.device = _device(config.device)
        dtype = torch.float64 if config.precision == "float64" else torch.float32
        loaded = (load or data.load)(
            config.data, data_dir=config.data_file or config.data_dir, subset=config.subset or None, seed=0,
            size=config.image_size, context_length=config.context_length, target=config.target, task=config.task,
            ignore=config.ignore_columns, test=held_out,
        )  # fmt: skip
        self.dataset = loaded
        self.inputs = loaded.inputs.to(self.device, None if loaded.vocabulary else dtype)  # tokens stay whole numbers
        self.targets = _targets(loaded, loaded.labels, config.loss, dtype).to(self.device)
        self.held_out: Batch | None = None
        if loaded.test_inputs is not None and loaded.test_labels is not None:
            apart = loaded.test_inputs.to(self.device, self.inputs.dtype)
            self.held_out = apart, _targets(loaded, loaded.test_labels, config.loss, dtype).to(self.device)
        try:
            model = models.build(
                config.model or "mlp", input_shape=loaded.input_shape, classes=loaded.outputs,
                vocabulary=loaded.vocabulary, width=config.width, depth=config.depth, heads=config.heads,
                activation=config.activation or "relu", norm=config.norm,
                initialisation=config.initialisation or "default", scale=config.init_scale, seed=config.seed,
            )  # fmt: skip
        except (ValueError, RuntimeError) as error:  # RuntimeError: no memory for it
            raise ConfigError(str(error)) from error
        self.model = model.to(self.device, dtype)
        self.dtype = dtype
        self.optimizer = optimizers.build(config, self.model)
        try:
            self.sampler = Sampler(
                len(self.inputs), config.batch_size or 1, replacement=config.sampling == "replacement", seed=config.seed
            )
        except ValueError as error:
            raise ConfigError(str(error)) from error
        mode: Mode = config.mode
        self.risk = Risk(self.model, self.loss_fn, (self.inputs, self.targets), mode=mode, seed=config.seed)
        count = self.risk.parameter_count
        if config.eigenvalues > count:
            raise ConfigError(
                f"expected --eigenvalues of at most {count} (the number of parameters), got {config.eigenvalues}"
            )

    def loss_fn(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss of a batch: over its samples, and for text over all positions."""
        inputs, targets = batch
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            outputs = model(inputs)
        outputs = outputs.to(self.dtype)
        if self.config.loss == "cross-entropy":
            return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())
        error: Tensor = (outputs - targets).square().sum(1).mean()
        return error / 2 if self.config.loss == "half-squared-error" else error

    def next_batch(self) -> Batch:
        """The next batch in the order of training."""
        indices = self.sampler.next().to(self.device)
        return self.inputs[indices], self.targets[indices]

    def step(self, number: int, batch: Batch) -> float:
        """One step of the optimizer; returns the loss before it."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate(number)
        loss = self.loss_fn(self.model, batch)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


def train(
    config: RunConfig, out: str | Path, *, progress: Progress | None = None, command: list[str] | None = None,
    load: Load | None = None, stop: Callable[[], bool] | None = None,
) -> Run:  # fmt: skip
    """Train by `config` in the new run folder `out`; returns the finished, interrupted or diverged run.

    Ctrl-C or SIGTERM end the run after the present step, with a checkpoint; so does `stop`, which is asked after every
    step. A loss that is not finite ends it as diverged. Seeds torch's global random state, from which dropout draws.
    Raises ConfigError, DataError or RecordsError before anything is trained; RecordsError later if a checkpoint cannot
    be written, or rows were lost.
    """
    config = config.resolved()
    try:
        check_pace(config.every, config.cadences(), config.budget)  # before there is a folder
    except ValueError as error:
        raise ConfigError(str(error)) from error
    with threads(config):
        training = Training(config, load=load)
        torch.manual_seed(config.seed)
        versions = {"python": sys.version.split()[0], "torch": torch.__version__, "sgdscope": __version__}
        entries = {"sgdscope": __version__, "versions": versions, "config": config.to_json(),
                   "command": command or [], "data": training.dataset.preprocessing,
                   "data_checksum": training.dataset.checksum}  # fmt: skip
        writer = RunWriter.create(out, entries)
        return _run(training, writer, 0, None, progress, stop)


def resume(
    path: str | Path, *, steps: int | None = None, progress: Progress | None = None, load: Load | None = None,
    stop: Callable[[], bool] | None = None,
) -> Run:  # fmt: skip
    """Continue a run from its last checkpoint, bit for bit as if it had never stopped; to `steps` steps if given.

    `load` and `stop` are those of `train`. Raises `checkpoint.NoCheckpointError` if there is no readable checkpoint,
    RecordsError if another process writes the run, ConfigError if the manifest holds no configuration or the run has
    taken those steps already.
    """
    run = open_run(path)
    config = RunConfig.from_json(run.config)
    if steps is not None:
        config = replace(config, steps=steps)
    config = config.resolved()
    with threads(config):
        training, step, state = restored(run, config, load=load)
        assert config.steps is not None
        if config.steps < step or (config.steps == step and run.status == "finished"):
            raise ConfigError(
                f"expected --steps above the {step} that this run has taken, got {config.steps}\n"
                f"hint: --resume {run.path} --steps {max(2 * step, 1)}"
            )
        writer = RunWriter.reopen(run.path, rewind_to=step)
        if steps is not None:
            writer.update(config=config.to_json())
        return _run(training, writer, step, state, progress, stop)


def restored(
    run: Run, config: RunConfig, *, step: int | None = None, load: Load | None = None
) -> tuple[Training, int, dict[str, Any]]:
    """The training of a run as its last checkpoint left it, its step, and the state of the monitor.

    With `step`, the last checkpoint up to there. Raises `checkpoint.NoCheckpointError` if there is no readable one,
    ConfigError or DataError if the training cannot be set up.
    """
    training = Training(config, load=load)
    check_same_data(run, training.dataset)
    at, state = checkpoint.load_latest(run.path, training.model, training.optimizer, training.sampler, up_to=step)
    return training, at, state


def check_same_data(run: Run, dataset: data.Dataset) -> None:
    """Raises ConfigError if the file that the run is trained on has changed since it began."""
    began_with = run.manifest.get("data_checksum")
    if began_with and began_with != dataset.checksum:
        raise ConfigError(
            f"expected the data that {run.path} began with, but they have changed: {dataset.preprocessing[:60]} …\n"
            "hint: bring back the file (for the prose of Python: that version of Python), or start a new run"
        )


def _run(
    training: Training, writer: RunWriter, start: int, state: dict[str, Any] | None, progress: Progress | None,
    stop: Callable[[], bool] | None,
) -> Run:  # fmt: skip
    config = training.config
    assert config.steps is not None
    assert config.batch_size is not None
    assert config.checkpoint_every is not None
    monitor = Monitor(
        training.risk, training.optimizer, batch_size=config.batch_size, every=config.every, budget=config.budget,
        cadence=config.cadences(),
        out=writer, k=config.eigenvalues, replacement=config.sampling == "replacement", seed=config.seed,
        start_step=start, final=False,
    )  # fmt: skip
    if state is not None:
        monitor.load_state_dict(state)

    def save(step: int) -> None:
        checkpoint.save(
            writer.path, step, training.model, training.optimizer, training.sampler, monitor.state_dict(),
            keep=config.keep_checkpoints,
        )  # fmt: skip

    status: RunStatus = "finished"
    saved = start if state is not None else -1
    try:
        with _stopping_gently() as signals:
            monitor.attach()
            step = start
            for step in range(start + 1, config.steps + 1):
                batch = training.next_batch()
                loss = training.step(step - 1, batch)
                monitor.observe(batch, loss=loss)
                if progress is not None:
                    progress(step, config.steps, loss, monitor)
                if not -float("inf") < loss < float("inf"):
                    status = "diverged"
                    break
                if step % config.checkpoint_every == 0:
                    save(step)
                    saved = step
                if signals or (stop is not None and stop()):
                    status = "interrupted"
                    break
            if status != "diverged" and saved != step:
                save(step)
            if status == "finished":
                monitor.read_carefully()
                for estimate in _predicted(training, monitor):
                    monitor.record(estimate)
            monitor.close(status)
    except BaseException as error:
        monitor.close("interrupted" if isinstance(error, KeyboardInterrupt | SystemExit) else "failed")
        raise
    if monitor.recorder.failure is not None:
        raise monitor.recorder.failure
    return open_run(writer.path)


def _predicted(training: Training, monitor: Monitor) -> list[Estimate]:
    config = training.config
    assert config.batch_size is not None
    described = description(training.optimizer, full_batch=False)  # which of the changes are is for `what_if` to see
    lr = training.optimizer.param_groups[0]["lr"]
    start = time.perf_counter()
    replacement = config.sampling == "replacement"
    try:
        found = usual_changes(
            training.risk, described, lr=lr, batch_size=config.batch_size, known=monitor.latest.get("batch_sharpness"),
            replacement=replacement, seed=config.seed,
        )  # fmt: skip
    except Exception as error:  # a failing measurement is a row, and never loses the run
        found = [Estimate.failed("predicted_edge", f"{type(error).__name__}: {error}"[:300])]
    monitor.final_seconds += time.perf_counter() - start
    return found


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"expected a usable device, got {name!r}: {str(error).splitlines()[0]}") from error
    return device


def _targets(dataset: data.Dataset, labels: Tensor, loss: str | None, dtype: torch.dtype) -> Tensor:
    """What the loss compares with: classes, one-hot classes, or the numbers of a regression. Raises ConfigError."""
    if dataset.classes is None:
        if loss == "cross-entropy":
            raise ConfigError(
                "expected --loss squared-error or half-squared-error for a target of numbers, got cross-entropy\n"
                "hint: --task classification takes its values for classes"
            )
        return labels.to(dtype)
    return labels if loss == "cross-entropy" else F.one_hot(labels, dataset.classes).to(dtype)


@contextmanager
def threads(config: RunConfig) -> Iterator[None]:
    """CPU threads: as asked; one for networks so small that handing work around costs more than it saves."""
    before = torch.get_num_threads()
    small = (config.data in ("digits", "table") and config.model == "mlp") or config.data == "text"
    torch.set_num_threads(config.threads or (1 if small else before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _stopping_gently() -> Iterator[list[int]]:
    """A list that gets an entry on the first SIGINT or SIGTERM; a second one interrupts at once."""
    stop: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if stop:
            raise KeyboardInterrupt
        stop.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are someone else's business
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: set outside of Python
