r"""Probes: gᵀHg of a batch without second derivatives, from losses or gradients a small step along the gradient.

Probe sizes, in units of the learning rate η (or of 2 / curvature where none is known), as measured on small networks
in float32 (relative error of batch sharpness at the edge):

================== =============================== ============ ==========================================
method             formula for gᵀHg / ‖g‖²          probe ε      error
================== =============================== ============ ==========================================
gradient_difference (g(θ) − g(θ−εg))·g / (ε‖g‖²)     η/1000,ReLU η ≤ 1e-4 smooth, 6 % ReLU
central_difference (L(θ+εg)+L(θ−εg)−2L)/(ε²‖g‖²)    η/10, ReLU η ≤ 1e-3 smooth, 2 % ReLU
loss_change        2 (1 + ΔL/(ε‖g‖²))/ε, ΔL one step η            ≤ 2 % smooth, 4 % ReLU
================== =============================== ============ ==========================================

Kinks inside the probe enter as 1/ε (one ReLU crossed within η/1000 can quadruple a mean over 128 batches), so
piecewise-linear networks need ε = η, which is also the curvature the step really feels; round-off enters as 1/ε², so
loss differences must not be smaller than η/10 in float32.
"""

from __future__ import annotations

import math

from torch import nn

from sgdscope import vectors
from sgdscope.batches import Batch
from sgdscope.risk import Risk

_SMOOTH = (nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Softplus, nn.ELU, nn.Mish, nn.CELU, nn.LogSigmoid, nn.Softmax)
_KINKED = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.MaxPool1d,
    nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool2d,
)  # fmt: skip


def is_smooth(model: nn.Module) -> bool:
    """Whether all nonlinearities are known and smooth; functional ones cannot be seen, so in doubt it is not."""
    modules = list(model.modules())
    return any(isinstance(m, _SMOOTH) for m in modules) and not any(isinstance(m, _KINKED) for m in modules)


def lacks_second_derivative(error: RuntimeError) -> bool:
    """Whether a RuntimeError says that some kernel cannot be differentiated twice."""
    text = str(error)
    return any(
        said in text
        for said in ("double backward", "derivative for", "does not require grad", "donated buffers", "not implemented")
    )


def described(method: str) -> str:
    """The method in words, for the record."""
    return {
        "gradient_difference": "gradient difference",
        "central_difference": "central difference of losses",
        "loss_change": "own-batch loss change over one step",
    }[method]


class Probe:
    """Measures gᵀHg by one of the methods above.

    Raises ValueError for an unknown method, and for `loss_change` without a learning rate.
    """

    def __init__(self, risk: Risk, lr: float | None) -> None:
        self.risk = risk
        self.lr = lr
        self.smooth = is_smooth(risk.model)

    def curvature(self, batch: Batch, method: str, *, seed: int = 0) -> tuple[tuple[float, float], float]:
        """(gᵀHg, ‖g‖²) of a batch, and the cost in gradient evaluations."""
        if method not in ("gradient_difference", "central_difference", "loss_change"):
            raise ValueError(
                "expected method 'auto', 'exact', 'gradient_difference', 'central_difference' or 'loss_change', "
                f"got {method!r}"
            )
        if method == "loss_change" and self.lr is None:
            raise ValueError("expected lr with method 'loss_change': the probe is one step of SGD, of size lr")
        risk = self.risk
        value, g = risk.gradient(batch, seed=seed)
        norm = vectors.dot(g, g)
        if norm == 0:
            return (0.0, 0.0), 1.0
        if self.lr is None:
            self.lr = self._scale(batch, g, norm, seed)
        if method == "gradient_difference":
            epsilon = self.lr / 1000 if self.smooth else self.lr
            _, moved = risk.gradient(batch, at=risk.displaced(g, -epsilon), seed=seed)
            return ((norm - vectors.dot(moved, g)) / epsilon, norm), 2.0
        if method == "loss_change":
            after = risk.value(batch, at=risk.displaced(g, -self.lr), seed=seed)
            return (2 / self.lr * (norm + (after - value) / self.lr), norm), 4 / 3
        epsilon = self.lr / 10 if self.smooth else self.lr
        ahead = risk.value(batch, at=risk.displaced(g, epsilon), seed=seed)
        behind = risk.value(batch, at=risk.displaced(g, -epsilon), seed=seed)
        return ((ahead + behind - 2 * value) / epsilon**2, norm), 5 / 3

    def _scale(self, batch: Batch, g: vectors.Vector, norm: float, seed: int) -> float:
        """2 / curvature, from a gradient difference over a thousandth of the parameters' own length."""
        own = vectors.norm([p.detach() for p in self.risk.parameters]) or 1.0
        epsilon = 1e-3 * own / math.sqrt(norm)
        _, moved = self.risk.gradient(batch, at=self.risk.displaced(g, -epsilon), seed=seed)
        curvature = abs(norm - vectors.dot(moved, g)) / (epsilon * norm)
        return 2 / curvature if curvature > 0 else epsilon
