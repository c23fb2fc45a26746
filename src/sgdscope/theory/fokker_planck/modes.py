"""Modes: the slow decays of a chain, with every digit right however small the rate.

The generator of a chain is minus a product BᵀB with B bidiagonal, so its rates are squares of the singular values of B,
and these are the eigenvalues of the path cell–face–cell–… with a zero diagonal, which bisection finds to full relative
accuracy (Barlow & Demmel 1990). An eigenvalue solver on the generator itself only knows them to 10⁻¹⁶ of the fastest
rate, and loses a gap below it altogether. Modes are then polished with the inverse of the generator, whose entries are
products of positive numbers.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh_tridiagonal, eigvalsh_tridiagonal

from sgdscope.theory.fokker_planck.chain import Chain
from sgdscope.theory.fokker_planck.stretches import Array

_DEPTH = 600.0
"""Noise units below the deepest well at which the outer parts of a chain are left out: e⁻⁶⁰⁰ of its mass."""
_SMALLEST = 1e-290


def decay_rates(chain: Chain, count: int) -> Array:
    """The `count` smallest nonzero decay rates, ascending, each to about 10 digits or more; cost O(count · n).

    Raises ValueError for more rates than the chain has, or a rate below the smallest floating-point number.
    """
    weights = np.empty(2 * len(chain.log_mass) + 1)
    weights[1::2], weights[::2] = chain.log_mass, chain.log_resistance
    weights = weights[int(not chain.open_left) : len(weights) - int(not chain.open_right)]
    available = len(weights) // 2
    if not 1 <= count <= available:
        raise ValueError(f"expected between 1 and {available} rates of {len(chain.log_mass)} cells, got {count}")
    first = len(weights) - available
    singular = eigvalsh_tridiagonal(
        np.zeros_like(weights),
        np.exp(-(weights[:-1] + weights[1:]) / 2),
        select="i",
        select_range=(first, first + count - 1),
        lapack_driver="stebz",
        tol=2 * np.finfo(float).tiny,
    )
    rates = np.square(singular)
    if rates[0] < _SMALLEST:
        raise ValueError(
            f"expected a slowest rate above {_SMALLEST}, got {rates[0]:.3g}: the barrier is over 600 noise units; "
            "raise the noise, or close the chain at the barrier"
        )
    return np.asarray(rates)


def slow_functions(chain: Chain, count: int) -> tuple[Array, Array]:
    """Rates, shape (count,), and functions, shape (count, n), of the slowest decays (without the rate 0).

    Function j decays on average as ``E[φ_j(x_t)] = e^(−rate_j t) φ_j(x_0)``; Σ m φ² = 1 with m the stationary masses,
    and φ is positive at its right end. Raises ValueError as `decay_rates`.
    """
    rates = decay_rates(chain, count)
    inner, inside = chain.without_tails(_DEPTH)
    available = len(inner.log_mass) - int(inner.closed)
    if count > available:
        raise ValueError(f"expected at most {available} modes, as only so many cells hold any mass, got {count}")
    if inner.closed:
        functions = _from_fluxes(inner, _symmetric_modes(inner.dual(), rates), rates)
    else:
        functions = _symmetric_modes(inner, rates) * np.exp((inner.log_mass.max() - inner.log_mass) / 2)
    functions = np.pad(functions, ((0, 0), (inside.start, len(chain.log_mass) - inside.stop)), mode="edge")
    functions *= np.where(functions[:, -1:] < 0, -1.0, 1.0)
    return rates, functions / np.sqrt(functions**2 @ chain.stationary())[:, None]


def principal_masses(chain: Chain) -> Array:
    """The law to which what is not yet absorbed settles: masses ≥ 0 of sum 1. Needs a wall that absorbs."""
    inner, inside = chain.without_tails(_DEPTH)
    mode = np.abs(_symmetric_modes(inner, decay_rates(inner, 1)))
    masses = np.zeros_like(chain.log_mass)
    masses[inside] = _Inverse(inner)(mode)[0] * np.exp((inner.log_mass - inner.log_mass.max()) / 2)
    return np.asarray(masses / masses.sum())


def _from_fluxes(chain: Chain, fluxes: Array, rates: Array) -> Array:
    """Functions of a closed chain from the modes of its dual, w = √R · flux: either drops or divergences of these.

    An error ε in w is an admixture of slower modes. Adding up the drops √R w makes that ε √(rate / slowest rate), the
    divergence instead costs ε √(fastest rate / rate): the better is taken, and what slower modes left is removed.
    """
    masses = chain.stationary()
    roots = np.exp((chain.log_mass - chain.log_mass.max()) / 2)
    left, right = chain.rates()
    functions = np.empty((len(rates), len(masses)))
    for j, (flux, rate) in enumerate(zip(fluxes, rates, strict=True)):
        if rate * rate < rates[0] * (left + right).max():
            drops = flux * np.exp((chain.log_resistance[1:-1] + chain.log_mass.max()) / 2 + np.log(rate) / 2)
            functions[j] = np.append(0.0, np.cumsum(drops))
        else:
            inflow, outflow = np.sqrt(left) * np.append(0.0, flux), np.sqrt(right) * np.append(flux, 0.0)
            functions[j] = (inflow - outflow) / roots
        functions[j] -= functions[j] @ masses
        for other in functions[:j]:
            functions[j] -= (functions[j] * masses) @ other * other
        functions[j] /= np.sqrt(functions[j] ** 2 @ masses)
    return functions


class _Inverse:
    """``M^½ (−L)⁻¹ M^−½`` up to a factor, for a chain with a wall: a matrix of positive numbers, applied in O(n)."""

    def __init__(self, chain: Chain) -> None:
        g, r = chain.factors()
        g, r = g + chain.log_mass / 2, r + chain.log_mass / 2
        scale = (g + r).max() / 2  # the largest entry becomes 1
        middle = (g.max() - r.max()) / 2
        self.g, self.r = np.exp(g - scale - middle), np.exp(r - scale + middle)

    def __call__(self, rows: Array) -> Array:
        """To vectors in rows, shape (k, n)."""
        below = np.cumsum(rows * self.g, axis=1)
        above = np.cumsum((rows * self.r)[:, :0:-1], axis=1)[:, ::-1]
        return np.asarray(self.r * below + self.g * np.pad(above, ((0, 0), (0, 1))))


def _symmetric_modes(chain: Chain, rates: Array) -> Array:
    """Orthonormal eigenvectors of the symmetrised generator at its slowest rates, in rows; needs a wall.

    Rounding mixes into the eigenvectors of the generator ε · fastest rate / rate of others, into those of its inverse
    ε · rate / slowest rate: the slow ones are taken from the inverse, the others from the generator.
    """
    cells, count = len(chain.log_mass), len(rates)
    if cells == 1:
        return np.ones((1, 1))
    left, right = chain.rates()
    guarded = min(count + 2, cells)  # two more than asked for, so that the last ones are as good as the first
    _, modes = eigh_tridiagonal(
        left + right, -np.sqrt(right[:-1] * left[1:]), select="i", select_range=(0, guarded - 1), lapack_driver="stebz"
    )
    slow = int((np.square(rates) < rates[0] * (left + right).max()).sum())
    polished = guarded if slow == count else slow
    inverse = _Inverse(chain)
    rows = modes.T[:polished]
    for _ in range(2):
        rows = np.linalg.qr(inverse(rows).T)[0].T
        times, mixture = np.linalg.eigh(rows @ inverse(rows).T)
        rows = mixture[:, np.argsort(-times)].T @ rows
    return np.asarray(np.linalg.qr(np.vstack([rows, modes.T[polished:]]).T)[0].T[:count])
