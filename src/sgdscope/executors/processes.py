"""Processes: workers on this machine, each a pool of one, so that a loss concerns one task and is made good."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from typing import Any

from sgdscope.executors.workers import WorkerLostError, cores

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_GRACE = 60.0
"""Seconds that a task has to save what it wants to once the process that gave it is gone."""


class Processes:
    """A number of processes that begin afresh (nothing is inherited but the environment), each with one task at a time.

    Functions and tasks have to be importable and picklable. If this process is killed, they end too; a task that
    handles SIGTERM has a minute to save what it has.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._free: list[ProcessPoolExecutor] = []
        self._busy: dict[Future[Any], ProcessPoolExecutor] = {}

    def slots(self) -> int:
        """As many as there are processes."""
        return self._count

    def submit(self, function: Callable[[Any], Any], task: Any) -> Future[Any]:
        """To a free process, or a new one."""
        while True:
            worker = self._free.pop() if self._free else self._new()
            try:
                future = worker.submit(function, task)
            except BrokenExecutor:  # it was lost between two tasks
                worker.shutdown(wait=False)
                continue
            self._busy[future] = worker
            return future

    def outcome(self, future: Future[Any]) -> Any:
        """The result; the process is free again, or given up."""
        worker = self._busy.pop(future)
        try:
            found = future.result()
        except BrokenExecutor as error:
            worker.shutdown(wait=False)
            raise WorkerLostError(
                "its process ended before it did: killed, out of memory, or it could not start (a script that starts "
                "processes has to do so under `if __name__ == '__main__':`)"
            ) from error
        except BaseException:
            self._free.append(worker)
            raise
        self._free.append(worker)
        return found

    def close(self) -> None:
        """Ends all processes, those at work at once."""
        for worker in self._busy.values():
            for process in list((worker._processes or {}).values()):
                process.terminate()
        for worker in [*self._free, *self._busy.values()]:
            worker.shutdown(wait=True, cancel_futures=True)
        self._free, self._busy = [], {}

    def _new(self) -> ProcessPoolExecutor:
        threads = max(1, cores() // self._count)
        return ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn"), initializer=_begin, initargs=(threads,)
        )


def _begin(threads: int) -> None:
    """In a new process: shares the cores, and leaves interrupts from the keyboard to the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):  # a task may handle them otherwise: they must not reach it either
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
    threading.Thread(target=_end_when_alone, daemon=True).start()


def _end_when_alone() -> None:
    """Ends this process when the one that started it has been killed: it would wait for another task for ever.

    What is at work is asked to end first, as by `Processes.close`.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os._exit(1)
