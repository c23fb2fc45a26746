"""Pool: what runs tasks, whichever it is, behind one face."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from typing import Any, Protocol

from sgdscope.executors.workers import WorkerLostError, cores

Executor = Any
"""What may be asked to run tasks: None for a process on each core, a number of processes (0: this one, task by task),
the address of a Dask scheduler such as ``"tcp://10.0.0.1:8786"``, a Dask client, or a `concurrent.futures.Executor`."""


class Pool(Protocol):
    """Runs tasks one by one on workers."""

    def slots(self) -> int:
        """How many tasks are worth having under way at once."""

    def submit(self, function: Callable[[Any], Any], task: Any) -> Any:
        """A future of `function(task)`."""

    def outcome(self, future: Any) -> Any:
        """The result of a finished future, which is then let go. Raises what the task raised, or `WorkerLostError`."""

    def close(self) -> None:
        """Lets workers go; those at work are stopped."""


def pool(executor: Executor) -> Pool:
    """The pool that an executor stands for. Raises ValueError for anything else than `Executor` says."""
    if executor is None or (isinstance(executor, int) and not isinstance(executor, bool) and executor > 0):
        from sgdscope.executors.processes import Processes

        return Processes(executor or cores())
    if isinstance(executor, int) and executor == 0:
        return Here()
    if (isinstance(executor, str) and "://" in executor) or type(executor).__module__.startswith("distributed."):
        from sgdscope.executors.cluster import Cluster

        return Cluster(executor)
    if callable(getattr(executor, "submit", None)):
        return Given(executor)
    raise ValueError(
        f"expected a number of processes ≥ 0, the address of a Dask scheduler such as 'tcp://10.0.0.1:8786', or an "
        f"executor, got {executor!r}"
    )


class Here:
    """Tasks in this process, one after the other."""

    def slots(self) -> int:
        """One."""
        return 1

    def submit(self, function: Callable[[Any], Any], task: Any) -> Future[Any]:
        """The task is done when this returns."""
        future: Future[Any] = Future()
        try:
            future.set_result(function(task))
        except Exception as error:
            future.set_exception(error)
        return future

    def outcome(self, future: Future[Any]) -> Any:
        """The result."""
        return future.result()

    def close(self) -> None:
        """Nothing to do."""


class Given:
    """An executor of someone else's, who closes it. If its workers are lost it is broken for good."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._slots = getattr(executor, "_max_workers", None) or cores()
        self._futures: set[Any] = set()

    def slots(self) -> int:
        """As many as it has workers."""
        return int(self._slots)

    def submit(self, function: Callable[[Any], Any], task: Any) -> Any:
        """To the executor."""
        try:
            future = self._executor.submit(function, task)
        except BrokenExecutor as error:
            future = Future()
            future.set_exception(error)
        self._futures.add(future)
        return future

    def outcome(self, future: Any) -> Any:
        """The result."""
        self._futures.discard(future)
        try:
            return future.result()
        except BrokenExecutor as error:
            raise WorkerLostError(str(error)) from error

    def close(self) -> None:
        """Cancels what has not begun; the executor stays open."""
        for future in self._futures:
            future.cancel()
