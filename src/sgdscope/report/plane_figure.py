"""Plane figure: losses on a plane of parameter space as bands of one colour, more ink where the loss is higher."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sgdscope.report.chart import Canvas, Chart, drawn_twice, dress, number, ticks
from sgdscope.report.svg import COLOURS

BANDS = 9
_WIDE = Canvas(800, 470, (0.085, 0.12, 0.5, 0.851))
_NARROW = Canvas(400, 480, (0.15, 0.265, 0.83, 0.6917))
_KEY = {True: (0.645, 0.12, 0.03, 0.78), False: (0.15, 0.085, 0.83, 0.035)}
"""Place of the key, in the wide drawing and in the narrow one."""
_SIDES = ("left", "right", "bottom", "top")
_FAINTEST, _FULLEST = 0.04, 0.64
_LOGARITHMIC = 10.0
"""Ratio of the largest to the smallest loss from which bands are spaced by ratio."""

Mark = tuple[str, float, float]


def plane_chart(
    first: Sequence[float],
    second: Sequence[float],
    losses: Sequence[Sequence[float | None]],
    *,
    marks: Sequence[Mark] = (),
    name: str = "plane",
    title: str = "Loss on a plane around the weights",
    labels: tuple[str, str] = ("first direction", "second direction"),
) -> Chart:
    """Two drawings, wide and narrow, of ``losses[j][i]`` at ``(first[i], second[j])``.

    Bands are spaced by ratio where the losses are positive and span more than a factor of ten, else evenly. A loss that
    is None (not finite, or not measured yet: fewer rows than `second`) leaves its surroundings blank. `marks` are
    points as (name, first coordinate, second coordinate); an empty name draws a point without a word.

    Raises ValueError for fewer than two coordinates a side or coordinates that do not rise, for rows of another length
    or more than `second`, and if no 2 × 2 losses beside each other are finite.
    """
    x, y, grid = _checked(first, second, losses)
    known = grid[np.isfinite(grid)]
    low, high = float(known.min()), float(known.max())
    by_ratio = low > 0 and high / low > _LOGARITHMIC
    scale = max(abs(low), abs(high)) or 1.0
    heights = np.log10(grid) if by_ratio else grid / scale
    bottom, top = (math.log10(low), math.log10(high)) if by_ratio else (low / scale, high / scale)
    flat = not top - bottom > 1e-9 * max(abs(top), abs(bottom), 1e-300)
    edges = np.array([bottom - 1, bottom + 1]) if flat else np.linspace(bottom, top, BANDS + 1)
    words = [_number(10**e if by_ratio else e * scale, 2) for e in edges.tolist()]
    words[0], words[-1] = _number(low), "" if flat else _number(high)

    def draw(axes: Axes, wide: bool) -> None:
        masked = np.ma.masked_invalid(heights)
        inks = [_ink(i, len(edges) - 1) for i in range(len(edges) - 1)]
        reach = edges.copy()
        reach[-1] += 1e-9 * max(abs(float(edges[-1])), 1e-9) + 1e-12  # the highest point belongs to the last band
        for band, ink in enumerate(inks):
            axes.contourf(x, y, masked, reach[band : band + 2], colors=[COLOURS["sharpness"]], alpha=ink, zorder=1)
        if not flat:
            axes.contour(
                x, y, masked, edges[1:-1], colors=[COLOURS["sharpness"]], linewidths=0.7, linestyles="solid",
                alpha=0.55, zorder=2,
            )  # fmt: skip
        _mark(axes, marks, x, y)
        dress(axes, *labels, sides=_SIDES, grid=None)
        for axis in (axes.xaxis, axes.yaxis):
            ticks(axis, MaxNLocator(5), number)
        _draw_key(axes.figure.add_axes(_KEY[wide]), inks, words, wide)

    return drawn_twice(name, title, _in_words(x, y, grid, marks, by_ratio), _WIDE, _NARROW, draw)


def _checked(
    first: Sequence[float], second: Sequence[float], losses: Sequence[Sequence[float | None]]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates, and losses with NaN where there is none."""
    x, y = (np.asarray(c, dtype=np.float64) for c in (first, second))
    for what, c in (("first", x), ("second", y)):
        if c.ndim != 1 or len(c) < 2 or not np.isfinite(c).all() or not (np.diff(c) > 0).all():
            raise ValueError(f"expected at least two rising numbers as {what} coordinates, got {c.tolist()!r:.80}")
    if len(losses) > len(y) or any(len(row) != len(x) for row in losses):
        raise ValueError(f"expected at most {len(y)} rows of {len(x)} losses, got {len(losses)} rows of "
                         f"{sorted({len(row) for row in losses})}")  # fmt: skip
    grid = np.full((len(y), len(x)), np.nan)
    for j, row in enumerate(losses):
        grid[j] = [math.nan if z is None else float(z) for z in row]
    grid[np.isinf(grid)] = np.nan
    finite = np.isfinite(grid)
    if not (finite[1:, 1:] & finite[1:, :-1] & finite[:-1, 1:] & finite[:-1, :-1]).any():
        raise ValueError("expected finite losses at some 2 × 2 neighbouring points, got none: nothing can be drawn")
    return x, y, grid


