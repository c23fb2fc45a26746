"""What a monitor with its default budget adds to a run: the same training with and without it, in turns.

Two figures per case: the share the monitor states of its own time (which its budget holds), and the wall time of whole
runs against unwatched ones, final readings excluded from both.
"""

from __future__ import annotations

import statistics
import time
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

    def model(self) -> nn.Module:
        """A fresh network, the same each time."""
        if self.images.shape[1:] == (3, 32, 32):
            return mlp("relu", width=self.width)
        return models.build("mlp", input_shape=self.images.shape[1:], classes=10, width=self.width, depth=1,
                            activation="tanh")  # fmt: skip


def train(case: Case, watched: bool) -> tuple[float, float]:
    """Seconds of one run, and the share of time that the monitor states (0 unwatched)."""
    model = case.model()
    data = (case.images, case.targets)
    optimizer = torch.optim.SGD(model.parameters(), lr=case.lr)
    generator = torch.Generator().manual_seed(0)
    monitor = sg.Monitor(sg.Risk(model, squared_error, data), optimizer, final=False) if watched else None
    start = time.perf_counter()
    if monitor is not None:
        monitor.attach()
    for _ in range(case.steps):
        index = torch.randint(len(data[0]), (case.batch_size,), generator=generator)
        batch = (data[0][index], data[1][index])
        optimizer.zero_grad()
        loss = squared_error(model, batch)
        loss.backward()
        optimizer.step()
        if monitor is not None:
            monitor.observe(batch, loss=loss)
    seconds = time.perf_counter() - start
    share = 0.0 if monitor is None else monitor.share
    if monitor is not None:
        monitor.close()
    return seconds, share


def measure(case: Case, pairs: int = 5) -> Row:
    """Runs in turns; the order within a pair alternates."""
    added, shares = [], []
    train(case, True)
    for index in range(pairs):
        took = {}
        for watched in (True, False) if index % 2 else (False, True):
            took[watched], share = train(case, watched)
            if watched:
                shares.append(share)
        added.append(took[True] / took[False] - 1)
    middle = statistics.median(added)
    stated = statistics.median(shares)
    return Row(
        f"monitor with default budget, {case.name}, {case.steps} steps, added wall time",
        f"{100 * middle:.1f} % (pairs {100 * min(added):.1f}–{100 * max(added):.1f}); states {100 * stated:.1f} %",
        "-", f"≤ {100 * BAR:.0f} %", middle <= BAR,
    )  # fmt: skip


def cases() -> list[Case]:
    images, targets = class_images(5000)
    found = [Case("MLP 3072-512-512-10 on 5000 images, b = 128", images, targets, 512, 128, 0.1, 1200)]
    if not isinstance(optional("sklearn"), str):
        from sgdscope.data.digits import load_digits

        digits = load_digits(test=False)
        one_hot = nn.functional.one_hot(digits.labels, 10).float()
        found.insert(0, Case("MLP 64-32-10 on digits, b = 8", digits.inputs, one_hot, 32, 8, 0.5, 20_000))
    return found


def rows() -> list[Row]:
    return [measure(case) for case in cases()]
