r"""Stability: at which curvature does a step size stop being stable?

Sources: Cohen et al. 2021 (full batch, with momentum); Andreyev & Beneventano 2412.20553 (SGD: batch sharpness,
Def. 3 and Theorem 1); 2604.14108 (SGD with momentum, second-hand). Curvature is in units of loss / parameter²,
`lr` in parameter² / loss; all thresholds are curvatures. Momentum is the heavy-ball convention of PyTorch,
``v ← momentum · v + g;  θ ← θ − lr · v`` (the gradient is not multiplied by ``1 − momentum``).
"""

from __future__ import annotations

import math
from typing import Literal

from sgdscope.theory.prediction import Prediction

Method = Literal["sgd", "momentum", "nesterov"]


def _check(lr: float, momentum: float = 0.0) -> None:
    if not (lr > 0 and 0 < 2 / lr < math.inf):
        raise ValueError(f"expected a learning rate > 0, got {lr}")
    if not 0 <= momentum < 1:
        raise ValueError(f"expected momentum in [0, 1), got {momentum}")


def sgd_threshold(lr: float) -> Prediction:
    """Level at which batch sharpness settles under plain SGD: ``2 / lr``, for every batch size.

    Source: Andreyev & Beneventano 2412.20553, abstract and Theorem 1 (one-sided: above it, instability is certain;
    below it nothing is certified). Raises ValueError unless lr > 0.
    """
    _check(lr)
    return Prediction(
        2 / lr,
        "batch_sharpness",
        "2 / lr",
        "plain SGD, constant learning rate and batch size",
        "Andreyev & Beneventano 2412.20553, abstract",
    )


def full_batch_threshold(lr: float, momentum: float = 0.0, *, nesterov: bool = False) -> Prediction:
    """Largest stable eigenvalue of the Hessian for full-batch gradient descent.

    ``2 (1 + β) / lr`` for heavy ball (β = 0: gradient descent), ``2 (1 + β) / (lr (1 + 2β))`` for Nesterov: exact on
    quadratics. Source: Cohen et al. 2103.00065. Raises ValueError unless lr > 0 and 0 ≤ momentum < 1.
    """
    _check(lr, momentum)
    value = 2 * (1 + momentum) / (lr * (1 + 2 * momentum if nesterov else 1))
    formula = "2 / lr" if momentum == 0 else "2 (1 + β) / (lr (1 + 2β))" if nesterov else "2 (1 + β) / lr"
    return Prediction(value, "lambda_max", formula, "full batch", "Cohen et al. 2103.00065")


def small_batch_momentum_threshold(lr: float, momentum: float) -> Prediction:
    """Level of batch sharpness under SGD with (Nesterov) momentum at small batch: ``2 (1 − β) / lr``.

    That is 2 / lr_eff with lr_eff = lr / (1 − β). Small means batches of about 16 and less on 8k CIFAR images; for
    large batches batch sharpness tends to `full_batch_threshold`, and no formula is known in between.
    Source: 2604.14108 (second-hand). Raises ValueError unless lr > 0 and 0 ≤ momentum < 1.
    """
    _check(lr, momentum)
    return Prediction(
        2 * (1 - momentum) / lr,
        "batch_sharpness",
        "2 (1 − β) / lr",
        "SGD with momentum at small batch; larger batches settle between this and the full-batch level",
        "2604.14108",
    )


def threshold(lr: float, momentum: float = 0.0, *, nesterov: bool = False, full_batch: bool = False) -> Prediction:
    """The level that applies to a run of SGD: which quantity settles where.

    Raises ValueError unless lr > 0 and 0 ≤ momentum < 1.
    """
    if full_batch:
        return full_batch_threshold(lr, momentum, nesterov=nesterov)
    return sgd_threshold(lr) if momentum == 0 else small_batch_momentum_threshold(lr, momentum)


