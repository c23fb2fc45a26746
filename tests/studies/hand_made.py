"""Results by hand: what cells would find if nature were as told, for judges to be tried on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sgdscope.cells import Cell, Results
from sgdscope.estimate import Estimate
from sgdscope.studies import Recipe, Study


def estimate(value: float, error: float = 1e-6) -> dict[str, Any]:
    """A row."""
    return Estimate("value", value, error).to_row()


def judged(recipe: Recipe, nature: Callable[[Cell], Mapping[str, Any] | None]) -> Study:
    """The study as it would be judged; cells of which `nature` gives None are missing."""
    cells = recipe.cells()
    found = {cell.name: nature(cell) for cell in cells}
    return Study.of(recipe, Results(cells, {name: result for name, result in found.items() if result is not None}))


def outcomes(study: Study, words: str) -> list[str]:
    """Verdicts of the claims whose statement holds these words."""
    found = [f.verdict.outcome for f in study.findings if words in f.claim.statement]
    assert found, f"no claim says {words!r}"
    return found
