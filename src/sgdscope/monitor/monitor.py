"""The monitor: attaches to an optimizer from outside, measures on a schedule, writes the run folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from sgdscope.batches import Batch, length
from sgdscope.estimate import Estimate
from sgdscope.monitor.account import Account
from sgdscope.monitor.agenda import Agenda, at_once, check_pace
from sgdscope.monitor.charges import ChargeStream
from sgdscope.monitor.optimizers import check_same_parameters, computes_gradients, unwrapped
from sgdscope.monitor.readings import NAMES, ON_DEMAND, Readings
from sgdscope.monitor.recorder import Recorder, sinks_of, writer_of
from sgdscope.monitor.schedule import SHARES, Stride
from sgdscope.monitor.stream import EdgeStream, check_observed
from sgdscope.records import RunStatus, RunWriter
from sgdscope.risk import Risk

_STREAM_WINDOW = 16
"""Samples per row of the streamed edge ratio: about 6 % standard error at the edge."""
_ENOUGH = 8
"""Samples that an unfinished window needs to be worth a row of its own at the end."""
_SEARCH = 0.2
"""What the search for symmetries may take at once, of what first readings may; and later, of the budget so far."""
_VISIT = 3.0
"""What taking in one loss costs with the way there and back, in the time of adding it up."""
_LOOK_SECONDS, _LOOK_STEPS = 0.05, 256
"""With a budget, time and steps between two looks at clock and learning rate: a look takes as much as some ten passes
through the hooks."""


class Monitor:
    """Watches one training run. With and without it, training is bit-identical.

    Use it as a context manager around the loop::

        with Monitor(risk, optimizer, out="runs/a") as monitor:
            for batch in loader:
                loss = loss_fn(model, batch)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                monitor.observe(batch, loss=loss)

    `observe` is optional; it streams the edge ratio from the very batches trained on, for one extra forward pass on
    sampled steps. A measurement that fails becomes a row with its reason; training goes on.

    Args:
        risk: what is measured; its data are the probe data.
        optimizer: of the risk's parameters; a torch optimizer or a wrapper that holds one as ``.optimizer``.
        batch_size: for batch sharpness; taken from the first observed batch if None.
        every: steps between two readings of each heavier measurement. None: as often as `budget` allows.
        cadence: steps between two readings of single measurements, by name: instead of `every` for those of it, and for
            what is else read at the end only: ``"spectrum"`` (with the noise covariance), ``"edge_map"``,
            ``"batch_line"`` and ``"full_loss_step"``. Without `every` each is read once after every multiple if the
            budget affords it, of which what it leaves to readings gives these 0.4, 0.2, 0.1 and 0.1 at most. Of
            ``"charges"`` it is the steps between two samples; at 1 their law is checked step by step.
        budget: what the monitor may add to the time of training (readings at the end excepted), its hooks, rows and
            looks at the clock included. First readings of sharpness are taken at once where that takes less than half
            a second (by the square less below 0.05), as an advance: later ones wait until it is paid back. Unused with
            `every`.
        out: run folder to create; or an open `RunWriter`; or None to write nothing.
        log: a callable ``(step, numbers)`` or a logger object, or several in a list; see `sinks.sink_of`. One that
            raises is warned about once, and training goes on.
        k: number of leading eigenvalues.
        replacement: whether training draws batches with replacement.
        final: take one careful reading of everything when the block ends without an exception.
        manifest: further entries for the manifest (e.g. ``{"config": {...}}``).
        seed: for the measurements' own draws; what a reading draws depends on seed and step alone.
        start_step: number of steps taken before (a resumed run).

    Raises ValueError if the optimizer's parameters are not the risk's or a setting is out of range, RecordsError if
    `out` cannot be written; afterwards nothing but wrong use of the monitor itself raises.
    """

    def __init__(
        self,
        risk: Risk,
        optimizer: Any,
        *,
        batch_size: int | None = None,
        every: int | None = None,
        cadence: Mapping[str, int] | None = None,
        budget: float = 0.05,
        out: str | Path | RunWriter | None = None,
        log: Any = None,
        k: int = 1,
        replacement: bool = False,
        final: bool = True,
        manifest: Mapping[str, Any] | None = None,
        seed: int = 0,
        start_step: int = 0,
    ) -> None:
        cadence = check_pace(every, cadence, budget)
        self.risk = risk
        self.optimizer = unwrapped(optimizer)
        check_same_parameters(risk, self.optimizer)
        if not 1 <= k <= risk.parameter_count:
            raise ValueError(f"expected k between 1 and {risk.parameter_count} (the number of parameters), got {k}")
        if batch_size is not None:
            risk.source.check_batch_size(batch_size, replacement=replacement)
        sinks = sinks_of(log)
        self.batch_size = batch_size
        self.replacement = replacement
        self.final = final
        self.seed = seed
        self.step = start_step
        self.recorder = Recorder(writer_of(out, manifest), sinks, self.optimizer)
        self._budgeted = every is None
        self._account = Account(budget, start_step)
        fixed = None if every is None else max(1, every // 32)
        self._stream = EdgeStream(risk, Stride(budget * SHARES["edge_ratio"], fixed=fixed))
        readings = Readings(risk, self.optimizer, self._stream, k=k, replacement=replacement, seed=seed)
        self._agenda = Agenda(readings, self._account, self.recorder, every=every, cadence=cadence)
        stride = Stride(budget * SHARES["charges"], fixed=cadence.get("charges", fixed))
        self._charges = ChargeStream(risk, self.optimizer, readings.discovery, stride, every=every)
        self._loss_stride = Stride(budget * SHARES["loss"], fixed=None if every is None else 1)
        self._window = _STREAM_WINDOW if every is None else None
        self._every = every
        self._loss_seconds = 0.0
        self._handles: list[Any] = []
        self._closed = False
        self._untimed = start_step
        # Steps from which on there is something to do, in either hook and in `observe`: all that a common step looks at
        self._before_at = self._after_at = self._observe_at = 0
        self._look_at = self._loss_at = 0
        self.recorder.describe(self.risk, self.batch_size, replacement=self.replacement)

    # -- attaching ----------------------------------------------------------------------------------------------

    def attach(self) -> Monitor:
        """Register the step hooks. Attaching twice does nothing. Raises ValueError if the monitor was closed."""
        if self._closed:
            raise ValueError("expected a monitor that was not closed yet: one monitor watches one run\n"
                             "hint: make a new Monitor, with an `out` of its own")  # fmt: skip
        if not self._handles:
            self._handles = [
                self.optimizer.register_step_pre_hook(self._before_step),
                self.optimizer.register_step_post_hook(self._after_step),
            ]
            self._account.begin()
        return self

    def detach(self) -> None:
        """Remove the step hooks; measuring by hand still works."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __enter__(self) -> Monitor:
        return self.attach()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status: RunStatus = "finished"
        if kind is not None:
            status = "interrupted" if issubclass(kind, KeyboardInterrupt | SystemExit) else "failed"
        self.close(status)

    def close(self, status: RunStatus = "finished") -> None:
        """Detach, take the final readings (only if the run finished), write the last rows, close the run folder."""
        self.detach()
        if self._closed:
            return
        self._closed = True
        try:
            if status == "finished" and self.final and self._account.begun:
                self.read_carefully()
        finally:  # an impatient Ctrl-C loses the final readings, and nothing else
            try:
                self.flush()
            finally:
                self.recorder.close(status)

    # -- what the loop hands over -------------------------------------------------------------------------------

    def observe(self, *batches: Batch, loss: float | Tensor | None = None) -> None:
        """Tell the monitor the batch of the step just taken (several for accumulated gradients) and its mean loss.

        Call it after ``optimizer.step()``. With `loss` the streamed ratio costs one forward pass per sample; without
        it two. The loss must be the one before the step, as computed for ``backward()``.
        """
        if self.step >= self._observe_at:
            self._account.timed(self._observe, batches, loss)

    def _observe(self, batches: Sequence[Batch], loss: float | Tensor | None) -> None:
        if not batches or self.batch_size is None:
            check_observed(self.risk, batches)
        if isinstance(loss, Tensor) and loss.numel() != 1:
            raise ValueError(f"expected loss, the mean loss of the batch, as one number, got shape {tuple(loss.shape)}")
        if self.batch_size is None:
            self.batch_size = sum(length(b) for b in batches)
            self.recorder.describe(self.risk, self.batch_size, replacement=self.replacement)
        if self.step >= self._loss_at:
            start = time.perf_counter()
            if loss is not None:
                self.recorder.loss(self.step, loss)
            took = time.perf_counter() - start
            self._loss_seconds += took
            self._loss_stride.spent(_VISIT * took, self.step_seconds)
            self._loss_at = self.step + self._loss_stride.ahead()
        if self._stream.sampling:
            self._sampled(lambda: self._stream.observe(batches, loss, self.step, self.step_seconds))
            # With `every`, a row at the first sample on or after each multiple of it.
            every = self._every or 1
            passed = self.step >= every and self.step % every < self._stream.stride.stride
            due = len(self._stream.window) >= self._window if self._window else passed
            if due and len(self._stream.window):
                self.record(self._stream.estimate())
        self._set_alarms()

    def record(self, estimate: Estimate) -> None:
        """Add a measurement of your own to the run, at the present step."""
        self.recorder.record(self.step, estimate)

    # -- measuring ----------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Wall time since attaching (time before a resume included), without the final readings."""
        return self._account.seconds

    @property
    def final_seconds(self) -> float:
        """Wall time of the final readings."""
        return self._account.final

    @final_seconds.setter
    def final_seconds(self, seconds: float) -> None:
        self._account.final = seconds

    @property
    def spent(self) -> dict[str, float]:
        """Seconds per quantity, final readings excepted."""
        return {**self._agenda.spent, "training loss": self._loss_seconds, "edge_ratio": self._stream.seconds,
                "charges": self._charges.seconds}  # fmt: skip

    @property
    def latest(self) -> dict[str, Estimate]:
        """The last estimate of each quantity."""
        return self.recorder.latest

    @property
    def measuring_seconds(self) -> float:
        """Wall time that watching took, hooks and rows included, without the final readings."""
        return self._account.measuring(self.step)

    @property
    def share(self) -> float:
        """Share of the wall time so far that watching took, without the final readings."""
        return self.measuring_seconds / self.seconds if self.seconds > 0 else 0.0

    @property
    def step_seconds(self) -> float:
        """Mean duration of a training step, watching excluded."""
        steps = self.step - self._untimed
        return (self.seconds - self.measuring_seconds) / steps if steps > 0 else 0.0

    def measure_now(self, name: str) -> Estimate | None:
        """Take one reading of a heavier measurement and record it; None if it raised, which is recorded too.

        Raises ValueError for an unknown name.
        """
        if name not in (*NAMES, *ON_DEMAND):
            raise ValueError(f"expected one of {', '.join((*NAMES, *ON_DEMAND))}, got {name!r}")
        found: Estimate | None = self._account.timed(self._agenda.measure, name, self.step, self.batch_size)
        return found

    def read_carefully(self) -> None:
        """One reading of everything, at higher accuracy; its time is kept apart from the budget."""
        start = time.perf_counter()
        try:
            self._agenda.finish(self.step, self.batch_size)
        finally:
            self._account.set_apart(time.perf_counter() - start)

    def flush(self) -> None:
        """Write the open window of the stream, the loss, and the share of time spent so far."""
        if len(self._stream.window) >= (_ENOUGH if "edge_ratio" in self.latest else 2):
            self.record(self._stream.estimate())
        self._charged(lambda: self._charges.close(self.step))
        if self.recorder.loss_count >= _ENOUGH or "loss" not in self.latest:
            self.recorder.flush_loss(self.step)
        if self._account.begun:
            seconds = self.spent
            rest = max(0.0, self.measuring_seconds - sum(seconds.values()))
            seconds |= {"hooks and rows": rest, "final readings": self.final_seconds}
            self.record(Estimate("monitor_share", min(self.share, 1.0), settings={"seconds": seconds}))

    # The hooks run at every step of what may be a very small network: a common step is one comparison in each.

    def _before_step(self, *hooked: Any) -> None:
        if self.step >= self._before_at:
            self._account.timed(self._prepare, hooked)

    def _after_step(self, *_: Any) -> None:
        self.step += 1
        if self.step >= self._after_at:
            self._account.timed(self._stepped)

    def _prepare(self, hooked: Sequence[Any]) -> None:
        """Readings of the initial weights; then what the streams keep of weights and gradients before the step."""
        if self.step == 0:
            self.recorder.stepped(self.step)
            self._charges.look(self.step, _SEARCH * at_once(self._account.budget))
            self._agenda.begin(self.step, self.batch_size)
        if self.step >= self._charges.next_step:
            there = not computes_gradients(hooked)
            self._charged(lambda: self._charges.before_step(self.step, self.step_seconds, gradients=there))
            if self._charges.reason:  # there are none to follow: said once, under the name of the reading
                self._agenda.take("balance", self.step, self.batch_size)
        if self.step >= self._stream.next_step:
            self._sampled(lambda: self._stream.before_step(self.step))
        self._set_alarms()

    def _stepped(self) -> None:
        if self._stream.sampling:
            self._sampled(self._stream.after_step)
        if self._charges.reading_after:
            self._charged(lambda: self._charges.after_step(self.step, self.step_seconds))
        if self.step >= self._look_at:
            self._look()
        self._set_alarms()

    def _set_alarms(self) -> None:
        sampling = self._stream.sampling
        self._before_at = min(self._stream.next_step, self._charges.next_step)
        self._after_at = 0 if sampling or self._charges.reading_after else self._look_at
        self._observe_at = 0 if sampling or self.batch_size is None else self._loss_at

    def _look(self) -> None:
        """Record the learning rate, and measure what is due."""
        self.recorder.stepped(self.step)
        self._agenda.look(self.step, self.batch_size, self.step_seconds)
        self._charges.look(self.step, _SEARCH * self._account.budget * self.seconds)
        self._look_at = self.step + 1
        if self._budgeted:
            if not self._account.knows_idle:
                self._account.passed_idly(self._idle_pass())
            self._look_at += min(_LOOK_STEPS - 1, int(_LOOK_SECONDS / max(self.step_seconds, 1e-5)))
            asked = self._agenda.asked_at(self.step)
            self._look_at = self._look_at if asked is None else min(self._look_at, asked)

    def _idle_pass(self) -> float:
        """Seconds that a step takes on which hooks and `observe` have nothing to do; timed between training steps."""
        self._before_at = self._after_at = self._observe_at = sys.maxsize
        start = time.perf_counter()
        self._before_step(self.optimizer, (), {})
        self._after_step(self.optimizer, (), {})
        self.observe(None, loss=None)
        took = time.perf_counter() - start
        self.step -= 1
        return took

    def _sampled(self, action: Callable[[], Any]) -> None:
        """Run a part of the stream; whatever it raises becomes a row, never an exception in the user's loop."""
        self.recorder.attempt("edge_ratio", self.step, action, otherwise=lambda: self._stream.failed(self.step))

    def _charged(self, action: Callable[[], Estimate | None]) -> None:
        """The same for the charges; a row that comes of it is recorded."""
        charges = self._charges
        row = self.recorder.attempt("charges", self.step, action, otherwise=lambda: charges.failed(self.step))
        if row is not None:
            self.record(row)

    # -- state --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON types: what a resumed run needs. Eigenvectors are found anew."""
        return {
            "step": self.step, "seconds": self.seconds, "measuring": self.measuring_seconds, "spent": dict(self.spent),
            **self._agenda.state_dict(),
            "stream": self._stream.state_dict(),
            "charges": self._charges.state_dict(), **self.recorder.state_dict(), "batch_size": self.batch_size,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; call it before attaching."""
        self.step, self._untimed = int(state["step"]), 0
        spent = state["spent"]
        measuring = state.get("measuring", sum(map(float, spent.values())) + float(state["stream"]["seconds"]))
        self._account.resume(self.step, float(state["seconds"]), float(measuring))
        self._agenda.spent.update({k: float(v) for k, v in spent.items() if k in self._agenda.spent})
        self._loss_seconds = float(spent.get("training loss", 0.0))
        self._stream.load_state_dict(dict(state["stream"]))
        if "charges" in state:
            self._charges.load_state_dict(state["charges"], closed=self.recorder.holds("charges", self.step))
        self.recorder.load_state_dict(state)
        if state.get("batch_size") is not None:
            self.batch_size = int(state["batch_size"])
        self._agenda.load_state_dict(state, self.step)
