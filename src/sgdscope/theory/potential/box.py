"""Boxes: the region in which critical points are looked for, as the caller gave it or as the landscape suggests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sgdscope.theory.potential.compiled import Array, Compiled

Box = tuple[tuple[float, float], ...]
OCTAVES = range(20, -21, -1)
"""Distances from the origin that are looked at, as powers of two."""


def as_box(box: Sequence[Any] | None, dimension: int) -> Box | None:
    """A checked box: (low, high) for each variable; in one dimension also a bare pair. None stays None.

    Raises ValueError unless all low < high are finite and there is one pair for each variable.
    """
    if box is None:
        return None
    pairs = np.asarray(box, dtype=float)
    if dimension == 1 and pairs.shape == (2,):
        pairs = pairs[None]
    if pairs.shape != (dimension, 2) or not np.all(np.isfinite(pairs)) or not np.all(pairs[:, 0] < pairs[:, 1]):
        raise ValueError(f"expected a box of {dimension} pairs (low, high) with low < high, got {box}")
    return tuple((float(low), float(high)) for low, high in pairs)


def directions(dimension: int, number: int) -> Array:
    """Unit vectors spread evenly, the axes among them, the same at each call; of shape (m, n) with m ≥ number."""
    axes = np.concatenate([np.eye(dimension), -np.eye(dimension)])
    if dimension == 1:
        return axes
    if dimension == 2:
        angles = 2 * np.pi * np.arange(number) / number
        return np.concatenate([axes, np.stack([np.cos(angles), np.sin(angles)], axis=-1)])
    normal = np.random.default_rng(0).standard_normal((number, dimension))
    return np.concatenate([axes, normal / np.linalg.norm(normal, axis=1, keepdims=True)])


def automatic_box(compiled: Compiled) -> Box:
    """The smallest cube around the origin, in powers of two, beyond which no critical point was seen.

    Beyond it the slope along every ray from the origin keeps its sign, and in more than one dimension goes up, on a
    dense sample out to 1e6. Raises ValueError if that holds nowhere: the caller has to say where to look.
    """
    n = compiled.dimension
    rays = directions(n, 64 * n if n > 1 else 2)
    steps = np.linspace(1, 2, 200 if n == 1 else 12)
    outer = np.zeros(len(rays))
    for octave in OCTAVES:
        points = 2.0**octave * steps[::-1, None, None] * rays
        slopes = np.sign(np.einsum("srn,rn->sr", compiled.gradient(points), rays))
        slopes = np.where(np.isnan(slopes), 0, slopes)
        if n > 1:
            seen = bool(np.any(slopes < 0))
        else:
            trail = np.concatenate([outer[None], slopes])
            seen = any(np.unique(side[side != 0]).size > 1 for side in trail.T)
            outer = np.array([side[side != 0][-1] if side.any() else 0 for side in trail.T])
        if seen:
            if octave == OCTAVES[0]:
                raise ValueError(
                    "found critical points or downward slopes as far as 1e6 from the origin: "
                    "give the box to look at, as in box=(-5, 5) for one variable or ((-5, 5), (-5, 5)) for two"
                )
            return ((-(2.0 ** (octave + 1)), 2.0 ** (octave + 1)),) * n
    return ((-1.0, 1.0),) * n
