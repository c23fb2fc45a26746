"""What running statistics are worth: a small network with batch normalisation on digits with wrong labels."""

import functools

import pytest
import torch
from torch import nn

from sgdscope.average import EMA, BufferLosses, TwoPoint, Window, buffer_losses
from sgdscope.data import load_digits

WARM_UP, STEPS, BATCH = 600, 600, 32
WRONG = 0.2
SEEDS = (0, 1)


def loss_fn(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def cnn(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(64, 10),
        )  # fmt: skip


@functools.cache
def losses(seed) -> dict[str, BufferLosses]:
    """Test losses of averages taken at the end of training, with each kind of statistics."""
    digits = load_digits(subset=1437)
    generator = torch.Generator().manual_seed(seed)
    x, y = digits.inputs, digits.labels.clone()
    wrong = torch.rand(len(y), generator=generator) < WRONG
    y[wrong] = torch.randint(10, (int(wrong.sum()),), generator=generator)
    model = cnn(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    averages = {
        "ema": EMA(0.99, start=WARM_UP),
        "window": Window(60, 10, start=WARM_UP),
        "two points": TwoPoint(400, start=WARM_UP + 200),
        "last": Window(1),
    }
    for step in range(1, WARM_UP + STEPS + 1):
        rows = torch.randint(len(x), (BATCH,), generator=generator)
        optimizer.zero_grad()
        loss_fn(model, (x[rows], y[rows])).backward()
        optimizer.step()
        for average in averages.values():
            average.update(model, step)
    batches = [(x[i : i + 256], y[i : i + 256]) for i in range(0, len(x), 256)]
    test = [(digits.test_inputs, digits.test_labels)]
    return {name: buffer_losses(model, average, batches, test, loss_fn) for name, average in averages.items()}


def mean(name, statistics):
    return sum(getattr(losses(seed)[name], statistics) for seed in SEEDS) / len(SEEDS)


@pytest.mark.slow
def test_recomputed_statistics_are_best_and_the_last_ones_can_undo_the_gain():
    plain = mean("last", "last")
    for name in ("ema", "window", "two points"):
        assert mean(name, "recomputed") < mean(name, "averaged") < mean(name, "last")
        assert mean(name, "recomputed") < 0.85 * plain
    assert mean("window", "last") > 1.25 * mean("window", "averaged")
    assert mean("two points", "last") > plain  # worse than not averaging at all
    assert all(losses(seed)["last"].last == pytest.approx(losses(seed)["last"].averaged) for seed in SEEDS)
