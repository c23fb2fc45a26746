r"""Span of a batch's inputs: first-layer weights in as many columns as there are samples.

Derivatives by the weights of a first layer with inputs X (samples × features) are combinations of the rows of X, so
where samples are fewer than features, the Hessian acts in a small part of the space only. With the Cholesky factor
:math:`X X^\top = L L^\top` the rows of L are the samples in an orthonormal basis of that part, :math:`Q = L^{-1} X`:
a layer fed with L instead of X, and weights :math:`W Q^\top`, has the same derivatives, and the Hessian the same
eigenvalues except for zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from sgdscope.risk import Risk

_PRODUCTS = 8
"""Products in which the change of coordinates must pay for itself."""


@dataclass(frozen=True)
class Span:
    """Coordinates of some inputs; `coordinates` L: ``(samples, samples)``, lower triangular.

    To the diagonal of X Xᵀ a hundred times the rounding unit of its mean is added, as if each sample had one more
    feature of its own: duplicates stay apart, and eigenvalues move by as little.
    """

    coordinates: Tensor
    fingerprint: Tensor
    """Products of the inputs with one fixed vector: tells whether they are still the same."""

    def restrict(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """``W Qᵀ``, shape ``(outputs, samples)``: what derivatives see of the weights ``(outputs, features)``."""
        seen = (inputs @ weights.t()).double()
        solved: Tensor = torch.linalg.solve_triangular(self.coordinates.double(), seen, upper=False)
        return solved.t().to(weights)

    def lift(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """``V Q``, shape ``(outputs, features)``, of weights ``(outputs, samples)``."""
        mixed: Tensor = torch.linalg.solve_triangular(self.coordinates.double().t(), weights.double().t(), upper=True)
        return mixed.t().to(weights) @ inputs


_known: WeakKeyDictionary[Risk, Span] = WeakKeyDictionary()
"""Of each risk's whole data, from the last time: they seldom change."""


def span_of(inputs: Tensor, outputs: int, risk: Risk | None) -> Span | None:
    """Coordinates of inputs ``(samples, features)`` of a layer with so many outputs; None where they would not pay.

    Kept for a `risk`, and given again while the inputs are the same. Cost: samples / (2 outputs) gradients.
    """
    count, features = inputs.shape
    pays = count * features <= 2 * _PRODUCTS * outputs * (features - count)  # both sides in multiplications per sample
    if not pays or inputs.dtype not in (torch.float32, torch.float64):
        return None
    direction = torch.randn(features, generator=torch.Generator().manual_seed(0)).to(inputs)
    fingerprint = inputs @ direction
    if risk is not None and risk in _known and torch.equal(_known[risk].fingerprint, fingerprint):
        return _known[risk]
    gram = (inputs @ inputs.t()).double()
    gram.diagonal().add_(100 * torch.finfo(inputs.dtype).eps * gram.diagonal().mean())
    try:
        factor = torch.linalg.cholesky(gram).to(inputs.dtype)
    except LinAlgError:  # not finite, or all zero
        return None
    span = Span(factor, fingerprint)
    if risk is not None:
        _known[risk] = span
    return span
