"""Figures: the charts of a run, from its records to SVG, each in a wide and a narrow drawing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, MultipleLocator

from sgdscope.records import Run, Series
from sgdscope.regime import EdgeUnits, Standing
from sgdscope.report.chart import Canvas, Chart, apart, drawn_twice, dress, number, step_words, ticks
from sgdscope.report.glossary import entry
from sgdscope.report.svg import COLOURS
from sgdscope.report.traces import Trace, thinned, trace

_WIDE = Canvas(800, 330, (0.06, 0.15, 0.745, 0.82))
_NARROW = Canvas(400, 320, (0.125, 0.155, 0.855, 0.70))
LINE_POINTS, MARKED_POINTS = 500, 120
CEILING, FLOOR = 2.5, -0.5
"""Edge units beyond which readings are drawn as arrows at the border."""
_LABELLED_CHANGES, _MARKED_CHANGES = 4, 24


@dataclass(frozen=True)
class _Layer:
    """One quantity of a chart: its trace, its look, and the words at the end of its line."""

    trace: Trace
    label: str
    colour: str
    marker: str  # "" draws a line with a band, anything else readings with error bars


def learning_rate_changes(rates: Series) -> list[tuple[int, float, float]]:
    """Every change of the learning rate as (step, before, after)."""
    pairs = zip(rates.steps[1:].tolist(), rates.values[:-1].tolist(), rates.values[1:].tolist(), strict=True)
    return [(step, before, after) for step, before, after in pairs if abs(after - before) > 1e-9 * abs(after)]


def stability_chart(run: Run, units: EdgeUnits, standing: Standing) -> Chart | None:
    """Edge units against step: streamed edge ratio, batch sharpness, λ_max and the edge; None if none was measured.

    Without a theory for the optimizer only the streamed ratio can be shown.
    """
    layers = [
        layer
        for layer in (
            _Layer(trace(run.get("edge_ratio"), factor=0.5), "edge ratio", "streamed", ""),
            _Layer(trace(run.get("batch_sharpness"), units), "batch sharpness", "sharpness", "o"),
            _Layer(trace(run.get("lambda_max"), units), "λ_max", "full", "s"),
        )
        if len(layer.trace)
    ]
    if not layers:
        return None
    reached = max(float((x.trace.values + x.trace.half).max()) for x in layers)
    lowest = min(float(x.trace.values.min()) for x in layers)
    top, bottom = min(max(1.3, reached * 1.08), CEILING), max(min(0.0, lowest * 1.1), FLOOR)
    edge = "own batch no longer improves" if standing.threshold is None else f"edge: {standing.threshold.formula}"
    changes = learning_rate_changes(units.learning_rate)

    def draw(axes: Axes, wide: bool) -> None:
        first, last = standing.window
        if last > first:
            axes.axvspan(first, last, color=COLOURS["shade"], lw=0, zorder=0)
        axes.axhline(1, color=COLOURS["edge"], lw=1.6, dashes=(6, 3), zorder=2)
        axes.annotate(edge, (0, 1), (4, 4), ("axes fraction", "data"), "offset points", color=COLOURS["edge"])
        axes.set_ylim(bottom, top)
        for layer in layers:
            _draw_layer(axes, layer, wide, top, bottom=bottom)
        _mark_changes(axes, changes, wide)

    words = "; ".join(_in_words(layer, " of the threshold") for layer in layers)
    description = f"Position in edge units against training step, the edge at 1. {words}."
    return _chart("stability", "Stability along the run", description, draw, layers, run)


def loss_chart(run: Run, units: EdgeUnits) -> Chart | None:
    """Training loss, and the loss on all probe data, against step.

    Logarithmic where the loss spans more than a factor of three and never is zero or below.
    """
    layers = [
        layer
        for layer in (
            _Layer(trace(run.get("loss")), "training loss", "ink", ""),
            _Layer(trace(run.get("full_loss")), "loss on all data", "full", "s"),
        )
        if len(layer.trace)
    ]
    if not layers:
        return None
    low = min(float(x.trace.values.min()) for x in layers)
    high = max(float(x.trace.values.max()) for x in layers)
    logarithmic = low > 1e-150 and high / low > 3
    changes = learning_rate_changes(units.learning_rate)

    def draw(axes: Axes, wide: bool) -> None:
        if logarithmic:
            axes.set_yscale("log")
        for layer in layers:
            _draw_layer(axes, layer, wide, None, floor=1e-3 if logarithmic else None)
        if logarithmic:
            axes.set_ylim(low / 1.6, high * 1.6)
        else:
            axes.set_ylim(min(0.0, low * 1.1), max(high * 1.15, 1e-12))
        _mark_changes(axes, changes, wide)

    words = "; ".join(_in_words(layer, "") for layer in layers)
    scale = "logarithmic scale" if logarithmic else "linear scale"
    return _chart("loss", "Loss along the run", f"Loss against training step, {scale}. {words}.", draw, layers, run)


def noise_scale_chart(run: Run, batch_size: int | None) -> Chart | None:
    """Noise scale against step on a logarithmic scale, the run's batch size as a line; None if it was not read."""
    noise = trace(run.get("gradient_noise").component("simple_noise_scale"))
    if not len(noise):
        return None
    layer = _Layer(noise, "noise scale", "streamed", "o")
    marks = [*noise.values[noise.values > 0], *([float(batch_size)] if batch_size else [])]
    if not marks or min(marks) < 1e-150:
        return None

    def draw(axes: Axes, wide: bool) -> None:
        axes.set_yscale("log")
        axes.set_ylim(min(marks) / 2.2, max(*marks, float((noise.values + noise.half).max())) * 1.8)
        if batch_size:
            axes.axhline(batch_size, color=COLOURS["edge"], lw=1.6, dashes=(6, 3), zorder=2)
            below = noise.values[0] >= batch_size  # away from the first reading
            axes.annotate(f"batch size {batch_size:,}", (0, batch_size), (4, -4 if below else 4),
                          ("axes fraction", "data"), "offset points", va="top" if below else "bottom",
                          color=COLOURS["edge"])  # fmt: skip
        _draw_layer(axes, layer, wide, None, floor=1e-3)

    beside = f" The batch size is {batch_size:,}." if batch_size else ""
    description = f"Noise scale, in samples, against training step, logarithmic scale. {_in_words(layer, '')}.{beside}"
    return _chart("noise-scale", "Noise scale along the run", description, draw, [layer], run)


