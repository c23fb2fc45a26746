"""Lanes: the state of all replicas as arrays, moved on by a kernel slice by slice, on as many threads as asked for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from sgdscope.simulate.kernel import BLOCK
from sgdscope.simulate.record import GROUPS

Array = np.ndarray[Any, Any]

SLICE = 1 << 27
"""Replica-steps of a slice, some tenths of a second: between slices progress is told and an interrupt is heard."""
STRETCH = 64
"""Slices are so many times as long on an accelerator, which lanes are copied to and from for each."""
PART = 1 << 16
"""Replicas whose sums of a course are added up to one number. Ensembles split at multiples join exactly."""
COURSE_BYTES = 1 << 26
"""Of a course's rows in one slice."""
SHED = 0.75
"""Share of replicas still under way below which the others are shed."""


@dataclass
class Lanes:
    """Arrays with one column for each lane, their number a multiple of the block; lanes without replica are NaN.

    Attributes:
        state: positions and memory.
        words: key of each trajectory, or state of its fast generator.
        spare: the number that an odd draw left over.
        passage: step of first passage, or −1.
        sums: of averages over time.
    """

    state: Array
    words: Array
    spare: Array
    passage: Array
    sums: Array

    @classmethod
    def of(cls, state: Array, words: Array, spare: Array, passage: Array, averages: int) -> Lanes:
        """Fills up blocks. `averages` is the number of rows of sums."""
        replicas = state.shape[1]
        lanes = -(-replicas // BLOCK) * BLOCK

        def padded(array: Array, value: float) -> Array:
            found = np.full((*array.shape[:-1], lanes), value, dtype=array.dtype)
            found[..., :replicas] = array
            return found

        sums = np.zeros((max(averages, 1), lanes if averages else 0))
        return cls(padded(state, np.nan), padded(words, 1), padded(spare, 0), padded(passage, -1), sums)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return int(self.state.shape[1]) // BLOCK

    def settle(self) -> None:
        """Puts everything of lanes that are NaN to fixed values: how far they were carried along says nothing."""
        gone = np.isnan(self.state[0])
        self.state[:, gone] = np.nan
        self.spare[gone] = 0
        if len(self.words) == 4:  # states of the fast generator; keys do not move
            self.words[:, gone] = 1

    def chosen(self, lanes: Array) -> Lanes:
        """Some lanes only; without sums."""
        return Lanes.of(self.state[:, lanes], self.words[:, lanes], self.spare[lanes], self.passage[lanes], 0)

    def put_back(self, part: Lanes, lanes: Array) -> None:
        """Takes over what happened to some lanes."""
        count = len(lanes)
        for name in ("state", "words", "spare", "passage"):
            getattr(self, name)[..., lanes] = getattr(part, name)[..., :count]


@dataclass
class Motion:
    """A kernel with everything it is called with but the lanes and the steps.

    Attributes:
        kernel: see `simulate.kernel`.
        numbers, times, rounds, signs: arguments of it.
        cells: columns of the histogram, 0 for none.
        followed: numbers in a row of the course, 0 for none; `course_every` steps apart.
        paths: number of paths, of a dimension; `paths_every` steps apart.
        sheds: whether lanes that are NaN may be left out, as nothing recorded needs their place.
        threads: to work on.
        table: samples that the kernel draws from.
        tasks: parts that each thread's share of a slice is cut into, for balance.
        stretch: slices are so many times as long.
    """

    kernel: Callable[..., None]
    numbers: Array
    times: Array
    rounds: int
    signs: int
    cells: int
    followed: int
    paths: int
    dimension: int
    sheds: bool
    threads: int
    table: Array | None = None
    tasks: int = 4
    stretch: int = 1
    counts: Array = field(init=False)
    course: list[Array] = field(init=False, default_factory=list)
    kept: list[Array] = field(init=False, default_factory=list)
    work: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        tasks = self.threads * (1 if self.cells > 1 << 13 else self.tasks)
        self._cells = [np.zeros((GROUPS, self.cells), np.int64) for _ in range(tasks)]
        self.counts = np.zeros((GROUPS, self.cells), np.int64)

    @property
    def all_rows(self) -> Array:
        """Of the course, of shape (looks, parts, numbers)."""
        return np.concatenate(self.course) if self.course else np.zeros((0, 1, self.followed))

    @property
    def all_paths(self) -> Array:
        """Of shape (looks, dimension, paths)."""
        return np.concatenate(self.kept) if self.kept else np.zeros((0, self.dimension, self.paths))

    def compile(self, lanes: Lanes) -> None:
        """Calls the kernel for no lane and no step, so that it is compiled before the clock runs."""
        self._call(lanes, 0, 0, 0, 0, self._cells[0], self._rows(0, 0, lanes), self._path_rows(0, 0))

    def run(self, lanes: Lanes, first: int, steps: int, tell: Callable[[int], None]) -> int:
        """Moves lanes on from step `first` and returns the steps done: fewer if interrupted, never part of a slice.

        `tell` hears how many are done after each slice; KeyboardInterrupt out of it or out of waiting ends the run.
        """
        done = 0
        whole = lanes
        order: Array | None = None
        with ThreadPoolExecutor(self.threads) as pool:
            while done < steps:
                if self.sheds:
                    lanes, order = self._shed(whole, lanes, order)
                    if lanes.blocks == 0:
                        done = steps
                        break
                length = min(steps - done, self._slice(lanes))
                interrupted = self._slice_on(pool, lanes, first + done, length)
                done += length
                try:
                    tell(done)
                except KeyboardInterrupt:
                    interrupted = True
                if interrupted:
                    break
        if order is not None:
            whole.put_back(lanes, order)
        for cells in self._cells:
            self.counts += cells
        return done

    def _slice(self, lanes: Lanes) -> int:
        length = max(16, self.stretch * SLICE // (lanes.blocks * BLOCK))
        if self.followed:
            row = lanes.blocks * self.followed * 8
            length = min(length, max(1, COURSE_BYTES // row) * int(self.times[4]))
        return min(length, 1 << 30)

    def _slice_on(self, pool: ThreadPoolExecutor, lanes: Lanes, first: int, steps: int) -> bool:
        """One slice; whether it was interrupted. It is finished all the same, so that all lanes are at one step."""
        tasks = min(len(self._cells), lanes.blocks)
        ends = [lanes.blocks * task // tasks for task in range(tasks + 1)]
        course, paths = self._rows(first, steps, lanes), self._path_rows(first, steps)
        self.work += lanes.blocks * BLOCK * steps
        futures: list[Future[None]] = [
            pool.submit(self._call, lanes, first, steps, begin, end, self._cells[task], course, paths)
            for task, (begin, end) in enumerate(pairwise(ends))
        ]
        interrupted = False
        try:
            wait(futures)
        except KeyboardInterrupt:
            interrupted = True
            wait(futures)
        for future in futures:
            future.result()
        if self.followed:
            self.course.append(_parts(course))
        if self.paths:
            self.kept.append(paths)
        return interrupted

    def _call(
        self, lanes: Lanes, first: int, steps: int, begin: int, end: int, cells: Array, course: Array, paths: Array
    ) -> None:
        samples = () if self.table is None else (self.table,)
        self.kernel(
            lanes.state, lanes.words, lanes.spare, lanes.passage, lanes.sums, cells, course, paths, self.numbers,
            self.times, self.rounds, self.signs, first, steps, begin, end, *samples,
        )  # fmt: skip

    def _rows(self, first: int, steps: int, lanes: Lanes) -> Array:
        count = looks(first, steps, int(self.times[4])) if self.followed else 0
        return np.zeros((count, lanes.blocks, self.followed))

    def _path_rows(self, first: int, steps: int) -> Array:
        count = looks(first, steps, int(self.times[5])) if self.paths else 0
        return np.zeros((count, self.dimension, self.paths))

    def _shed(self, whole: Lanes, lanes: Lanes, order: Array | None) -> tuple[Lanes, Array | None]:
        """The lanes to go on with, and their places in the whole: all as they are, or only those that are not NaN."""
        alive = ~np.isnan(lanes.state[0])
        if alive.sum() > SHED * len(alive):
            return lanes, order
        kept = np.flatnonzero(alive)
        if order is None:
            return lanes.chosen(kept), kept
        whole.put_back(lanes, order)
        return lanes.chosen(kept), order[kept]


def looks(first: int, steps: int, every: int) -> int:
    """How many of the steps first, …, first + steps − 1 are multiples of `every`."""
    return -(-(first + steps) // every) - -(-first // every)


def _parts(course: Array) -> Array:
    """Sums over the blocks of each part, one after the other."""
    per = PART // BLOCK
    rows, blocks, columns = course.shape
    found = np.zeros((rows, -(-blocks // per), columns))
    for part in range(found.shape[1]):
        for block in range(part * per, min(blocks, (part + 1) * per)):
            found[:, part] += course[:, block]
    return found
