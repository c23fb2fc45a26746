"""Monitor: watch a run from outside the loop, without changing a bit of it."""

from sgdscope.monitor.monitor import Monitor

__all__ = ["Monitor"]