def _ink(band: int, count: int) -> float:
    return _FAINTEST + (_FULLEST - _FAINTEST) * band / max(count - 1, 1)


def _mark(axes: Axes, marks: Sequence[Mark], x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    for words, across, up in marks:
        axes.scatter([across], [up], 64, marker="o", color=COLOURS["paper"], zorder=4)
        axes.scatter([across], [up], 26, marker="o", color=COLOURS["ink"], zorder=5)
        late = across > x[0] + 0.75 * (x[-1] - x[0])
        if words:
            axes.annotate(
                words, (across, up), (-8 if late else 8, 7), "data", "offset points", ha="right" if late else "left",
                color=COLOURS["ink"], fontweight="bold", zorder=6,
            )  # fmt: skip


def _draw_key(key: Axes, inks: Sequence[float], words: Sequence[str], wide: bool) -> None:
    """The bands beside each other with the losses at their borders."""
    key.patch.set_visible(False)
    for place, ink in enumerate(inks):
        span = key.axhspan if wide else key.axvspan
        span(place, place + 1, color=COLOURS["sharpness"], alpha=ink, lw=0)
    ends = (0, len(inks))
    (key.set_ylim if wide else key.set_xlim)(*ends)
    ticks = list(range(0, len(words), 1 if wide or len(words) < 5 else 3))
    if wide:
        key.set_yticks(ticks, [words[i] for i in ticks])
        key.yaxis.tick_right()
        key.set_xticks([])
    else:
        key.set_xticks(ticks, [words[i] for i in ticks])
        key.get_xticklabels()[0].set_horizontalalignment("left")  # the ends stay inside the drawing
        key.get_xticklabels()[-1].set_horizontalalignment("right")
        key.set_yticks([])
    dress(key, sides=_SIDES, grid=None)
    key.annotate("loss", (0, 1), (0, 12 if wide else 7), "axes fraction", "offset points", color=COLOURS["ink"],
                 fontweight="bold")  # fmt: skip


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}g}".replace("-", "−").replace("e+0", "e").replace("e+", "e").replace("e−0", "e−")


def _in_words(
    x: NDArray[np.float64], y: NDArray[np.float64], grid: NDArray[np.float64], marks: Sequence[Mark], by_ratio: bool
) -> str:
    """What a reader who does not see the picture should know."""
    j, i = np.unravel_index(int(np.nanargmin(grid)), grid.shape)
    said = [
        f"Losses at {int(np.isfinite(grid).sum())} of {grid.size} points, from {_number(float(np.nanmin(grid)))} to "
        f"{_number(float(np.nanmax(grid)))}, {'logarithmic' if by_ratio else 'even'} bands",
        f"lowest at ({_number(float(x[i]))}, {_number(float(y[j]))})",
    ]
    for name, across, up in marks:
        near = grid[int(np.abs(y - up).argmin()), int(np.abs(x - across).argmin())]
        value = f"{_number(float(near))} nearby" if math.isfinite(near) else "not finite nearby"
        said.append(f"{name or 'a point'} at ({_number(across)}, {_number(up)}): {value}")
    return "; ".join(said) + "."
