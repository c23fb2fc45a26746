"""Executors: many independent tasks, done by processes of this machine or by a Dask cluster, with the same results.

Ensembles in parts, sweeps and studies all are a function and a list of tasks. What a task gives must depend on the task
alone; results are then the same to the last bit whatever does the work, as they are handed over in the order of tasks.
"""

from sgdscope.executors.outcomes import Outcome, TaskError, in_order, outcomes
from sgdscope.executors.pool import Executor
from sgdscope.executors.workers import WorkerLostError

__all__ = ["Executor", "Outcome", "TaskError", "WorkerLostError", "in_order", "outcomes"]
