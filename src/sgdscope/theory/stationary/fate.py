"""Fate: whether SGD keeps moving around in a stationary law, or ends up at one weight and stays there."""

from __future__ import annotations

from dataclasses import dataclass

from sgdscope.theory.stationary.coordinates import Coordinate, HalfLine, Interval, Line
from sgdscope.theory.stationary.dynamics import DiagonalDynamics
from sgdscope.theory.stationary.splitting import chance_of_learning


@dataclass(frozen=True)
class Collapse:
    """All mass at single weights.

    Attributes:
        places: the weights, ascending.
        masses: their probabilities, of sum 1.
        reason: why there is no density.
    """

    places: tuple[float, ...]
    masses: tuple[float, ...]
    reason: str


@dataclass(frozen=True)
class Living:
    """A density on the image of a coordinate, and what has to be said about it."""

    coordinate: Coordinate
    warnings: tuple[str, ...] = ()


def fate(dynamics: DiagonalDynamics, start: float | None, metastable: bool) -> Collapse | Living:
    """Where the dynamics end up, from a start (None: on the side of the optimum).

    At depth ≥ 1 the noise must have β₂ ≥ 0 (`DiagonalNoise.oriented`). Source: Ziyin, Li & Ueda, arXiv 2308.06671,
    sections 4.1 and 4.2, and Table 1 for interpolating data; weight decay at depth > 1 derived here.
    """
    return _fate_of_regression(dynamics) if dynamics.depth == 0 else _fate_of_product(dynamics, start, metastable)


def _fate_of_regression(dynamics: DiagonalDynamics) -> Collapse | Living:
    noise = dynamics.noise
    curvature = noise.square_mean + dynamics.weight_decay / dynamics.width
    rest = noise.product_mean / curvature
    if noise.square_variance == 0:
        if noise.product_variance == 0:
            return _at(rest, "x² and xy are constant: there is no noise")
        spread = (dynamics.temperature * dynamics.width * noise.product_variance / curvature) ** 0.5
        return Living(Line(rest, spread))
    k = noise.covariance / noise.square_variance
    if noise.discriminant > 0:
        return Living(Line(k, noise.discriminant**0.5 / noise.square_variance))
    if abs(rest - k) <= 1e-9 * abs(k):
        return _at(k, f"the data interpolate: at v = {k:g} no sample has a gradient")
    return Living(HalfLine(k))


def _fate_of_product(dynamics: DiagonalDynamics, start: float | None, metastable: bool) -> Collapse | Living:
    noise, temperature, weight_decay = dynamics.noise, dynamics.temperature, dynamics.weight_decay
    if start is not None and start <= 0:
        return _at(0.0, "the weight starts at 0 or on the wrong side of it, and 0 holds it for good")
    if noise.product_mean == 0:
        return _at(0.0, "xy has no mean: nothing pulls the weight away from 0")
    k = noise.noiseless_weight
    if noise.square_variance == 0 == noise.product_variance:
        return _fate_without_noise(dynamics)
    warnings: tuple[str, ...] = ()
    coordinate: Coordinate = HalfLine()
    if k is not None and k > 0:
        pull = dynamics.drift(k)
        if abs(pull) <= 1e-9 * dynamics.speed * k**dynamics.power * (noise.square_mean * k + noise.product_mean):
            return _fate_of_interpolation(dynamics, k, start)
        if pull > 0:
            return Living(HalfLine(k), (f"the noise vanishes at v = {k:g}: this is the law of runs that are above it",))
        coordinate = Interval(k)
    if dynamics.depth > 1 and weight_decay > 0:
        if not metastable:
            return _at(0.0, "weight decay at depth > 1: the state around the optimum is metastable, all runs end at 0")
        warnings = ("metastable: with weight decay at depth > 1 every run ends at 0; this is the law before it does",)
    elif dynamics.depth == 1:
        if noise.product_mean <= weight_decay:
            return _at(0.0, f"weight decay {weight_decay:g} beats the pull of the data, E[xy] = {noise.product_mean:g}")
        if noise.product_variance > 0 and temperature >= (critical := noise.critical_temperature(weight_decay)):
            return _at(0.0, f"temperature {temperature:g} is at or above the critical one, {critical:g}")
    return Living(coordinate, warnings)


def _fate_without_noise(dynamics: DiagonalDynamics) -> Collapse:
    noise, weight_decay = dynamics.noise, dynamics.weight_decay
    if dynamics.depth > 1 and weight_decay > 0:
        raise ValueError("x² and xy are constant: without noise the start decides where gradient descent ends")
    return _at(max(noise.product_mean - weight_decay, 0.0) / noise.square_mean, "x² and xy are constant: no noise")


def _fate_of_interpolation(dynamics: DiagonalDynamics, k: float, start: float | None) -> Collapse:
    said = f"the data interpolate: at v = {k:g} no sample has a gradient"
    ratio = dynamics.noise.critical_temperature(dynamics.weight_decay) / dynamics.temperature
    if dynamics.depth > 1 or ratio >= 1:
        return _at(k, said)
    if start is None:
        raise ValueError(
            f"the data interpolate and the temperature is above the critical one: runs end at 0 or at {k:g}, and how "
            "many depends on where they start; give start"
        )
    learned = chance_of_learning(ratio, start / k)
    if learned == 1:
        return _at(k, said)
    return Collapse((0.0, k), (1 - learned, learned), f"{said}, and above the critical temperature 0 holds runs too")


def _at(place: float, reason: str) -> Collapse:
    return Collapse((place,), (1.0,), reason)
