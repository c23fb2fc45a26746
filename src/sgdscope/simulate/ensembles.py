"""Ensembles: many replicas of one process on one landscape, reduced as they run to what was asked for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sgdscope.simulate import compiling, door, keyed, result
from sgdscope.simulate.formula import Precision
from sgdscope.simulate.kernel import BOUND
from sgdscope.simulate.lanes import STRETCH, Lanes, Motion
from sgdscope.simulate.plan import Plan, as_landscape
from sgdscope.simulate.process import Process
from sgdscope.simulate.record import Average, Course, FirstPassage, Histogram, Paths, Record
from sgdscope.simulate.state import State

Array = np.ndarray[Any, Any]
Progress = bool | Callable[[float], None]
Backend = Literal["numba", "torch"]


@dataclass(frozen=True)
class Ensemble:
    """What became of an ensemble, and what was recorded of it; None for what was not asked for.

    Attributes:
        landscape, process: what was run.
        state: where it stands; the `start` to go on from.
        dimension: of the landscape.
        steps: done in this run.
        interrupted: whether that is fewer than asked for; all replicas are at the same step.
        diverged: which replicas are beyond bounds or not a number, a mask; averages and passage times leave them out.
        seconds: wall time of the steps, without compiling.
        work: replica-steps computed.
        histogram, averages, course, passage, paths: the records.
    """

    landscape: Any
    process: Process
    state: State
    dimension: int
    steps: int
    interrupted: bool
    diverged: Array
    seconds: float
    work: int
    histogram: result.Counted | None = None
    averages: result.Averaged | None = None
    course: result.Followed | None = None
    passage: result.Passed | None = None
    paths: result.Kept | None = None

    @property
    def replicas(self) -> int:
        """Number of replicas."""
        return int(self.state.rows.shape[1])

    @property
    def time(self) -> float:
        """At which it stands, in the time of the process."""
        return self.state.step * self.process.duration

    @property
    def positions(self) -> Array:
        """Last positions: of shape (replicas,) in one dimension, else (replicas, dimension); NaN if taken out."""
        rows = self.state.rows[: self.dimension]
        return rows[0] if self.dimension == 1 else rows.T

    @property
    def memory(self) -> Array:
        """Last values of the process's further state, of shape (rows, replicas): for `Kinetic` first the velocities."""
        return self.state.rows[self.dimension :]


