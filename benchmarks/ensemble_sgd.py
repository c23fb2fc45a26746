"""SGD itself: steps of a chain of weights per second, a sample drawn for each, against its random numbers alone.

The task is online SGD on (∏ u · x − y)² with y = x + ε/2, x and ε standard normal, batches of one, single precision.
The ceiling is the time that the two normal numbers of a step take: in C for the fast generator, in a kernel of ours
that does nothing else for either. Everything is timed in turns in one process on one core.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.ensemble import REPLICAS, STEPS, probe, probed
from benchmarks.harness import Ratio, Row, interleaved
from sgdscope.simulate import ensemble
from sgdscope.simulate.data import SGD, Pairs, ScalarNetwork, Stream
from sgdscope.simulate.process import Update, symbols

RATE = 0.01
NOISE = 0.5
DEPTHS = (1, 2, 3)
ROUNDS = 7
STREAM = Stream.gaussian(1.0, NOISE**2)
TORCH_STEPS = STEPS // 40


@dataclass(frozen=True)
class NormalsAlone(SGD):
    """Two normal numbers in a step, and as little else as there can be."""

    def update(self, landscape: Any) -> Update:  # noqa: D102
        first, second = symbols("_z", 2)
        return Update(landscape.symbols, (), (first + second,), (first, second))


def ours(
    depth: int, data: Stream | Pairs = STREAM, process: SGD | None = None, **settings: Any
) -> Callable[[], object]:
    """One run of an ensemble, all it takes included."""
    network = ScalarNetwork(depth, data)
    start = network.balanced(0.8)
    return lambda: ensemble(
        network, process or SGD(RATE), replicas=REPLICAS, steps=STEPS, start=start, threads=1, **settings
    )


def in_torch(depth: int) -> Callable[[], object]:
    """Eager operations with the gradient in closed form."""
    x, y = torch.empty(REPLICAS), torch.empty(REPLICAS)

    def run() -> float:
        weights = [torch.full((REPLICAS,), 0.8 ** (1 / (depth + 1))) for _ in range(depth + 1)]
        for _ in range(TORCH_STEPS):
            x.normal_()
            y.normal_().mul_(NOISE).add_(x)
            others = [_product(weights[:k] + weights[k + 1 :]) for k in range(depth + 1)]
            slope = (weights[0] * others[0]).mul_(x).sub_(y).mul_(x).mul_(2 * RATE)
            for weight, other in zip(weights, others, strict=True):
                weight.addcmul_(slope, other, value=-1)
        return float(weights[0].sum())

    return run


def _product(factors: list[torch.Tensor]) -> torch.Tensor:
    """A tensor of its own: weights change in place."""
    return factors[0].clone() if len(factors) == 1 else math.prod(factors[1:], start=factors[0])


def rows() -> Iterator[Row]:
    random = np.random.default_rng(0)
    x = random.standard_normal(1000)
    finite = Pairs(x, x + NOISE * random.standard_normal(1000))
    with tempfile.TemporaryDirectory() as folder:
        library = probe(Path(folder))
        actions = {"keyed ceiling": ours(0, process=NormalsAlone(RATE))}
        if isinstance(library, str):
            yield Row("SGD on a chain of weights against normals in C", library)
        else:  # it draws one number per step
            actions["ceiling"] = probed(library, "generator", 0.0, 0.0)
        for depth in DEPTHS:
            actions[f"fast {depth}"] = ours(depth, fast=True)
            actions[f"keyed {depth}"] = ours(depth)
            actions[f"torch {depth}"] = in_torch(depth)
        actions["finite"] = ours(1, finite)
        actions["batch"] = ours(1, finite, SGD(RATE, 8, replacement=False))
        times = interleaved(actions, rounds=ROUNDS)
    if "ceiling" in times:
        times["ceiling"] = [2 * seconds for seconds in times["ceiling"]]
        rate = REPLICAS * STEPS / min(times["ceiling"])
        yield Row("limit: two normal numbers per step, xoshiro128+ in C", f"{rate:.3g} replica-steps/s on one core")
    for depth in DEPTHS:
        for kind, ceiling, against in (("fast", "ceiling", "normals alone in C"),
                                       ("keyed", "keyed ceiling", "keyed normals alone")):  # fmt: skip
            if ceiling in times:
                ratio = Ratio.of(times[ceiling], times[f"{kind} {depth}"])
                figure = f"SGD on {depth + 1} layers, {kind} generator"
                yield Row(figure, f"{ratio} of the limit", against, "≥ 0.7", ratio.median >= 0.7)
        slow = [seconds * STEPS / TORCH_STEPS for seconds in times[f"torch {depth}"]]
        for kind, bar in (("fast", 8), ("keyed", None)):
            ratio = Ratio.of(slow, times[f"{kind} {depth}"])
            yield Row(f"SGD on {depth + 1} layers, {kind}, against torch", f"{ratio} × as fast",
                      "torch, eager, gradient in closed form", f"≥ {bar}" if bar else "-",
                      ratio.median >= bar if bar else None)  # fmt: skip
    for name, figure in (("finite", "SGD on 2 layers, samples of 1000, keyed"),
                         ("batch", "the same in batches of 8 without replacement")):  # fmt: skip
        draws = 8 if name == "batch" else 1
        yield Row(figure, f"{REPLICAS * STEPS * draws / min(times[name]):.3g} samples/s on one core")
