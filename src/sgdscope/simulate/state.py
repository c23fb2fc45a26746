"""State: where an ensemble stands, all it takes to go on as if it had never stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sgdscope.simulate import keyed
from sgdscope.simulate.formula import Precision
from sgdscope.simulate.kernel import BLOCK
from sgdscope.simulate.process import Process, Update

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class State:
    """Replicas after some steps.

    Attributes:
        step: steps done.
        seed, first, precision, fast: as given to `ensemble`.
        rows: positions, then memory, of shape (rows, replicas).
        words: keys of the trajectories, or states of their fast generators.
        spare: the number left over by an odd draw, for each replica.
        passage: the step of first passage, or −1, for each replica.
    """

    step: int
    seed: int
    first: int
    precision: Precision
    fast: bool
    rows: Array
    words: Array
    spare: Array
    passage: Array

    @classmethod
    def begin(
        cls,
        landscape: Any,
        process: Process,
        update: Update,
        positions: Array,
        seed: int,
        first: int,
        precision: Precision,
        fast: bool,
    ) -> State:
        """Replicas at their start, positions of shape (dimension, replicas).

        Raises ValueError for a precision it does not know and a first trajectory that does not begin a block.
        """
        if precision not in ("float32", "float64"):
            raise ValueError(f"expected precision 'float32' or 'float64', got {precision!r}")
        if first % BLOCK:
            raise ValueError(f"expected a first trajectory that is a multiple of {BLOCK}, got {first}")
        replicas = positions.shape[1]
        keys = keyed.trajectory_keys(seed, first, replicas)
        rows = np.concatenate([positions, process.memory_at(landscape, positions)]).astype(precision)
        words = keyed.xoshiro_words(keys) if fast else keys
        spare = np.zeros(replicas, dtype=np.float64 if update.draw == "sample" else precision)  # holds words there
        return cls(0, seed, first, precision, fast, rows, words, spare, np.full(replicas, -1, np.int64))
