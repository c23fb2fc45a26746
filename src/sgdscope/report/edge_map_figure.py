"""What-if map: the learning rate at the edge against the batch size, and where the run stands, in a wide and a narrow
drawing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, LogLocator
from numpy.typing import NDArray

from sgdscope.edge_map import SPIKE, EdgeMap, Passed
from sgdscope.report.chart import Canvas, Chart, drawn_twice, dress, ticks
from sgdscope.report.markup import first, short, with_doubt
from sgdscope.report.svg import COLOURS

Floats = NDArray[np.float64]
_WIDE = Canvas(800, 400, (0.07, 0.14, 0.915, 0.84))
_NARROW = Canvas(400, 400, (0.135, 0.135, 0.845, 0.845))
_POINTS = 60
_MOVED = 1.15
"""Factor by which the edge must have moved for its way to be drawn."""
_BESIDE = 1.1
"""Factor by which that is drawn beside the run's batch size, where there is an arrow."""


def edge_map_chart(found: EdgeMap) -> Chart:
    """The map as a chart: safe below the edge, unsafe from 1.2 of it on, both axes logarithmic."""
    sizes = np.geomspace(found.batch_sizes[0], found.batch_sizes[-1], _POINTS)
    points = [found.edge_at(min(max(b, found.batch_sizes[0]), found.batch_sizes[-1])) for b in sizes]
    edge = np.array([float(e) for e in points])
    doubt = np.array([2 * e.standard_error / float(e) for e in points])  # type: ignore[operator]
    trail = _trail(found)
    stops = _stops(found)
    shown = [*edge, found.lr, 2 * found.lr, *(rate for _, rate in stops)]
    low, high = min(shown) / 2.0, max(shown) * 1.7

    def draw(axes: Axes, wide: bool) -> None:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlim(sizes[0] / 1.12, sizes[-1] * 1.12)
        axes.set_ylim(low, high)
        _regions(axes, sizes, edge, doubt, low, high)
        _words_of_regions(axes, found, low, high)
        _way(axes, found, trail, stops)
        _run(axes, found, wide)
        dress(axes, "batch size", "learning rate")
        ticks(axes.xaxis, FixedLocator([float(b) for b in found.batch_sizes]), lambda b: f"{b:.0f}")
        ticks(axes.yaxis, LogLocator(subs=(1.0, 2.0, 5.0)), lambda lr: f"{lr:.2g}")

    return drawn_twice("edge-map", "What-if map", _described(found), _WIDE, _NARROW, draw)


def caption(found: EdgeMap) -> tuple[str, str]:
    """What the map says about this run, and what its marks mean."""
    safe = found.safe_batch_sizes()
    lead = "At this learning rate " + (
        "none of the batch sizes measured is safe." if not safe else
        f"a batch size of {_listed(safe)} is safe, of those measured."
    )  # fmt: skip
    here, edge = found.position(), found.edge_at(found.batch_size)
    if here.value is not None:
        lead = (
            f"At batch size {found.batch_size} the edge is at a learning rate of "
            f"{with_doubt(float(edge), first(edge.standard_error), digits=1)}; this run's {found.lr:g} stands at "
            f"{short(here)} of it. {lead}"
        )
    said = ["Every batch size has an edge of its own."]
    said.append(f"Band: two standard errors. Red begins at {SPIKE:g} times the edge, where every change tried spiked.")
    if _trail(found):
        said.append("Dotted: the way of the edge at the run's own batch size since its first reading.")
    if len(_stops(found)) > 1:
        said.append("Small dots: where the run was before.")
    if found.estimate.settings["threshold"] != "2 / lr":
        said.append(
            f"The edge is that of small batches, {found.estimate.settings['threshold']}; larger ones bear more."
        )
    if found.estimate.status != "ok":
        said.append(f"Coarser than asked for: {found.estimate.reason}.")
    said.append("It holds for the weights of the last reading: once a change is made, the edge moves.")
    return lead, " ".join(said)


def _described(found: EdgeMap) -> str:
    edges = ", ".join(f"{edge:.3g} at batch size {b}" for b, edge in zip(found.batch_sizes, found.edges, strict=True))
    return (
        f"Learning rate at the edge of stability against batch size: {edges}. This run: learning rate {found.lr:g} at "
        f"batch size {found.batch_size}, {found.region()}."
    )


def _regions(axes: Axes, sizes: Floats, values: Floats, spread: Floats, low: float, high: float) -> None:
    axes.fill_between(sizes, low, values, color=COLOURS["good"], alpha=0.13, lw=0, zorder=1)
    axes.fill_between(sizes, np.minimum(SPIKE * values, high), high, color=COLOURS["bad"], alpha=0.13, lw=0, zorder=1)
    axes.fill_between(sizes, values * np.maximum(1 - spread, 0.02), values * (1 + spread), color=COLOURS["edge"],
                      alpha=0.25, lw=0, zorder=2)  # fmt: skip
    axes.plot(sizes, values, color=COLOURS["edge"], lw=2, zorder=3)


