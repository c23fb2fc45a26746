"""Potentials of the tests on a line."""

from dataclasses import dataclass

import numpy as np


class Quartic:
    """(x² − 1)² / 4: minima ±1 of curvature 2, barrier ¼ at 0 of curvature −1."""

    @staticmethod
    def value(x):
        return (x * x - 1) ** 2 / 4

    @staticmethod
    def gradient(x):
        return x**3 - x


class Lopsided:
    """(x² − 1)² (1 + x/2 + x²/8) / 4: minima ±1 of equal depth and curvatures 1.25 and 3.25, barrier 0.257865."""

    @staticmethod
    def value(x):
        return (x * x - 1) ** 2 * (1 + x / 2 + x * x / 8) / 4

    @staticmethod
    def gradient(x):
        return x * (x * x - 1) * (1 + x / 2 + x * x / 8) + (x * x - 1) ** 2 * (1 / 2 + x / 4) / 4


@dataclass(frozen=True)
class Quadratic:
    """H (x − centre)² / 2."""

    curvature: float = 1.0
    centre: float = 0.0

    def value(self, x):
        return self.curvature * (x - self.centre) ** 2 / 2

    def gradient(self, x):
        return self.curvature * (x - self.centre)


class TripleWell:
    """Minima at 0 and near ±2, barriers of different heights between them."""

    @staticmethod
    def value(x):
        return x**2 * (x**2 - 4) ** 2 / 20 + 0.1 * np.tanh(x)

    @staticmethod
    def gradient(x):
        return (2 * x * (x**2 - 4) ** 2 + 4 * x**3 * (x**2 - 4)) / 20 + 0.1 / np.cosh(x) ** 2


def peers_drift(x):
    """Of dx = −(x³ − x) dt + √(2T(1 + x²/2)) dW, T = ¼: the test problem with state-dependent noise."""
    return x - x**3


def peers_diffusion(x):
    return (1 + x * x / 2) / 4


def peers_density(x):
    """Its stationary density (Itô), not normalised, in closed form."""
    return np.exp(-4 * x * x) * (2 + x * x) ** 12 / (1 + x * x / 2)
