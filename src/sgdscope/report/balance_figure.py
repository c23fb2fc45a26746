"""Balance of layers: for each pair the ratio of their norms now, and where gradient noise takes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from sgdscope.layer_balance import LayerBalance, error_of
from sgdscope.report.chart import LETTER, Canvas, Chart, drawn_twice, dress, number, ticks
from sgdscope.report.markup import clean, whole, with_doubt
from sgdscope.report.svg import COLOURS

MOST = 12
"""Pairs drawn: those farthest from balance."""
_ROW, _NARROW_ROW = 34.0, 56.0
_ABOVE, _BELOW = 44.0, 56.0
_FAR = 50.0
"""Powers of e beyond which nothing is drawn at its place."""


def shown_pairs(found: Sequence[LayerBalance]) -> list[LayerBalance]:
    """Pairs with a noise equilibrium in the order of the model; of many the farthest from it, by distance."""
    resting = [b for b in found if b.off is not None]
    return resting if len(resting) <= MOST else sorted(resting, key=lambda b: -b.times_off)[:MOST]


def balance_chart(found: Sequence[LayerBalance]) -> Chart | None:
    """Dumbbells on a logarithmic axis: a dot for the ratio of norms now, a diamond where noise takes it."""
    pairs = shown_pairs(found)
    if not pairs:
        return None
    left = min(max(LETTER * max(len(b.short_name) for b in pairs) + 20, 80), 290) / 800
    wide = _canvas(800, _ROW * len(pairs), left, 0.82 - left)
    narrow = _canvas(400, _NARROW_ROW * len(pairs), 0.035, 0.93)
    ends = [_place(at) for b in pairs for at in _ends(b)]
    low, high = min(*ends, 0.0), max(*ends, 0.0)
    margin = max(0.08 * (high - low), 0.02)

    def draw(axes: Axes, wide: bool) -> None:
        axes.set_xscale("log")
        axes.set_xlim(math.exp(low - margin), math.exp(high + margin))
        axes.set_ylim(len(pairs) - 0.5, -0.5)
        axes.axvline(1, color=COLOURS["soft"], lw=1.2, dashes=(1.5, 2.5), zorder=1)
        for row, b in enumerate(pairs):
            _dumbbell(axes, b, row + (0 if wide else 0.22))
            _words(axes, b, row, wide)
        _key(axes, wide)
        norms = "norm ‖u‖ of the layer that reads over ‖w‖ of the one that writes"
        dress(axes, norms if wide else "‖u‖ / ‖w‖, reading over writing layer", grid="x")
        axes.yaxis.set_major_locator(NullLocator())
        _ticks(axes, wide)

    return drawn_twice("balance", "Balance of layers", _described(pairs), wide, narrow, draw)


def _canvas(width: float, rows: float, left: float, across: float) -> Canvas:
    height = _ABOVE + rows + _BELOW
    return Canvas(width, height, (left, _BELOW / height, across, rows / height))


def _place(at: float) -> float:
    return min(max(math.log(at), -_FAR), _FAR)


def _ends(b: LayerBalance) -> tuple[float, float, float]:
    """Ratio now, and the ends of the bar about that at equilibrium."""
    assert b.ratio is not None
    assert b.equilibrium_ratio is not None
    there = float(b.equilibrium_ratio)
    doubt = math.exp(min(2 * error_of(b.equilibrium_ratio) / there, 3.0))
    return b.ratio, there / doubt, there * doubt


def _dumbbell(axes: Axes, b: LayerBalance, at: float) -> None:
    now, low, high = (math.exp(_place(end)) for end in _ends(b))
    there = math.exp(_place(float(b.equilibrium_ratio or 1.0)))
    axes.plot([now, there], [at, at], color=COLOURS["sharpness"], alpha=0.3, lw=6, solid_capstyle="butt", zorder=2)
    axes.plot([low, high], [at, at], color=COLOURS["full"], lw=1.6, zorder=3)
    axes.scatter([there], [at], 88, marker="D", linewidths=2, edgecolors=COLOURS["full"], facecolors=COLOURS["paper"],
                 zorder=4)  # fmt: skip
    axes.scatter([now], [at], 80, color=COLOURS["sharpness"], edgecolors=COLOURS["paper"], linewidths=1, zorder=5)


def _words(axes: Axes, b: LayerBalance, row: int, wide: bool) -> None:
    """The pair's name, and how long noise takes."""
    style: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
    at, name = row if wide else row - 0.24, clean(b.short_name)
    axes.annotate(name, (0, at), (-14 if wide else 0, 0), ha="right" if wide else "left", color=COLOURS["ink"],
                  fontweight="bold", **style)  # fmt: skip
    if b.relaxation_steps is None:
        return
    axes.annotate(steps_in_words(b.relaxation_steps), (1, at), (14 if wide else 0, 0), ha="left" if wide else "right",
                  color=COLOURS["soft"], **style)  # fmt: skip


def _key(axes: Axes, wide: bool) -> None:
    """What the marks are, above the axes, and the column of times."""
    style: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom"}
    axes.annotate("● now", (0, 1), (0, 10), color=COLOURS["sharpness"], fontweight="bold", **style)
    axes.annotate("◇ noise balance", (0, 1), (62, 10), color=COLOURS["full"], fontweight="bold", **style)
    axes.annotate("relaxation" if wide else "relaxation time", (1, 1), (14 if wide else 0, 10),
                  ha="left" if wide else "right", color=COLOURS["soft"], **style)  # fmt: skip


def _ticks(axes: Axes, wide: bool) -> None:
    low, high = axes.get_xlim()
    most = 8 if wide else 5
    if high / low < 3:
        places = [
            x for x in MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(low, high) if low <= x <= high and x > 0
        ]
    else:
        places = _logarithmic(low, high, most)
    ticks(axes.xaxis, FixedLocator(places), number)


def _logarithmic(low: float, high: float, most: int) -> list[float]:
    """At most so many round numbers between two: the densest row of them that fits."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    rows = [[(m, d) for d in decades for m in row] for row in ((1, 1.5, 2, 3, 4, 6), (1, 2, 3, 5), (1, 2, 5), (1, 3))]
    rows += [[(1, d) for d in decades if d % every == 0] for every in (1, 2, 3, 5, 10)]
    for row in rows:
        places = [float(f"{m}e{d}") for m, d in row]
        places = [x for x in places if low <= x <= high]
        if len(places) <= most:
            break
    return places


def steps_in_words(steps: float) -> str:
    """``40,000 steps``, two digits of it; at least one."""
    if steps >= 1e9:
        return f"{steps:.1e} steps".replace("e+", "e")
    return f"{whole(float(f'{steps:.2g}'))} steps" if steps >= 1.5 else "1 step"


def _described(pairs: Sequence[LayerBalance]) -> str:
    said = []
    for b in pairs:
        there = b.equilibrium_ratio
        assert there is not None
        said.append(f"{b.short_name}: {b.ratio:.3g} now, {with_doubt(float(there), error_of(there))}")
    return f"Ratio of the norms of two layers now and at noise balance. {'; '.join(said)}."
