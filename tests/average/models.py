"""Shared: small models with every kind of entry, random trajectories, and the averages under test."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from sgdscope.average import EMA, PowerEMA, RunningAverage, TwoPoint, UniformAverage, Window

KINDS: dict[str, Callable[..., RunningAverage]] = {
    "ema": lambda **k: EMA(0.9, **k),
    "ema corrected": lambda **k: EMA(0.9, start_corrected=True, **k),
    "ema no memory": lambda **k: EMA(0.0, **k),
    "power": lambda **k: PowerEMA(6.94, **k),
    "power, negative": lambda **k: PowerEMA(-0.3, **k),
    "window": lambda every=1, **k: Window(4, every, **k),
    "two points": lambda every=1, **k: TwoPoint(3 * every, 0.3, every=every, **k),
    "uniform": lambda **k: UniformAverage(**k),
}


class Net(nn.Module):
    """Dropout, batch normalisation, tied weights, a frozen parameter, a counter, and a buffer outside state dicts."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first = nn.Linear(6, 8)
            self.norm = nn.BatchNorm1d(8)
            self.drop = nn.Dropout(0.3)
            self.second = nn.Linear(8, 8)
            self.again = nn.Linear(8, 8)
            self.again.weight = self.second.weight
            self.head = nn.Linear(8, 3)
        self.head.bias.requires_grad_(False)
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.scratch += 1.0
        x = self.drop(torch.tanh(self.norm(self.first(x))))
        return self.head(torch.tanh(self.again(torch.tanh(self.second(x)))))


def batches(count: int = 20, size: int = 16, seed: int = 1) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(size, 6, generator=generator) + 0.5, torch.randint(3, (size,), generator=generator))
        for _ in range(count)
    ]


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def bits(model: nn.Module) -> dict[str, Tensor]:
    """Copies of everything a model holds."""
    held = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach().clone() for name, tensor in held.items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def walk(steps: int, size: int = 5, seed: int = 0) -> np.ndarray:
    """A random trajectory θ_0, …, θ_T in double precision, shape (T + 1, size)."""
    return np.cumsum(np.random.default_rng(seed).normal(size=(steps + 1, size)), axis=0)


def averaged(average: RunningAverage, path: np.ndarray, steps: list[int] | None = None) -> np.ndarray:
    """What an average makes of a trajectory, updated at `steps` (default: all)."""
    for step in range(len(path)) if steps is None else steps:
        average.update([torch.from_numpy(path[step])], step)
    return average.averaged_state_dict()["0"].numpy()
