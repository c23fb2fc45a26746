r"""Charge: what a rescaling symmetry conserves under gradient flow, and what minibatch noise does to it.

A loss with ``ℓ(e^{λA} θ, x) = ℓ(θ, x)`` for all λ and every sample x, A symmetric, has the charge ``C = θᵀAθ``. For the
rescaling ``u → λu, w → w/λ`` it is ‖u‖² − ‖w‖², for scale invariance ‖θ‖². The symmetry makes θᵀAĝ = 0 for every
minibatch gradient ĝ, so the change of C in one step has no part linear in the learning rate.

Sources: Ziyin, Li & Ueda 2308.06671 (Theorem 3.1, Eqs. 2, 26, 30); Ziyin, Wang, Li & Wu 2402.07193 (exponential
symmetries). The exact discrete law is derived here. Weight decay is γ‖θ‖² in the loss (PyTorch's ``weight_decay`` is
2 γ). Batches are drawn with replacement unless `population` is given. Time is lr · steps; temperature T = lr / batch
size.
"""

from __future__ import annotations

import math
from typing import Any

from sgdscope.theory.prediction import Prediction

LAW = "Ziyin, Li & Ueda 2308.06671, Theorem 3.1"
EXACT = "derived here from the per-sample identity of Ziyin, Li & Ueda 2308.06671, Eq. 26"
SCOPE = "plain SGD at constant learning rate; no momentum, no clipping, no preconditioning"


def charge_after_step(charge: Any, gradient_charge: Any, *, lr: float, weight_decay: float = 0.0) -> Any:
    """Charge after one step of SGD, exactly, at any learning rate: ``(1 − 2 lr γ)² C + lr² ĝᵀAĝ``.

    Args:
        charge: C = θᵀAθ before the step (scalar or array).
        gradient_charge: ĝᵀAĝ with the gradient of the minibatch, without weight decay; ‖ĝ_u‖² − ‖ĝ_w‖² for a
            rescaling.
        lr: learning rate > 0.
        weight_decay: γ ≥ 0.
    """
    _check(lr, weight_decay)
    return (1 - 2 * lr * weight_decay) ** 2 * charge + lr * lr * gradient_charge


def expected_change(
    noise_charge: float, mean_gradient_charge: float, *, lr: float, batch_size: int, charge: float = 0.0,
    weight_decay: float = 0.0, population: int | None = None,
) -> Prediction:  # fmt: skip
    """Mean change of the charge in one step of SGD, exact at any learning rate.

    ``E[ΔC] = lr² (f Tr[AΣ] / S + ∇Lᵀ A ∇L) − (1 − (1 − 2 lr γ)²) C`` with Σ the covariance of per-sample gradients, S
    the batch size and f = 1, or (N − S) / (N − 1) for batches without replacement from a population of N. Away from a
    minimum the second term is not small, although gradient flow does not have it.

    Args:
        noise_charge: Tr[AΣ] = Tr Cov[∇_u ℓ] − Tr Cov[∇_w ℓ] for a rescaling; covariances divide by N.
        mean_gradient_charge: ∇Lᵀ A ∇L = ‖∇_u L‖² − ‖∇_w L‖².
        lr: learning rate > 0.
        batch_size: S ≥ 1.
        charge: C before the step; only weight decay asks for it.
        weight_decay: γ ≥ 0.
        population: N, if batches hold no sample twice.
    """
    _check(lr, weight_decay)
    share = _finite_population(batch_size, population)
    decay = 1 - (1 - 2 * lr * weight_decay) ** 2
    value = lr * lr * (share * noise_charge / batch_size + mean_gradient_charge) - decay * charge
    return Prediction(
        value, "mean change of the charge per step", "lr² (f Tr[AΣ]/S + ∇Lᵀ A ∇L) − (1 − (1 − 2 lr γ)²) C",
        SCOPE, EXACT, "parameter²",
    )  # fmt: skip


def drift(noise_charge: float, *, temperature: float, charge: float = 0.0, weight_decay: float = 0.0) -> Prediction:
    """Rate of change of the charge in the continuous limit: ``dC/dt = T Tr[AΣ] − 4 γ C``, without fluctuations.

    Args: as for `expected_change`, with T = lr / batch size. It lacks what `expected_change` has from the mean
    gradient, so at finite learning rate it holds near a minimum only.
    """
    if not (temperature >= 0 and weight_decay >= 0):
        raise ValueError(f"expected temperature and weight decay ≥ 0, got {temperature} and {weight_decay}")
    return Prediction(
        temperature * noise_charge - 4 * weight_decay * charge, "rate of change of the charge", "T Tr[AΣ] − 4 γ C",
        "small learning rate, near a minimum; " + SCOPE, LAW, "parameter² / (learning rate · steps)",
    )  # fmt: skip


def _check(lr: float, weight_decay: float) -> None:
    if not 0 < lr < math.inf:
        raise ValueError(f"expected a learning rate > 0, got {lr}")
    if not 0 <= weight_decay < math.inf:
        raise ValueError(f"expected a weight decay ≥ 0, got {weight_decay}")


def _finite_population(batch_size: int, population: int | None) -> float:
    if batch_size < 1:
        raise ValueError(f"expected a batch size ≥ 1, got {batch_size}")
    if population is None:
        return 1.0
    if population < batch_size:
        raise ValueError(f"expected a population of at least {batch_size} (the batch size), got {population}")
    return (population - batch_size) / (population - 1) if population > 1 else 0.0
