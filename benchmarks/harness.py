"""Harness: the networks and data of all benchmarks, interleaved timing, and the rows of the table.

Time is only ever reported as a ratio to something timed in the same process, in turns with it: machines differ, and
change speed while one watches.
"""

from __future__ import annotations

import gc
import importlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor, nn

import sgdscope as sg
from sgdscope import models

IMAGE = (3, 32, 32)
CLASSES = 10


@dataclass
class Row:
    """One line of the table. `met` is None for a figure without a bar."""

    figure: str
    ours: str
    rival: str = "-"
    bar: str = "-"
    met: bool | None = None

    def line(self) -> str:
        """As a line of a markdown table."""
        mark = {True: "yes", False: "**below bar**", None: "-"}[self.met]
        return f"| {self.figure} | {self.ours} | {self.rival} | {self.bar} | {mark} |"


# -- networks and data ---------------------------------------------------------------------------------------------


def mlp(activation: str = "tanh", width: int = 512, seed: int = 0) -> nn.Module:
    """Perceptron 3072-width-width-10."""
    return models.build("mlp", input_shape=IMAGE, classes=CLASSES, width=width, activation=activation, seed=seed)


def cnn(seed: int = 0) -> nn.Module:
    """Two convolutions, one maximum pool, two linear layers, ReLU: 137 thousand parameters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4),
            nn.Flatten(), nn.Linear(2048, 64), nn.ReLU(), nn.Linear(64, CLASSES),
        )  # fmt: skip


def class_images(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Ten Gaussian classes in a space with decaying spectrum (amplitude of direction i as 1/√(i+1)), one-hot targets.

    Entries have about unit variance, as standardised images have.
    """
    generator = torch.Generator().manual_seed(seed)
    size = IMAGE[0] * IMAGE[1] * IMAGE[2]
    amplitude = torch.arange(1, size + 1).float().rsqrt()
    amplitude *= (size / amplitude.square().sum()).sqrt()
    centres = torch.randn(CLASSES, size, generator=torch.Generator().manual_seed(12345))
    labels = torch.randint(CLASSES, (count,), generator=generator)
    coordinates = centres[labels] * 0.7 + torch.randn(count, size, generator=generator) * 0.7
    signs = torch.randint(2, (size,), generator=torch.Generator().manual_seed(7)).float() * 2 - 1
    order = torch.randperm(size, generator=torch.Generator().manual_seed(8))
    images = torch.empty(count, size)
    images[:, order] = coordinates * amplitude * signs
    return images.reshape(count, *IMAGE), nn.functional.one_hot(labels, CLASSES).float()


def squared_error(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean squared error over samples and outputs."""
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def risk_of(model: nn.Module, data: tuple[Tensor, Tensor], **settings: object) -> sg.Risk:
    """The risk of a model on data under the squared error."""
    return sg.Risk(model, squared_error, data, **settings)  # type: ignore[arg-type]


def trained(model: nn.Module, data: tuple[Tensor, Tensor], *, steps: int, lr: float, batch_size: int = 32) -> nn.Module:
    """The model after some steps of plain SGD."""
    sgd(model, data, steps=steps, lr=lr, batch_size=batch_size)
    return model


def sgd(
    model: nn.Module, data: tuple[Tensor, Tensor], *, steps: int, lr: float, batch_size: int, seed: int = 0
) -> float:
    """Plain SGD with drawn batches; the last loss."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    loss = torch.tensor(0.0)
    for _ in range(steps):
        index = torch.randint(len(data[0]), (batch_size,), generator=generator)
        loss = squared_error(model, (data[0][index], data[1][index]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def plain_gradient(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Callable[[], object]:
    """What every cost is measured in: loss and gradient of one batch by torch alone."""
    parameters = list(model.parameters())

    def gradient() -> object:
        return torch.autograd.grad(squared_error(model, batch), parameters)

    return gradient


# -- timing --------------------------------------------------------------------------------------------------------


def seconds(action: Callable[[], object], repeat: int = 1) -> float:
    """Mean wall time of `repeat` calls."""
    start = time.perf_counter()
    for _ in range(repeat):
        action()
    return (time.perf_counter() - start) / repeat


def interleaved(
    actions: dict[str, Callable[[], object]], *, rounds: int = 7, least: float = 0.02
) -> dict[str, list[float]]:
    """Wall times of each action, in turns A B C A B C …; short ones are repeated up to `least` seconds per turn."""
    repeats = {}
    for name, action in actions.items():
        first = seconds(action)
        repeats[name] = 1 if first > least else max(1, round(least / max(seconds(action), 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in actions}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, action in actions.items():
                times[name].append(seconds(action, repeats[name]))
    finally:
        gc.enable()
    return times


@dataclass
class Ratio:
    """A cost in units of a reference timed in turns with it: ratio of the medians; least and largest round."""

    median: float
    low: float
    high: float
    minima: float
    """Ratio of the minima, least touched by what else the machine does."""

    @classmethod
    def of(cls, times: Sequence[float], reference: Sequence[float]) -> Ratio:
        """From paired rounds."""
        rounds = [a / b for a, b in zip(times, reference, strict=True)]
        middle = statistics.median(times) / statistics.median(reference)
        return cls(middle, min(rounds), max(rounds), min(times) / min(reference))

    def __str__(self) -> str:
        return f"{self.median:.2f} (minima {self.minima:.2f}, rounds {self.low:.2f}–{self.high:.2f})"


def optional(name: str) -> ModuleType | str:
    """A rival package, or the reason why it is not here."""
    try:
        return importlib.import_module(name)
    except Exception as error:
        return f"{name} not importable ({type(error).__name__})"
