"""sgdscope: an instrument for the stochastic dynamics of SGD.

Four verbs: *measure* what SGD does, *predict* it from theory, *simulate* it, *act* on it. Parts that need torch are
loaded on first use, so that reading records and writing reports stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sgdscope._version import __version__
from sgdscope.estimate import Estimate
from sgdscope.verdict import Verdict, compare

if TYPE_CHECKING:
    from sgdscope import (
        average,
        balance,
        diagonal,
        edge_test,
        measure,
        predict,
        report,
        simulate,
        sweep,
        theory,
        trajectory,
        what_if,
    )  # fmt: skip
    from sgdscope.monitor import Monitor
    from sgdscope.records import Run, list_runs, open_run
    from sgdscope.risk import Risk

_LAZY = {
    "Risk": "sgdscope.risk",
    "Monitor": "sgdscope.monitor",
    "Run": "sgdscope.records",
    "open_run": "sgdscope.records",
    "list_runs": "sgdscope.records",
}
_PARTS = (
    "average", "balance", "diagonal", "edge_test", "measure", "predict", "report", "simulate", "sweep", "theory",
    "trajectory", "what_if",
)  # fmt: skip

__all__ = [
    "Estimate", "Monitor", "Risk", "Run", "Verdict", "__version__", "average", "balance", "compare", "diagonal",
    "edge_test", "list_runs", "measure", "open_run", "predict", "report", "simulate", "sweep", "theory", "trajectory",
    "what_if",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _PARTS:
        return importlib.import_module(f"sgdscope.{name}")
    raise AttributeError(f"module 'sgdscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