def momentum_threshold(lr: float, momentum: float, relative_variance: float) -> Prediction:
    """Level of batch sharpness under heavy ball between small and large batch: ``2 / (lr (1/(1+β) + r/(1−β)))``.

    r = Var(h_B) / E[h]² is the relative variance of the curvature that batches see, which falls as 1 / batch size. With
    r = 0 it is `full_batch_threshold`; for large r noise rules and the level is 2 (1 − β) / (lr r), which for r = 1 is
    `small_batch_momentum_threshold`. It is `momentum_mean_square_boundary` solved for E[h], which in one dimension is
    batch sharpness: exact there, a guide in many. Source: 2604.14108 (second-hand). Raises ValueError unless lr > 0,
    0 ≤ momentum < 1 and relative_variance ≥ 0.
    """
    _check(lr, momentum)
    if not 0 <= relative_variance < math.inf:
        raise ValueError(f"expected a relative variance of curvature ≥ 0, got {relative_variance}")
    value = 2 / (lr * (1 / (1 + momentum) + relative_variance / (1 - momentum)))
    return Prediction(
        value, "batch_sharpness", "2 / (lr (1/(1+β) + r/(1−β)))",
        "random quadratics in one dimension, independent batches; a guide for networks", "2604.14108",
    )  # fmt: skip


def gradient_growth_bound(lr: float, batch_sharpness: float) -> float:
    """Lower bound of E[‖g_B(θ⁺)‖² / ‖g_B(θ)‖²] over one step of SGD: ``(1 − lr · batch sharpness)²``.

    Holds whenever every batch loss is quadratic (Cauchy-Schwarz, then Jensen), with batch sharpness the expectation of
    the ratio (Def. 3), not the ratio of expectations. The same batch makes the step and is measured after it. A value
    above 1 certifies growth in that mean; a value below 1 certifies nothing. Source: derived here, as the one-step
    part of Theorem 1 of Andreyev & Beneventano 2412.20553. Raises ValueError unless lr > 0.
    """
    _check(lr)
    factor = 1 - lr * batch_sharpness
    return factor * factor


def mean_square_boundary(mean: float, second_moment: float) -> float:
    """Largest learning rate stable in mean square on the random quadratic ½ h_B x²: ``2 E[h] / E[h²]``.

    Exact in one dimension with independent draws: E[(1 − lr h)²] = 1 there. It shows that 2 / lr is not the exact
    boundary for either reading of batch sharpness: at the boundary the expectation of ratios is E[h]² / E[h²] ≤ 1 in
    edge units, and for h ≥ 0 the ratio of expectations is E[h³] E[h] / E[h²]² ≥ 1. Source: derived here. Raises
    ValueError unless mean > 0 and second_moment ≥ mean², both finite.
    """
    if not (0 < mean < math.inf and mean * mean * (1 - 1e-12) <= second_moment < math.inf):
        raise ValueError(f"expected mean > 0 and second moment ≥ mean², got {mean} and {second_moment}")
    return 2 * mean / second_moment


def momentum_mean_square_boundary(mean: float, variance: float, momentum: float) -> float:
    """Largest learning rate of heavy ball stable in mean square on the random quadratic ½ h_B x², in one dimension.

    ``1 / lr_max = E[h] / (2 (1 + β)) + Var(h) / (2 E[h] (1 − β))``: between the full-batch level (variance 0) and
    2 (1 − β) E[h] / Var(h), where variance rules. Exact for independent draws of h: there the matrix that carries
    (x_t², x_t x_{t-1}, x_{t-1}²) one step on in expectation has the eigenvalue 1. Source: 2604.14108 (second-hand),
    derived again here. Raises ValueError unless mean > 0, variance ≥ 0, both finite, and 0 ≤ momentum < 1.
    """
    _check(1.0, momentum)
    if not (0 < mean < math.inf and 0 <= variance < math.inf):
        raise ValueError(f"expected mean > 0 and variance ≥ 0, got {mean} and {variance}")
    return 1 / (mean / (2 * (1 + momentum)) + variance / (2 * mean * (1 - momentum)))
