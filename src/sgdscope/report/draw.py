"""Draw: pictures as a file of their own, PNG, SVG or PDF by its ending, in the dress of the report."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from sgdscope.picture import Band, Field, Line, Mark, Picture, Points, Shape, Words, check_kind
from sgdscope.report import svg
from sgdscope.report.chart import number

COLOURS = {
    "first": "#0b5cad", "second": "#b0440a", "third": "#5b6b00", "ink": "#1b1d21", "soft": "#5a606a", "grid": "#dfdfd9",
}  # fmt: skip
_PAPER = "#fcfcfa"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_WIDTH, _HEIGHT, _DOTS = 7.2, 4.4, 160
_FAINTEST, _FULLEST, _SINGLE = 0.05, 0.75, 0.45
"""Ink of the lowest and the highest band of a field, and of one alone."""
_FEW = 100.0
"""Ratio of the ends of a logarithmic axis below which 2 and 5 are marked too."""


def save(pictures: Picture | Sequence[Picture], path: str | os.PathLike[str]) -> Path:
    """Draw pictures, one beside the other, and write them to `path`; its ending says the kind of file.

    Raises ValueError for another ending than .png, .svg or .pdf, OSError if the file cannot be written.
    """
    path = Path(path)
    check_kind(path)
    several = [pictures] if isinstance(pictures, Picture) else list(pictures)
    if not several:
        raise ValueError("expected at least one picture to draw, got none")
    with svg.style():
        made = Figure(figsize=(_WIDTH * len(several), _HEIGHT), dpi=_DOTS, facecolor=_PAPER, layout="constrained")
        for axes, picture in zip(made.subplots(1, len(several), squeeze=False)[0], several, strict=True):
            axes.set_facecolor(_PAPER)
            draw(axes, picture, COLOURS)
        path.parent.mkdir(parents=True, exist_ok=True)
        made.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
    return path


def draw(
    axes: Axes, picture: Picture, colours: Mapping[str, str], *, columns: int = 2, size: float = 11.0,
    below: float = 0.2,
) -> None:  # fmt: skip
    """Draw a picture on axes.

    Args:
        axes: to draw on.
        picture: what to draw; an empty title takes no room.
        colours: of the roles, and of ``grid``.
        columns: of the legend.
        size: of the letters.
        below: how far under the axes the legend begins, as a share of their height.
    """
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(colours["grid"])
    axes.grid(axis="y", color=colours["grid"], lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6, which="both", colors=colours["soft"], labelsize=size)
    axes.set_xscale("log" if picture.log_across else "linear")
    axes.set_yscale("log" if picture.log_up else "linear")
    for axis, logarithmic in ((axes.xaxis, picture.log_across), (axes.yaxis, picture.log_up)):
        if logarithmic:
            axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda at, _: _tick(at)))
    for shape in picture.shapes:
        _shape(axes, shape, colours, size)
    if picture.span_across is not None:
        axes.set_xlim(picture.span_across)
    if picture.span_up is not None:
        axes.set_ylim(picture.span_up)
    for axis, logarithmic in ((axes.xaxis, picture.log_across), (axes.yaxis, picture.log_up)):
        low, high = axis.get_view_interval()
        if logarithmic and high < _FEW * low:
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    if picture.title:
        axes.set_title(textwrap.fill(_plain(picture.title), 72), loc="left", color=colours["ink"], fontsize=size + 1.5)
    axes.set_xlabel(_plain(picture.across), color=colours["soft"], fontsize=size + 0.5)
    axes.set_ylabel(_plain(picture.up), color=colours["soft"], fontsize=size + 0.5)
    named = [label for label in axes.get_legend_handles_labels()[1] if label]
    if len(named) > 1:  # under the axes, where it hides nothing
        axes.legend(frameon=False, labelcolor=colours["ink"], fontsize=size, loc="upper left", borderaxespad=0,
                    bbox_to_anchor=(0, -below), ncols=columns, handlelength=1.6, columnspacing=1.6)  # fmt: skip
    _names_of_marks(axes, [shape for shape in picture.shapes if isinstance(shape, Mark)], colours, size)


def _shape(axes: Axes, shape: Shape, colours: Mapping[str, str], size: float) -> None:
    colour = colours[shape.role]
    if isinstance(shape, Field):
        _cells(axes, shape, colour)
        return
    label = _plain(shape.label) or None
    if isinstance(shape, Line):
        style = (0, (5, 3)) if shape.dashed else "-"
        axes.plot(
            np.asarray(shape.x), np.asarray(shape.y), color=colour, lw=2, ls=style, label=_plain(shape.label) or None
        )
    elif isinstance(shape, Band):
        axes.fill_between(np.asarray(shape.x), np.asarray(shape.low), np.asarray(shape.high), color=colour, alpha=0.18,
                          lw=0, label=label)  # fmt: skip
    elif isinstance(shape, Points):
        error = None if shape.error is None else np.asarray(shape.error)
        axes.errorbar(np.asarray(shape.x), np.asarray(shape.y), error, fmt="o", ms=5, color=colour, elinewidth=1.4,
                      label=label)  # fmt: skip
    elif isinstance(shape, Words):
        axes.annotate(label or "", (shape.x, shape.y), color=colour, fontsize=size, va="center")
    else:
        axes.axvline(shape.x, color=colour, lw=1.2, ls=(0, (1, 2)))


def _cells(axes: Axes, field: Field, colour: str) -> None:
    """One collection of cells for each band, so that each has an entry in the legend."""
    x, values = np.asarray(field.x, dtype=float), np.asarray(field.values, dtype=float)
    rows, columns = values.shape
    y = np.asarray(field.y, dtype=float)
    y = np.broadcast_to(y if y.ndim == 2 else y[:, None], (rows + 1, columns + 1))
    bands = np.clip(np.searchsorted(field.borders, values, side="right") - 1, 0, len(field.labels) - 1)
    inks = np.linspace(_FAINTEST, _FULLEST, len(field.labels)) if len(field.labels) > 1 else [_SINGLE]
    for band, (label, ink) in enumerate(zip(field.labels, inks, strict=True)):
        corners = [
            [(x[j], y[i, j]), (x[j + 1], y[i, j + 1]), (x[j + 1], y[i + 1, j + 1]), (x[j], y[i + 1, j])]
            for i, j in zip(*np.nonzero((bands == band) & np.isfinite(values)), strict=True)
        ]
        axes.add_collection(PolyCollection(corners, facecolors=colour, alpha=float(ink), lw=0, antialiaseds=False,
                                           label=_plain(label), zorder=0.5))  # fmt: skip
    axes.update_datalim([(x[0], y.min()), (x[-1], y.max())])
    axes.autoscale_view()


def _names_of_marks(axes: Axes, marks: list[Mark], colours: Mapping[str, str], size: float) -> None:
    """Along the top inside the axes, each on a line of its own where neighbours would lie over each other."""
    for row, mark in enumerate(sorted(marks, key=lambda mark: mark.x)):
        axes.annotate(
            _plain(mark.label), (mark.x, 1), xycoords=("data", "axes fraction"), xytext=(4, -4 - 14 * (row % 3)),
            textcoords="offset points", ha="left", va="top", color=colours[mark.role], fontsize=size,
        )  # fmt: skip


def _tick(value: float) -> str:
    """A number, far from one as a power of ten."""
    if value > 0 and not 1e-4 < value < 1e6 and abs(math.log10(value) - round(math.log10(value))) < 1e-9:
        return "10" + str(round(math.log10(value))).translate(_RAISED)
    return number(value)


def _plain(words: str) -> str:
    """Without control characters, which no font has."""
    return "".join(letter if letter.isprintable() else " " for letter in words)
