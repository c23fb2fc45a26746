"""Spectrum: how the eigenvalues of the Hessian are distributed, the largest of them, and where 2 / lr lies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from sgdscope.report.chart import Canvas, Chart, drawn_twice, dress, number, ticks
from sgdscope.report.markup import first, percent, whole, with_doubt
from sgdscope.report.shape import SpectrumShape
from sgdscope.report.svg import COLOURS

_WIDE = Canvas(800, 340, (0.09, 0.17, 0.895, 0.77))
_NARROW = Canvas(400, 320, (0.16, 0.175, 0.81, 0.75))
_BARS = 80
"""Most bars drawn."""
_REACH = 1.7
"""Times the largest eigenvalue up to which the edge is drawn at its place; beyond that an arrow points to it."""


def spectrum_chart(found: SpectrumShape, edge: float | None, formula: str = "2 / lr") -> Chart:
    """Number of eigenvalues against eigenvalue, counts on a logarithmic scale; `edge` is 2 / lr."""
    edges, counts = bars(found)
    far = max(found.top[0], float(edges[-1]))
    shown = edge if edge is not None and 0 < edge <= _REACH * far else None
    left = min(float(edges[0]), found.top[-1], 0.0)
    right = max(far, shown or far)
    room = 0.04 * (right - left)
    least = 0.5 if found.parameters else float(counts[counts > 0].min()) / 2
    most = float(counts.max())

    def draw(axes: Axes, wide: bool) -> None:
        axes.set_yscale("log")
        axes.set_xlim(left - room, right + (3 * room if shown is None and edge else room))
        axes.set_ylim(least, most * (6 if wide else 9))
        _bars(axes, edges, counts, least)
        _top(axes, found, least)
        _edge(axes, edge, shown, formula)
        dress(axes, "eigenvalue: curvature of a direction",
              "eigenvalues" if found.parameters else "share of eigenvalues")  # fmt: skip
        ticks(axes.xaxis, MaxNLocator(7 if wide else 4), number)
        ticks(axes.yaxis, LogLocator(subs=(1.0,), numticks=6), lambda n: f"{n:,.0f}" if n >= 1 else f"{n:.2g}")

    return drawn_twice("spectrum", "Spectrum of the Hessian", _described(found, edge), _WIDE, _NARROW, draw)


def bars(found: SpectrumShape) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Borders of the bars, and how many eigenvalues each holds (shares if not known).

    The bar about zero holds what cannot be told from zero: all within the resolution, to both sides.
    """
    nodes, weights = (
        np.array(found.nodes or found.top),
        np.array(found.weights or [1 / len(found.top)] * len(found.top)),
    )
    low, high = min(float(nodes.min()), 0.0), max(float(nodes.max()), found.top[0], 0.0)
    width = max(found.resolution, (high - low) / _BARS) or 1.0
    start, stop = min(math.floor(low / width), -1), max(math.ceil(high / width), 1)
    edges = np.array([k for k in range(start, stop + 1) if k]) * width
    counts, _ = np.histogram(nodes, edges, weights=weights)
    return edges.astype(np.float64), counts.astype(np.float64) * (found.parameters or 1)


def caption(found: SpectrumShape, edge: float | None, formula: str = "2 / lr") -> tuple[str, str]:
    """What the picture says in a sentence, and its numbers."""
    said, more = [], []
    negative = found.row.beside.get("negative_share")
    if found.nodes:
        flat = sum(w for x, w in zip(found.nodes, found.weights, strict=True) if abs(x) <= found.resolution)
        said.append(f"{percent(flat)} of the directions {'are' if flat else 'is'} flat")
        if negative is not None and isinstance(negative.value, float):
            below = float(negative)
            many = f"{percent(below, first(negative.standard_error))} curve" if below else "none curves measurably"
            said.append(f"{many} downward")
        more.append(
            f"Flat: within {found.resolution:.2g} of zero (the grey bar), which the measurement cannot tell from zero."
        )
    top = found.top[0]
    place = f", {with_doubt(top / edge, None)} of {formula}" if edge else ""
    said.append(f"the largest curvature is {top:.3g}{place}")
    sentence = "; ".join(said)
    if found.part:
        samples, of = found.part
        more.append(f"On {whole(samples)} of {whole(of)} samples, where the largest come out larger than on all data.")
    more.append(f"▼: the {len(found.top)} largest eigenvalues." if len(found.top) > 1 else "▼: the largest eigenvalue.")
    if found.row.status != "ok":
        more.append(f"Coarser than asked for: {found.row.reason}.")
    return sentence[:1].upper() + sentence[1:] + ".", " ".join(more)


def _described(found: SpectrumShape, edge: float | None) -> str:
    largest = ", ".join(f"{x:.3g}" for x in found.top[:12])
    words = f"Number of eigenvalues of the Hessian against eigenvalue. Largest: {largest}."
    return words + (f" The edge is at {edge:.3g}." if edge else "")


def _bars(axes: Axes, edges: NDArray[np.float64], counts: NDArray[np.float64], least: float) -> None:
    width, middle = edges[1:] - edges[:-1], (edges[1:] + edges[:-1]) / 2
    for role, of in (("bad", edges[1:] < 0), ("soft", edges[:-1] * edges[1:] < 0), ("sharpness", edges[:-1] > 0)):
        keep = of & (counts > least)
        axes.bar(middle[keep], counts[keep] - least, 0.86 * width[keep], least, color=COLOURS[role], alpha=0.75,
                 lw=0, zorder=2)  # fmt: skip


def _top(axes: Axes, found: SpectrumShape, least: float) -> None:
    height = np.full(len(found.top), least * (axes.get_ylim()[1] / least) ** 0.06)
    axes.scatter(found.top, height, 52, marker="v", color=COLOURS["full"], edgecolors=COLOURS["paper"], linewidths=0.8,
                 zorder=5)  # fmt: skip


def _edge(axes: Axes, edge: float | None, shown: float | None, formula: str) -> None:
    style: dict[str, Any] = {"color": COLOURS["edge"], "fontweight": "bold", "va": "top"}
    if shown is not None:
        axes.axvline(shown, color=COLOURS["edge"], lw=1.6, dashes=(6, 3), zorder=4)
        axes.annotate(f"{formula} = {shown:.3g}", (shown, 1), (-6, -1), ("data", "axes fraction"), "offset points",
                      ha="right", **style)  # fmt: skip
    elif edge is not None and edge > 0:
        axes.annotate(f"{formula} = {edge:.3g} →", (1, 1), (-2, -1), "axes fraction", "offset points", ha="right",
                      **style)  # fmt: skip
