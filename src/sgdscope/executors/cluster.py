"""Dask: workers of a cluster, by the address of its scheduler. The one place that imports Dask."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from sgdscope.executors.workers import WorkerLostError


class Cluster:
    """The workers that a Dask scheduler knows, which need this package too.

    A task whose worker is lost is taken up by another worker, by Dask itself so often as the cluster is set to
    (``distributed.scheduler.allowed-failures``); only then it counts as lost here.

    Raises ImportError without Dask, ValueError if no scheduler answers within ten seconds.
    """

    def __init__(self, executor: Any) -> None:
        try:
            import distributed
        except ImportError as error:
            raise ImportError("a Dask cluster needs dask.distributed\nhint: pip install 'sgdscope[cluster]'") from error
        self._lost = (distributed.KilledWorker, CancelledError)
        self._own = isinstance(executor, str)
        try:
            self._client = distributed.Client(executor, timeout=10, set_as_default=False) if self._own else executor
        except (OSError, ValueError) as error:
            raise ValueError(f"expected a Dask scheduler at {executor}, found none: {error}") from error
        self._futures: set[Any] = set()

    def slots(self) -> int:
        """The threads of its workers at this moment. With more, tasks that wait would be lost with those that run."""
        return max(1, sum(int(threads) for threads in self._client.nthreads().values()))

    def submit(self, function: Callable[[Any], Any], task: Any) -> Any:
        """To the scheduler."""
        future = self._client.submit(function, task, pure=False)
        self._futures.add(future)
        return future

    def outcome(self, future: Any) -> Any:
        """The result; the cluster may forget it."""
        self._futures.discard(future)
        try:
            return future.result()
        except self._lost as error:
            raise WorkerLostError(f"its workers were lost: {error}") from error
        finally:
            future.release()

    def close(self) -> None:
        """Cancels what is under way; the cluster stays."""
        self._client.cancel(list(self._futures))
        if self._own:
            self._client.close()
