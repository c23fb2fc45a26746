"""Pictures of a trial: the density, and the tail."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sgdscope.diagonal.trial import Trial
from sgdscope.picture import Band, Line, Mark, Picture, Points

Array = NDArray[np.float64]

_BINS = 60
_DECADE = 5.0
"""Ratio of weights from which on they are drawn on a logarithmic axis."""
_SMALLEST = 1e-30
_LEAST = 5
"""Replicas in a bin, or beyond a weight, from which on it is drawn."""


def pictures(trial: Trial) -> list[Picture]:
    """The law beside the weights of the replicas, and the share beyond large weights; or the collapse in time."""
    v = trial.held * (trial.setting.noise.sign or 1)
    if len(v) < 2:
        return []
    if trial.law.collapsed:
        return [_collapse(trial)]
    return [_density(trial, v), _tail(trial, v)]


def _finding(trial: Trial) -> str:
    (row,) = [row for row in trial.rows if row.verdict.measured.name == "distance"]
    words = "follow" if row.verdict.outcome == "agrees" else "are off"
    return f"{len(trial.held):,} networks {words} the stationary law (distance {float(row.verdict.measured):.3f})"


def _axis(trial: Trial) -> str:
    return "−v" if trial.setting.noise.sign < 0 else "weight v"


def _density(trial: Trial, v: Array) -> Picture:
    law, sign = trial.law, trial.setting.noise.sign or 1
    low, high = sorted(sign * float(law.quantile(share)) for share in (0.001, 0.995))
    low = low - 0.1 * (high - low) if trial.setting.depth == 0 or low > 0.3 * high else 0.0
    edges = np.linspace(low, high, _BINS + 1)
    counts = np.histogram(v, edges)[0]
    width = edges[1] - edges[0]
    kept = counts >= _LEAST
    places = np.linspace(low, high, 800)[1:-1]
    density = np.asarray(law.density(sign * places))
    heights = counts / len(v) / width
    top = 1.25 * max(float(heights[1:].max()), float(density[places > low + width].max()))
    return Picture(
        _finding(trial), _axis(trial), "density",
        [Line(places, density, "stationary law", "second"),
         Points((edges[1:] + edges[:-1])[kept] / 2, heights[kept], np.sqrt(counts[kept]) / len(v) / width,
                f"{len(v):,} networks"),
         Mark(abs(trial.setting.noise.optimum), "least loss")],
        span_across=(low, high), span_up=(0, top),
    )  # fmt: skip


def _tail(trial: Trial, v: Array) -> Picture:
    """Share of networks with larger weights, on logarithmic axes: a power law is a straight line."""
    law, sign = trial.law, trial.setting.noise.sign or 1
    ordered = np.sort(v)
    start = max(float(np.median(ordered)), 1e-3 * trial.setting.unit)
    shares = np.geomspace(0.5, _LEAST / len(v), 30)
    places = np.quantile(ordered, 1 - shares)
    places, shares = places[places >= start], shares[places >= start]
    far = max(float(places[-1]), sign * float(law.quantile(1 - 1e-4 if sign > 0 else 1e-4)))
    x = np.geomspace(start, far, 200) if start > 0 else np.linspace(start, far, 200)
    beyond = 1 - np.asarray(law.cdf(x)) if sign > 0 else np.asarray(law.cdf(-x))
    try:
        exponent = f", in the end a power −{law.tail_exponent - 1:.3g}"
    except ValueError:
        exponent = ""
    return Picture(
        "Large weights beside the tail of the law", _axis(trial), "share of networks beyond v",
        [Line(x, beyond, f"stationary law{exponent}", "second"),
         Points(places, shares, np.sqrt(shares * (1 - shares) / len(v)), f"{len(v):,} networks")],
        log_across=far > _DECADE * start > 0, log_up=True,
    )  # fmt: skip


def _collapse(trial: Trial) -> Picture:
    """|v| in time, with the growth that the law of real steps predicts close to 0."""
    time, unit = trial.replicas.times, trial.setting.unit
    low, middle, high = np.nanquantile(np.abs(trial.replicas.paths) / unit, [0.05, 0.5, 0.95], axis=1)
    shown = middle > _SMALLEST
    shown[0] = True
    low, high = (np.clip(values[shown], _SMALLEST, None) for values in (low, high))
    shapes: list[Line | Band] = [
        Band(time[shown], low, high, "5 % to 95 % of the networks"), Line(time[shown], middle[shown], "median"),
    ]  # fmt: skip
    setting = trial.setting
    if setting.depth == 1 and middle[0] > 0:
        growth = setting.data.growth_rate(setting.lr, setting.batch_size, setting.weight_decay) / setting.lr
        line = middle[0] * np.exp(growth * time[shown])
        shapes.append(Line(time[shown], np.clip(line, _SMALLEST, None), "growth predicted close to 0", "second",
                           dashed=True))  # fmt: skip
    title = "The networks end where no sample moves them" if 0 not in trial.law.places else "The networks collapse to 0"
    return Picture(title, "learning rate · steps", "|v| / weight of least loss", shapes, log_up=True)
