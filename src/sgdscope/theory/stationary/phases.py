r"""Phases of a two-layer diagonal network (depth 1): which kinds of stationary law follow each other as T = η/S rises.

The density is ``p ∝ v^{β₂/(2α₃T) − 3/2} …`` near 0. With γ the weight decay, β₂ stands for β₂ − γ in all of this file
(at depth 1 only is that all that weight decay does). Source: Ziyin, Li & Ueda, arXiv 2308.06671, sections 4.2 and A.8,
Fig. 4. Signs: data with β₂ < 0 are mirrored, and weights take the sign of the optimum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sgdscope.theory.prediction import Prediction
from sgdscope.theory.stationary.closed_form_mode import check_temperature, nonzero_mode
from sgdscope.theory.stationary.law import DiagonalLaw
from sgdscope.theory.stationary.noise import DiagonalNoise

SOURCE = "Ziyin, Li & Ueda, arXiv 2308.06671"
UNIT = "learning rate / batch size"

Label = Literal["Ia", "Ib", "IIa", "IIb", "III"]


def critical_temperature(noise: DiagonalNoise, weight_decay: float = 0.0) -> Prediction:
    """T_c = (β₂ − γ) / α₃: at and above it the law is a point mass at 0. Below, E[v] vanishes linearly towards it.

    Raises ValueError where no temperature collapses the weight (Var[xy] = 0) or every one does (γ ≥ β₂).
    """
    value = noise.critical_temperature(weight_decay)
    if value == 0:
        raise ValueError(
            f"expected weight decay < |E[xy]| = {abs(noise.product_mean)}, got {weight_decay}: v is 0 at any T"
        )
    return Prediction(value, "critical temperature", "(β2 − γ) / α3", "depth 1", f"{SOURCE}, section 4.2", UNIT)


def divergence_temperature(noise: DiagonalNoise, weight_decay: float = 0.0) -> Prediction:
    """T_c / 3: above it the density diverges at v = 0, below it p(0) = 0. Raises ValueError where T_c does."""
    value = critical_temperature(noise, weight_decay).value / 3
    return Prediction(value, "divergence temperature", "T_c / 3", "depth 1", f"{SOURCE}, section 4.2", UNIT)


def coalescence_temperature(noise: DiagonalNoise, weight_decay: float = 0.0) -> Prediction:
    """T*: where the two extrema of the density, on either side of 0, coalesce and vanish.

    [7α₁β₂ − 5α₂β₁ + √7 √(3α₁α₃β₁² − 10α₁α₂β₁β₂ + 7α₁²β₂²)] / (2 (21α₁α₃ − 25α₂²)). A weight of the sign of the optimum
    is there only if 10 α₂ T* > β₁: `mode_temperature` asks for it. Source: Ziyin, Li & Ueda, arXiv 2308.06671, Eq. 101.

    Raises ValueError where the extrema never coalesce above T_c / 3.
    """
    pull, spread, inner = _discriminant(noise.oriented, weight_decay)
    critical = critical_temperature(noise, weight_decay).value
    if spread > 0:
        value = (pull + math.sqrt(inner)) / (2 * spread)
    elif pull < 0 < inner:
        b1 = noise.square_mean
        value = b1 * b1 / (2 * (math.sqrt(inner) - pull))  # the smaller of two roots, free of cancellation
    else:
        value = 0.0
    if not value > critical / 3:
        raise ValueError("the extrema of the density do not coalesce at any temperature above T_c / 3")
    return Prediction(value, "coalescence temperature", "T*", "depth 1", f"{SOURCE}, Eq. 101", UNIT)


def mode_temperature(noise: DiagonalNoise, weight_decay: float = 0.0) -> Prediction:
    """Lowest temperature at which the nonzero mode is gone, at most T_c.

    It is T* (`coalescence_temperature`) if 10 α₂ T* > β₁. Otherwise it merges with 0 at T_c / 3, as both roots of its
    equation are negative above. Where it is present at all temperatures the value is T_c, with a warning.

    Raises ValueError where T_c does. The condition on the sign of the roots is not in the source; derived here.
    """
    critical = critical_temperature(noise, weight_decay).value
    source, scope = f"{SOURCE}, section A.8, with the condition that the mode be positive", "depth 1, at most T_c"
    # the sum of the roots cannot change sign while they are real and their product is positive
    if 10 * noise.oriented.covariance * critical / 3 <= noise.square_mean:
        return Prediction(critical / 3, "end of the nonzero mode", "T_c / 3", scope, source, UNIT)
    try:
        end = coalescence_temperature(noise, weight_decay).value
    except ValueError:
        end = critical
    if end < critical:
        return Prediction(end, "end of the nonzero mode", "T*", scope, source, UNIT)
    warning = "the nonzero mode is there at all temperatures below T_c"
    return Prediction(critical, "end of the nonzero mode", "T_c", scope, source, UNIT, warnings=(warning,))


def _discriminant(noise: DiagonalNoise, weight_decay: float) -> tuple[float, float, float]:
    """The discriminant of the mode's equation is β₁² + 4 T pull − 4 T² spread; a fourth of its own one is `inner`."""
    a1, a2, a3 = noise.square_variance, noise.covariance, noise.product_variance
    b1, b2 = noise.square_mean, noise.product_mean - weight_decay
    pull, spread = 7 * a1 * b2 - 5 * a2 * b1, 21 * a1 * a3 - 25 * a2 * a2
    return pull, spread, 7 * a1 * (3 * a3 * b1 * b1 - 10 * a2 * b1 * b2 + 7 * a1 * b2 * b2)


