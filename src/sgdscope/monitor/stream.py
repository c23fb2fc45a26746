"""Stream: the generalised edge ratio from the very batches trained on, at the price of one forward pass a sample.

On a sampled step the parameters before the step are kept. After it, the realised step s and the optimizer's own
gradients give −g·s, and one forward pass on the same batch gives the change of its loss. Whether the loss handed over
and the gradients are those of the batch is not assumed but audited, on the first sample and every sixteenth: with
gradient clipping, accumulation, loss scaling or dropout they are not, and the stream then pays for its own.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sgdscope import vectors
from sgdscope.batches import Batch
from sgdscope.estimate import Estimate
from sgdscope.measure.edge_ratio import RunningEdgeRatio
from sgdscope.monitor.schedule import Stride
from sgdscope.risk import Risk

AUDIT_EVERY = 16
_TOLERANCE = 1e-2
"""Of loss and slope, relative to the slope: an error of either moves the ratio by about as much."""


def check_observed(risk: Risk, batches: Sequence[Batch]) -> None:
    """Catch observe(x, y), which would be taken for two batches, and observe(). Raises ValueError."""
    if not batches:
        raise ValueError("expected the batch of the step just taken, got none")
    probe = next(iter(risk.source.chunks(1)))
    if len(batches) > 1 and isinstance(batches[0], Tensor) and not isinstance(probe, Tensor):
        raise ValueError(
            f"expected batches as the risk's loss_fn takes them ({type(probe).__name__}), got several tensors\n"
            "hint: observe((inputs, targets)); several arguments are several batches"
        )


class EdgeStream:
    """Collects samples; `estimate` closes a window of them.

    Attributes:
        seconds: time spent here so far.
        trusts_loss: whether the loss handed over is that of the batch under the risk (None before the first audit).
        trusts_gradient: whether the optimizer's gradients are those of the batch.
    """

    def __init__(self, risk: Risk, stride: Stride) -> None:
        self.risk = risk
        self.stride = stride
        self.window = RunningEdgeRatio()
        self.samples = 0
        self.seconds = 0.0
        self.trusts_loss: bool | None = None
        self.trusts_gradient: bool | None = None
        self.next_step = 0
        self._sampling = False
        self._before: vectors.Vector | None = None
        self._step: vectors.Vector | None = None
        self._slope: float | None = None
        self._sample_seconds = 0.0
        self._unobserved = 0
        self._failures = 0

    @property
    def sampling(self) -> bool:
        """Whether the present step is sampled."""
        return self._sampling

    def before_step(self, step: int) -> None:
        """Keep the parameters before a sampled step."""
        self._drop()
        if self._unobserved > 3:
            self.next_step = sys.maxsize
            return
        start = time.perf_counter()
        with torch.no_grad():
            self._before = [p.detach().clone() for p in self.risk.parameters]
        self._sampling = True
        self._sample_seconds = time.perf_counter() - start
        self.seconds += self._sample_seconds

    def after_step(self) -> None:
        """Form the realised step and its slope along the optimizer's gradients, while they are there."""
        if self._before is None:
            return
        start = time.perf_counter()
        parameters = self.risk.parameters
        with torch.no_grad():
            self._step = list(torch._foreach_sub([p.detach() for p in parameters], self._before))
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            self._slope = vectors.dot([g.to(s) for g, s in zip(gradients, self._step, strict=True)], self._step)
        if self.trusts_gradient and self.trusts_loss and not self._audits():
            self._before = None  # not needed: one forward pass is all that is left to do
        self._add_time(time.perf_counter() - start)

    def _audits(self) -> bool:
        # The last sample of sixteen: a failed audit can then still drop the samples before it.
        return self.trusts_gradient is None or self.samples % AUDIT_EVERY == AUDIT_EVERY - 1

    def observe(self, batches: Sequence[Batch], loss: float | Tensor | None, step: int, step_seconds: float) -> None:
        """Complete the sample of the step just taken, if there is one."""
        if self._slope is None:
            return
        start = time.perf_counter()
        self._unobserved = 0
        given = None if loss is None else loss.item() if isinstance(loss, Tensor) else float(loss)
        before, slope, cost = given, self._slope, 1 / 3
        after = self._value(batches, step)
        if self._before is not None and (self._audits() or not self.trusts_gradient):
            before, slope = self._own(batches, step)
            cost += 1
            self._audit(given, before, after, slope)
        elif self._before is not None:
            before = self._value(batches, step, at=self._before)
            cost += 1 / 3
        elif before is None:
            self.trusts_loss = False  # handed over on some steps only; from here on it is not counted on
        if before is not None:
            self.window.add(after - before, -slope, cost=cost)
            self.samples += 1
        self._add_time(time.perf_counter() - start)
        self.stride.spent(self._sample_seconds, step_seconds)
        self.next_step = step + self.stride.ahead() - 1
        self._drop()

    def failed(self, step: int) -> None:
        """A sample could not be made: try again later, after each failure later still."""
        self._failures += 1
        self._before = self._step = self._slope = None
        self._sampling = False
        self.next_step = step + 16 * 2 ** min(self._failures, 30)

    def estimate(self) -> Estimate:
        """The edge ratio of the window so far; begins a new one."""
        estimate = self.window.estimate({"method": self.described(), "stride": self.stride.stride})
        self.window.clear()
        return estimate

    def described(self) -> str:
        """How a sample is made, in words."""
        if self.trusts_gradient is False:
            return "own gradient and one forward pass (the optimizer's gradients are not those of the batch)"
        return "one forward pass" if self.trusts_loss else "two forward passes (no usable loss was handed over)"

    def _own(self, batches: Sequence[Batch], step: int) -> tuple[float, float]:
        """Loss and slope along the step, of the batches at the parameters before the step."""
        assert self._before is not None
        assert self._step is not None
        value = slope = 0.0
        for batch in batches:
            part, gradient = self.risk.gradient(self.risk.to_device(batch), at=self._before, seed=step)
            value += part / len(batches)
            slope += vectors.dot(gradient, self._step) / len(batches)
        return value, slope

    def _value(self, batches: Sequence[Batch], step: int, at: Sequence[Tensor] | None = None) -> float:
        return sum(self.risk.value(self.risk.to_device(b), at=at, seed=step) for b in batches) / len(batches)

    def _audit(self, given: float | None, own: float, after: float, slope: float) -> None:
        """Compare what was handed over with what the batch itself gives; a changed answer begins a new window."""
        assert self._slope is not None
        if slope == 0 == self._slope or not math.isfinite(slope):
            return  # a step of length zero (lr = 0), or a run that blows up, tells nothing
        rounding = 4 * torch.finfo(self.risk.parameters[0].dtype).eps * abs(own)
        gradient = abs(self._slope - slope) <= _TOLERANCE * abs(slope)
        loss = given is not None and abs(given - own) <= max(_TOLERANCE * abs(slope), rounding)
        if given is not None and not loss and not gradient and abs(given - after) <= rounding:
            raise ValueError("the loss handed over is that of the batch after the step, its gradients are of another "
                             "batch: call observe after optimizer.step(), with the batch of that step")  # fmt: skip
        if self.trusts_gradient and not gradient:
            self.window.clear()  # samples since the last good audit may be wrong
        # Trust once lost does not come back: clipping may act on some steps only.
        self.trusts_gradient = gradient and self.trusts_gradient is not False
        self.trusts_loss = loss and self.trusts_loss is not False

    def _add_time(self, seconds: float) -> None:
        self._sample_seconds += seconds
        self.seconds += seconds

    def _drop(self) -> None:
        if self._step is not None:
            self._unobserved += 1  # nobody calls observe: stop keeping parameters
        self._before = self._step = self._slope = None
        self._sampling = False

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {
            "changes": list(self.window.changes), "descents": list(self.window.descents), "cost": self.window.cost,
            "samples": self.samples, "seconds": self.seconds, "trusts_loss": self.trusts_loss,
            "trusts_gradient": self.trusts_gradient, "next": self.next_step, "stride": self.stride.stride,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.window.changes = [float(x) for x in state["changes"]]
        self.window.descents = [float(x) for x in state["descents"]]
        self.window.cost, self.samples = float(state["cost"]), int(state["samples"])
        self.seconds, self.next_step = float(state["seconds"]), int(state["next"])
        self.trusts_loss, self.trusts_gradient = state["trusts_loss"], state["trusts_gradient"]
        if self.stride.fixed is None:
            self.stride.stride = int(state["stride"])
