"""Landscapes made of data, and SGD on them with batches that are really drawn, sample by sample.

Each is a loss that is a mean over samples, simple enough to be written out in formulas: gradients of batches are exact,
not Gaussian noise of the right size. Each can be handed to `sgdscope.measure` as a `Risk` at a point.

`WeightDiffusion` is the differential equation that stands for all this on a two-layer network with balanced layers.
"""

from sgdscope.simulate.data.diagonal_network import DiagonalNetwork, ScalarNetwork
from sgdscope.simulate.data.logistic_regression import LogisticRegression
from sgdscope.simulate.data.minibatch import DataLandscape, Minibatch, Sampling
from sgdscope.simulate.data.pairs import Pairs
from sgdscope.simulate.data.quadratics import Quadratics
from sgdscope.simulate.data.sgd import SGD
from sgdscope.simulate.data.stream import Stream
from sgdscope.simulate.data.weight_diffusion import BalancedWeight, WeightDiffusion

__all__ = [
    "SGD",
    "BalancedWeight",
    "DataLandscape",
    "DiagonalNetwork",
    "LogisticRegression",
    "Minibatch",
    "Pairs",
    "Quadratics",
    "Sampling",
    "ScalarNetwork",
    "Stream",
    "WeightDiffusion",
]
