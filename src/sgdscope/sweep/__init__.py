"""Sweep: a grid of runs, each in a run folder of its own, carried out by many workers and read as one table.

Laying out a grid and reading a sweep (`sweep_records.Sweep`) need no torch; running does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sgdscope.sweep.grid import Grid, GridCell
from sgdscope.sweep_records import Sweep, SweepCell

if TYPE_CHECKING:
    from sgdscope.sweep.running import resume, run

__all__ = ["Grid", "GridCell", "Sweep", "SweepCell", "resume", "run"]


def __getattr__(name: str) -> Any:
    if name in ("resume", "run"):
        from sgdscope.sweep import running

        return getattr(running, name)
    raise AttributeError(f"module 'sgdscope.sweep' has no attribute {name!r}")
