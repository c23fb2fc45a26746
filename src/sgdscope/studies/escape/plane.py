"""Plane: escape with a second direction across, whose curvature changes along the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sgdscope.studies.escape.landscapes import VALLEY_WIDENS
from sgdscope.studies.simulated import passage as in_one_dimension


def passage(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """First passage from (−1, 0) to x > 1 with variance 1 + x² along x and 1 + 2 x² along y."""
    lr = settings["lr"]
    process = {"kind": "sgd", "lr": lr, "batch_size": settings["ratio"] * lr / 2, "variance": ["1+x**2", "1+2*x**2"]}
    across = {"potential": VALLEY_WIDENS, "variables": ["x", "y"], "start": [-1.0, 0.0], "until": "x > 1"}
    return in_one_dimension({**settings, **across, "process": process}, folder)
