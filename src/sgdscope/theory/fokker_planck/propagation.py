"""Propagation: masses carried through time by a tridiagonal generator.

Implicit Euler steps are positive whatever their size, and of first order. A contour integral of resolvents,
``p(t) = (1/2πi) ∮ e^z (z − tA)⁻¹ p₀ dz`` on a parabola around the negative axis, gives p(t) at any one t from 16 solves
with an error near rounding (Trefethen, Weideman & Schmelzer 2006: talbot quadratures), as the eigenvalues of A are real
and ≤ 0. Rounding grows with t · fastest rate; beyond that few modes are left, and these are known to every digit.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.linalg import lapack

from sgdscope.theory.fokker_planck.chain import Chain
from sgdscope.theory.fokker_planck.modes import decay_rates, slow_functions
from sgdscope.theory.fokker_planck.stretches import Array

_POINTS = 32
_ANGLES = np.pi * np.arange(1, _POINTS, 2) / _POINTS
_PARABOLA = _POINTS * (0.1309 - 0.1194 * _ANGLES**2 + 0.25j * _ANGLES)
_RESIDUES = np.exp(_PARABOLA) * (0.5 + 0.4776j * _ANGLES)
"""Weights of the trapezoidal rule, dz/dθ included; the lower half of the parabola is the conjugate of the upper."""
_ROUNDING = 1e-17
"""Error of a contour integral per unit of time · fastest rate, measured."""
_MOST_MODES = 32


def implicit_steps(chain: Chain, masses: Array, steps: Iterable[float]) -> Array:
    """After implicit Euler steps of the given sizes: positive, masses conserved between closed walls, first order.

    Elimination without pivots meets no subtraction but in pivots that stay above 1, so positivity is exact.
    """
    left, right = chain.rates()
    fastest = left + right
    total = masses.sum()
    for step in steps:
        masses = lapack.dgtsv(right[:-1] * -step, 1 + fastest * step, left[1:] * -step, masses)[3]
        if chain.closed:
            masses *= total / masses.sum()  # rounding only: a column of the matrix sums to 1 within 1e-16 · step · rate
    return masses


def contour(chain: Chain, masses: Array, time: float) -> Array:
    """After `time` from `masses`, by 16 complex tridiagonal solves; an error near rounding, which may be negative."""
    left, right = chain.rates()
    lower, upper = (right[:-1] * -time).astype(complex), (left[1:] * -time).astype(complex)
    diagonal, start = (left + right) * time, masses.astype(complex)
    result = np.zeros_like(masses)
    for point, residue in zip(_PARABOLA, _RESIDUES, strict=True):
        solved = lapack.zgtsv(lower, diagonal + point, upper, start)[3]
        result += (residue * solved).real
    return result


def evolved(chain: Chain, masses: Array, times: Array, tolerance: float) -> Array:
    """Masses ≥ 0 at each time, shape (len(times), n), with an L1 error below `tolerance` times their start.

    Raises ValueError where rounding does not allow the tolerance.
    """
    total = masses.sum()
    fastest = float(np.add(*chain.rates()).max())
    late = times * fastest * _ROUNDING > tolerance
    result = np.empty((len(times), len(masses)))
    for row in np.flatnonzero(~late):
        result[row] = contour(chain, masses, times[row]) if times[row] > 0 else masses
    if late.any():
        result[late] = _slow_part(chain, masses, times[late], tolerance)
    result = np.maximum(result, 0)
    return result * (total / result.sum(axis=1, keepdims=True)) if chain.closed else result


def _slow_part(chain: Chain, masses: Array, times: Array, tolerance: float) -> Array:
    """What the slow modes make of the start: the rest has decayed below the tolerance by the first of the times."""
    held = masses > 0
    stationary = chain.stationary()
    norm = np.log(masses[held]) - np.log(masses.sum())
    norm = np.logaddexp.reduce(2 * norm - chain.log_mass[held] + chain.log_total()) / 2
    enough = (norm - np.log(tolerance)) / times.min()
    count, most = 2, min(_MOST_MODES, len(masses) - int(chain.closed))
    while (rates := decay_rates(chain, min(count, most)))[-1] < enough:
        if count >= most:
            raise ValueError(
                f"rounding does not allow a tolerance of {tolerance:.1g} at t = {times.min():.3g} on {len(masses)} "
                "cells; raise the tolerance or take fewer cells"
            )
        count *= 2
    rates, functions = slow_functions(chain, int(np.searchsorted(rates, enough)) + 1)
    parts = functions @ masses * np.exp(-np.outer(times, rates))
    still = masses.sum() if chain.closed else 0.0
    return np.asarray(stationary * (parts @ functions + still))
