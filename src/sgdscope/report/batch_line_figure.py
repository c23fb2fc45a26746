"""Batch line: losses along the gradient of a batch, of itself, of others and of all data, and where each is lowest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sgdscope.gradient_steps import BatchLine, FullLossStep
from sgdscope.report.chart import Canvas, Chart, drawn_twice, dress, number, ticks
from sgdscope.report.markup import first, percent, whole, with_doubt
from sgdscope.report.shape import part_of
from sgdscope.report.svg import COLOURS

_WIDE = Canvas(800, 340, (0.09, 0.17, 0.76, 0.75))
_NARROW = Canvas(400, 330, (0.16, 0.17, 0.59, 0.74))
_TOP = 1.6
"""Times the largest loss at the start up to which is drawn."""
SOURCE = "Sandler et al. 2301.02312, Sec. 3"


def batch_line_chart(found: BatchLine) -> Chart:
    """Three losses against step along the batch's gradient."""
    at = np.array(found.steps)
    curves = (
        ("unseen batches", "unseen\nbatches", found.unseen, "streamed", 1.6),
        ("all data", "all data", found.full, "full", 2.2),
        ("this batch", "this batch", found.batch, "sharpness", 2.6),
    )
    largest = max(max(losses) for _, _, losses, _, _ in curves)
    least = min(0.0, *(min(losses) for _, _, losses, _, _ in curves))
    start = max(losses[0] for _, _, losses, _, _ in curves)
    high = min(largest, _TOP * start) if start > 0 else largest
    top = high + 0.16 * (high - least) if high > least else least + 1

    def draw(axes: Axes, wide: bool) -> None:
        axes.set_xlim(0, float(at[-1]))
        axes.set_ylim(least, top)
        for _, _, losses, role, width in curves:
            axes.plot(at, losses, color=COLOURS[role], lw=width, zorder=3, solid_capstyle="round")
        _name(axes, at, [(long if wide else brief, losses, role) for long, brief, losses, role, _ in curves])
        _learning_rate(axes, found)
        _lowest(axes, found.best, at, found.batch, "sharpness")
        if found.best_full is not None:
            _lowest(axes, found.best_full, at, found.full, "full")
        dress(axes, _unit(found, wide), "loss")
        ticks(axes.xaxis, MaxNLocator(7 if wide else 4), number)
        ticks(axes.yaxis, MaxNLocator(5), number)

    return drawn_twice("batch-line", "Losses along a batch's gradient", _described(found), _WIDE, _NARROW, draw)


def caption(found: BatchLine | None, full: FullLossStep | None) -> tuple[str, str]:
    """What picture and readings say in a sentence or two, and their numbers."""
    lead, more = [], []
    if full is not None:
        lead.append(_full_in_words(full))
        more.append(
            f"Mean over {full.readings} readings."
            if full.readings > 1
            else "From one reading: points of a run scatter around the mean over its path, which theory is about."
        )
    if found is not None:
        lead.append(_batch_in_words(found, full))
        share = found.row.beside.get("batch_r_squared")
        if share is not None and isinstance(share.value, float):
            more.append(f"A parabola holds {percent(max(float(share), 0.0))} of the variation of the batch's loss.")
        more.append("●: lowest points of the batch and of all data.")
        samples = part_of(found.row)
        if samples is not None:
            more.append(f"On {whole(samples[0])} of {whole(samples[1])} samples.")
        if found.row.status != "ok":
            more.append(f"Incomplete: {found.row.reason}.")
    return " ".join(lead), " ".join(more)


def _full_in_words(full: FullLossStep) -> str:
    shown = with_doubt(float(full.estimate), first(full.estimate.standard_error), digits=1)
    expected = "½" if full.expected == 0.5 else f"{full.expected:.3g}"
    assumed = "whose batches are drawn independently" if full.expected == 0.5 else "at small learning rates"
    meaning = {
        "settled": f", as where a run has settled ({expected})",
        "larger": f": more than {expected}, as where a run still makes progress",
        "smaller": f": less than the {expected} of a settled run {assumed}",
    }.get(full.verdict, f"; a settled run has {expected} in the mean")
    return f"Along a batch's gradient the loss of all data is lowest at {shown} of the learning rate{meaning}."


