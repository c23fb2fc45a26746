"""Theory: numbers in, numbers out. Imports numpy, scipy and sympy, never torch; each part is loaded on first use.

- `stability`, `mean_square`: at which curvature, or learning rate, a run stops being stable;
- `escape`: how long SGD stays in a valley, and which way it leaves;
- `stationary`: where SGD settles on deep diagonal linear networks; how mass is shared between minima;
- `balance`: what minibatch noise does to the charges of rescaling symmetries;
- `fokker_planck`: the law of SGD in time on one or two coordinates, with momentum too; rates, passages, committors;
- `averaging`: what averages of the weights are worth, and the schedules that stand for them;
- `potential`, `expression`: landscapes written as formulas;
- `prediction`: the number with its source and the end of its range that all of them return.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sgdscope.theory.prediction import Prediction

if TYPE_CHECKING:
    from sgdscope.theory import (
        averaging,
        balance,
        escape,
        expression,
        fokker_planck,
        mean_square,
        potential,
        stability,
        stationary,
    )

_PARTS = (
    "averaging", "balance", "escape", "expression", "fokker_planck", "mean_square", "potential", "stability",
    "stationary",
)  # fmt: skip

__all__ = [
    "Prediction", "averaging", "balance", "escape", "expression", "fokker_planck", "mean_square", "potential",
    "stability", "stationary",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return importlib.import_module(f"sgdscope.theory.{name}")
    raise AttributeError(f"module 'sgdscope.theory' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
