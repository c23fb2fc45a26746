r"""Landscape risk: a landscape at one position as a `Risk`, so that everything in `measure` works on formulas too.

The loss is the formula of the landscape in torch's operations, in double precision: derivatives are autograd's, exact
to rounding. Without noise there is one sample. Noise comes from copies of the landscape that are tilted: with *tilts*
:math:`S_1, \dots, S_m` the 2m samples are

.. math:: \ell_{k\pm} = L \pm \sqrt{m}\, S_k,

whose mean is L and whose gradients have the covariance :math:`\sum_k \nabla S_k \nabla S_k^\top` at every θ: σx gives
the constant variance σ² along x, σx²/2 gives σ²x², which vanishes at zero. Tilts that are curved make the Hessian
differ between samples, as it does between those of a network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sgdscope.risk import Risk
from sgdscope.simulate.data.point import risk_at
from sgdscope.simulate.torch_backend.formulas import function
from sgdscope.theory import expression
from sgdscope.theory.potential import CriticalPoint, Potential


def landscape_risk(landscape: Any, at: ArrayLike | CriticalPoint, *, tilts: Sequence[str] = ()) -> Risk:
    """The risk of a landscape at a position; its parameter ``theta`` has the shape (n,).

    Args:
        landscape: a `theory.potential.Potential`, anything with `symbols` and `expression` like it, a formula in x, or
            a landscape made of data, whose samples are then those of the risk.
        at: the position, n numbers, or a critical point of the landscape.
        tilts: formulas in the coordinates, which make samples differ; see above. A covariance h(θ) of one dimension
            takes the antiderivative of √h.

    Raises ValueError for a position of another dimension or outside the domain, tilts that cannot be read or do not
    depend on the coordinates, and tilts for a landscape that has samples of its own.
    """
    theta = np.atleast_1d(np.asarray(at.position if isinstance(at, CriticalPoint) else at, dtype=np.float64))
    if hasattr(landscape, "risk"):
        if tilts:
            raise ValueError(f"expected no tilts for {type(landscape).__name__}, which has samples of its own")
        own: Risk = landscape.risk(theta)
        return own
    surface = Potential(landscape) if isinstance(landscape, str) else landscape
    symbols = tuple(surface.symbols)
    read = [expression.parse(tilt, [symbol.name for symbol in symbols]) for tilt in tilts]
    for tilt, formula in zip(tilts, read, strict=True):
        if not formula.free_symbols:
            raise ValueError(f"expected tilts that vary with {', '.join(s.name for s in symbols)}, got {tilt!r}")
    values = function(symbols, [surface.expression, *read], "float64")

    def output(theta: Tensor, weights: Tensor) -> Tensor:
        level, *slants = values(*theta.unbind())
        tilted = weights @ torch.stack(slants) if slants else weights.sum(1)
        return level + tilted

    def loss(outputs: Tensor, _: Tensor) -> Tensor:
        return outputs

    side = math.sqrt(len(read)) * np.eye(len(read))
    weights = np.concatenate([side, -side]) if read else np.zeros((1, 1))
    risk = risk_at(theta, len(symbols), output, loss, (weights, np.zeros(len(weights))))
    if not math.isfinite(risk.value()):
        raise ValueError(f"expected a position where the landscape is a finite real number, it is not at {theta}")
    return risk
