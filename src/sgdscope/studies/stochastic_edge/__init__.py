"""Stochastic edge: batch sharpness settles at 2 / lr, and what that means (2412.20553)."""

from sgdscope.studies.stochastic_edge.recipe import StochasticEdge

__all__ = ["StochasticEdge"]