def ensemble(
    landscape: Any,
    process: Process,
    *,
    steps: int,
    start: Any,
    replicas: int | None = None,
    seed: int = 0,
    record: Record | Sequence[Record] = (),
    threads: int | None = None,
    precision: Precision = "float32",
    fast: bool = False,
    progress: Progress = False,
    first: int = 0,
    backend: Backend = "numba",
    device: str = "cpu",
) -> Ensemble:
    """Runs replicas of a process on a landscape.

    For example the time over a barrier with noise that varies, from 10⁵ replicas, with its error::

        noisy = Overdamped(temperature=0.25, step=0.02, diffusion="1 + x**2/2", scheme="platen")
        escape = FirstPassage(until="x > 0")
        found = ensemble("x**4/4 - x**2/2", noisy, replicas=100_000, steps=4000, start=-1.0, record=escape)
        print(found.passage.mean_time)

    The randomness of a replica depends only on the seed, its number and the step: results are the same to the last bit
    for any number of threads, for an ensemble run in parts (`first`, `join`), and stopped and taken up again (`start`).
    Equal seeds on different settings give common random numbers.

    Args:
        landscape: a `theory.potential.Potential`, or its formula in x.
        process: `Overdamped`, `Kinetic`, `GaussianSGD`, `SGLD`, or anything like `process.Process`.
        steps: how many steps to do.
        start: a point, one for each replica (of shape (replicas, dimension)), or an `Ensemble` or its state to go on
            from. Then number of replicas, seed, precision and generator are its own, and records are of the new steps;
            only passage times go on from step 0.
        replicas: how many.
        seed: from 0 to 2**64 − 1.
        record: `Histogram`, `Average`, `Course`, `FirstPassage`, `Paths`; at most one of each.
        threads: default: all cores this process may use.
        precision: of the state; normals are of single precision either way. ``"float64"`` takes about twice the time,
            and is needed where a step moves less than 1e-7 of a coordinate.
        fast: xoshiro128+ instead of Threefry, for up to twice the speed. Replicas carry its words with them, so that
            all of the above still holds.
        progress: True for a bar, or a function of the share done. It may raise KeyboardInterrupt.
        first: number of the first trajectory, a multiple of 512. Courses of parts join to the last bit at multiples of
            65536, all other records at any.
        backend: ``"torch"`` does the same by torch operations, on any device or where there is no Numba: with the same
            random integers, so that paths agree to rounding. On a CPU at about a tenth of the speed.
        device: of torch: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, … Elsewhere than on a CPU torch compiles the step, in
            about a minute.

    Cost: one kernel is compiled for each landscape, kind of process and kind of record (seconds; kept on disk); then
    about 1e9 replica-steps per second and core of 512-bit registers for a polynomial in one dimension.

    An interrupt (Ctrl-C) ends the run after the current slice and returns what is done so far, marked. Raises
    ValueError before anything runs for a landscape that does not confine, a step above the limit of stability, a start
    outside the domain or inside the target, and records beyond memory.
    """
    records = (record,) if isinstance(record, Histogram | Average | Course | FirstPassage | Paths) else tuple(record)
    if not (isinstance(steps, int) and steps >= 0) or (threads is not None and threads < 1):
        raise ValueError(f"expected steps ≥ 0 and threads ≥ 1, whole numbers, got {steps} and {threads}")
    if backend not in ("numba", "torch") or (backend == "numba" and device != "cpu"):
        raise ValueError(f"expected backend 'numba' on device 'cpu', or 'torch', got {backend!r} on {device!r}")
    landscape, threads = as_landscape(landscape), (threads or _cores()) if backend == "numba" else 1
    state = start.state if isinstance(start, Ensemble) else start
    if isinstance(state, State):
        plan = Plan.of(landscape, process, records, None)
        if len(plan.update.new) != len(state.rows):
            raise ValueError(f"expected a state of {len(plan.update.new)} rows to go on from, got {len(state.rows)}")
    else:
        if not (isinstance(replicas, int) and replicas >= 1):
            raise ValueError(f"expected a number of replicas ≥ 1, got {replicas}")
        points = door.starting_points(start, len(landscape.symbols), replicas)
        plan = Plan.of(landscape, process, records, points)
        plan.check(points)
        plan.check_memory(replicas, threads)
        positions = np.broadcast_to(points, (len(points), replicas))
        state = State.begin(landscape, process, plan.update, positions, seed, first, precision, fast)
    if (draws := (state.step + steps) * plan.update.rounds) > keyed.MAX_DRAWS:
        raise ValueError(f"expected at most {keyed.MAX_DRAWS} draws of a replica, got {draws}")
    plan.check_memory(state.rows.shape[1], threads)
    kernel = _kernel(plan, state, backend, device)
    return _run(plan, state, steps, threads, progress, kernel, 1 if device == "cpu" else STRETCH)


def join(parts: Sequence[Ensemble]) -> Ensemble:
    """The ensemble that parts of it amount to, run with successive `first`: the same to the last bit as run in one.

    Paths are those of the first part. Raises ValueError for parts that do not follow one another or differ in step.
    """
    head = parts[0]
    following = head.state.first
    for part in parts:
        if part.state.first != following or part.state.step != head.state.step or part.steps != head.steps:
            raise ValueError(
                f"expected parts that follow one another and have done the same steps, got one from trajectory "
                f"{part.state.first} on, at step {part.state.step}, where {following} and {head.state.step} were due"
            )
        following += part.replicas
    state = State(
        head.state.step, head.state.seed, head.state.first, head.state.precision, head.state.fast,
        *(np.concatenate([getattr(part.state, name) for part in parts], axis=-1)
          for name in ("rows", "words", "spare", "passage")),
    )  # fmt: skip
    return Ensemble(
        head.landscape, head.process, state, head.dimension, head.steps, any(part.interrupted for part in parts),
        np.concatenate([part.diverged for part in parts]), sum(part.seconds for part in parts),
        sum(part.work for part in parts),
        head.histogram and result.joined_counts([part.histogram for part in parts if part.histogram]),
        head.averages and result.joined_averages([part.averages for part in parts if part.averages]),
        head.course and result.joined_courses([part.course for part in parts if part.course]),
        head.passage and result.joined_passages([part.passage for part in parts if part.passage]),
        head.paths,
    )  # fmt: skip


