"""Workers: how many there can be here, and what is said when one is lost."""

from __future__ import annotations

import os


class WorkerLostError(RuntimeError):
    """The process that did a task ended before the task did: killed, out of memory, or its machine went away."""


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
