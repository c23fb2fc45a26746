"""Studies: what five papers claim, measured on real data and simulated, laid beside what theory predicts.

Each study is a `Recipe`: frozen values from which independent cells, claims with their judges, and figures follow.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from sgdscope.studies.claim import Claim, Finding
from sgdscope.studies.recipe import SIZES, Figure, Recipe, Size
from sgdscope.studies.study import Study, carry_out, reopened

_RECIPES = {
    "stochastic-edge": "sgdscope.studies.stochastic_edge:StochasticEdge",
    "balance": "sgdscope.studies.balance:Balance",
    "escape": "sgdscope.studies.escape:Escape",
    "fokker-planck": "sgdscope.studies.fokker_planck:FokkerPlanck",
    "averaging": "sgdscope.studies.averaging:Averaging",
}
NAMES = tuple(_RECIPES)

__all__ = ["NAMES", "SIZES", "Claim", "Figure", "Finding", "Recipe", "Size", "Study", "carry_out", "recipe", "reopened"]


def recipe(name: str, size: Size = "toy", *, data_dir: Path | None = None, seed: int = 0) -> Recipe:
    """The recipe of a study. Raises ValueError for an unknown name or size, or data that are not there."""
    if name not in _RECIPES:
        raise ValueError(f"expected one of {', '.join(NAMES)}, got {name!r}")
    if size not in SIZES:
        raise ValueError(f"expected a size of {', '.join(SIZES)}, got {size!r}")
    module, _, kind = _RECIPES[name].partition(":")
    made: Recipe = getattr(importlib.import_module(module), kind).of_size(size, data_dir=data_dir, seed=seed)
    return made
