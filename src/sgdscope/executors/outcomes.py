"""Outcomes: tasks handed to a pool, lost ones again, and what became of each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Sized
from contextlib import closing, nullcontext
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from sgdscope.executors.pool import Executor, Pool, pool
from sgdscope.executors.workers import WorkerLostError

Task = TypeVar("Task")
Value = TypeVar("Value")
Progress = bool | Callable[[int], None]

_log = logging.getLogger("sgdscope.executors")


class TaskError(RuntimeError):
    """A task raised an exception, which is the cause of this one, or its workers were lost too often."""


@dataclass(frozen=True)
class Outcome(Generic[Value]):
    """What became of a task.

    Attributes:
        key: number of the task, from 0 in the order they were given.
        value: its result; None if it failed.
        error: what it raised, or `WorkerLostError`; None if all went well.
        attempts: how often it was begun.
    """

    key: int
    value: Value | None
    error: BaseException | None
    attempts: int


def outcomes(
    function: Callable[[Task], Value],
    tasks: Iterable[Task],
    *,
    executor: Executor = None,
    retries: int = 2,
    progress: Progress = False,
) -> Generator[Outcome[Value], None, None]:
    """Does tasks and yields what became of each as they finish, in any order. A failure leaves the others alone.

    Args:
        function: of a task; for processes and clusters it must be importable by name and its tasks picklable.
        tasks: taken one by one as there is room, so that there may be more than fit into memory.
        executor: who does the work, see `Executor`; by default a process on each core.
        retries: how often a task whose worker was lost is begun again. What a task raises itself is final.
        progress: True for a bar, or a function of the number of tasks finished.

    Closing the iterator, or an exception such as KeyboardInterrupt in the loop around it, stops what is under way.
    Raises ValueError for an executor it does not know and retries < 0.
    """
    return _Run(function, tasks, executor, retries, progress).__iter__()


def in_order(
    function: Callable[[Task], Value],
    tasks: Iterable[Task],
    *,
    executor: Executor = None,
    retries: int = 2,
    progress: Progress = False,
) -> Generator[Value, None, None]:
    """Results in the order of tasks, so that what is made of them does not depend on who was faster; see `outcomes`.

    Results that come before their turn wait; no task is begun that is more than four rounds of all workers ahead.
    Raises `TaskError` when it is the turn of a task that failed, and stops the others.
    """
    return _in_turn(_Run(function, tasks, executor, retries, progress, rounds_ahead=4))


def _in_turn(run: _Run[Task, Value]) -> Generator[Value, None, None]:
    early: dict[int, Outcome[Value]] = {}
    with closing(run.__iter__()) as finished:
        for outcome in finished:
            early[outcome.key] = outcome
            while run.turn in early:
                due = early.pop(run.turn)
                run.turn += 1
                if due.error is not None:
                    what = str(due.error) or type(due.error).__name__
                    raise TaskError(f"task {due.key} failed at attempt {due.attempts}: {what}") from due.error
                yield due.value  # type: ignore[misc]


class _Run(Generic[Task, Value]):
    """Tasks under way. Iterating does them; `turn` is the task that is waited for, where order matters."""

    def __init__(
        self,
        function: Callable[[Task], Value],
        tasks: Iterable[Task],
        executor: Executor,
        retries: int,
        progress: Progress,
        rounds_ahead: int | None = None,
    ) -> None:
        if retries < 0:
            raise ValueError(f"expected retries ≥ 0, got {retries}")
        self.turn = 0
        self._function, self._retries, self._rounds_ahead = function, retries, rounds_ahead
        self._tasks = enumerate(tasks)
        self._next = next(self._tasks, None)
        self._total = len(tasks) if isinstance(tasks, Sized) else None
        self._progress = progress
        self._pool: Pool = pool(executor)
        self._under_way: dict[int, tuple[Task, int]] = {}
        self._finished: SimpleQueue[tuple[int, Any]] = SimpleQueue()

    def __iter__(self) -> Generator[Outcome[Value], None, None]:
        done = 0
        with _told(self._progress, self._total) as tell:
            try:
                self._fill()
                while self._under_way:
                    found = self._outcome(*self._finished.get())
                    self._fill()
                    if found is not None:
                        done += 1
                        tell(done)
                        yield found
                        self._fill()
            finally:
                self._pool.close()

    def _fill(self) -> None:
        slots = self._pool.slots()
        while self._next is not None and len(self._under_way) < slots:
            key, task = self._next
            if self._rounds_ahead is not None and key >= self.turn + self._rounds_ahead * slots:
                return
            self._begin(key, task, 1)
            self._next = next(self._tasks, None)

    def _begin(self, key: int, task: Task, attempt: int) -> None:
        self._under_way[key] = task, attempt
        future = self._pool.submit(self._function, task)
        future.add_done_callback(lambda future: self._finished.put((key, future)))

    def _outcome(self, key: int, future: Any) -> Outcome[Value] | None:
        """What became of a task; None if it was begun again."""
        task, attempt = self._under_way.pop(key)
        try:
            return Outcome(key, self._pool.outcome(future), None, attempt)
        except WorkerLostError as error:
            if attempt > self._retries:
                return Outcome(key, None, error, attempt)
            _log.warning("task %d, attempt %d of %d: %s", key, attempt, 1 + self._retries, error)
            self._begin(key, task, attempt + 1)
            return None
        except Exception as error:
            return Outcome(key, None, error, attempt)


def _told(progress: Progress, total: int | None) -> Any:
    """A context that gives a function of the number of tasks finished."""
    if progress is True:
        return _Bar(total)
    return nullcontext(progress if callable(progress) else lambda done: None)


class _Bar:
    def __init__(self, total: int | None) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=total, unit="task")

    def __enter__(self) -> Callable[[int], None]:
        return lambda done: self._bar.update(done - self._bar.n)

    def __exit__(self, *_: object) -> None:
        self._bar.close()
