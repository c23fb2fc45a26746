"""Escape with momentum (heavy ball, gradient not damped): the kinetic law and its overdamped limit.

``v ← μ v − lr g; θ ← θ + v`` is kinetic motion dθ = V dt, dV = −∇L dt − Γ V dt + √(2 Γ T) dW with steps of √lr:
friction Γ = (1 − μ) / √lr and temperature T = lr σ² / (2 B (1 − μ)).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.theory.escape.law import (
    escape_time,
    require_curvatures,
    require_momentum,
    require_positive,
    validity_warnings,
)
from sgdscope.theory.escape.panels import Floats
from sgdscope.theory.escape.sgd import sgd_exponent
from sgdscope.theory.escape.units import KINETIC_TIME, in_time
from sgdscope.theory.escape.white_noise import temperature
from sgdscope.theory.prediction import Prediction

_SOURCE = "Kramers' law of the kinetic equation; mapping of heavy ball derived here"
_LOW_FRICTION = 0.3  # Γ / √|H_b| below which the law was seen to fail


def friction(lr: float, momentum: float) -> float:
    """Friction of heavy ball, ``Γ = (1 − μ) / √lr``, per kinetic time √lr · iterations."""
    require_positive(lr=lr)
    require_momentum(momentum)
    return (1 - momentum) / math.sqrt(lr)


def momentum_temperature(lr: float, momentum: float, noise_variance: float, batch_size: float) -> float:
    """Temperature of heavy ball with isotropic noise, ``T = lr σ² / (2 B (1 − μ))``, σ² per sample and coordinate."""
    require_momentum(momentum)
    return temperature(lr, noise_variance, batch_size) / (1 - momentum)


def discrete_temperature_factor(lr: float, momentum: float, curvature: float) -> float:
    """Factor on T in one quadratic mode for steps of finite size, ``2 (1 + μ) / (2 (1 + μ) − lr h)``.

    Exact for the discrete recursion: the stationary variance is that factor times T / h. Source: derived here. Raises
    ValueError at and above the threshold of stability, lr h = 2 (1 + μ).
    """
    require_positive(lr=lr, curvature=curvature)
    require_momentum(momentum)
    room = 2 * (1 + momentum)
    if lr * curvature >= room:
        raise ValueError(
            f"expected lr · curvature below 2 (1 + momentum) = {room:.6g}, got {lr * curvature:.6g}: unstable"
        )
    return room / (room - lr * curvature)


def growth_rate(friction: float, curvature_saddle: float) -> float:
    """Rate at which kinetic motion leaves a saddle, ``λ₊ = (√(Γ² + 4 |H_b|) − Γ) / 2``, per kinetic time."""
    require_positive(friction=friction)
    require_curvatures(1.0, curvature_saddle)
    # the same, without the cancellation at large friction
    return -2 * curvature_saddle / (math.hypot(friction, 2 * math.sqrt(-curvature_saddle)) + friction)


def kinetic_escape_time(
    barrier: float,
    curvature_minimum: float,
    curvature_saddle: float,
    temperature: float,
    friction: float,
    *,
    transverse_ratio: float = 1.0,
    logarithm: bool = False,
) -> Prediction:
    """Mean escape time of kinetic motion, ``(2π / λ₊) √(|det H_b| / det H_a) e^(ΔL / T)``, in √lr · iterations.

    White noise of temperature T. `transverse_ratio` is the product of the other curvatures at the saddle over that at
    the minimum. Flagged below a friction of 0.3 √|H_b|, where energy diffuses too slowly for the law (at 0.3 and
    T = 1/16 on a quartic well of barrier 1/4 the true rate is 18 % below it). Source: Kramers 1940. Raises ValueError
    for curvatures of the wrong sign and anything else that is not positive.
    """
    require_curvatures(curvature_minimum, curvature_saddle)
    require_positive(
        barrier=barrier, temperature=temperature, friction=friction, transverse_ratio=transverse_ratio
    )  # fmt: skip
    warnings = validity_warnings(exponent=barrier / temperature)
    if friction <= _LOW_FRICTION * math.sqrt(-curvature_saddle):
        warnings += (
            f"the friction {friction:.3g} is at most {_LOW_FRICTION} √|H_b|: energy diffuses slowly and "
            "escape is rarer than this",
        )
    return escape_time(
        math.log(2 * math.pi / growth_rate(friction, curvature_saddle))
        + 0.5 * math.log(-curvature_saddle / curvature_minimum * transverse_ratio),
        barrier / temperature,
        formula="(2π / λ₊) √(|det H_b| / det H_a) e^(ΔL / T), λ₊ = (√(Γ² + 4 |H_b|) − Γ) / 2",
        scope="heavy ball, white noise, low temperature, moderate to strong friction; time to the other side",
        source=_SOURCE,
        warnings=warnings,
        unit=KINETIC_TIME,
        logarithm=logarithm,
    )


def momentum_escape_time(
    barrier: float,
    curvature_minimum: float,
    curvature_saddle: float,
    temperature: float,
    lr: float,
    momentum: float,
    *,
    transverse_ratio: float = 1.0,
    logarithm: bool = False,
) -> Prediction:
    """Mean escape time of SGD with heavy-ball momentum under white noise, in learning rate · iterations.

    `kinetic_escape_time` at the friction of (lr, momentum); `temperature` is that of the kinetic motion,
    `momentum_temperature`. The overdamped law at lr / (1 − μ) is short by the factor |H_b| / (λ₊ Γ). Source: derived
    here, checked against the recursion. Raises ValueError as there, and unless 0 ≤ momentum < 1.
    """
    kinetic = kinetic_escape_time(
        barrier,
        curvature_minimum,
        curvature_saddle,
        temperature,
        friction(lr, momentum),
        transverse_ratio=transverse_ratio,
        logarithm=logarithm,
    )
    fast = validity_warnings(lr=lr, largest_curvature=max(curvature_minimum, -curvature_saddle))
    return replace(in_time(kinetic, lr), warnings=kinetic.warnings + fast)


def sgd_momentum_exponent(
    barrier: ArrayLike,
    curvature_minimum: ArrayLike,
    curvature_saddle: ArrayLike,
    lr: ArrayLike,
    batch_size: ArrayLike,
    momentum: ArrayLike,
    *,
    fraction: ArrayLike,
    noise_per_curvature: ArrayLike = 1.0,
) -> Floats | float:
    """Exponent of the escape time with momentum where noise follows the curvature: (1 − μ) times `sgd_exponent`.

    The exponent only; no prefactor is known for noise that varies along the path under momentum. Arrays broadcast.
    Source: Xie et al. 2006.15815 (second-hand).
    """
    plain = sgd_exponent(
        barrier,
        curvature_minimum,
        curvature_saddle,
        lr,
        batch_size,
        fraction=fraction,
        noise_per_curvature=noise_per_curvature,
    )
    found = (1 - np.asarray(momentum)) * plain
    return found if found.ndim else float(found)