def _kernel(plan: Plan, state: State, backend: Backend, device: str) -> Callable[..., None]:
    if backend == "numba":
        compiled: Callable[..., None] = compiling.kernel(plan.text(state.precision, state.fast))
        return compiled
    from sgdscope.simulate.torch_backend import TorchKernel

    return TorchKernel(plan.update, plan.recorded, tuple(plan.numbers), state.precision, state.fast, device=device)


def _run(
    plan: Plan, state: State, steps: int, threads: int, progress: Progress, kernel: Callable[..., None], stretch: int
) -> Ensemble:
    update, followed = plan.update, plan.recorded.followed
    averaged = len(plan.recorded.averaged) + 1 if plan.recorded.averaged else 0
    paths, replicas = plan.record(Paths), state.rows.shape[1]
    motion = Motion(
        kernel, np.array(list(plan.numbers.values()), dtype=state.precision), plan.times, update.rounds, update.signs,
        plan.cells, 1 + 2 * len(followed) if followed else 0, min(paths.count, replicas) if paths else 0,
        len(update.positions), plan.sheds, threads,
        None if update.table is None else np.ascontiguousarray(update.table, dtype=state.precision).ravel(),
        4 if threads > 1 else 1, stretch,
    )  # fmt: skip
    lanes = Lanes.of(state.rows, state.words, state.spare, state.passage, averaged)
    motion.compile(lanes)
    begin = time.perf_counter()
    with _told(progress, steps) as tell:
        done = motion.run(lanes, state.step, steps, tell)
    seconds = time.perf_counter() - begin
    return _result(plan, state, lanes, motion, done, steps, seconds)


def _result(plan: Plan, before: State, lanes: Lanes, motion: Motion, done: int, steps: int, seconds: float) -> Ensemble:
    replicas, n = before.rows.shape[1], len(plan.update.positions)
    lanes.settle()
    state = State(
        before.step + done, before.seed, before.first, before.precision, before.fast, lanes.state[:, :replicas],
        lanes.words[:, :replicas], lanes.spare[:replicas], lanes.passage[:replicas],
    )  # fmt: skip
    with np.errstate(invalid="ignore"):
        inside = (np.abs(state.rows[:n]) <= plan.numbers[BOUND]).all(axis=0)
    passage, averaged, followed = plan.record(FirstPassage), plan.record(Average), plan.record(Course)
    counted, paths = plan.record(Histogram), plan.record(Paths)
    taken_out = (state.passage >= 0) & (passage is not None and passage.absorb)
    diverged = ~inside & ~taken_out
    duration = plan.process.duration

    def times(every: int) -> Array:
        begin = -(-before.step // every) * every
        return np.arange(begin, state.step, every) * duration

    return Ensemble(
        plan.landscape, plan.process, state, n, done, done < steps, diverged, seconds, motion.work,
        result.Counted(counted, motion.counts) if counted else None,
        result.Averaged(averaged, lanes.sums[:, :replicas], diverged) if averaged else None,
        result.Followed(followed, times(followed.every), motion.all_rows) if followed else None,
        result.Passed(passage, state.passage, state.step, duration, diverged) if passage else None,
        result.Kept(paths, times(paths.every), motion.all_paths) if paths else None,
    )  # fmt: skip


def _told(progress: Progress, steps: int) -> Any:
    """A context that gives a function of the steps done."""
    if progress is True:
        return _Bar(steps)
    if callable(progress):
        return nullcontext(lambda done: progress(done / steps))
    return nullcontext(lambda done: None)


class _Bar:
    def __init__(self, steps: int) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=steps, unit="step", unit_scale=True)

    def __enter__(self) -> Callable[[int], None]:
        def tell(done: int) -> None:
            self._bar.update(done - self._bar.n)

        return tell

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
