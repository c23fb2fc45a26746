"""Prediction of the stationary law of deep diagonal linear networks: density, phase, and what noise has in store."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sgdscope.picture import Line, Mark, Picture
from sgdscope.predict.answer import Answer, Table, notes_of, number
from sgdscope.predict.columns import columns
from sgdscope.theory import stationary as theory
from sgdscope.theory.prediction import Prediction
from sgdscope.theory.stationary import DiagonalLaw, DiagonalNoise

Array = NDArray[np.float64]
_REGIMES = {
    "I": "sparse: all mass at 0", "II": "density diverges at 0", "III": "density vanishes at 0",
    "a": "no maximum away from 0", "b": "a maximum away from 0",
}  # fmt: skip


def stationary(
    lr: float, batch_size: float = 1.0, depth: float = 1.0, slope: float = 1.0, noise_variance: float = 1.0,
    input_variance: float = 1.0, data_file: Path | None = None, width: float = 1.0, weight_decay: float = 0.0,
    start: float | None = None, metastable: bool = False,
) -> Answer:  # fmt: skip
    """Where does SGD settle on a deep diagonal linear network, (product of weights · x − y)²?

    Args:
        lr: learning rate.
        batch_size: samples per batch.
        depth: hidden layers: 0 is linear regression, 1 two layers, …; inf for the limit, with --width as width/depth.
        slope: y = slope · x + noise, inputs and noise Gaussian.
        noise_variance: of the targets.
        input_variance: of the inputs.
        data_file: two columns x, y (CSV, a header line is skipped) instead of Gaussian data.
        width: subnetworks that are alive.
        weight_decay: γ in the loss γ ‖weights‖² (PyTorch's weight_decay is 2 γ).
        start: weight of the network at the start; the law remembers its sign.
        metastable: with weight decay at depth above 1, the law before the runs collapse to 0.
    """
    for name, value in (("learning rate", lr), ("batch size", batch_size)):
        if not 0 < value < math.inf:
            raise ValueError(f"expected a {name} > 0, got {value}")
    pairs = None if data_file is None else columns(data_file)
    if data_file is not None and pairs is not None:
        noise, told = DiagonalNoise.of_data(*pairs), f"data of {data_file.name}"
    else:
        noise = DiagonalNoise.gaussian(slope, noise_variance, input_variance)
        told = f"y = {slope:g} x + noise of variance {noise_variance:g}, inputs of variance {input_variance:g}"
    temperature = lr / batch_size
    size = {"width_per_depth": width} if math.isinf(depth) else {"width": width}
    law = DiagonalLaw(noise, temperature, depth, weight_decay=weight_decay, start=start, metastable=metastable, **size)
    tables = [_law(law, f"Stationary law at depth {depth:g}, temperature lr / batch size = {temperature:g}; {told}")]
    said: list[Prediction] = []
    if depth == 1:
        phases, said = _phases(noise, temperature, weight_decay)
        gaussian = (slope, noise_variance, input_variance)
        phases.rows.append(["all mass at 0 from, steps of finite size",
                            _discrete(pairs, gaussian, batch_size, weight_decay)])  # fmt: skip
        tables.append(phases)
    notes = [f"outside its range: {warning}" for warning in law.warnings]
    source = f"source: {_source(said)}"
    return Answer(tables, [*notes, source], lambda: _pictures(law))


def _source(said: list[Prediction]) -> str:
    """Sources of the phases, or of the law alone."""
    found = notes_of(said)
    return found[-1].removeprefix("source: ") if found else "Ziyin, Li & Ueda 2308.06671, Theorem 4.2"


def _law(law: DiagonalLaw, title: str) -> Table:
    noise = law.noise
    rows = [["weight of least loss", number(noise.optimum)]]
    if law.collapsed:
        rows.append(["collapsed", law.reason])
        rows += [[f"probability of weight {place:.6g}", number(mass)]
                 for place, mass in zip(law.places, law.masses, strict=True)]  # fmt: skip
        return Table(title, ["quantity", "value"], rows)
    rows += [
        ["mean", _or_none(lambda: law.mean)],
        ["standard deviation", _or_none(lambda: math.sqrt(law.variance))],
        ["median", number(law.median)],
        ["5 % to 95 %", f"{number(law.quantile(0.05))} to {number(law.quantile(0.95))}"],
        ["modes", ", ".join(map(number, law.modes)) or "none but the divergence at 0"],
        ["falls at large weights as", _tail(law)],
    ]
    return Table(title, ["quantity", "value"], rows)


def _phases(noise: DiagonalNoise, temperature: float, weight_decay: float) -> tuple[Table, list[Prediction]]:
    """Phase transitions of two layers, with where this temperature stands."""
    rows: list[list[str]] = []
    said: list[Prediction] = []
    try:
        label = theory.regime(noise, temperature, weight_decay).label
    except ValueError as none:
        return Table("Phases in temperature (two layers)", ["phase", "value"], [["none", str(none)]]), []
    phase = label.rstrip("ab")
    rows.append(["regime here", f"{label}: " + "; ".join(_REGIMES[key] for key in (phase, label[len(phase) :]) if key)])
    for name, find in (
        ("all mass at 0 from T_c", theory.critical_temperature),
        ("density diverges at 0 from T_c / 3", theory.divergence_temperature),
        ("maximum away from 0 up to", theory.mode_temperature),
    ):
        try:
            found = find(noise, weight_decay)
        except ValueError as none:
            rows.append([name, str(none)])
            continue
        said.append(found)
        rows.append([name, number(found.value)])
    try:
        peak = theory.fluctuation_peak(noise, weight_decay=weight_decay)
        rows.append(
            ["fluctuations are largest at", f"{peak.temperature.value:.6g} (variance {peak.variance.value:.6g})"]
        )
    except ValueError as none:
        rows.append(["fluctuations are largest at", str(none)])
    return Table("Phases in temperature (two layers)", ["phase", "temperature"], rows), said


def _discrete(
    pairs: tuple[Array, Array] | None, gaussian: tuple[float, float, float], batch_size: float, weight_decay: float
) -> str:
    if batch_size != int(batch_size):
        return "asks for a whole batch size"
    size = int(batch_size)
    if pairs is not None:
        return _or_none(lambda: theory.discrete_critical_temperature(*pairs, size, weight_decay).value)
    return _or_none(lambda: theory.gaussian_discrete_critical_temperature(
        *gaussian, batch_size=size, weight_decay=weight_decay).value)  # fmt: skip


def _tail(law: DiagonalLaw) -> str:
    try:
        return f"|v|^−{law.tail_exponent:.6g}"
    except ValueError as error:
        return str(error)


def _or_none(find: Callable[[], float]) -> str:
    try:
        return number(find())
    except ValueError as error:
        return str(error)


def _pictures(law: DiagonalLaw) -> list[Picture]:
    """The density, and at depth 1 how mean and fluctuation change with temperature."""
    pictures = []
    if not law.collapsed:
        low, high = (float(law.quantile(share)) for share in (0.002, 0.99))
        v = np.linspace(low if law.depth == 0 else min(low, 0.0), high, 602)[1:-1]
        v = v[np.abs(v) > 1e-12]
        density = law.density(v)
        top = 1.15 * float(np.max(density[np.abs(v) > 0.02 * high]))
        pictures.append(Picture(
            "Stationary density of the network's weight", "weight v", "density",
            [Line(v, density), Mark(law.noise.optimum, "least loss", "second")], span_up=(0, top),
        ))  # fmt: skip
    if law.depth == 1 and law.noise.product_variance > 0:
        critical = law.noise.critical_temperature(law.weight_decay)
        if critical > 0 and not law.noise.interpolating:
            share = np.linspace(0.02, 0.98, 49)
            laws = [DiagonalLaw(law.noise, s * critical, 1, weight_decay=law.weight_decay) for s in share]
            mean = np.array([abs(one.mean) for one in laws])
            spread = np.array([math.sqrt(one.variance) for one in laws])
            pictures.append(Picture(
                "Noise shrinks the weight to 0 at T_c, and its fluctuations with it", "T / T_c", "weight",
                [Line(share, mean, "|mean|"), Line(share, spread, "standard deviation", "second"),
                 Mark(law.temperature / critical, "here")], span_across=(0, max(1.02, law.temperature / critical)),
            ))  # fmt: skip
    return pictures
