"""Ensembles against rivals: the double well of `ensemble` in torch, NumPy, torchsde and diffrax, on one core."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.ensemble import REPLICAS, STEP, STEPS, TEMPERATURE, ours
from benchmarks.harness import Ratio, Row, interleaved, optional

NEEDS_RIVALS = True


def in_torch(steps: int = STEPS // 20, dtype: torch.dtype = torch.float32) -> Callable[[], object]:
    """Eager operations in place."""
    x, noise = torch.full((REPLICAS,), -1.0, dtype=dtype), torch.empty(REPLICAS, dtype=dtype)
    size = math.sqrt(2 * TEMPERATURE * STEP)

    def run() -> float:
        x.fill_(-1)
        for _ in range(steps):
            noise.normal_()
            squares = x * x
            drift = squares.sub(1).mul_(x)
            noise.mul_(squares.mul_(0.5).add_(1).sqrt_()).mul_(size)
            x.add_(noise).sub_(drift, alpha=STEP)
        return float(x.sum())

    return run


def in_numpy(steps: int = STEPS // 20) -> Callable[[], object]:
    """NumPy with its fastest generator."""
    generator = np.random.Generator(np.random.SFC64(0))
    size = np.float32(math.sqrt(2 * TEMPERATURE * STEP))

    def run() -> float:
        x = np.full(REPLICAS, -1, np.float32)
        for _ in range(steps):
            squares = x * x
            noise = generator.standard_normal(REPLICAS, dtype=np.float32)
            x += np.float32(STEP) * x * (1 - squares) + size * np.sqrt(1 + squares / 2) * noise
        return float(x.sum())

    return run


def in_torchsde(steps: int = STEPS // 100) -> Callable[[], object] | str:
    """The Euler scheme of torchsde."""
    package = optional("torchsde")
    if isinstance(package, str):
        return package

    class Well:
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t: Any, x: Any) -> Any:
            return x - x**3

        def g(self, t: Any, x: Any) -> Any:
            return (2 * TEMPERATURE * (1 + x * x / 2)).sqrt()

    times = torch.tensor([0.0, steps * STEP])
    start = torch.full((REPLICAS, 1), -1.0)
    return lambda: package.sdeint(Well(), start, times, dt=STEP, method="euler")


def in_diffrax(steps: int = STEPS // 20) -> Callable[[], object] | str:
    """The Euler scheme of diffrax on the whole batch as one state, with its cheapest Brownian path."""
    dx, jax = optional("diffrax"), optional("jax")
    if isinstance(dx, str) or isinstance(jax, str):
        return str(dx if isinstance(dx, str) else jax)
    jnp = jax.numpy
    drift = dx.ODETerm(lambda t, x, _: x - x**3)
    path = dx.UnsafeBrownianPath(shape=(REPLICAS,), key=jax.random.key(0))
    operator: Any = optional("lineax")

    def spread(t: Any, x: Any, _: Any) -> Any:
        return operator.DiagonalLinearOperator(jnp.sqrt(2 * TEMPERATURE * (1 + x * x / 2)))

    terms = dx.MultiTerm(drift, dx.ControlTerm(spread, path))

    @jax.jit
    def solve(x: Any) -> Any:
        found = dx.diffeqsolve(terms, dx.Euler(), 0, steps * STEP, STEP, x, saveat=dx.SaveAt(t1=True),
                               adjoint=dx.DirectAdjoint(), max_steps=steps + 1)  # fmt: skip
        return found.ys

    start = jnp.full(REPLICAS, -1.0, dtype=jnp.float32)
    return lambda: solve(start).block_until_ready()


def rows() -> Iterator[Row]:
    rivals: dict[str, tuple[Callable[[], object] | str, int]] = {
        "torch, eager in place": (in_torch(), STEPS // 20), "NumPy, SFC64": (in_numpy(), STEPS // 20),
        "torchsde, Euler": (in_torchsde(), STEPS // 100), "diffrax, Euler": (in_diffrax(), STEPS // 20),
    }  # fmt: skip
    runnable = {name: action for name, (action, _) in rivals.items() if not isinstance(action, str)}
    times = interleaved({"keyed": ours(), "fast": ours(fast=True), **runnable}, rounds=7)
    for name, (action, steps) in rivals.items():
        if isinstance(action, str):
            yield Row(f"double well against {name}", "-", action)
            continue
        per_step = [seconds * STEPS / steps for seconds in times[name]]
        for generator in ("keyed", "fast"):
            ratio = Ratio.of(per_step, times[generator])
            yield Row(f"double well, {generator}, against {name}", f"{ratio} × as fast", name, "≥ 5", ratio.median >= 5)
