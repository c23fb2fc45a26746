"""Noise against curvature: variance of the gradient along each top eigenvector against its eigenvalue."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator

from sgdscope.estimate import Estimate, short
from sgdscope.report.chart import Canvas, Chart, apart, drawn_twice, dress, ticks
from sgdscope.report.markup import first, percent, with_doubt
from sgdscope.report.shape import NoiseShape
from sgdscope.report.svg import COLOURS

_WIDE = Canvas(800, 380, (0.09, 0.15, 0.78, 0.82))
_NARROW = Canvas(400, 380, (0.16, 0.15, 0.63, 0.82))
_SHARP = 0.25
"""Standard error of the exponent above which the fitted line says nothing and is not drawn."""
_STEEP = 20.0
"""Exponent that no picture holds."""
_ALIKE = 1.5
"""Factor between the noise per curvature of the largest eigenvalues and of all that passes for none."""
_NEAR = 30.0
"""Factor from the points within which the line Σ = H is drawn."""


def noise_chart(found: NoiseShape) -> Chart:
    """Log-log scatter with the two models as lines through the points' middle, and the fit where it says something."""
    x, y, error = (np.array(v) for v in (found.curvatures, found.variances, found.errors))
    middle = float(np.exp(np.log(x).mean())), float(np.exp(np.log(y).mean()))
    mean = tuple((float(e), first(e.standard_error)) for e in found.mean) if found.mean is not None else ()
    leftmost = min([float(x.min()), *(at for at, _ in mean[:1])])
    rightmost = max([float(x.max()), *(at for at, _ in mean[:1])])
    margin = max((rightmost / leftmost) ** 0.12, 2 / (rightmost / leftmost) ** 0.5, 1.2)
    left, right = leftmost / margin, rightmost * margin
    lines = [("∝ H", 1.0, middle[1], "sharpness", (5, 3)), ("constant", 0.0, middle[1], "soft", (1, 2))]
    equal = middle[0] / middle[1]
    if 1 / _NEAR < equal < _NEAR:
        lines.append(("Σ = H", 1.0, middle[0], "edge", (8, 3)))
    if 1 / 1.3 < equal < 1.3:  # one line would hide the other
        lines = lines[1:]
    fit = found.beside("exponent")
    fitted = fit is not None and first(fit.standard_error) < _SHARP and abs(float(fit)) < _STEEP
    if fit is not None and fitted:
        lines.append((f"fit {float(fit):.2f}".replace("-", "−"), float(fit), middle[1], "full", (1, 0)))
    ends = [at * (edge / middle[0]) ** p for _, p, at, _, _ in lines for edge in (left, right)]
    others = [at / 2 for at, _ in mean[1:]]  # room for its name
    low = min(*ends, *others, *(y - np.minimum(2 * error, 0.8 * y))) / 1.5
    high = max(*ends, *others, *(y + 2 * error)) * 1.5

    def draw(axes: Axes, wide: bool) -> None:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(left, right)
        axes.set_ylim(low, high)
        for _, p, at, role, dashes in lines:
            over = np.array([left, right])
            style: dict[str, Any] = {} if dashes == (1, 0) else {"dashes": dashes}
            axes.plot(over, at * (over / middle[0]) ** p, color=COLOURS[role], lw=1.7, zorder=2, **style)
        bars = np.vstack([np.minimum(2 * error, y * (1 - 1e-3)), 2 * error])
        axes.errorbar(x, y, bars, fmt="none", ecolor=COLOURS["streamed"], elinewidth=1.3, zorder=3)
        axes.scatter(x, y, 46, color=COLOURS["streamed"], edgecolors=COLOURS["paper"], linewidths=1, zorder=4)
        if mean:
            _mean_direction(axes, mean)
        _name_lines(axes, [(words, at * (right / middle[0]) ** p, role) for words, p, at, role, _ in lines])
        names = ("curvature: eigenvalue of the Hessian", "noise: variance of a sample's gradient")
        dress(axes, *(names if wide else ("curvature (eigenvalue)", "noise (variance)")), sides=("bottom", "left"),
              grid="both")  # fmt: skip
        _decades(axes.xaxis, *axes.get_xlim())
        _decades(axes.yaxis, *axes.get_ylim())

    return drawn_twice("noise", "Noise against curvature", _described(found), _WIDE, _NARROW, draw)


