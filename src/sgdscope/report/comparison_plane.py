"""Comparison plane: where the runs of a sweep ended, over two of their options: a phase diagram."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator

from sgdscope.report.chart import Canvas, Chart, drawn_twice, dress, ticks
from sgdscope.report.comparison_axes import Axis, Panel, Phase, phase_of
from sgdscope.report.svg import COLOURS
from sgdscope.sweep_records import SweepCell

_WIDE, _NARROW = (800.0, 430.0), (400.0, 420.0)
LOOKS: dict[Phase, tuple[str, str, str]] = {
    "stable": ("○", "below the edge", "good"),
    "edge": ("●", "at the edge", "sharpness"),
    "above": ("▲", "above the edge", "bad"),
    "diverged": ("✕", "diverged", "bad"),
    "unknown": ("?", "no known edge", "soft"),
    "none": ("–", "no result yet", "soft"),
}
"""Mark, words and colour of each phase."""
_FAINTEST, _FULLEST = 0.06, 0.42
_TICKS = 12


@dataclass(frozen=True)
class Spot:
    """What is shown at one place of the plane: the runs there, which differ in their seed at most.

    Attributes:
        phase: where most of them ended.
        phases: where how many of them ended.
        edge: mean of measured over threshold; None where no run has it.
    """

    phase: Phase
    phases: Counter[Phase]
    edge: float | None

    @classmethod
    def of(cls, cells: Sequence[SweepCell]) -> Spot:
        """Of the cells at one place; what diverged has no position worth a mean."""
        phases = Counter(phase_of(cell) for cell in cells)
        phase = max(phases, key=lambda found: (found != "none", phases[found]))
        edges = [float(cell.standing.edge) for cell in cells
                 if phase_of(cell) in ("stable", "edge", "above", "unknown") and cell.standing is not None]  # fmt: skip
        mean = math.fsum(edge / len(edges) for edge in edges) if edges else None
        return cls(phase, phases, mean)

    @property
    def ink(self) -> float:
        """How strongly its place is filled: the more, the closer to the edge or the farther beyond."""
        if self.phase in ("none", "unknown"):
            return 0.0
        share = 1.0 if self.edge is None or self.phase == "diverged" else min(max(self.edge, 0.0), 1.3) / 1.3
        return _FAINTEST + (_FULLEST - _FAINTEST) * share

    @property
    def words(self) -> str:
        """Its position in edge units, or what there is instead."""
        return "" if self.edge is None else f"{self.edge:.2f}" if self.edge < 9.95 else f"{self.edge:.2g}"

    @property
    def divided(self) -> str:
        """How many of its runs diverged where others did not, or ended as most of them did."""
        if len(self.phases) == 1:
            return ""
        told: Phase = "diverged" if self.phases["diverged"] else self.phase
        return f"{LOOKS[told][0]} {self.phases[told]} of {self.phases.total()}"


def plane_chart(panel: Panel, name: str) -> Chart:
    """The panel's runs at their places over two options."""
    across, up = panel.across, panel.up
    assert across is not None
    assert up is not None
    spots = {place: Spot.of(cells) for place, cells in panel.groups().items()}
    columns, rows = across.borders(), up.borders()
    dense = 2 * len(spots) >= len(across.values) * len(up.values)

    def draw(axes: Axes, wide: bool) -> None:
        axes.set_xlim(columns[0], columns[-1])
        axes.set_ylim(rows[0], rows[-1])
        box = axes.get_window_extent()
        for (i, j), spot in spots.items():
            colour = COLOURS[LOOKS[spot.phase][2]]
            if dense:
                corner, size = (columns[i], rows[j]), (columns[i + 1] - columns[i], rows[j + 1] - rows[j])
                axes.add_patch(Rectangle(corner, *size, facecolor=colour, alpha=spot.ink, lw=0, zorder=1))
                axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=COLOURS["paper"], lw=1.5, zorder=2))
            least = min(columns[i + 1] - columns[i] for i in range(len(across.values))) / (columns[-1] - columns[0])
            room = least * box.width if dense else 60.0
            height = min(rows[j + 1] - rows[j] for j in range(len(up.values))) / (rows[-1] - rows[0]) * box.height
            _write(axes, (across.places[i], up.places[j]), spot, colour, room, height if dense else 60.0)
        _key(axes, {phase for spot in spots.values() for phase in spot.phases}, wide)
        dress(axes, across.label, up.label, sides=(), grid=None)
        for axis, of in ((axes.xaxis, across), (axes.yaxis, up)):
            shown = _few(of, _TICKS if wide or of is up else 6)
            ticks(axis, FixedLocator([place for place, _ in shown]), dict(shown).get)  # type: ignore[arg-type]

    title = f"Regimes over {across.label} and {up.label}" + (f", {panel.title}" if panel.title else "")
    return drawn_twice(name, title, _described(panel, spots), _canvas(up, True), _canvas(up, False), draw)


