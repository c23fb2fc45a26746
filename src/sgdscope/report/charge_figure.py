"""Charges: whether they move as gradient noise predicts, and their course along the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, SymmetricalLogLocator
from numpy.typing import NDArray

from sgdscope.layer_balance import LayerBalance, error_of
from sgdscope.report.chart import LETTER, Canvas, Chart, apart, drawn_twice, dress, number, step_words, ticks
from sgdscope.report.markup import clean
from sgdscope.report.svg import COLOURS
from sgdscope.verdict import Outcome

Floats = NDArray[np.float64]
_WIDE, _NARROW = Canvas(800, 370, (0.09, 0.16, 0.4, 0.81)), Canvas(400, 470, (0.15, 0.125, 0.8, 0.681))
_HEIGHT, _ROW = 280.0, 20.0
"""Of a narrow course without its names, and of each of those."""
_OUTCOMES: dict[Outcome, tuple[str, str, str, str]] = {
    "agrees": ("●", "as predicted", "good", "o"), "disagrees": ("✕", "not as predicted", "bad", "X"),
    "undecided": ("○", "undecided", "soft", "o"), "unassessed": ("○", "no claim made", "soft", "o"),
}  # fmt: skip
_MOST, _NAMED, LINES = 400, 6, 6
_NAMED_ABOVE = 4
_ROLES = ("sharpness", "full", "streamed", "ink")
_POINTS = 300
_LINEAR = 4.0
"""Times the push of noise up to which axes are linear."""
_HUGE = 1e30


def compared(found: Sequence[LayerBalance]) -> list[LayerBalance]:
    """Those whose measured and predicted change can be drawn beside what noise could do."""
    return [b for b in found if b.measured_change.value is not None and b.push > 1e-40][:_MOST]


def change_chart(found: Sequence[LayerBalance]) -> Chart | None:
    """Measured against predicted change of each charge, over what noise could do; agreement is the diagonal."""
    pairs = compared(found)
    if not pairs:
        return None
    x, dx, y, dy = np.clip(np.array([_point(b) for b in pairs]).T, -_HUGE, _HUGE)
    far = max(float((np.abs(x) + dx).max()), float((np.abs(y) + dy).max()))
    far = 1.15 * max(far, 0.02)

    def draw(axes: Axes, wide: bool) -> None:
        for scale in (axes.set_xscale, axes.set_yscale):
            if far > _LINEAR:
                scale("symlog", linthresh=1.0)
        axes.set_xlim(-far, far)
        axes.set_ylim(-far, far)
        for line in (axes.axhline, axes.axvline):
            line(0, color=COLOURS["grid"], lw=1.2, zorder=1)
        ends = far * np.concatenate([-np.geomspace(1, 1e-6, 60), np.geomspace(1e-6, 1, 60)])
        axes.plot(ends, ends, color=COLOURS["edge"], lw=1.6, dashes=(6, 3), zorder=2)
        for outcome in _OUTCOMES:
            of = np.array([b.outcome == outcome for b in pairs])
            _mark(axes, outcome, x[of], dx[of], y[of], dy[of])
        _names(axes, pairs, x, y, wide)
        _key(axes, pairs, wide)
        dress(axes, "predicted change", "measured change", sides=("bottom", "left"), grid=None)
        for axis in (axes.xaxis, axes.yaxis):
            places = MaxNLocator(5) if far <= _LINEAR else SymmetricalLogLocator(base=10, linthresh=1.0)
            ticks(axis, places, number)

    said = "; ".join(f"{b.short_name}: {at[0]:.3g} and {at[2]:.3g}" for b in pairs[:12] for at in [_point(b)])
    words = f"Predicted and measured change of each charge, over what noise could do at most. {said}."
    return drawn_twice("charge-change", "Change of the charges", words, _WIDE, _NARROW, draw)


def course_chart(found: Sequence[LayerBalance], last_step: int) -> Chart | None:
    """How far each charge has moved, in per cent of ‖u‖² + ‖w‖², against step; of many those that moved most."""
    lines = [b for b in found if len({step for step, _ in b.course}) > 1 and b.size > 1e-40]
    lines = sorted(lines, key=lambda b: -float(np.ptp(_course(b)[1])))[:LINES]
    if not lines:
        return None
    drawn, names = [_course(b) for b in lines], [clean(b.short_name) for b in lines]
    roles = [_ROLES[i] if i < len(_ROLES) else "soft" for i in range(len(lines))]
    low, high = min(float(y.min()) for _, y in drawn), max(float(y.max()) for _, y in drawn)
    room = 0.08 * (high - low) or 0.1
    start = float(min(x[0] for x, _ in drawn))
    end = float(max(last_step, *(x[-1] for x, _ in drawn)))

    def draw(axes: Axes, wide: bool) -> None:
        axes.set_xlim(start - 0.012 * (end - start), end + 0.012 * (end - start))
        axes.set_ylim(low - room, high + room)
        for (x, y), role in zip(drawn, roles, strict=True):
            axes.plot(x, y, color=COLOURS[role], lw=2, zorder=3, solid_capstyle="round")
        axes.axhline(0, color=COLOURS["soft"], lw=1.2, dashes=(1.5, 2.5), zorder=1)
        heights = [(float(y[-1]) - low + room) / (high - low + 2 * room) for _, y in drawn]
        _line_names(axes, heights, names, roles, wide)
        dress(axes, "step", "moved, % of ‖u‖² + ‖w‖²" if wide else "moved, %")
        ticks(axes.xaxis, MaxNLocator(6 if wide else 4, integer=True, min_n_ticks=1), step_words(axes.get_xlim()[1]))
        ticks(axes.yaxis, MaxNLocator(5), number)

    said = "; ".join(f"{b.short_name}: {y[-1]:+.3g} %" for b, (_, y) in zip(lines, drawn, strict=True))
    words = f"How far the charge of each pair of layers has moved, in % of its squared norms, against step. {said}."
    right = (LETTER * max(map(len, names)) + 18) / 800
    rows = _ROW * min(len(lines), _NAMED_ABOVE)
    whole = _HEIGHT + rows
    narrow = Canvas(400, whole, (0.17, 52 / whole, 0.8, (_HEIGHT - 64) / whole))
    return drawn_twice("charges", "Charges along the run", words, Canvas(800, 300, (0.09, 0.18, 0.9 - right, 0.76)),
                       narrow, draw)  # fmt: skip


def _point(b: LayerBalance) -> tuple[float, float, float, float]:
    """Predicted and measured change over the push of noise, each with two standard errors."""
    predicted, measured, unit = b.predicted_change, b.measured_change, b.push
    return (
        float(predicted) / unit, 2 * error_of(predicted) / unit, float(measured) / unit, 2 * error_of(measured) / unit
    )  # fmt: skip


def _mark(axes: Axes, outcome: Outcome, x: Floats, dx: Floats, y: Floats, dy: Floats) -> None:
    _, _, role, marker = _OUTCOMES[outcome]
    hollow = outcome in ("undecided", "unassessed")
    axes.errorbar(x, y, dy, dx, fmt="none", ecolor=COLOURS[role], elinewidth=1.3, zorder=3)
    axes.scatter(x, y, 76, marker=marker, linewidths=1.6 if hollow else 0.8,
                 edgecolors=COLOURS[role] if hollow else COLOURS["paper"],
                 facecolors=COLOURS["paper"] if hollow else COLOURS[role], zorder=4)  # fmt: skip


def _names(axes: Axes, pairs: Sequence[LayerBalance], x: Floats, y: Floats, wide: bool) -> None:
    """Names of the pairs that disagree, then of those that move most, where there is room."""
    order = sorted(range(len(pairs)), key=lambda i: (pairs[i].outcome != "disagrees", -abs(float(x[i]))))
    taken: list[tuple[float, float]] = []
    inverse = axes.transAxes.inverted()
    for i in order:
        across, up = inverse.transform(axes.transData.transform((x[i], y[i])))
        if len(taken) == _NAMED or any(abs(up - v) < 0.07 and abs(across - u) < 0.5 for u, v in taken):
            continue
        taken.append((across, up))
        right = across < 0.5
        axes.annotate(clean(pairs[i].short_name), (x[i], y[i]), (9, -11) if right else (-9, 11), "data",
                      "offset points", ha="left" if right else "right", va="center", color=COLOURS["ink"],
                      zorder=6)  # fmt: skip


def _key(axes: Axes, pairs: Sequence[LayerBalance], wide: bool) -> None:
    """How many fare how, beside a wide chart and above a narrow one."""
    counts = Counter(b.outcome for b in pairs)
    style: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    rows = [(f"{_OUTCOMES[o][0]} {n} {_OUTCOMES[o][1]}", _OUTCOMES[o][2]) for o in _OUTCOMES if (n := counts[o])]
    rows.append(("╌ measured = predicted", "edge"))
    for row, (words, role) in enumerate(rows):
        place = (28, -8 - 24 * row) if wide else (-44, 14 + _ROW * (len(rows) - 1 - row))
        axes.annotate(words, (1, 1) if wide else (0, 1), place, va="top" if wide else "center", color=COLOURS[role],
                      fontweight="bold", **style)  # fmt: skip


def _course(b: LayerBalance) -> tuple[Floats, Floats]:
    at, charges = (np.array(v, dtype=np.float64) for v in zip(*b.course, strict=True))
    keep = np.unique(np.linspace(0, len(at) - 1, min(len(at), _POINTS)).round().astype(int))
    return at[keep], np.clip(100 * (charges[keep] - charges[0]) / b.size, -_HUGE, _HUGE)


def _line_names(axes: Axes, heights: Sequence[float], names: Sequence[str], roles: Sequence[str], wide: bool) -> None:
    """Beside the ends of the lines of a wide chart, moved apart; above a narrow one."""
    style: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "fontweight": "bold"}
    if wide:
        order = sorted(range(len(names)), key=heights.__getitem__)
        for i, place in zip(order, apart([heights[i] for i in order], 0.075), strict=True):
            axes.annotate(names[i], (1, place), (9, 0), va="center", color=COLOURS[roles[i]], **style)
        return
    shown = names[:_NAMED_ABOVE]
    for i, name in enumerate(shown):
        axes.annotate(f"━ {name}", (0, 1), (-44, 10 + _ROW * (len(shown) - 1 - i)), color=COLOURS[roles[i]], **style)
