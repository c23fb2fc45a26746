"""Cell: one noise and one temperature of the phase diagram, simulated, and which phase that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sgdscope.diagonal.comparison import NEAR, portion
from sgdscope.diagonal.growth import Growth, growth_at_zero
from sgdscope.diagonal.motion import Motion
from sgdscope.estimate import Estimate
from sgdscope.simulate import Histogram
from sgdscope.simulate.result import Counted
from sgdscope.theory import stationary as theory
from sgdscope.theory.stationary import DiagonalLaw

Array = NDArray[np.float64]
Label = Literal["I", "IIa", "IIb", "III", ""]

CONFIDENCE = 2.0
"""Standard errors that a growth rate must be away from a border for a phase to be decided."""
SURE = 4.5
"""Standard errors by which a density must rise somewhere to have a maximum away from 0: many places are tried."""
FLAT = 0.01
"""Relative rise below which it counts as having none."""
LOST = 0.02
"""Share of diverged replicas from which on a cell has no phase."""
_LOOKS = 200
_BELOW, _ABOVE, _BINS = 6.0, 2.0, 40
"""Range of ln(v / v*) that is counted, and its parts."""
_LEAST = 1000
"""Counts below which a part says nothing."""
_GROWING = 4
"""Replicas close to 0 for one from the optimum."""


@dataclass(frozen=True)
class Cell:
    """One noise and temperature, two layers.

    Attributes:
        temperature: T.
        ratio: T / T_c.
        predicted: phase by theory: I (sparse), IIa, IIb, III as in `theory.stationary.Regime`; I without a or b.
        found: phase of the runs; empty where the runs do not decide, or diverge.
        near: share of the runs that end within a hundredth of the optimum from 0.
        mean: of |v| at the end.
        spread: standard deviation of v at the end.
        growth: close to 0, which tells I, II and III apart.
        rise: largest relative rise of the density of v towards larger weights, which tells a and b apart.
        diverged: share of the runs.
        law: predicted.
    """

    temperature: float
    ratio: float
    predicted: Label
    found: Label
    near: Estimate
    mean: Estimate
    spread: float
    growth: Growth
    rise: Estimate
    diverged: float
    law: DiagonalLaw

    @property
    def predicted_near(self) -> float:
        """What `near` should be."""
        reach = NEAR * abs(self.law.noise.optimum)
        return 1.0 if self.law.collapsed else float(self.law.cdf(reach) - self.law.cdf(-reach))


def simulate_cell(
    motion: Motion, *, time: float, replicas: int = 4096, seed: int = 0, threads: int | None = None
) -> Cell:
    """Simulate one cell.

    Args:
        motion: network of depth 1 and width 1 at a temperature, as SGD or as its differential equation.
        time: learning rate · steps that the runs last.
        replicas: how many begin at the optimum.
        seed: of the noise.
        threads: of the processor. [all]
    """
    setting = motion.setting
    noise, optimum = setting.noise, abs(setting.noise.optimum)
    regime = theory.regime(noise, setting.temperature, setting.weight_decay)
    growth = growth_at_zero(motion, replicas=_GROWING * replicas, seed=seed, threads=threads)
    steps, zero = motion.steps(time), math.log(optimum)
    counted = Histogram(
        zero - _BELOW, zero + _ABOVE, _BINS, of=(motion.log_size,), every=max(1, steps // (2 * _LOOKS)),
        after=steps // 2,
    )  # fmt: skip
    run = motion.run(steps=steps, start=motion.start(optimum), replicas=replicas, record=counted, seed=seed,
                     threads=threads)  # fmt: skip
    v = np.abs(motion.weights(run.positions[~run.diverged]))
    assert run.histogram is not None
    diverged = float(run.diverged.mean())
    rise = _rise(run.histogram, zero)
    label: Label = "I" if regime.label == "Ia" or regime.label == "Ib" else regime.label
    known = len(v) > 1
    return Cell(
        setting.temperature, setting.temperature / regime.critical_temperature, label,
        _phase(growth, rise) if diverged < LOST else "",
        portion("near", v < NEAR * optimum) if known else Estimate.failed("near", "all diverged", status="diverged"),
        Estimate("mean", float(v.mean()), float(v.std(ddof=1)) / math.sqrt(len(v)), count=len(v))
        if known else Estimate.failed("mean", "all diverged", status="diverged"),
        float(v.std()) if known else 0.0, growth, rise, diverged,
        DiagonalLaw(noise, setting.temperature, 1, 1, setting.weight_decay, start=noise.optimum),
    )  # fmt: skip


def _phase(growth: Growth, rise: Estimate) -> Label:
    """I where runs sink close to 0; else III where the density vanishes there, II where it diverges."""
    sinking = _side(growth.rate, 0.0)
    vanishing = _side(growth.exponent, 1.0)
    if sinking < 0:
        return "I"
    if sinking == 0 or vanishing == 0:
        return ""
    if vanishing > 0:
        return "III"
    height, error = float(rise), rise.standard_error
    assert isinstance(error, float)
    if height > SURE * error:
        return "IIb"
    return "IIa" if height + CONFIDENCE * error < FLAT else ""


def _side(measured: Estimate, border: float) -> int:
    """Side of a border; 0 within the doubt, and if nothing was measured."""
    if measured.value is None:
        return 0
    error = measured.standard_error
    assert isinstance(error, float)
    distance = float(measured) - border
    return 0 if abs(distance) < CONFIDENCE * error else int(math.copysign(1, distance))


def _rise(histogram: Counted, zero: float) -> Estimate:
    """Largest of p(w) / p(v) − 1 over weights w > v, by how sure it is; from counts of ln v."""
    (edges,) = histogram.edges
    width = np.diff(np.exp(edges - zero))
    groups = histogram.counts[:, :-2].astype(float)
    density = groups.sum(axis=0) / width
    kept = groups.sum(axis=0) > _LEAST
    if kept.sum() < 2:
        return Estimate("rise", 0.0, 1.0)
    logs = np.log(density[kept])
    relative = groups[:, kept] / groups[:, kept].mean(axis=0) - 1  # of each group, to first order in the logarithm
    differences = logs[None, :] - logs[:, None]  # [v, w]
    spread = relative[:, None, :] - relative[:, :, None]
    errors = spread.std(axis=0, ddof=1) / math.sqrt(len(groups))
    larger = np.triu(np.ones_like(differences, dtype=bool), 1)
    sure = np.where(larger, differences / np.maximum(errors, 1e-12), -np.inf)
    at = np.unravel_index(int(sure.argmax()), sure.shape)
    found = math.expm1(float(differences[at]))
    return Estimate("rise", found, (1 + found) * float(errors[at]))