@dataclass(frozen=True)
class Regime:
    """Where in the phase diagram (Fig. 4 of Ziyin, Li & Ueda, arXiv 2308.06671) a temperature lies.

    Attributes:
        label: I: sparse, all mass at 0 (T ≥ T_c); II: density that diverges at 0 (T_c/3 ≤ T < T_c); III: density that
            vanishes at 0. a: without, b: with a local maximum away from 0; III always has one.
        temperature: T.
        critical_temperature: T_c.
        nonzero_mode: the place of that maximum, or None.
    """

    label: Label
    temperature: float
    critical_temperature: float
    nonzero_mode: float | None

    def __str__(self) -> str:
        kind = {"I": "collapsed to 0", "II": "density diverges at 0", "III": "density vanishes at 0"}
        mode = "no nonzero mode" if self.nonzero_mode is None else f"nonzero mode at {self.nonzero_mode:.4g}"
        relative = self.temperature / self.critical_temperature
        return f"{self.label}: {kind[self.label.rstrip('ab')]}, {mode} (T / T_c = {relative:.4g})"


def regime(noise: DiagonalNoise, temperature: float, weight_decay: float = 0.0) -> Regime:
    """The regime of a depth-1 network at a temperature T = lr / batch size. Raises ValueError where T_c does."""
    check_temperature(temperature)
    critical = critical_temperature(noise, weight_decay).value
    mode = nonzero_mode(noise, temperature, weight_decay)
    label: Label
    if 3 * temperature < critical:
        label = "III"
    elif temperature < critical:
        label = "IIa" if mode is None else "IIb"
    else:
        label = "Ia" if mode is None else "Ib"
    return Regime(label, temperature, critical, mode)


def moment_identity(law: DiagonalLaw) -> float:
    """(β₁ − 2 α₂ T) E[v] + α₁ T E[v²] − (β₂ − γ − α₃ T): 0 for the stationary law of depth 1 below T_c.

    The mean drift of log v, which vanishes in a stationary law. Derived here. Raises ValueError at another depth and
    for a collapsed law.
    """
    if law.depth != 1 or law.collapsed:
        raise ValueError(f"expected a law of depth 1 with a density, got depth {law.depth:g}, {law.reason or 'alive'}")
    noise, temperature = law.noise.oriented, law.temperature
    first = (noise.square_mean - 2 * noise.covariance * temperature) * abs(law.mean)
    second = noise.square_variance * temperature * law.moment(2)
    return first + second - (noise.product_mean - law.weight_decay - noise.product_variance * temperature)
