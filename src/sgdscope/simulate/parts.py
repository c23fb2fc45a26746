"""Parts: a large ensemble cut into parts of a fixed size, done by processes or a cluster, and joined in order.

A trajectory depends only on the seed and its number, and parts are the same whoever does them: so is the whole.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np

from sgdscope._version import __version__
from sgdscope.executors import Executor, TaskError, in_order
from sgdscope.simulate import lanes
from sgdscope.simulate.ensembles import Ensemble, ensemble, join
from sgdscope.simulate.kernel import BLOCK
from sgdscope.simulate.plan import as_landscape
from sgdscope.simulate.process import Process
from sgdscope.simulate.record import Record
from sgdscope.simulate.state import State

Task = tuple[Any, Process, dict[str, Any], str]


def ensemble_in_parts(
    landscape: Any,
    process: Process,
    *,
    steps: int,
    start: Any,
    replicas: int | None = None,
    record: Record | Sequence[Record] = (),
    first: int = 0,
    part: int = 1 << 18,
    executor: Executor = None,
    retries: int = 2,
    progress: bool | Callable[[float], None] = False,
    **settings: Any,
) -> Ensemble:
    """`ensemble`, with the work done elsewhere: the same result to the last bit for any number of workers.

    That holds on processors of one kind; others may round differently.

    Args:
        landscape: as for `ensemble`, as are the next six; to be pickled for the workers.
        process: the rule of motion.
        steps: how many to do.
        start: a point, one for each replica, or an `Ensemble` or its state to go on from.
        replicas: how many in all.
        record: what is recorded.
        first: number of the first trajectory.
        part: replicas of a part, a multiple of 65536. Paths are those of the first one.
        executor: by default a process on each core; a number of them, ``"tcp://…"`` for a Dask cluster, or an executor
            (see `executors.Executor`).
        retries: how often a part whose worker was lost is begun again.
        progress: True for a bar over parts, or a function of the share done.
        settings: seed, precision, fast, backend, device as for `ensemble`; threads of each part, by default 1.

    Cost: all states are brought together here, about 50 bytes for each replica in one dimension.

    An interrupt stops the workers and returns the parts that are complete up to the first that is not, marked; it is
    passed on if there is none. Raises ValueError for what `ensemble` refuses, and `executors.TaskError` if a part is
    lost too often.
    """
    if part < 1 or part % lanes.PART:
        raise ValueError(f"expected parts of a multiple of {lanes.PART} replicas, got {part}")
    landscape = as_landscape(landscape)
    state = start.state if isinstance(start, Ensemble) else start
    total = state.rows.shape[1] if isinstance(state, State) else replicas
    if not (isinstance(total, int) and total >= 1):
        raise ValueError(f"expected a number of replicas ≥ 1, got {replicas}")
    one_point = np.ndim(start) < (1 if len(landscape.symbols) == 1 else 2)
    shared = {"steps": steps, "record": record, "threads": 1, **settings}

    def cut(begin: int, end: int) -> Any:
        return _cut(state, begin, end, one_point)

    def task(begin: int) -> Task:
        end = min(begin + part, total)
        mine = {**shared, "start": cut(begin, end), "replicas": end - begin, "first": first + begin}
        return landscape, process, mine, __version__

    begins = range(0, total, part)
    if settings.get("backend", "numba") == "numba":
        # what would be refused there is refused here, and processes of this machine find the kernel on disk
        few = min(total, BLOCK)
        ensemble(landscape, process, **{**shared, "steps": 1, "start": cut(0, few), "replicas": few, "first": first})
    done: list[Ensemble] = []
    bar = progress if isinstance(progress, bool) else lambda count: progress(count / len(begins))
    tasks = _Tasks(task, begins)
    with closing(in_order(_run, tasks, executor=executor, retries=retries, progress=bar)) as results:
        try:
            for result in results:
                if result.interrupted:  # in this process
                    raise KeyboardInterrupt
                done.append(result)
        except KeyboardInterrupt:
            if not done:
                raise
            return replace(join(done), interrupted=True)
        except TaskError as error:
            if isinstance(error.__cause__, ValueError):
                raise error.__cause__ from error
            raise
    return join(done)


class _Tasks(Sequence[Task]):
    """Tasks made when their turn comes, as a start for each replica is a copy."""

    def __init__(self, task: Callable[[int], Task], begins: range) -> None:
        self._task, self._begins = task, begins

    def __len__(self) -> int:
        return len(self._begins)

    def __getitem__(self, index: Any) -> Any:
        return self._task(self._begins[index])


def _run(task: Task) -> Ensemble:
    landscape, process, settings, version = task
    if version != __version__:
        raise ValueError(
            f"expected workers with sgdscope {version}, got one with {__version__} on {platform.node()}: "
            "other code may give other numbers"
        )
    return ensemble(landscape, process, **settings)


def _cut(start: Any, begin: int, end: int, one_point: bool) -> Any:
    """The start of some replicas out of that of all."""
    if isinstance(start, State):
        columns = {name: getattr(start, name)[..., begin:end] for name in ("rows", "words", "spare", "passage")}
        return replace(start, first=start.first + begin, **columns)
    return start if one_point else np.asarray(start)[begin:end]
