"""Sweep answer: a temperature sweep in words and pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sgdscope.diagonal.sweep import CRITICAL, PEAK, Sweep, unit_of_temperature
from sgdscope.estimate import with_error
from sgdscope.picture import Line, Mark, Picture, Points, Shape
from sgdscope.predict.answer import Answer, Table, number
from sgdscope.theory.stationary import DiagonalLaw
from sgdscope.verdict import Verdict

Array = NDArray[np.float64]

_CURVE, _COARSE = 60, 15


def sweep_answer(found: Sweep) -> Answer:
    """Peak and critical temperatures from runs beside theory; drawn, mean and fluctuations, and growth close to 0."""
    verdicts = [_row(verdict) for verdict in found.verdicts]
    rows = []
    for point in found.points:
        mean = 0.0 if point.law.collapsed else abs(point.law.mean)
        rows.append([number(point.temperature), _shown(point.mean), number(mean), _shown(point.variance),
                     number(point.law.variance)])  # fmt: skip
    kind = "SGD with real minibatches" if found.kind == "sgd" else "the differential equation"
    within = f"{100 * PEAK:g} % for the peak, {100 * CRITICAL:g} % for T_c"
    title = f"Temperatures from runs of {kind} beside theory, agreement within {within}"
    notes = []
    if lost := [number(point.temperature) for point in found.points if point.diverged]:
        notes.append(f"doubt: replicas diverged at temperature {', '.join(lost)}; they are left out")
    if found.kind == "diffusion":
        notes.append(
            "doubt: its steps cut the far tail |v|^−3.5 short, so that variances come out some per cent too small"
        )
    return Answer(
        [Table(title, ["quantity", "simulated", "predicted", "verdict"], verdicts),
         Table("Along the sweep", ["temperature", "mean |v|", "predicted", "variance", "predicted"], rows)],
        notes, lambda: _pictures(found),
    )  # fmt: skip


def _row(verdict: Verdict) -> list[str]:
    measured = verdict.measured
    names = {
        "peak_temperature": "fluctuations are largest at",
        "critical_temperature_from_mean": "T_c, where the mean reaches 0",
        "critical_temperature_from_growth": "T_c, where growth close to 0 does",
    }
    name = names[measured.name] + (", steps of finite size" if "finite" in verdict.claim else "")
    if measured.value is None:
        return [name, measured.reason, number(verdict.predicted), verdict.outcome]
    margin = f" ({100 * (verdict.margin or 0.0):+.1f} %)"
    return [name, _shown(measured), number(verdict.predicted), verdict.outcome + margin]


def _pictures(found: Sweep) -> list[Picture]:
    return [_fluctuations(found), *([_growth(found)] if found.growths else [])]


def _fluctuations(found: Sweep) -> Picture:
    """Mean and standard deviation, with the peak."""
    setting = found.setting
    kept = [point for point in found.points if point.mean.value is not None and point.variance.value is not None]
    unit, across = _axis(found)
    x = np.array([point.temperature for point in kept]) / unit
    means = np.array([float(point.mean) for point in kept])
    spreads = np.sqrt([max(float(point.variance), 0.0) for point in kept])
    errors = [np.array([point.mean.standard_error for point in kept], dtype=float),
              np.array([point.variance.standard_error for point in kept], dtype=float) / (2 * spreads)]  # fmt: skip
    top = max(x.max(), 1.0 if setting.depth == 1 else 0.0)
    shares = np.linspace(0.02, 0.985 * top, _CURVE)
    laws = [
        DiagonalLaw(setting.noise, share * unit, setting.depth, setting.width, setting.weight_decay,
                    start=setting.noise.optimum)
        for share in shares
    ]  # fmt: skip
    shapes: list[Shape] = [
        Line(shares, [abs(law.mean) for law in laws], "mean, theory", "first", dashed=True),
        Line(shares, [law.variance**0.5 for law in laws], "standard deviation, theory", "second", dashed=True),
        Points(x, means, errors[0], "mean, simulated", "first"),
        Points(x, spreads, errors[1], "standard deviation, simulated", "second"),
    ]
    peak = found.peak
    title = "Noise shrinks the weight, and from a temperature on its fluctuations too"
    if peak.value is not None:
        shapes.append(Mark(float(peak) / unit, "peak of the simulated variance", "second"))
    if setting.depth == 1:
        shapes.append(Mark(1.0, "T_c"))
    high = 1.2 * max(max(abs(law.mean), law.variance**0.5) for law in laws)
    return Picture(title, across, "weight |v|", shapes, span_across=(0, 1.12 * top), span_up=(0, high))


def _growth(found: Sweep) -> Picture:
    """Growth of ln |v| close to 0 through its change of sign."""
    setting = found.setting
    unit, across = _axis(found)
    x = np.array([at for at, _ in found.growths])
    known = [(at, growth.rate) for at, growth in found.growths if growth.rate.value is not None]
    rates = np.array([float(rate) for _, rate in known])
    errors = np.array([rate.standard_error for _, rate in known], dtype=float)
    fine = np.linspace(x[0], x[-1], _CURVE)
    noise, decay = setting.noise.oriented, setting.weight_decay
    shapes: list[Shape] = [Line(fine / unit, 4 * (noise.product_mean - decay - fine * noise.product_variance),
                                "differential equation", "second", dashed=True)]  # fmt: skip
    if found.kind == "sgd":
        size = setting.batch_size
        coarse = np.linspace(x[0], x[-1], _COARSE)
        real = [setting.data.growth_rate(at * size, size, decay) / (at * size) for at in coarse]
        shapes.append(Line(coarse / unit, real, "steps of finite size", "third", dashed=True))
    shapes += [
        Points(np.array([at for at, _ in known]) / unit, rates, errors, "simulated", "first"),
        Line(fine / unit, 0 * fine, role="soft"),
    ]
    measured = found.critical_from_growth
    title = "Close to 0 the weight grows below T_c and dies out above"
    if measured.value is not None:
        title += f": simulated T_c is {float(measured) / unit:.3f} of theory"
    return Picture(title, across, "growth of ln |v| per lr · steps", shapes)


def _axis(found: Sweep) -> tuple[float, str]:
    """Unit and name of the horizontal axis."""
    if found.growths:
        return unit_of_temperature(found.setting), "T / T_c"
    return unit_of_temperature(found.setting) / 2, "T / T of the peak by theory"


def _shown(measured: object) -> str:
    value, error = getattr(measured, "value", None), getattr(measured, "standard_error", None)
    return "–" if value is None else with_error(float(value), error)