def _batch_in_words(found: BatchLine, full: FullLossStep | None) -> str:
    unit = "" if full is not None else " of the learning rate" if found.in_learning_rates else " (learning rate of SGD)"
    words = f"The batch followed here is itself lowest at {_place(found.best)}{unit}"
    before, reached = found.beside("loss_before"), found.beside("loss_reached")
    if before is not None and reached is not None and before > 0 and reached >= 0:
        words += f", with {percent(reached / before)} of its loss left"
    elsewhere = found.best_full
    if elsewhere is not None and found.best > 1.5 * elsewhere > 0:
        words += f"; from {_place(elsewhere)} on that is at the cost of the other data"
    return words + "."


def _place(step: float) -> str:
    return f"{step:.2f}" if 0.095 <= step < 1 else f"{step:.1f}" if 1 <= step < 10 else with_doubt(step, None)


def _unit(found: BatchLine, wide: bool) -> str:
    if not found.in_learning_rates:
        return "step along the batch's gradient" + (", as learning rate of SGD" if wide else "")
    return "step along the batch's gradient, in learning rates" if wide else "step, in learning rates"


def _described(found: BatchLine) -> str:
    ends = (found.batch, found.unseen, found.full)
    names = ("the batch", "unseen batches", "all data")
    said = "; ".join(f"{n} from {z[0]:.3g} to {z[-1]:.3g}" for n, z in zip(names, ends, strict=True))
    return f"Loss against step along the gradient of one batch, from 0 to {found.steps[-1]:.3g}: {said}."


def _learning_rate(axes: Axes, found: BatchLine) -> None:
    """Where the run's own step lies."""
    if not found.in_learning_rates:
        return
    style: dict[str, Any] = {"color": COLOURS["edge"], "fontweight": "bold", "va": "bottom"}
    reach = found.steps[-1]
    if reach < 1:
        axes.annotate("learning rate →", (1, 1), (0, 4), "axes fraction", "offset points", ha="right", **style)
        return
    axes.axvline(1.0, color=COLOURS["edge"], lw=1.6, dashes=(6, 3), zorder=2)
    axes.annotate("learning rate", (1, 1), (0 if reach < 5 else -6, 4), ("data", "axes fraction"), "offset points",
                  ha="center" if reach < 5 else "left", **style)  # fmt: skip


def _lowest(axes: Axes, step: float, at: NDArray[np.float64], losses: Sequence[float], role: str) -> None:
    """A dot at the lowest point of a curve, and its place."""
    if not at[0] <= step <= at[-1]:
        return
    height = float(np.interp(step, at, losses))
    axes.scatter([step], [height], 70, color=COLOURS[role], edgecolors=COLOURS["paper"], linewidths=1.2, zorder=6)
    above = role == "full"
    axes.annotate(_place(step), (step, height), (0, 10 if above else -10), "data", "offset points",
                  ha="left" if step < 0.06 * at[-1] else "center",
                  va="bottom" if above else "top", color=COLOURS[role], fontweight="bold", zorder=6)  # fmt: skip


def _name(axes: Axes, at: NDArray[np.float64], curves: list[tuple[str, Sequence[float], str]]) -> None:
    """The name of each curve where it leaves the picture, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    style: dict[str, Any] = {"fontweight": "bold", "textcoords": "offset points"}
    inside = []
    for words, losses, role in curves:
        if losses[-1] <= high:
            inside.append(((losses[-1] - low) / (high - low), words, role))
            continue
        beyond = max(i for i, z in enumerate(losses) if z <= high)
        (a, b), (za, zb) = at[beyond : beyond + 2], losses[beyond : beyond + 2]
        leaves = float(a + (b - a) * (high - za) / (zb - za))
        early = leaves < 0.4 * at[-1]
        axes.annotate(words, (leaves, high), (9 if early else -9, -2), ha="left" if early else "right", va="top",
                      color=COLOURS[role], **style)  # fmt: skip
    places: list[float] = []
    for wanted, words, _ in sorted(inside):
        room = 0.075 if "\n" not in words else 0.11
        places.append(max(wanted, 0.03, places[-1] + room if places else 0.0))
    over = max(places[-1] - 0.97, 0.0) if places else 0.0
    for place, (_, words, role) in zip(places, sorted(inside), strict=True):
        axes.annotate(words, (1, place - over), (8, 0), "axes fraction", va="center", color=COLOURS[role], **style)
