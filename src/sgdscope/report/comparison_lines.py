"""Comparison lines: how runs of a sweep came to where they are, and where they ended along a single option."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, MultipleLocator

from sgdscope.edge_units import EdgeUnits
from sgdscope.report.chart import Canvas, Chart, apart, drawn_twice, dress, number, step_words, ticks
from sgdscope.report.comparison_axes import Axis, Panel, phase_of
from sgdscope.report.comparison_plane import LOOKS
from sgdscope.report.glossary import entry
from sgdscope.report.svg import COLOURS
from sgdscope.report.traces import SHOWN, Trace, thinned, trace
from sgdscope.series import Series
from sgdscope.sweep_records import SweepCell

_WIDE, _NARROW = (800.0, 340.0), (400.0, 320.0)
_TOP, _BOTTOM = 1.5, 0.0
_POINTS = 80
_NAMED = 10
"""Values up to which each is named where its lines end."""
MOST_LINES = 60
"""Lines of one chart."""


def along_chart(panel: Panel, name: str) -> Chart:
    """Edge units of the quantity held against the edge, and of λ_max, against the one option that varies."""
    axis = panel.across
    assert axis is not None
    shown = [(axis.places[i], cell) for (i, _), cells in panel.groups().items() for cell in cells]
    reached = [float(cell.standing.edge) for _, cell in shown
               if phase_of(cell) in ("stable", "edge", "above", "unknown") and cell.standing is not None]  # fmt: skip
    top = min(max([1.3, *(1.12 * x for x in reached)]), 2.5)
    span = axis.places[-1] - axis.places[0] or 1.0

    def draw(axes: Axes, wide: bool) -> None:
        axes.set_xlim(axis.places[0] - 0.06 * span, axis.places[-1] + 0.06 * span)
        axes.set_ylim(0, top)
        _edge(axes)
        for role, marker, name_of in (("full", "s", "λ_max"), ("sharpness", "o", "edge")):
            points = [(x, *found) for x, cell in shown if (found := _position(cell, name_of)) is not None]
            if points:
                xs, values, errors = (np.array(column) for column in zip(*sorted(points), strict=True))
                drawn = np.clip(values, 0, top)
                axes.plot(xs, drawn, color=COLOURS[role], lw=1, alpha=0.45, zorder=3)
                axes.errorbar(xs, drawn, np.minimum(errors, 4 * top), fmt="none", ecolor=COLOURS[role], elinewidth=1.2,
                              zorder=4)  # fmt: skip
                axes.scatter(xs, drawn, 34, marker=marker, color=COLOURS[role], clip_on=False, zorder=5)
        for x in {x for x, cell in shown if phase_of(cell) == "diverged"}:
            axes.annotate("✕", (x, 1), (0, -3), ("data", "axes fraction"), "offset points", ha="center", va="top",
                          color=COLOURS["bad"], fontweight="bold", fontsize=15)  # fmt: skip
        dress(axes, axis.label)
        every = math.ceil(len(axis.values) / (12 if wide else 6))
        named = dict(list(zip(axis.places, axis.words, strict=True))[::every])
        ticks(axes.xaxis, FixedLocator(list(named)), named.get)  # type: ignore[arg-type]
        ticks(axes.yaxis, MultipleLocator(0.25 if top < 1.6 else 0.5), number)
        _names(axes, _along_names([cell for _, cell in sorted(shown, key=lambda at: at[0])], top, wide), wide)

    words = "; ".join(
        f"{axis.label} {word}: " + ", ".join(_in_words(cell) for x, cell in shown if x == place)
        for place, word in list(zip(axis.places, axis.words, strict=True))[:60]
    )
    title = f"Where runs ended over {axis.label}" + (f", {panel.title}" if panel.title else "")
    canvases = (_canvas(15, True), _canvas(9, False))  # for "batch sharpness" and for "sharpness"
    return drawn_twice(name, title, f"Measured over threshold. {words}.", *canvases, draw)


def course_chart(cells: Sequence[SweepCell], axis: Axis | None, title: str, name: str) -> Chart | None:
    """Edge units of each run against its steps, named by the values of an option; None if nothing was recorded."""
    lines = [(cell, thinned(found, _POINTS)) for cell in cells[:MOST_LINES] if len(found := _course(cell))]
    if not lines:
        return None
    last = max(float(line.steps[-1]) for _, line in lines) or 1.0
    top = min(max(1.3, 1.1 * max(float(np.percentile(line.values, 95)) for _, line in lines)), _TOP)

    def draw(axes: Axes, wide: bool) -> None:
        axes.set_xlim(-0.012 * last, 1.012 * last)
        axes.set_ylim(_BOTTOM, top)
        _edge(axes)
        for cell, line in lines:
            colour = COLOURS[LOOKS[phase_of(cell)][2]]
            values = np.clip(line.values, _BOTTOM - 1, 4 * top)
            axes.plot(line.steps, values, color=colour, lw=1.5, alpha=0.9 if len(lines) <= 12 else 0.5, zorder=3,
                      marker="o" if len(line) == 1 else None, ms=4)  # fmt: skip
            if phase_of(cell) == "diverged":
                axes.annotate("✕", (float(line.steps[-1]), min(float(values[-1]), top)), (0, -2), "data",
                              "offset points", ha="center", va="top", color=colour, fontweight="bold")  # fmt: skip
        dress(axes, "step")
        ticks(axes.xaxis, MaxNLocator(6 if wide else 4, integer=True, min_n_ticks=1), step_words(last))
        ticks(axes.yaxis, MultipleLocator(0.25 if top < 1.6 else 0.5), number)
        if axis is not None and len({axis.index(cell) for cell, _ in lines}) <= _NAMED:
            _names(axes, _course_names(lines, axis), wide)

    words = "; ".join(f"{cell.name}: {_in_words(cell)}" for cell, _ in lines)
    longest = max((len(_named(axis, i)) for i in range(len(axis.values))), default=0) if axis is not None else 0
    canvases = (_canvas(longest, True), _canvas(longest, False))
    return drawn_twice(name, title, f"Edge units against training step. {words}.", *canvases, draw)


def _canvas(letters: int, wide: bool) -> Canvas:
    """With room at the right for words of so many letters."""
    width, height = _WIDE if wide else _NARROW
    left, right = 49 / width, (20 + 8.6 * letters) / width
    return Canvas(width, height, (left, 50 / height, 1 - left - right, 1 - 67 / height))


def _course_names(lines: Sequence[tuple[SweepCell, Trace]], axis: Axis) -> list[tuple[float, str, str]]:
    """Each value once, at the mean height of the ends of its lines, in the colour of most of them."""
    found = []
    for i in dict.fromkeys(axis.index(cell) for cell, _ in lines):
        own = [(float(line.values[-1]), LOOKS[phase_of(cell)][2]) for cell, line in lines if axis.index(cell) == i]
        role = Counter(role for _, role in own).most_common(1)[0][0]
        found.append((sum(y for y, _ in own) / len(own), _named(axis, i), role))
    return found


def _named(axis: Axis, i: int) -> str:
    """A value with the option it is of, where it would not be known otherwise."""
    option = {"lr": "lr ", "batch_size": "batch "}.get(axis.option, f"{axis.label} ")
    return axis.words[i] if axis.kind == "words" and axis.option != "seed" else f"{option}{axis.words[i]}"


def _course(cell: SweepCell) -> Trace:
    """The streamed edge ratio where it is held against the edge (plain SGD), else what the standing is about."""
    if cell.run is None or cell.standing is None:
        return trace(Series.of("edge_ratio", []))
    units = EdgeUnits.of(cell.run)
    streamed = cell.run.get("edge_ratio")
    if len(streamed) > 2 and ((units.method == "sgd" and not units.full_batch) or not units.has_theory):
        return trace(streamed, factor=0.5)
    name = cell.standing.edge.name
    return trace(streamed, factor=0.5) if name == "edge_ratio" else trace(cell.run.get(name), units)


def _position(cell: SweepCell, what: str) -> tuple[float, float] | None:
    """Value and two standard errors; None where there is none worth drawing."""
    if phase_of(cell) not in ("stable", "edge", "above", "unknown") or cell.standing is None:
        return None
    found = cell.standing.edge if what == "edge" else cell.positions.get("lambda_max")
    if found is None or found.value is None or (what != "edge" and cell.standing.edge.name == "lambda_max"):
        return None
    error = found.standard_error
    return float(found), SHOWN * (error[0] if isinstance(error, tuple) else error or 0.0)


def _along_names(cells: Sequence[SweepCell], top: float, wide: bool) -> list[tuple[float, str, str]]:
    """The names of the two lines, at the height where they end."""
    found = []
    subjects = {cell.standing.edge.name for cell in cells if _position(cell, "edge") and cell.standing is not None}
    subject = entry(subjects.pop()).label if len(subjects) == 1 else "measured"
    for what, words, role in (("edge", f"● {subject}", "sharpness"), ("λ_max", "■ λ_max", "full")):
        ends = [position[0] for cell in cells if (position := _position(cell, what)) is not None]
        if ends:
            found.append((min(ends[-1], top), words if wide else words.replace(" ", "\n").replace("\n", " ", 1), role))
    return found


def _names(axes: Axes, ends: Sequence[tuple[float, str, str]], wide: bool) -> None:
    """Words at the right of the axes, at the heights given, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    ordered = sorted(((min(max(y, low), high) - low) / (high - low), words, role) for y, words, role in ends)
    places = apart([place for place, _, _ in ordered], 0.068 if wide else 0.075)
    for place, (_, words, role) in zip(places, ordered, strict=True):
        axes.annotate(words, (1, place), (8, 0), "axes fraction", "offset points", va="center", color=COLOURS[role],
                      fontweight="bold")  # fmt: skip


def _edge(axes: Axes) -> None:
    axes.axhline(1, color=COLOURS["edge"], lw=1.6, dashes=(6, 3), zorder=2)
    axes.annotate("edge", (0, 1), (4, 4), ("axes fraction", "data"), "offset points", color=COLOURS["edge"])


def _in_words(cell: SweepCell) -> str:
    position = _position(cell, "edge")
    return LOOKS[phase_of(cell)][1] + (f" at {position[0]:.3g}" if position is not None else "")