def _words_of_regions(axes: Axes, found: EdgeMap, low: float, high: float) -> None:
    """Names where there is room: safe to the right below, unsafe to the left above, edge along the line."""
    style: dict[str, Any] = {"fontweight": "bold", "zorder": 4}
    left, right = found.batch_sizes[0], found.batch_sizes[-1]
    axes.annotate("safe", (right, low), (-12, 12), "data", "offset points", ha="right", va="bottom",
                  color=COLOURS["good"], **style)  # fmt: skip
    axes.annotate("unsafe: the loss spikes", (left, high), (12, -10), "data", "offset points", va="top",
                  color=COLOURS["bad"], **style)  # fmt: skip
    axes.annotate("edge", (right, found.edges[-1]), (-10, -12), "data", "offset points", ha="right", va="top",
                  color=COLOURS["edge"], **style)  # fmt: skip


def _run(axes: Axes, found: EdgeMap, wide: bool) -> None:
    """The run's point, and two usual changes as arrows: twice the learning rate, half the batch."""
    own = (found.batch_size, found.lr)
    for lr, size, words, offset in (
        (2 * found.lr, found.batch_size, "lr × 2", (9, 0)),
        (found.lr, found.batch_size / 2, "batch ÷ 2", (0, 13)),
    ):
        region = found.region(lr=lr, batch_size=size)
        if region == "off the map":
            continue
        colour = COLOURS[{"safe": "good", "unsafe": "bad"}.get(region, "soft")]
        axes.annotate("", (size, lr), own, arrowprops={
            "arrowstyle": "-|>", "color": colour, "lw": 1.6, "shrinkA": 9, "shrinkB": 1, "mutation_scale": 13,
        }, zorder=5)  # fmt: skip
        axes.annotate(words, (size, lr), offset, "data", "offset points", color=colour, zorder=5,
                      ha="left" if offset[0] else "center", va="center")  # fmt: skip
    axes.scatter(*own, 110, color=COLOURS["sharpness"], edgecolors=COLOURS["paper"], linewidths=1.5, zorder=7)
    words = f"this run: batch {found.batch_size}, lr {found.lr:g}" if wide else "this run"
    axes.annotate(words, own, (11, -14), "data", "offset points", va="center", color=COLOURS["sharpness"],
                  fontweight="bold", zorder=7)  # fmt: skip


def _trail(found: EdgeMap) -> list[Passed]:
    """Earlier edges at the run's own batch size, where they differ from today's."""
    own = [passed for passed in found.path if passed.batch_size == found.batch_size]
    now = found.edge_at(found.batch_size)
    if now.value is None or not own:
        return []
    far = max(max(p.edge / float(now), float(now) / p.edge) for p in own)
    return own if far > _MOVED else []


def _stops(found: EdgeMap) -> list[tuple[int, float]]:
    """Places of the run on the map, in order, without repetition; the last is where it is."""
    places: list[tuple[int, float]] = []
    for place in [*((p.batch_size, p.lr) for p in found.path), (found.batch_size, found.lr)]:
        if not places or places[-1] != place:
            places.append(place)
    return places


def _way(axes: Axes, found: EdgeMap, trail: Sequence[Passed], stops: Sequence[tuple[int, float]]) -> None:
    """The edge's way at the run's batch size, and the run's own way if it moved."""
    if trail:
        now = float(found.edge_at(found.batch_size))
        oldest = trail[0]
        low, high = axes.get_ylim()
        start = min(oldest.edge, high * (low / high) ** 0.13)  # below the word in the corner
        beside = found.batch_size / _BESIDE
        axes.plot([beside] * 2, [start, now], color=COLOURS["edge"], lw=1.5, dashes=(1, 2), zorder=4)
        more = " ↑" if oldest.edge > start else ""
        up = (
            17 if abs(math.log(start / found.lr)) < math.log(1.5) else 0
        )  # above the words at the arrow to half the batch
        axes.annotate(f"edge {oldest.edge:.2g} at step {oldest.step:,}{more}", (beside, start), (-6, up), "data",
                      "offset points", ha="right", va="center", color=COLOURS["soft"], zorder=4)  # fmt: skip
    if len(stops) > 1:
        at = np.array(stops, dtype=np.float64)
        axes.plot(at[:, 0], at[:, 1], color=COLOURS["sharpness"], lw=1.2, alpha=0.6, zorder=5)
        axes.scatter(at[:-1, 0], at[:-1, 1], 22, color=COLOURS["sharpness"], zorder=6)


def _listed(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes[:-1])) + f" or {sizes[-1]}" if len(sizes) > 1 else str(sizes[0])