def caption(found: NoiseShape) -> tuple[str, str]:
    """What the picture says in a sentence, and its numbers."""
    exponent, span = found.beside("exponent"), found.curvatures[0] / found.curvatures[-1]
    shown = "" if exponent is None else f"exponent {short(exponent)}; 0 is constant, 1 proportional"
    said = {
        "proportional to the Hessian": "The noise follows the curvature: in sharp directions it is stronger in "
        f"proportion ({shown}).",
        "constant": f"The noise does not follow the curvature: it is as strong in flat directions ({shown}).",
        "neither": f"The noise is neither constant nor proportional to the curvature ({shown}).",
    }.get(found.supported)
    if said is None:
        why = (
            f"they lie within a factor of {span:.2g} of each other"
            if span < 2
            else "the noise along them scatters too much"
            if exponent is not None
            else "there are too few"
        )
        said = f"The largest eigenvalues cannot tell whether the noise follows the curvature: {why}."
        slope = found.beside("slope")
        if found.mean is not None and slope is not None and float(slope) > 0:
            ratio = float(_mean_ratio(found.mean)) / float(slope)
            said += (
                " In the mean of all directions the two stand in about the same proportion."
                if 1 / _ALIKE < ratio < _ALIKE
                else f" For its curvature it is {with_doubt(ratio, None)} times as strong in the mean direction."
            )
    return said, " ".join(_numbers(found))


def _mean_direction(axes: Axes, mean: tuple[tuple[float, float], ...]) -> None:
    """A hollow mark for the mean of all directions."""
    (x, _), (y, _) = mean
    bars = [[[min(2 * e, at * (1 - 1e-3))], [2 * e]] for at, e in mean]
    axes.errorbar([x], [y], bars[1], bars[0], fmt="none", ecolor=COLOURS["full"], elinewidth=1.3, zorder=3)
    axes.scatter([x], [y], 60, marker="D", linewidths=1.6, edgecolors=COLOURS["full"], facecolors=COLOURS["paper"],
                 zorder=4)  # fmt: skip
    low, high = axes.get_xlim()
    late = math.log(x / low) > 0.6 * math.log(high / low)
    axes.annotate("mean of all directions", (x, y), (-11 if late else 11, -13), "data", "offset points",
                  ha="right" if late else "left", va="center", color=COLOURS["full"])  # fmt: skip


def _numbers(found: NoiseShape) -> list[str]:
    said = []
    slope, share, cosine = (found.beside(name) for name in ("slope", "alignment", "cosine"))
    if slope is not None:
        said.append(f"Noise is {_plain(slope)} times the curvature in these directions (1: Σ = H).")
    if found.mean is not None:
        ratio = _mean_ratio(found.mean)
        said.append(f"In the mean of all directions (◇) it is {_plain(ratio)} times.")
    if share is not None:
        said.append(f"Of all noise, {percent(float(share), first(share.standard_error))} lies along them.")
    if cosine is not None:
        said.append(f"Likeness of the two matrices there (cosine, at most 1): {short(cosine)}.")
    if any(found.errors):
        said.append("Bars: two standard errors.")
    else:
        said.append("No bars: all data were taken.")
    if found.row.settings.get("samples") and found.row.beside["eigenvalues"].settings.get("curvatures"):
        said.append("Directions come from part of the data, curvatures and noise from other samples.")
    if found.row.status != "ok":
        said.append(f"Coarser than asked for: {found.row.reason}.")
    return said


def _mean_ratio(mean: tuple[Estimate, Estimate]) -> Estimate:
    """Noise over curvature in the mean direction."""
    curvature, noise = (float(e) for e in mean)
    errors = [first(e.standard_error) / float(e) for e in mean]
    return Estimate("ratio", noise / curvature, noise / curvature * math.hypot(*errors))


def _plain(estimate: Estimate) -> str:
    return with_doubt(float(estimate), first(estimate.standard_error))


def _described(found: NoiseShape) -> str:
    pairs = zip(found.curvatures, found.variances, strict=True)
    points = ", ".join(f"{y:.3g} at {x:.3g}" for x, y in list(pairs)[:12])
    return (
        f"Variance of single samples' gradients along eigenvectors of the Hessian against their eigenvalue: {points}."
    )


def _name_lines(axes: Axes, lines: list[tuple[str, float, str]]) -> None:
    """The name of each line where it ends, moved apart where they would overlap."""
    low, high = (math.log(v) for v in axes.get_ylim())
    ends = sorted((min(max((math.log(at) - low) / (high - low), 0.02), 0.98), words, role) for words, at, role in lines)
    for place, (_, words, role) in zip(apart([wanted for wanted, _, _ in ends], 0.06), ends, strict=True):
        axes.annotate(words, (1, place), (7, 0), "axes fraction", "offset points", va="center",
                      color=COLOURS[role], fontweight="bold")  # fmt: skip


def _decades(axis: Axis, low: float, high: float) -> None:
    """Ticks at powers of ten, and at twice and five times those where they are few."""
    subs = (1.0, 2.0, 5.0) if math.log10(high / low) < 2.5 else (1.0,)
    ticks(axis, LogLocator(subs=subs, numticks=9), lambda at: f"{at:.3g}".replace("e-0", "e-"))
