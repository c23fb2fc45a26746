"""Landscapes made of data, and SGD on them with batches that are really drawn, sample by sample.

Each is a loss that is a mean over samples, simple enough to be written out in formulas: gradients of batches are exact,
not Gaussian noise of the right size. Each can be handed to `sgdscope.measure` as a `Risk` at a point.
"""

from sgdscope.simulate.data.diagonal_network import DiagonalNetwork, ScalarNetwork
from sgdscope.simulate.data.logistic_regression import LogisticRegression
from sgdscope.simulate.data.minibatch import DataLandscape, Minibatch, Sampling
from sgdscope.simulate.data.pairs import Pairs
from sgdscope.simulate.data.quadratics import Quadratics
from sgdscope.simulate.data.sgd import SGD
from sgdscope.simulate.data.stream import Stream

__all__ = [
    "SGD",
    "DataLandscape",
    "DiagonalNetwork",
    "LogisticRegression",
    "Minibatch",
    "Pairs",
    "Quadratics",
    "Sampling",
    "ScalarNetwork",
    "Stream",
]
