"""Door: what is looked at before an ensemble runs, each with one sentence on what to do instead."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from sgdscope.simulate.process import Process
from sgdscope.simulate.record import FirstPassage, Histogram, Record

Array = np.ndarray[Any, Any]


def check_landscape(landscape: Any) -> None:
    """Raises ValueError for names of coordinates that kernels keep for themselves."""
    for symbol in landscape.symbols:
        if symbol.name.startswith("_"):
            raise ValueError(f"expected names of coordinates that begin with a letter, got {symbol.name!r}")


def check_confining(landscape: Any, records: tuple[Record, ...]) -> None:
    """Raises ValueError for a landscape that lets replicas go, unless those that go are taken out."""
    taken_out = any(isinstance(record, FirstPassage) and record.absorb for record in records)
    if not taken_out and hasattr(landscape, "confining") and not (found := landscape.confining()):
        raise ValueError(
            f"expected a landscape that keeps replicas in, got one that is {found}: "
            "record a FirstPassage that takes them out"
        )


def check_step(landscape: Any, process: Process) -> None:
    """Raises ValueError for a step that no minimum stands; of a differential equation for one that some does not.

    A recursion may well be unstable in one well and settle in another.
    """
    try:
        minima = list(landscape.minima)
    except (AttributeError, ValueError):  # none can be looked for
        return
    if not minima:
        return
    limit = process.curvature_limit
    curvatures = [max(point.eigenvalues) for point in minima]
    sharpest, flattest = max(curvatures), min(curvatures)
    if process.continuous and sharpest > limit:
        raise ValueError(
            f"expected a step that is stable in every minimum, got curvature {sharpest:.4g} in one and at most "
            f"{limit:.4g} for a step of {process.duration:g}: take a smaller step"
        )
    if not process.continuous and flattest > limit:
        raise ValueError(
            f"expected a learning rate that is stable in some minimum, got curvatures from {flattest:.4g} on and at "
            f"most {limit:.4g} for a learning rate of {process.duration:g}: take a smaller one"
        )


def starting_points(start: Any, dimension: int, replicas: int) -> Array:
    """Positions of shape (dimension, 1) or (dimension, replicas), from one point or one for each replica.

    Raises ValueError for other shapes and numbers that are not finite.
    """
    given = np.asarray(start, dtype=np.float64)
    if dimension == 1 and given.shape in ((), (replicas,)):
        found = given.reshape(1, -1)
    elif given.shape == (dimension,):
        found = given[:, None]
    elif given.shape == (replicas, dimension):
        found = given.T
    else:
        one = "a number" if dimension == 1 else f"{dimension} numbers"
        raise ValueError(f"expected a start of {one}, or of shape ({replicas}, {dimension}), got shape {given.shape}")
    if not np.all(np.isfinite(found)):
        raise ValueError("expected finite starting positions")
    return found


def check_domain(landscape: Any, positions: Array) -> None:
    """Raises ValueError where the landscape or its slope is not a finite real number at a start."""
    if not hasattr(landscape, "value"):
        return
    at = np.unique(positions.T, axis=0)[:: max(1, positions.shape[1] // 100_000)]
    points = at[:, 0] if len(positions) == 1 else at
    try:
        landscape.value(points)
        landscape.gradient(points)
    except ValueError as error:
        raise ValueError(f"expected a start inside the domain of the landscape: {error}") from error


def check_memory(histogram: Histogram | None, copies: int, others: int) -> None:
    """Raises ValueError if a histogram in so many copies, or the rest in bytes, is beyond the memory there is."""
    free = _free_memory()
    if histogram is not None:
        size = math.prod(histogram.ranges[2]) * 8 * copies
        if size > free:
            raise ValueError(
                f"expected a histogram that fits into memory, got {math.prod(histogram.ranges[2])} bins, which take "
                f"{size / 2**30:.3g} GiB in {copies} copies where {free / 2**30:.3g} GiB are free: take fewer bins"
            )
    if others > free:
        raise ValueError(
            f"expected an ensemble that fits into memory, got one of {others / 2**30:.3g} GiB where "
            f"{free / 2**30:.3g} GiB are free: run it in parts (first=…) or record less"
        )


def _free_memory() -> float:
    """Bytes; infinite where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError, AttributeError):
        return math.inf


def check_inside(inside: Array, what: str) -> None:
    """Raises ValueError if a start has arrived before the first step."""
    if inside.any():
        many = f"{int(inside.sum())} of {len(inside)} starts" if len(inside) > 1 else "the start"
        raise ValueError(f"expected every replica to start {what}, but {many} would have arrived already")