def _chart(
    name: str, title: str, description: str, draw: Callable[[Axes, bool], None], layers: Sequence[_Layer], run: Run
) -> Chart:
    """Both drawings of a chart, with axes, steps and the names of the lines."""
    steps = [s for layer in layers for s in (layer.trace.steps[0], layer.trace.steps[-1])]
    start, end = min([*steps, 0.0 if min(steps) >= 0 else min(steps)]), max([*steps, float(run.last_step)])
    margin = 0.012 * (end - start) or 0.4

    def drawn(axes: Axes, wide: bool) -> None:
        axes.set_xlim(start - margin, end + margin)
        draw(axes, wide)
        dress(axes, "step")
        _ticks(axes, wide)
        (_label_ends if wide else _label_above)(axes, layers)

    return drawn_twice(name, title, description, _WIDE, _NARROW, drawn)


def _ticks(axes: Axes, wide: bool) -> None:
    places = MaxNLocator(6 if wide else 4, integer=True, min_n_ticks=1)
    ticks(axes.xaxis, places, step_words(axes.get_xlim()[1]))
    if axes.get_yscale() == "linear":
        span = axes.get_ylim()[1] - axes.get_ylim()[0]
        units = axes.get_ylim()[0] <= 0 and 1.3 <= span <= CEILING + 0.5  # 1 is then among the ticks
        step = 0.25 if span < 1.6 else 0.5
        ticks(axes.yaxis, MultipleLocator(step) if units else MaxNLocator(5), number)
    else:
        decades = math.log10(axes.get_ylim()[1] / axes.get_ylim()[0])
        ticks(axes.yaxis, LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0,)), _power)


def _power(x: float) -> str:
    return f"{x:g}" if 1e-3 <= x < 1e4 else f"{x:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def _draw_layer(
    axes: Axes, layer: _Layer, wide: bool, top: float | None, floor: float | None = None, bottom: float | None = None
) -> None:
    colour = COLOURS[layer.colour]
    most = (LINE_POINTS if not layer.marker else MARKED_POINTS) // (1 if wide else 2)
    shown = thinned(layer.trace, most)
    if layer.marker:
        limit = np.inf if top is None else top
        inside, reach = (shown.values <= limit) & (shown.values >= (-np.inf if bottom is None else bottom)), 4 * limit
        axes.plot(shown.steps, np.clip(shown.values, -4 * limit, limit), color=colour, lw=1, alpha=0.45, zorder=3)
        axes.errorbar(
            shown.steps[inside], shown.values[inside], np.minimum(shown.half, reach)[inside], fmt="none", ecolor=colour,
            elinewidth=1.2, zorder=4,
        )  # fmt: skip
        size = 32 if len(shown) < 60 else 14
        for flagged in (False, True):
            of = inside & (shown.flagged == flagged)
            if of.any():
                axes.scatter(
                    shown.steps[of], shown.values[of], size, marker=layer.marker, linewidths=1.3, edgecolors=colour,
                    facecolors=COLOURS["paper"] if flagged else colour, zorder=5,
                )  # fmt: skip
    else:
        spread = shown.half if floor is None else np.minimum(shown.half, shown.values * (1 - floor))
        low, high = shown.values - spread, shown.values + spread
        if floor is not None and shown.merged > 1:  # a loss shows its spikes
            low, high = np.minimum(low, shown.low), np.maximum(high, shown.high)
        if top is not None:  # far outside, coordinates would overflow
            low, high = np.clip(low, -4 * top, 4 * top), np.clip(high, -4 * top, 4 * top)
        axes.fill_between(shown.steps, low, high, color=colour, alpha=0.22, lw=0, zorder=1.5)
        single = "o" if len(shown) == 1 else None
        middle = shown.values if top is None else np.clip(shown.values, -4 * top, 4 * top)
        axes.plot(shown.steps, middle, color=colour, lw=1.3, marker=single, ms=5, zorder=3)
    for border, marker, beyond in ((top, "^", np.greater), (bottom, "v", np.less)):
        if border is not None and (out := beyond(shown.values, border)).any():
            at = np.full(int(out.sum()), border)
            axes.scatter(shown.steps[out], at, 40, marker=marker, color=colour, clip_on=False, zorder=6)