def caption(panels: Sequence[Panel]) -> str:
    """What the numbers and colours mean."""
    said = ["Numbers: measured over threshold in the last quarter of the run (edge = 1)."]
    spots = [Spot.of(cells) for panel in panels for cells in panel.groups().values()]
    if any(spot.phases.total() > 1 for spot in spots):
        said.append("Runs that differ in their seed only share a place: their mean, and where most of them ended.")
    if any(spot.phase == "diverged" for spot in spots):
        said.append("What diverged has no number.")
    said.append("Filled more strongly where closer to the edge.")
    return " ".join(said)


def _canvas(up: Axis, wide: bool) -> Canvas:
    """With room at the left for the words of the axis."""
    width, height = _WIDE if wide else _NARROW
    left = (34 + 8.2 * max(map(len, up.words))) / width
    below = 54 / height
    above = (36 if wide else 54) / height
    return Canvas(width, height, (left, below, 0.985 - left, 1 - below - above))


def _write(axes: Axes, at: tuple[float, float], spot: Spot, colour: str, width: float, height: float) -> None:
    """Mark and number, as far as there is room."""
    mark = LOOKS[spot.phase][0]
    style: dict[str, Any] = {
        "ha": "center",
        "zorder": 4,
        "textcoords": "offset points",
        "color": colour,
        "fontweight": "bold",
    }
    below = [words for words in (spot.words, spot.divided) if words]
    if width < 34 or height < 22:
        axes.annotate(mark, at, (0, 0), va="center", fontsize=11, **style)
        return
    if width > 62 and height < 34 + 14 * len(below):
        axes.annotate(" ".join([mark, *below[:1]]), at, (0, 0), va="center", **style)
        return
    if height < 34:
        axes.annotate(below[0] if below else mark, at, (0, 0), va="center", **style)
        return
    top = 7 * len(below)
    axes.annotate(mark, at, (0, top), va="center", fontsize=15, **style)
    for line, words in enumerate(below, 1):
        axes.annotate(words, at, (0, top - 15 * line - 1), va="center", **style)


def _key(axes: Axes, phases: set[Phase], wide: bool) -> None:
    """The marks and what they mean, in a row above the axes, or two."""
    left, line = 0.0, 0
    width = axes.get_window_extent().width
    shown = [LOOKS[phase] for phase in LOOKS if phase in phases]
    for mark, words, role in shown:
        letters = len(words) + 3
        if left and left + letters * 7.4 > width:
            left, line = 0.0, line + 1
        axes.annotate(f"{mark} {words}", (0, 1), (left, 12 + 18 * ((0 if wide else 1) - line)), "axes fraction",
                      "offset points", color=COLOURS[role], fontweight="bold")  # fmt: skip
        left += letters * 8.3 + 8


def _few(axis: Axis, most: int) -> list[tuple[float, str]]:
    """Places and words of the ticks, not more than there is room for."""
    every = math.ceil(len(axis.values) / most)
    return list(zip(axis.places, axis.words, strict=True))[::every]


def _described(panel: Panel, spots: dict[tuple[int, int], Spot]) -> str:
    """For a reader who does not see the picture."""
    across, up = panel.across, panel.up
    assert across is not None
    assert up is not None
    said = []
    for (i, j), spot in list(spots.items())[:60]:
        at = f" at {spot.words}" if spot.words else ""
        said.append(f"{across.label} {across.words[i]}, {up.label} {up.words[j]}: {LOOKS[spot.phase][1]}{at}")
    return f"Where runs ended over {across.label} and {up.label}. {'; '.join(said)}."
