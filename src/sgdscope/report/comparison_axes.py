"""Comparison axes: which options of a sweep a picture lays out, and where their values lie."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sgdscope.report.markup import clean
from sgdscope.sweep_records import Sweep, SweepCell

Phase = Literal["stable", "edge", "above", "diverged", "unknown", "none"]
"""Where a cell ended: below its edge, at it, above it, diverged, where no edge is known; or no result yet."""

_NAMES = {"lr": "learning rate", "batch_size": "batch size"}
_FIRST = ("batch_size", "lr")
"""Options that are laid out first if they vary: across, and up."""
_REPEATS = "seed"
_LONGEST = 18
_LOGARITHMIC = 3.0
"""Ratio of the largest value to the smallest from which an axis is logarithmic."""
_PHASES: Mapping[str, Phase] = {
    "at the edge": "edge", "above the edge": "above", "approaching the edge": "stable", "below the edge": "stable",
    "stable, noise-driven": "stable", "unknown": "unknown", "diverged": "diverged",
}  # fmt: skip


def phase_of(cell: SweepCell) -> Phase:
    """Where a cell ended, or stands if it was interrupted."""
    if cell.status == "diverged":
        return "diverged"
    standing = cell.standing
    if standing is None or standing.edge.value is None or cell.status == "failed":
        return "none"
    return _PHASES.get(standing.regime, "unknown")


def label(option: str) -> str:
    """An option as a reader calls it."""
    return _NAMES.get(option, clean(option, 40).replace("_", " "))


def word(value: Any) -> str:
    """A value in a few letters."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return clean("+".join(map(str, value)), _LONGEST)
    whole = "default" if value is None else re.split(r"[:/\\]", str(value))[-1] or str(value)  # of paths the last part
    return clean(whole if len(whole) <= _LONGEST else "…" + whole[1 - _LONGEST :], _LONGEST)


@dataclass(frozen=True)
class Axis:
    """The values of an option, in order.

    Attributes:
        option: its name.
        values: as the cells have them, each once.
        places: where they lie: numbers at their value or its logarithm, words one after the other.
        kind: how they lie.
    """

    option: str
    values: tuple[Any, ...]
    places: tuple[float, ...]
    kind: Literal["linear", "logarithmic", "words"]

    @classmethod
    def of(cls, option: str, cells: Sequence[SweepCell]) -> Axis:
        """The axis of an option over some cells."""
        found: dict[str, Any] = {}
        for cell in cells:
            found.setdefault(repr(cell.config.get(option)), cell.config.get(option))
        values = list(found.values())
        if all(_is_number(value) for value in values) and option != _REPEATS:
            values.sort()
            if values[0] > 0 and values[-1] / values[0] >= _LOGARITHMIC:
                return cls(option, tuple(values), tuple(math.log10(value) for value in values), "logarithmic")
            return cls(option, tuple(values), tuple(map(float, values)), "linear")
        return cls(option, tuple(values), tuple(map(float, range(len(values)))), "words")

    @property
    def label(self) -> str:
        """Its name for a reader."""
        return label(self.option)

    @property
    def words(self) -> list[str]:
        """Its values for a reader."""
        return [word(value) for value in self.values]

    def index(self, cell: SweepCell) -> int:
        """Which of the values a cell has."""
        return self.values.index(cell.config.get(self.option))

    def borders(self) -> list[float]:
        """Halfway between neighbours, and as far beyond the first and the last."""
        inner = [(a + b) / 2 for a, b in zip(self.places, self.places[1:], strict=False)]
        if not inner:
            return [self.places[0] - 0.5, self.places[0] + 0.5]
        return [2 * self.places[0] - inner[0], *inner, 2 * self.places[-1] - inner[-1]]


@dataclass(frozen=True)
class Panel:
    """Cells that one picture lays out.

    Attributes:
        title: the options in which this panel differs from others, in words; empty if there is one only.
        across, up: its axes; None where no option is left to vary (`up` then too).
        cells: those in it.
    """

    title: str
    across: Axis | None
    up: Axis | None
    cells: tuple[SweepCell, ...]

    def groups(self) -> dict[tuple[int, int], list[SweepCell]]:
        """Cells at the same place, which differ in their seed at most, by the numbers of their values."""
        found: dict[tuple[int, int], list[SweepCell]] = {}
        for cell in self.cells:
            place = tuple(axis.index(cell) if axis is not None else 0 for axis in (self.across, self.up))
            found.setdefault((place[0], place[1]), []).append(cell)
        return found


def panels(sweep: Sweep) -> list[Panel]:
    """All cells over two options: batch size and learning rate if they vary, else the first ones; one panel for each
    combination of the other options. Seeds are repetitions, and an axis only where nothing else varies.
    """
    varying = [name for name in sweep.varying if name != _REPEATS] or list(sweep.varying)
    ordered = sorted(varying, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    laid_out = ordered[:2] if len(ordered) > 1 else ordered
    others = [name for name in varying if name not in laid_out]
    grouped: dict[str, list[SweepCell]] = {}
    for cell in sweep:
        title = ", ".join(f"{label(name)} {word(cell.config.get(name))}" for name in others)
        grouped.setdefault(title, []).append(cell)
    axes = [Axis.of(name, sweep.cells) for name in laid_out]  # the same in every panel
    return [Panel(title, axes[0] if axes else None, axes[1] if len(axes) > 1 else None, tuple(cells))
            for title, cells in grouped.items()]  # fmt: skip


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
