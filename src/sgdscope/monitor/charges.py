"""Charges: what rescalings of the layers conserve, followed along a run from the gradients that training computed.

A sample is one pass over the gradients, for their norms; the parameters themselves are read where a window of samples
ends (and in a sample too, where weights decay and steps are left out). No gradient is taken.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import torch

from sgdscope.balance import law_reasons
from sgdscope.estimate import Estimate
from sgdscope.monitor.charge_window import ChargeWindow, Layers, Sample
from sgdscope.monitor.discovery import Discovery
from sgdscope.monitor.schedule import Stride
from sgdscope.monitor.squared_norms import exact_squared_norms
from sgdscope.risk import Risk

SAMPLES, STEPS, SHARE = 16, 50, 50
"""Samples and steps that a window holds at least, the latter growing as a fiftieth of the steps taken."""


class ChargeStream:
    """Collects samples before the optimizer's steps, and closes a window of them now and then.

    Begins at once with a given stride, else when `look` lets it; ends for good where the model has nothing to follow.

    Args:
        risk, optimizer: of the run.
        discovery: of the symmetries, made when the stream begins.
        stride: steps between two samples.
        every: steps between two rows, at multiples; as many as a window needs if None.

    Attributes:
        next_step: the next one that is sampled; never, while it waits.
        reading_after: whether the step that is being taken is sampled after it.
        seconds: time spent here so far.
    """

    def __init__(
        self, risk: Risk, optimizer: torch.optim.Optimizer, discovery: Discovery, stride: Stride, *, every: int | None
    ) -> None:
        self.risk = risk
        self.optimizer = optimizer
        self.stride = stride
        self.every = every
        self.next_step = 0 if stride.fixed else sys.maxsize
        self.reading_after = False
        self.seconds = 0.0
        self._discovery = discovery
        self._waits = stride.fixed is None
        self._layers: Layers | None = None
        self._groups: list[int] = []  # of each region
        self._window: ChargeWindow | None = None
        self._carried: Mapping[str, Any] = {}
        self._failures = 0
        self._sample_seconds = 0.0

    @property
    def reason(self) -> str:
        """Why there is nothing to follow; empty where there is, or as long as that is not known."""
        return self._discovery.reason

    def look(self, step: int, seconds: float) -> None:
        """Begin before the coming step, if the search for symmetries is expected to take so many seconds at most."""
        if self._waits and self._discovery.expected <= seconds:
            self._waits = False
            self.next_step = step

    def before_step(self, step: int, step_seconds: float, *, gradients: bool = True) -> Estimate | None:
        """Sample the step that is about to be taken; the row of the window that ends here, and of the first charges.

        Without `gradients`, which are then computed within the step, they are read by `after_step`.
        """
        self.reading_after = False
        layers = self._begun()
        if layers is None:
            self.next_step = sys.maxsize
            return None
        start, row = time.perf_counter(), None
        if self._window is None or self._due(self._window, step):
            row = self._turn(layers, step)
        if self._window is None:  # the weights are no longer finite, and never will be
            self.next_step = sys.maxsize
            return row
        if gradients:
            self._read(self._window)
        self.reading_after = not gradients
        self._sample_seconds = self._spent(start)
        if gradients:
            self._plan(step, step_seconds)
        return row

    def after_step(self, step: int, step_seconds: float) -> None:
        """Read the gradients of a step, now taken, that computed them itself."""
        start = time.perf_counter()
        self.reading_after = False
        if self._window is not None:
            self._read(self._window)
        self._sample_seconds += self._spent(start)
        self._plan(step - 1, step_seconds)

    def failed(self, step: int) -> None:
        """A sample could not be made: the window is lost; try again later, after each failure later still."""
        self._failures += 1
        self._window, self.reading_after = None, False
        self.next_step = step + 16 * 2 ** min(self._failures, 30)

    def close(self, step: int) -> Estimate | None:
        """The row of the open window, if it holds samples; begins a new one."""
        if self._layers is None or self._window is None or not self._window.count:
            return None
        start = time.perf_counter()
        row = self._turn(self._layers, step)
        self._spent(start)
        return row

    def _begun(self) -> Layers | None:
        """The layers to follow, found when first asked for; None if there are none."""
        if self._layers is None:
            start = time.perf_counter()
            reason, found = self._discovery.look(), self._discovery.symmetries
            self._spent(start)
            if reason or found is None:
                return None
            layers = self._layers = Layers.of(found, self.risk)
            group_of = {id(p): g for g, group in enumerate(self.optimizer.param_groups) for p in group["params"]}
            self._groups = [group_of[id(p)] for p in layers.parameters]
            self._window = ChargeWindow.of_state(layers, self._carried) if self._carried else None
        return self._layers

    def _due(self, window: ChargeWindow, step: int) -> bool:
        if self.every is not None:
            return step // self.every > window.step // self.every
        return window.count >= SAMPLES and step - window.step >= max(STEPS, step // SHARE)

    def _turn(self, layers: Layers, step: int) -> Estimate:
        """Close the open window, or the empty one before all others, and open the next; the row."""
        now, closing = exact_squared_norms(layers.weights()), self._window
        opened = ChargeWindow(layers, step, now)
        cost = layers.cost if closing is None else 0.0
        row = (closing or opened).close(step, now, every=self.stride.stride, law=self._law(layers), cost=cost)
        self._window = None if row.status == "diverged" else opened
        return row

    def _read(self, window: ChargeWindow) -> None:
        """One sample; where weights decay and the charges are not followed step by step, with their norms now."""
        layers = window.layers
        groups = [(float(g["lr"]), float(g.get("weight_decay", 0.0))) for g in self.optimizer.param_groups]
        rates = [
            (0.0, 0.0) if p.grad is None else groups[g] for p, g in zip(layers.parameters, self._groups, strict=True)
        ]
        lr, weight_decay = zip(*rates, strict=True)
        follows = self.stride.fixed == 1 or not any(weight_decay)
        weights = None if follows else layers.norms.read(layers.weights())
        window.add(Sample(layers.norms.read(layers.gradients()), weights, lr, weight_decay))

    def _law(self, layers: Layers) -> list[str]:
        """Why the optimizer is known to move some charge otherwise."""
        groups, reasons = self.optimizer.param_groups, list[str]()
        for powers in layers.powers:
            own = {g for g, power in zip(self._groups, powers, strict=True) if power}
            reasons += law_reasons(self.optimizer, groups=[groups[g] for g in own])
        return list(dict.fromkeys(reasons))

    def _plan(self, step: int, step_seconds: float) -> None:
        """Choose the step after this one that is sampled next."""
        self.stride.spent(self._sample_seconds, step_seconds)
        self.next_step = step + self.stride.ahead()

    def _spent(self, start: float) -> float:
        took = time.perf_counter() - start
        self.seconds += took
        return took

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs; the symmetries are looked for again."""
        return {
            "waits": self._waits, "next": self.next_step, "stride": self.stride.stride, "seconds": self.seconds,
            "window": dict(self._carried) if self._window is None else self._window.state_dict(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any], *, closed: bool = False) -> None:
        """Continue from `state_dict`; with a new window if its own was `closed` when the run ended there."""
        self.seconds, self._carried = float(state["seconds"]), {} if closed else state["window"]
        if not state["waits"]:
            self._waits, self.next_step = False, int(state["next"])
        if self.stride.fixed is None:
            self.stride.stride = int(state["stride"])