def _mark_changes(axes: Axes, changes: Sequence[tuple[int, float, float]], wide: bool) -> None:
    """Vertical lines where the learning rate changed; many changes are a schedule and are left to the caption."""
    if len(changes) > _MARKED_CHANGES:
        return
    for step, before, after in changes:
        axes.axvline(step, color=COLOURS["soft"], lw=1, dashes=(1.5, 2.5), zorder=2)
        if len(changes) <= _LABELLED_CHANGES:
            words = f"lr {before:g} → {after:g}" if wide else f"→ {after:g}"
            low, high = axes.get_xlim()
            late = step > low + 0.8 * (high - low)
            axes.annotate(
                words, (step, 1), (-5 if late else 5, -3), ("data", "axes fraction"), "offset points",
                ha="right" if late else "left", va="top", color=COLOURS["soft"],
            )  # fmt: skip


def _label_ends(axes: Axes, layers: Sequence[_Layer]) -> None:
    """The name of each line where it ends, moved apart where they would overlap."""
    low, high = axes.transData.inverted().transform(axes.transAxes.transform([(0, 0), (0, 1)]))[:, 1]
    ends = []
    for layer in layers:
        value = float(np.clip(layer.trace.values[-1], low, high))
        ends.append((float(axes.transAxes.inverted().transform(axes.transData.transform((0, value)))[1]), layer))
    ends.sort(key=lambda pair: pair[0])
    for place, (_, layer) in zip(apart([wanted for wanted, _ in ends], 0.068), ends, strict=True):
        axes.annotate(
            f"{_glyph(layer)} {layer.label}", (1, place), (9, 0), "axes fraction", "offset points", va="center",
            color=COLOURS[layer.colour], fontweight="bold",
        )  # fmt: skip


def _label_above(axes: Axes, layers: Sequence[_Layer]) -> None:
    """The names of the lines in a row above a narrow chart."""
    x = 0.0
    for layer in layers:
        words = f"{_glyph(layer)} {layer.label}"
        axes.annotate(
            words, (x, 1), (-36, 20), "axes fraction", "offset points", color=COLOURS[layer.colour], fontweight="bold"
        )
        x += (len(words) * 8.2 + 12) / (400 * 0.855)


def _glyph(layer: _Layer) -> str:
    return {"": "━", "o": "●", "s": "■"}[layer.marker]


def _in_words(layer: _Layer, of: str) -> str:
    steps, values = layer.trace.steps, layer.trace.values
    if len(values) == 1:
        return f"{layer.label}: one reading, {values[0]:.3g}{of}, at step {steps[0]:.0f}"
    return (
        f"{layer.label}: {values[0]:.3g} at step {steps[0]:.0f}, {values[-1]:.3g} at step {steps[-1]:.0f}, "
        f"largest {values.max():.3g} ({len(values)} readings)"
    )


def caption(chart: Chart, run: Run, units: EdgeUnits) -> str:
    """What the marks of the stability chart mean, and what it leaves out."""
    said = ["Bars and bands show two standard errors, and the solver's residual where there is one."]
    most = max((len(run.get(n)) for n in ("edge_ratio",)), default=0)
    if most > LINE_POINTS:
        said.append(f"Neighbouring readings are averaged: {LINE_POINTS} of {most:,} points are drawn.")
    drawn = [trace(run.get(n), units) for n in ("batch_sharpness", "lambda_max")]
    if any(t.flagged.any() for t in drawn):
        said.append("Hollow marks did not meet the accuracy asked for.")
    readings = [*drawn, trace(run.get("edge_ratio"), factor=0.5)]
    values = np.concatenate([t.values for t in readings])
    for out, border, furthest in (
        (values[values > CEILING], "upper border (▲), the largest", values.max(initial=0)),
        (values[values < FLOOR], "lower border (▼), the lowest", values.min(initial=0)),
    ):
        if len(out):
            lie = "1 reading lies" if len(out) == 1 else f"{len(out):,} readings lie"
            said.append(f"{lie} beyond the {border} at {furthest:.3g}.".replace(" -", " −"))
    changes = learning_rate_changes(units.learning_rate)
    if len(changes) > _MARKED_CHANGES:
        rates = units.learning_rate.values
        said.append(
            f"The learning rate follows a schedule from {rates[0]:g} to {rates[-1]:g} ({len(changes):,} changes)."
        )
    if units.method in ("momentum", "nesterov") and len(run.get("edge_ratio")):
        said.append("With momentum the edge ratio, taken from the steps really made, has no known level.")
    if not units.has_theory and len(run.get("lambda_max")):
        said.append(f"Without a known threshold {entry('lambda_max').label} has no place on this scale.")
    return " ".join(said)
