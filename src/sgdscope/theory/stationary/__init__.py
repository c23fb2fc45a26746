"""Stationary laws: where SGD settles, in closed form where there is one. Numbers in, numbers out."""

from sgdscope.theory.stationary.noise import DiagonalNoise

__all__ = ["DiagonalNoise"]
