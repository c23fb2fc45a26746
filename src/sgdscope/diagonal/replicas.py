"""Replicas: many runs of the full network under SGD with batches that are really drawn, and what became of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sgdscope.diagonal.motion import Motion
from sgdscope.diagonal.setting import Setting
from sgdscope.simulate import Ensemble, FirstPassage, Paths, ensemble
from sgdscope.simulate.record import Record

Array = NDArray[np.float64]
Progress = bool | Callable[[float], None]

_BEYOND = "1e-9"
"""Size from which on v counts as across 0: what sinks to 0 ends up there to the last bit."""
_PATHS, _LOOKS = 256, 200


@dataclass(frozen=True)
class Replicas:
    """Independent runs from one start, at half time and at the end.

    Attributes:
        setting: what was run.
        start: weights, shape (n,).
        count: of the replicas.
        steps: done in all.
        middle: weights v_i of the subnetworks at half time, shape (replicas, width).
        end: the same at the end.
        diverged: share of the replicas that left all bounds; they are left out of `middle` and `end`.
        crossed: share of the replicas whose v ever was on the other side of 0 than the start, after some step; None if
            the start is 0.
        interrupted: whether that is fewer steps than asked for.
        times: of looks along the way, in learning rate · steps, shape (looks,).
        paths: v of the first replicas at these, shape (looks, paths).
    """

    setting: Setting
    start: Array
    count: int
    steps: int
    middle: Array
    end: Array
    diverged: float
    crossed: float | None
    interrupted: bool
    times: Array
    paths: Array

    @property
    def v(self) -> Array:
        """Weight of the whole network at the end, shape (replicas,)."""
        found: Array = self.end.sum(-1)
        return found

    @property
    def earlier(self) -> Array:
        """The same at half time."""
        found: Array = self.middle.sum(-1)
        return found

    @property
    def time(self) -> float:
        """Learning rate · steps."""
        return self.setting.lr * self.steps


def run(
    setting: Setting, start: Array, *, steps: int, replicas: int, seed: int = 0, threads: int | None = None,
    progress: Progress = False,
) -> Replicas:  # fmt: skip
    """Run replicas from one start.

    Raises ValueError for fewer than two steps, and for a start at which some batch cannot be taken.
    """
    if steps < 2:
        raise ValueError(f"expected at least 2 steps, got {steps}")
    v = float(setting.subnetworks(start).sum())
    across = f"{setting.network.weight} < -{_BEYOND}" if v > 0 else f"{setting.network.weight} > {_BEYOND}"
    record: list[Record] = [Paths(_PATHS, max(1, steps // _LOOKS))]
    if v:
        record.append(FirstPassage(until=across, absorb=False))
    half = steps // 2
    first = ensemble(
        setting.network, setting.process, steps=half, start=start, replicas=replicas, seed=seed, record=record,
        threads=threads, precision=Motion(setting).precision, fast=True, progress=_part(progress, 0.0, 0.5),
    )  # fmt: skip
    whole = ensemble(setting.network, setting.process, steps=0 if first.interrupted else steps - half, start=first,
                     record=record, threads=threads, progress=_part(progress, 0.5, 1.0))  # fmt: skip
    kept = ~(whole.diverged | first.diverged)
    crossed = None
    if whole.passage is not None:
        crossed = float((whole.passage.steps[kept] >= 0).mean()) if kept.any() else 0.0
    return Replicas(
        setting, start, replicas, first.steps + whole.steps, _subnetworks(setting, first.positions[kept]),
        _subnetworks(setting, whole.positions[kept]), float(1 - kept.mean()), crossed,
        first.interrupted or whole.interrupted,
        *(np.concatenate(parts) for parts in zip(_paths(setting, first), _paths(setting, whole), strict=True)),
    )  # fmt: skip


def _paths(setting: Setting, found: Ensemble) -> tuple[Array, Array]:
    """Times, and v of the first replicas."""
    assert found.paths is not None
    positions = np.moveaxis(found.paths.positions, 1, -1).astype(np.float64)
    return found.paths.times, setting.subnetworks(positions).sum(-1)


def _subnetworks(setting: Setting, positions: Array) -> Array:
    return setting.subnetworks((positions if positions.ndim > 1 else positions[:, None]).astype(np.float64))


def _part(progress: Progress, begin: float, end: float) -> Progress:
    """Progress of a stretch of the whole; a bar is drawn for each stretch by itself."""
    if not callable(progress):
        return progress
    return lambda share: progress(begin + (end - begin) * share)
