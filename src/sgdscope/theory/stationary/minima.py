r"""Mass of minima: with which probability SGD is found in each of several wells once it has had time to cross.

For white noise of temperature D the density is exp(−L / D) (Dai & Zhu, arXiv 2112.00987), so equally deep wells compare
by the determinants of their Hessians, and the learning rate and batch size drop out. For the noise of SGD they do not:
the ratio is exponential in batch size / learning rate (Xie, Sato & Sugiyama, arXiv 2002.03495, with the Itô prefactor
derived here). Where one dimension is enough, `masses_by_quadrature` is exact for either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from numpy.polynomial import legendre

from sgdscope.theory.prediction import Prediction
from sgdscope.theory.stationary.panels import NODES, TRANSFORM, WEIGHTS

Array = npt.NDArray[np.float64]
Function = Callable[[Array], Array]

ROUNDS = 40
NEGLIGIBLE = 60.0
"""e^{−this}: part of the highest density below which places do not count."""
EQUAL = 1e-6
"""Difference of depths in units of the temperature that counts as none."""


def anharmonic_correction(curvature: float, third: float, fourth: float) -> float:
    """κ = 5 L₃² / (24 H³) − L₄ / (8 H²): the mass of a well in one dimension is its Gaussian value times 1 + κ D.

    Args:
        curvature: H > 0, second derivative of the loss at the minimum.
        third: third derivative there.
        fourth: fourth derivative there.

    Derived here (second order of Laplace's method).
    """
    if not curvature > 0:
        raise ValueError(f"expected a curvature > 0 at a minimum, got {curvature}")
    return 5 * third * third / (24 * curvature**3) - fourth / (8 * curvature * curvature)


def masses_of_minima(
    losses: npt.ArrayLike, log_determinants: npt.ArrayLike, temperature: float, corrections: npt.ArrayLike = 0.0
) -> Array:
    """Stationary probabilities of wells under white noise: ∝ e^{−L_i / D} det H_i^{−1/2} (1 + κ_i D), shape (wells,).

    Args:
        losses: L_i at the minima, shape (wells,).
        log_determinants: log det H_i, same shape.
        temperature: D = lr · σ² / (2 · batch_size), σ² the variance per sample and coordinate, the
            same everywhere.
        corrections: κ_i (`anharmonic_correction`), same shape; 0 for the Gaussian value.

    Raises ValueError for shapes that differ, D ≤ 0, and where a correction makes a mass negative.

    Source: Dai & Zhu, arXiv 2112.00987 (shape of the result); corrections derived here.
    """
    _check_temperature(temperature)
    loss, log_determinant = np.asarray(losses, dtype=float), np.asarray(log_determinants, dtype=float)
    if loss.ndim != 1 or loss.shape != log_determinant.shape or not loss.size:
        raise ValueError(
            f"expected losses and log-determinants of one shape (wells,), got {loss.shape} and {log_determinant.shape}"
        )
    factors = 1 + np.broadcast_to(np.asarray(corrections, dtype=float), loss.shape) * temperature
    if not (factors > 0).all():
        raise ValueError(
            f"the correction exceeds the mass itself at temperature {temperature}: it is too hot for wells"
        )
    logarithm = -(loss - loss.min()) / temperature - log_determinant / 2 + np.log(factors)
    weights = np.exp(logarithm - logarithm.max())
    found: Array = weights / weights.sum()
    return found


def white_noise_ratio(
    losses: tuple[float, float],
    log_determinants: tuple[float, float],
    temperature: float,
    corrections: tuple[float, float] = (0.0, 0.0),
    noise_ratio: float | None = None,
) -> Prediction:
    """Mass of the first well over that of the second under white noise, with what limits the statement.

    For equal depths and to lowest order √(det H₂ / det H₁), whatever the learning rate and batch size.

    Args:
        losses: at the two minima.
        log_determinants: of their Hessians.
        temperature: D = lr · σ² / (2 · batch_size).
        corrections: κ of both wells.
        noise_ratio: measured variance of the gradient in the first well over the second, if known: more than 10 % off 1
            is not white noise, and a warning says so.

    Warnings: unequal depths (the ratio then depends on D), large corrections, noise that varies.

    Source: Dai & Zhu, arXiv 2112.00987 (shape of the result); corrections and limits derived here.
    """
    first, second = masses_of_minima(losses, log_determinants, temperature, corrections)
    if second == 0:
        raise ValueError("the second well is too high to hold mass: the ratio is beyond floating point")
    warnings = []
    depth = (losses[0] - losses[1]) / temperature
    if abs(depth) > EQUAL:
        warnings.append(
            f"the wells differ in depth by {abs(depth):.3g} temperatures: the ratio depends on learning rate and batch "
            "size, and small noise favours the deeper well, not the flatter"
        )
    if (largest := max(abs(kappa) * temperature for kappa in corrections)) > 0.3:
        warnings.append(f"the correction for the shape of the wells is {largest:.2g}, too large for a first order")
    if noise_ratio is not None and abs(noise_ratio - 1) > 0.1:
        warnings.append(f"the noise varies between the wells (ratio {noise_ratio:.3g}): this is not white noise")
    return Prediction(
        first / second,
        "mass ratio of two minima",
        "√(det H2 / det H1) · exp((L2 − L1) / D) · (1 + κ1 D) / (1 + κ2 D)",
        "white noise of constant strength, in the long run",
        "Dai & Zhu, arXiv 2112.00987; corrections derived here",
        warnings=tuple(warnings),
    )


def effective_depth(gradient: Function, noise: Function, minimum: float, saddle: float) -> float:
    """I = ∫ L'(θ) / h(θ) dθ from a minimum to the saddle: the depth of a well in units of its noise.

    Args:
        gradient: L', vectorised.
        noise: h > 0, variance of the gradient of one sample, vectorised.
        minimum: of the well.
        saddle: where it ends.

    Raises ValueError where h vanishes on the way: the well then has no exit in continuous time.

    Source: Xie, Sato & Sugiyama, arXiv 2002.03495 (two values of h); integral form derived here.
    """
    places, half = _nodes(np.linspace(minimum, saddle, 129))
    return abs(float(half @ (_rate(gradient, noise, places) @ WEIGHTS)))


def sgd_noise_ratio(
    curvatures: tuple[float, float], effective_depths: tuple[float, float], batch_size: float, lr: float
) -> Prediction:
    """Mass of the first well over that of the second under the noise of SGD, h = H at both minima.

    (H₂ / H₁) exp[(2 · batch_size / lr) (I₁ − I₂)]: exponential in batch size / learning rate. In one dimension.

    Args:
        curvatures: H at the two minima, > 0.
        effective_depths: I of both wells (`effective_depth`).
        batch_size: B.
        lr: learning rate.

    Low noise is assumed: a warning comes where a well is shallower than four times its noise. Derived here.
    """
    if not (min(curvatures) > 0 and batch_size > 0 and lr > 0):
        raise ValueError(f"expected curvatures, batch size and learning rate > 0, got {curvatures}, {batch_size}, {lr}")
    inverse = 2 * batch_size / lr
    exponent = inverse * (effective_depths[0] - effective_depths[1])
    if abs(exponent) > 700:
        raise ValueError(f"one well holds all the mass: the ratio is exp({exponent:.4g})")
    shallow = inverse * min(effective_depths)
    return Prediction(
        curvatures[1] / curvatures[0] * math.exp(exponent),
        "mass ratio of two minima",
        "(H2 / H1) exp[(2B / lr) (I1 − I2)]",
        "one dimension, variance of the sample gradient equal to the curvature at both minima, low noise",
        "derived here",
        warnings=(f"a well is only {shallow:.2g} deep in units of its noise",) if shallow < 4 else (),
    )


def masses_by_quadrature(
    gradient: Function, diffusion: Function, ends: tuple[float, float], splits: Sequence[float]
) -> Array:
    """Stationary probabilities of the intervals between splits, for any noise in one dimension (Itô), exactly.

    p ∝ exp(−∫ L' / D) / D. White noise: a constant D. SGD: D = lr · h / (2 · batch_size), h the variance per sample.

    Args:
        gradient: L', vectorised.
        diffusion: D > 0, vectorised: returns an array like its argument.
        ends: of the line, walls that reflect; far enough out for the density to be negligible, or where it ends.
        splits: saddles, increasing, inside of the ends.

    Returns shape (len(splits) + 1,), relative accuracy 1e-10. Raises ValueError for a diffusion that is not positive or
    splits out of order.
    """
    edges = np.array([ends[0], *splits, ends[1]], dtype=float)
    if not (np.diff(edges) > 0).all():
        raise ValueError(f"expected ends and splits in increasing order, got {edges.tolist()}")
    breaks = np.unique(np.concatenate([np.linspace(*pair, 33) for pair in pairwise(edges)]))
    for _ in range(ROUNDS):
        places, half, exponent = _exponent(gradient, diffusion, breaks)
        least = exponent.min()
        coarse = (exponent.min(axis=1) < least + NEGLIGIBLE) & (np.ptp(exponent, axis=1) > 1)
        if not coarse.any():
            break
        breaks = np.sort(np.concatenate([breaks, places[coarse].mean(axis=1)]))
    found = _masses(gradient, diffusion, edges, breaks)
    finer = _masses(gradient, diffusion, edges, np.sort(np.concatenate([breaks, breaks[:-1] + half])))
    if not np.allclose(found, finer, rtol=1e-8, atol=1e-300):
        raise ValueError("the masses do not settle: are gradient and diffusion smooth between the ends?")
    return finer


def _masses(gradient: Function, diffusion: Function, edges: Array, breaks: Array) -> Array:
    places, half, exponent = _exponent(gradient, diffusion, breaks)
    logarithm = -exponent - np.log(diffusion(places))
    pieces = np.exp(logarithm - logarithm.max()) @ WEIGHTS * half
    masses = np.add.reduceat(pieces, np.searchsorted(breaks, edges[:-1]))
    found: Array = masses / masses.sum()
    return found


def _exponent(gradient: Function, noise: Function, breaks: Array) -> tuple[Array, Array, Array]:
    """∫ L' / noise from its lowest break: at the Gauss nodes of every panel, with the nodes and half-widths."""
    places, half = _nodes(breaks)
    rate = _rate(gradient, noise, places) * half[:, None]
    inside = legendre.legval(NODES, legendre.legint(rate @ TRANSFORM.T, lbnd=-1, axis=1).T)
    steps = rate @ WEIGHTS
    # summed outwards from the lowest point, so that the high ends do not cost digits where the mass is
    lowest = int(np.argmin(np.concatenate([[0.0], np.cumsum(steps)])))
    starts = np.concatenate([-np.cumsum(steps[:lowest][::-1])[::-1], [0.0], np.cumsum(steps[lowest:])])
    return places, half, starts[:-1, None] + inside


def _nodes(breaks: Array) -> tuple[Array, Array]:
    half = np.diff(breaks) / 2
    return (breaks[:-1] + half)[:, None] + half[:, None] * NODES, half


def _rate(gradient: Function, noise: Function, places: Array) -> Array:
    strength = np.asarray(noise(places), dtype=float)
    if not (strength > 0).all():
        where = float(places.ravel()[int(np.argmin(strength))])
        raise ValueError(
            f"expected noise > 0 everywhere, got {float(strength.min()):.3g} at {where:.4g}: SGD cannot pass there"
        )
    found: Array = np.asarray(gradient(places), dtype=float) / strength
    return found


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < math.inf:
        raise ValueError(f"expected a temperature > 0, got {temperature}")
