"""Recorder: rows, learning rate, training loss and loggers of one run. Never raises in the user's loop."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgdscope._version import __version__
from sgdscope.estimate import Estimate
from sgdscope.monitor.optimizers import description, learning_rate
from sgdscope.monitor.sinks import Sink, numbers_of, sink_of
from sgdscope.records import RecordsError, RunStatus, RunWriter, open_run
from sgdscope.risk import Risk


def sinks_of(log: Any) -> list[Sink]:
    """One sink per logger; `log` is one of them, a list of them or None. Raises ValueError as `sink_of`."""
    several = log if isinstance(log, Sequence) and not isinstance(log, str) else [log]
    return [sink_of(one) for one in several if one is not None]


def writer_of(out: str | Path | RunWriter | None, manifest: Mapping[str, Any] | None) -> RunWriter | None:
    """The run folder to write: a new one where `out` is a path. Raises RecordsError if it cannot be made."""
    if out is None or isinstance(out, RunWriter):
        return out
    return RunWriter.create(out, {"sgdscope": __version__, "torch": torch.__version__, **dict(manifest or {})})


def reason_of(error: Exception) -> str:
    """What an exception says, in one line."""
    message = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {message}"[:300]


class Recorder:
    """Writes estimates to the run folder and hands the same numbers to the loggers.

    The learning rate is written whenever it changed by more than 1 %, and whenever something else is written after any
    change, so that every number can be held against the rate in force. The training loss is averaged over windows that
    grow with the run (50 steps, later 2 % of the steps so far).

    Attributes:
        latest: the last estimate of each quantity.
        failure: the last failure to write or log, or None.
    """

    def __init__(self, writer: RunWriter | None, sinks: list[Sink], optimizer: torch.optim.Optimizer) -> None:
        self.writer = writer
        self.optimizer = optimizer
        self.latest: dict[str, Estimate] = {}
        self.failure: Exception | None = None
        self._sinks = sinks
        self._lr: float | None = None
        self.loss_sum: Tensor | float = 0.0
        self.loss_square: Tensor | float = 0.0
        self.loss_count = 0
        self.loss_due = 0

    def record(self, step: int, estimate: Estimate) -> None:
        """Write one estimate."""
        self._learning_rate(step, 0.0)
        self.latest[estimate.name] = estimate
        self._write(step, estimate)

    def attempt(
        self, name: str, step: int, action: Callable[[], Any], *, otherwise: Callable[[], None] | None = None
    ) -> Any:
        """What a measurement returns; whatever it raises becomes a row of `name`, and `otherwise` is called."""
        try:
            return action()
        except Exception as error:
            self.record(step, Estimate.failed(name, reason_of(error)))
            if otherwise is not None:
                otherwise()
            return None

    def stepped(self, step: int) -> None:
        """Note that the optimizer has taken its step number `step`."""
        self._learning_rate(step, 0.01)

    def loss(self, step: int, loss: float | Tensor) -> None:
        """Add the training loss of one step; on the CPU as a number, elsewhere without waiting for the device."""
        if isinstance(loss, Tensor):
            # half precision cannot hold a sum of fifty losses
            loss = loss.item() if loss.device.type == "cpu" else loss.detach().float()
        self.loss_sum = self.loss_sum + loss
        self.loss_square = self.loss_square + loss * loss
        self.loss_count += 1
        if step >= self.loss_due:
            self.flush_loss(step)

    def flush_loss(self, step: int) -> None:
        """Write the mean training loss of the open window; its error is that of the mean over steps."""
        self.loss_due = step + max(50, step // 50)
        n = self.loss_count
        if not n:
            return
        mean = float(self.loss_sum) / n
        variance = max(float(self.loss_square) / n - mean * mean, 0.0)
        self.loss_sum = self.loss_square = 0.0
        self.loss_count = 0
        try:
            estimate = Estimate("loss", mean, math.sqrt(variance / n) if n > 1 else None, count=n, unit="loss")
        except ValueError:
            estimate = Estimate.failed("loss", "the training loss is not finite", status="diverged")
        self.record(step, estimate)

    def holds(self, name: str, step: int) -> bool:
        """Whether the run folder has a row of that name at that step; it is read for that."""
        if self.writer is None:
            return False
        return any((s, e.name) == (step, name) for s, _, e in open_run(self.writer.path).rows)

    def state_dict(self) -> dict[str, Any]:
        """The open window of the loss, as plain JSON types."""
        sums = [float(self.loss_sum), float(self.loss_square), self.loss_count]
        return {"loss": sums, "loss_due": self.loss_due}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        total, square, count = state["loss"]
        self.loss_sum, self.loss_square, self.loss_count = float(total), float(square), int(count)
        self.loss_due = int(state.get("loss_due", 0))

    def describe(self, risk: Risk, batch_size: int | None, *, replacement: bool) -> None:
        """Write what is known of optimizer and risk into the manifest."""
        full = batch_size is not None and batch_size == risk.size and not replacement
        self.update(
            optimizer=description(self.optimizer, full_batch=full), batch_size=batch_size,
            risk={"samples": risk.size, "parameters": risk.parameter_count, "mode": risk.mode,
                  "batch_dependent": risk.batch_dependent},
        )  # fmt: skip

    def update(self, **entries: Any) -> None:
        """Change the manifest."""
        if self.writer is not None:
            try:
                self.writer.update(**entries)
            except RecordsError as failure:
                self._failed(failure)

    def close(self, status: RunStatus) -> None:
        """Write the final status and release the folder."""
        if self.writer is not None:
            try:
                self.writer.close(status)
            except RecordsError as failure:
                self._failed(failure)

    def _learning_rate(self, step: int, change: float) -> None:
        lr = learning_rate(self.optimizer)
        if not math.isfinite(lr):  # the run is lost, but it is not for us to end it
            if self._lr is None or math.isfinite(self._lr):
                self._write(step, Estimate.failed("learning_rate", f"the learning rate is {lr}"))
        elif self._lr is None or (lr != self._lr and not abs(lr - self._lr) <= change * abs(self._lr)):
            self._write(step, Estimate("learning_rate", lr, unit="parameter² / loss"))
        else:
            return
        self._lr = lr

    def _write(self, step: int, estimate: Estimate) -> None:
        if self._sinks and (numbers := numbers_of(estimate)):
            for sink in self._sinks:
                try:
                    sink(step, numbers)
                except Exception as failure:  # a logger must not end the run
                    self._failed(failure)
        if self.writer is not None:
            try:
                self.writer.append(step, estimate)
            except RecordsError as failure:
                self._failed(failure)

    def _failed(self, failure: Exception) -> None:
        """Say once that something is being lost; training goes on, even where warnings are turned into errors."""
        first, self.failure = self.failure is None, failure
        if first:
            with contextlib.suppress(RuntimeWarning):
                warnings.warn(f"sgdscope: {failure}", RuntimeWarning, stacklevel=3)
