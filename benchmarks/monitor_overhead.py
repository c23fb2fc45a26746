"""What a monitor with its default budget adds to a run: the same training with and without it, in turns.

Two parts per case, as shares of training time: what the monitor counts as its own (which its budget holds), and what it
does not see; final readings excluded.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

import sgdscope as sg
from benchmarks.harness import Row, class_images, mlp, optional, squared_error
from sgdscope import models

BAR = 0.05


@dataclass
class Case:
    """A training run: how to make the model, its data, and how long it goes."""

    name: str
    images: torch.Tensor
    targets: torch.Tensor
    width: int
    batch_size: int
    lr: float
    steps: int
    turns: int
    activation: str = "tanh"

    def model(self) -> nn.Module:
        """A fresh network, the same each time."""
        if self.images.shape[1:] == (3, 32, 32):
            return mlp("relu", width=self.width)
        return models.build("mlp", input_shape=self.images.shape[1:], classes=10, width=self.width, depth=1,
                            activation=self.activation)  # fmt: skip


class Training:
    """A run that advances in pieces, so that two of them can take turns; the clock of its monitor stops in between."""

    def __init__(self, case: Case, folder: str | None, budget: float = BAR) -> None:
        """Watched if there is a folder to write to."""
        self.case = case
        self.model = case.model()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=case.lr)
        self.generator = torch.Generator().manual_seed(0)
        self.data = (case.images, case.targets)
        self.monitor: sg.Monitor | None = None
        if folder is not None:
            risk = sg.Risk(self.model, squared_error, self.data)
            self.monitor = sg.Monitor(risk, self.optimizer, out=folder, budget=budget, final=False).attach()
        self.left = time.perf_counter()

    def advance(self, steps: int) -> tuple[float, float, float]:
        """Take steps; seconds they took, seconds that the monitor counts as its own, and seconds of the processor."""
        case, data, model, optimizer, monitor = self.case, self.data, self.model, self.optimizer, self.monitor
        start, processor = time.perf_counter(), time.process_time()
        counted = 0.0
        if monitor is not None:
            monitor._account.skip(start - self.left)
            counted = monitor.measuring_seconds
        for _ in range(steps):
            index = torch.randint(len(data[0]), (case.batch_size,), generator=self.generator)
            batch = (data[0][index], data[1][index])
            optimizer.zero_grad()
            loss = squared_error(model, batch)
            loss.backward()
            optimizer.step()
            if monitor is not None:
                monitor.observe(batch, loss=loss)
        self.left = time.perf_counter()
        processor = time.process_time() - processor
        return self.left - start, 0.0 if monitor is None else monitor.measuring_seconds - counted, processor


@dataclass
class Cost:
    """What watching one run added to its training time: counted by the monitor itself, and what it does not see."""

    counted: float
    uncounted: float
    wall: float
    processor: float

    @property
    def added(self) -> float:
        """All of it, as a share of training time."""
        return self.counted + self.uncounted


def watch(case: Case, turns: int, budget: float = BAR) -> Cost:
    """One watched and one unwatched run in turns of some 30 ms (small network) or two steps.

    The time that the monitor counts is summed as it is: a few long readings. What it does not count lies in every
    step, and is the mean difference over turns without the largest and smallest tenth, which are the machine's.
    """
    steps = case.steps // turns
    with tempfile.TemporaryDirectory() as folder:
        plain, watched = Training(case, None), Training(case, folder, budget)
        own, base, rest = [], [], []
        busy = {plain: 0.0, watched: 0.0}
        for turn in range(turns):
            took = {}
            for training in (plain, watched) if turn % 2 else (watched, plain):
                took[training] = training.advance(steps)
                busy[training] += took[training][2]
            seconds, counted, _ = took[watched]
            own.append(counted)
            base.append(took[plain][0])
            rest.append(seconds - counted - took[plain][0])
        assert watched.monitor is not None
        watched.monitor.close()
    cut = turns // 10
    uncounted = statistics.mean(sorted(rest)[cut : turns - cut]) * turns
    return Cost(sum(own) / sum(base), uncounted / sum(base), (sum(own) + sum(rest)) / sum(base),
                busy[watched] / busy[plain] - 1)  # fmt: skip


def measure(case: Case, runs: int = 5) -> Row:
    """Several watched runs, each with an unwatched one beside it."""
    watch(case, 10)  # what a process does once
    costs = [watch(case, min(case.steps, case.turns)) for _ in range(runs)]
    added = sorted(cost.added for cost in costs)
    middle = statistics.median(added)
    counted, uncounted, wall = (
        100 * statistics.median(getattr(cost, name) for cost in costs) for name in ("counted", "uncounted", "wall")
    )
    return Row(
        f"monitor with default budget, {case.name}, {case.steps} steps, added to the time of training",
        f"{100 * middle:.1f} % (runs {100 * added[0]:.1f}–{100 * added[-1]:.1f}): counts {counted:.1f} % itself, "
        f"{uncounted:+.1f} % uncounted; sum of all turns {wall:.1f} %",
        "-", f"≤ {100 * BAR:.0f} %, uncounted within ±1 %", middle <= BAR and abs(uncounted) <= 1,
    )  # fmt: skip


def cases() -> list[Case]:
    images, targets = class_images(5000)
    found = [Case("MLP 3072-512-512-10 on 5000 images, b = 128", images, targets, 512, 128, 0.1, 1200, 600)]
    if not isinstance(optional("sklearn"), str):
        from sgdscope.data.digits import load_digits

        digits = load_digits(test=False)
        one_hot = nn.functional.one_hot(digits.labels, 10).float()
        for name, activation in (("ReLU MLP", "relu"), ("MLP", "tanh")):  # the first has charges to follow
            name = f"{name} 64-32-10 on digits, b = 8"
            found.insert(0, Case(name, digits.inputs, one_hot, 32, 8, 0.5, 20_000, 200, activation))
    return found


def holds(case: Case, budget: float, runs: int = 5) -> Row:
    """What watching adds at one budget, which it may stay below only where nothing was left to do."""
    costs = [watch(case, case.turns, budget) for _ in range(runs)]
    added = sorted(100 * cost.added for cost in costs)
    middle, counted = statistics.median(added), 100 * statistics.median(cost.counted for cost in costs)
    processor = 100 * statistics.median(cost.processor for cost in costs)
    below = middle < 100 * budget - 1
    waiting = "; below: the next reading was dearer than what was left" if below else ""
    return Row(
        f"monitor with a budget of {100 * budget:g} %, {case.name}, {case.steps} steps, added to the time of training",
        f"{middle:.1f} % (runs {added[0]:.1f}–{added[-1]:.1f}): counts {counted:.1f} % itself; of processor time "
        f"{processor:.1f} %{waiting}",
        "-", f"{100 * budget:g} ± 1 %, or below", middle <= 100 * budget + 1,
    )  # fmt: skip


def rows() -> Iterator[Row]:
    """Of the default budget on all cases, then of three budgets on the smallest steps, where hooks weigh most."""
    found = cases()
    for case in found:
        yield measure(case)
    if len(found) > 1:
        for budget in (0.02, 0.05, 0.10):
            yield holds(found[0], budget)
        yield holds(found[1], 0.02)
