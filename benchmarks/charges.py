"""Charges of layers followed along training, from its own gradients: what that adds to it, and how exact it is.

Two equal runs in turns of a tenth of a second, one of them followed: before every step or at the stride that the
default budget affords, windows closed and rows made. Processor time, so that what else the machine does stays out.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import Row, class_images, cnn, interleaved, mlp, plain_gradient, risk_of, squared_error
from sgdscope.estimate import Estimate
from sgdscope.measure import charges
from sgdscope.monitor.charges import ChargeStream
from sgdscope.monitor.discovery import Discovery
from sgdscope.monitor.schedule import SHARES, Stride

BUDGET, TURNS, TURN = 0.05, 100, 0.1
EVERY_STEP, BY_BUDGET = 0.05, 0.02
MODELS = {"MLP 3072-512-512-10": lambda: mlp("relu"), "CNN": cnn}


class Training:
    """Plain SGD on drawn batches, followed if there is a stride."""

    def __init__(self, model: nn.Module, data: tuple[Tensor, Tensor], batch_size: int, stride: Stride | None) -> None:
        self.model, self.data, self.batch_size = model, data, batch_size
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        self.generator = torch.Generator().manual_seed(0)
        self.steps, self.step_seconds = 0, 0.0
        self.rows: list[Estimate] = []
        self.stream: ChargeStream | None = None
        if stride is not None:
            risk = risk_of(model, data, check=False)
            self.stream = ChargeStream(risk, self.optimizer, Discovery(risk), stride, every=None)
            self.stream.look(0, float("inf"))
            self.optimizer.register_step_pre_hook(self._before_step)

    def _before_step(self, *_: Any) -> None:
        assert self.stream is not None
        if self.steps >= self.stream.next_step:
            row = self.stream.before_step(self.steps, self.step_seconds)
            if row is not None:
                self.rows.append(row)

    def advance(self, steps: int) -> float:
        """Take steps; processor seconds."""
        start = time.process_time()
        for _ in range(steps):
            index = torch.randint(len(self.data[0]), (self.batch_size,), generator=self.generator)
            self.optimizer.zero_grad()
            squared_error(self.model, (self.data[0][index], self.data[1][index])).backward()
            self.optimizer.step()
            self.steps += 1
        return time.process_time() - start


def added(name: str, data: tuple[Tensor, Tensor], batch_size: int, *, every_step: bool) -> Row:
    """What following adds, with the number of steps that one search for symmetries takes."""
    plain = Training(MODELS[name](), data, batch_size, None)
    stride = Stride(BUDGET * SHARES["charges"], fixed=1 if every_step else None)
    followed = Training(MODELS[name](), data, batch_size, stride)
    for training in (plain, followed):
        training.advance(3)
    step = statistics.median(plain.advance(1) for _ in range(5))
    followed.step_seconds = step
    search, found = time.process_time(), Discovery(risk_of(MODELS[name](), data, check=False))
    found.look()
    search = (time.process_time() - search) / step
    steps = max(2, round(TURN / step))
    ratios = []
    for turn in range(TURNS):
        took = {}
        for training in (plain, followed) if turn % 2 else (followed, plain):
            took[training] = training.advance(steps)
        ratios.append(took[followed] / took[plain] - 1)
    share = statistics.median(ratios)
    error = 1.86 * statistics.median(abs(ratio - share) for ratio in ratios) / TURNS**0.5  # of a median, if normal
    bar = EVERY_STEP if every_step else BY_BUDGET
    how = "at every step" if every_step else f"by the default budget (every {stride.stride} steps)"
    return Row(
        f"charges of {name} followed {how}, b = {batch_size}, added to training",
        f"{100 * share:.1f} ± {100 * error:.1f} %; once {search:.0f} steps to find the symmetries", "-",
        f"≤ {100 * bar:.0f} %", share <= bar,
    )  # fmt: skip


def sample(name: str, data: tuple[Tensor, Tensor], batch_size: int) -> Row:
    """One sample, beside the same number in double precision unit by unit."""
    model = MODELS[name]()
    training = Training(model, data, batch_size, Stride(1.0, fixed=1))
    training.advance(2)
    stream, risk = training.stream, risk_of(model, data, check=False)
    assert stream is not None
    found = Discovery(risk)
    found.look()
    squared_error(model, (data[0][:batch_size], data[1][:batch_size])).backward()
    gradients = [p.grad for p in model.parameters()]
    times = interleaved({
        "gradient": plain_gradient(model, (data[0][:batch_size], data[1][:batch_size])),
        "sample": lambda: stream._read(stream._window),  # type: ignore[arg-type]
        "unit by unit": lambda: charges(risk, found.symmetries, at=gradients),
    })  # fmt: skip
    ours, theirs = (
        statistics.median(times[what]) / statistics.median(times["gradient"]) for what in ("sample", "unit by unit")
    )
    return Row(f"one sample of the charges of {name}, b = {batch_size}, in gradients", f"{ours:.4f}",
               f"{theirs:.4f} (`measure.charges` of the gradient, unit by unit in double precision)",
               "-", None)  # fmt: skip


def exactness(name: str, data: tuple[Tensor, Tensor], dtype: torch.dtype, bar: float) -> Row:
    """Sum of lr² ĝᵀAĝ over every step of a stretch against the change of the charges."""
    training = Training(MODELS[name]().to(dtype), (data[0].to(dtype), data[1].to(dtype)), 128, Stride(1.0, fixed=1))
    training.advance(101)
    worst = max(float(row.beside["identity_residual"]) for row in training.rows[1:])
    law = sum(bool(row.settings["law"]) for row in training.rows)
    return Row(
        f"change of the charges of {name} against Σ lr² ĝᵀAĝ, 100 steps in {str(dtype).removeprefix('torch.')}, "
        "relative to the sum of magnitudes",
        f"{worst:.1e}" + (f"; {law} rows say the law is broken" if law else ""), "-", f"≤ {bar:.0e}",
        worst <= bar and not law,
    )  # fmt: skip


def rows() -> Iterator[Row]:
    data = class_images(2000)
    for name in MODELS:
        yield sample(name, data, 128)
        for batch_size in (128, 512):
            yield added(name, data, batch_size, every_step=True)
        yield added(name, data, 128, every_step=False)
        yield exactness(name, data, torch.float64, 1e-8)
        yield exactness(name, data, torch.float32, 1e-2)
