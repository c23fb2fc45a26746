"""Landscapes of the reference tables: loss as a polynomial, its wells, and the generator of a diffusion on it."""

import numpy as np
import scipy.linalg
from numpy.polynomial import Polynomial

DOUBLE_WELL = Polynomial([-1, 0, 1]) ** 2 / 4  # minima ±1 with curvature 2, barrier 1/4 at 0 with curvature −1
TILTED_CURVATURES = DOUBLE_WELL * Polynomial([1, 0.5, 0.125])  # minima ±1 of equal depth, curvatures 1.25 and 3.25
TILTED_SADDLE = 0.122894
STYBLINSKI_TANG = Polynomial([0, 5, -16, 0, 1]) / 80  # minima −2.903534 and 2.746803 of unequal depth
TILTED_NOISE = Polynomial([0.940332, 1, 1.309668])  # through |H| at both minima and at the barrier


def curved_noise(ratio):
    """Diffusion h / q with h = 1 + θ², which equals |H| of the double well at its minima and its barrier."""
    return lambda x: (1 + x * x) / ratio


def generator_gap(gradient, diffusion, left=-2.5, right=2.5, cells=3000):
    """Slowest decay rate of dθ = −L' dt + √(2D) dW (Itô) between walls, from a reversible chain on a grid."""
    edges = np.linspace(left, right, cells + 1)
    x = (edges[1:] + edges[:-1]) / 2
    step = edges[1] - edges[0]
    force = gradient(edges) / diffusion(edges)
    phi = np.concatenate([[0], np.cumsum((force[1:] + force[:-1]) / 2 * step)])
    # stationary density of the Itô process at the centres; flux at the faces is e^−Φ (f_{i+1} − f_i) / step
    log_mass = -(phi[1:] + phi[:-1]) / 2 - np.log(diffusion(x))
    log_flux = -phi[1:-1] - 2 * np.log(step)
    out = np.zeros(cells)
    out[:-1] += np.exp(log_flux - log_mass[:-1])
    out[1:] += np.exp(log_flux - log_mass[1:])
    off = -np.exp(log_flux - (log_mass[1:] + log_mass[:-1]) / 2)
    return scipy.linalg.eigh_tridiagonal(out, off, select="i", select_range=(1, 1), eigvals_only=True)[0]
