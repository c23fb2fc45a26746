"""Ensembles by torch operations: the double well of `ensemble`, with keyed random numbers, against a plain torch loop.

The loop draws with torch's own generator, whose numbers depend on how many replicas there are and where they run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.ensemble import REPLICAS, STEPS, VARYING, WELL
from benchmarks.ensemble_rivals import in_torch
from benchmarks.harness import Ratio, Row, interleaved, seconds
from sgdscope.simulate import Histogram
from sgdscope.simulate.lanes import Lanes
from sgdscope.simulate.plan import Plan
from sgdscope.simulate.state import State
from sgdscope.simulate.torch_backend import TorchKernel

SHORT = STEPS // 20


def ours(
    precision: Any, fast: bool = False, device: str = "cpu", compiled: bool | None = None, replicas: int = REPLICAS,
    steps: int = SHORT,
) -> Callable[[], object]:  # fmt: skip
    """One run of a kernel."""
    points = np.full((1, replicas), -1.0)
    plan = Plan.of(WELL, VARYING, [Histogram(-3, 3, every=1000, after=1000)], points)
    state = State.begin(WELL, VARYING, plan.update, points, 0, 0, precision, fast)
    lanes, cells = Lanes.of(state.rows, state.words, state.spare, state.passage, 0), np.zeros((16, plan.cells), int)
    kernel = TorchKernel(
        plan.update, plan.recorded, tuple(plan.numbers), precision, fast, device=device, compiled=compiled
    )
    numbers, none = np.array(list(plan.numbers.values()), precision), np.zeros((0, 0, 0))

    def run() -> None:
        kernel(
            lanes.state, lanes.words, lanes.spare, lanes.passage, lanes.sums, cells, none, none, numbers, plan.times,
            plan.update.rounds, plan.update.signs, 0, steps, 0, lanes.blocks,
        )  # fmt: skip

    return run


def rows() -> Iterator[Row]:
    compiled = ours("float32", compiled=True)
    yield Row("double well by torch: the first steps, compiled by torch", f"{seconds(compiled):.0f} s")
    actions = {
        "plain, single": in_torch(SHORT), "keyed, single": ours("float32"), "fast, single": ours("float32", fast=True),
        "compiled, single": compiled,
        "plain, double": in_torch(SHORT, torch.float64), "keyed, double": ours("float64"),
    }  # fmt: skip
    times = interleaved(actions, rounds=7)
    for name, bar in {
        "keyed, single": 0.75,
        "fast, single": 0.75,
        "compiled, single": None,
        "keyed, double": 0.75,
    }.items():
        reference = "plain, double" if "double" in name else "plain, single"
        ratio = Ratio.of(times[reference], times[name])
        met = None if bar is None else ratio.median >= bar
        yield Row(f"double well by torch, {name}", f"{ratio} × the loop's speed", "torch loop, normal_ in place",
                  f"≥ {bar}" if bar else "-", met)  # fmt: skip
    if torch.cuda.is_available():
        yield from on_a_gpu()


def on_a_gpu() -> Iterator[Row]:
    """Replica-steps per second on a GPU, copies of the lanes included."""
    replicas, steps = 1 << 22, 2048
    for name, settings in {"compiled": {}, "eager": {"compiled": False}}.items():
        run = ours("float32", device="cuda", replicas=replicas, steps=steps, **settings)
        run()
        rate = replicas * steps / min(seconds(run) for _ in range(3))
        yield Row(f"double well on {torch.cuda.get_device_name()}, {name}", f"{rate:.3g} replica-steps/s")
