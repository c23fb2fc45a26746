r"""Mean-square stability of random quadratics: exactly when do iterates on ½ xᵀ H_B x, a fresh batch each step, shrink?

Each step multiplies the state by a random matrix M_B, independent from step to step, so ``P = E[x xᵀ]`` obeys the
linear map ``P → E[M_B P M_Bᵀ]``; SGD is stable in mean square iff its spectral radius ρ is below 1. For plain SGD
``M_B = I − lr H_B``, and with ``K P = H P + P H``, ``G P = E[H_B P H_B]`` the map is ``1 − lr K + lr² G``: the boundary
is ``lr = 1 / ρ(K⁻¹ G)``, since K⁻¹ G keeps positive matrices positive (Perron–Frobenius). With heavy ball the state is
(x_t, x_{t−1}); at small learning rates its boundary is that of SGD at lr / (1 − β), the leading order stated in
2604.14108 (second-hand). The exact map and its boundary are standard theory of products of random matrices, written out
here. One-dimensional cases in closed form are in `stability`.

Cost: dense matrices of n (n + 1) / 2 rows (4 times as many columns and rows with momentum): meant for n ≤ 30, a
landscape written down or the top directions of a network.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_sylvester

from sgdscope.theory.prediction import Prediction

Floats = npt.NDArray[np.float64]
_SOURCE = "products of random matrices; leading order with momentum: 2604.14108 (second-hand)"
_DOUBLINGS, _HALVINGS = 60, 60


def contraction(
    hessians: npt.ArrayLike, lr: float, *, momentum: float = 0.0, nesterov: bool = False,
    weights: npt.ArrayLike | None = None,
) -> Prediction:  # fmt: skip
    """ρ of ``P → E[M_B P M_Bᵀ]``: factor per step by which mean squares shrink (< 1) or grow (> 1) in the end.

    Args:
        hessians: of each batch (or a sample of batches), shape (batches, n, n), symmetric; or (batches,) in one
            dimension.
        lr: learning rate > 0.
        momentum: β in [0, 1), as PyTorch has it.
        nesterov: Nesterov's step instead of heavy ball's.
        weights: probabilities of the batches; equal by default.
    """
    H, p = _checked(hessians, weights)
    _check_step(lr, momentum)
    return Prediction(
        _radius(_steps(H, lr, momentum, nesterov), p), "mean-square contraction per step", "ρ(P → E[M_B P M_Bᵀ])",
        "batch losses quadratic around one common minimum, batches drawn independently", _SOURCE,
    )  # fmt: skip


def boundary(
    hessians: npt.ArrayLike, *, momentum: float = 0.0, nesterov: bool = False, weights: npt.ArrayLike | None = None
) -> Prediction:
    """Largest learning rate below which mean squares shrink, exactly.

    ``1 / ρ(K⁻¹ G)`` for plain SGD; with momentum the first learning rate at which `contraction` reaches 1, searched
    upwards in steps of a quarter. In one dimension they are `stability.mean_square_boundary` and
    `stability.momentum_mean_square_boundary`.

    Args: as for `contraction`. Raises ValueError unless the mean Hessian is positive definite: along a direction that
    does not curve in mean, no learning rate makes iterates shrink.
    """
    H, p = _checked(hessians, weights)
    _check_step(1.0, momentum)
    plain = _plain_boundary(H, p)
    scope = "batch losses quadratic around one common minimum, batches drawn independently"
    if momentum == 0:
        return Prediction(plain, "largest stable learning rate", "1 / ρ(K⁻¹ G)", scope, _SOURCE, "parameter² / loss")

    def grows(lr: float) -> bool:
        return _radius(_steps(H, lr, momentum, nesterov), p) > 1 + 1e-13

    stable = (1 - momentum) * plain / 2
    while grows(stable):  # at small learning rates heavy ball is SGD at lr / (1 − β), which is stable
        stable /= 2
    unstable = stable
    for _ in range(_DOUBLINGS):
        unstable *= 1.25
        if grows(unstable):
            break
        stable = unstable
    for _ in range(_HALVINGS):
        middle = (stable + unstable) / 2
        stable, unstable = (stable, middle) if grows(middle) else (middle, unstable)
    return Prediction(
        stable, "largest stable learning rate", "ρ(P → E[M_B P M_Bᵀ]) = 1", scope, _SOURCE, "parameter² / loss"
    )


def leading_order_boundary(
    hessians: npt.ArrayLike, *, momentum: float, weights: npt.ArrayLike | None = None
) -> Prediction:
    """``(1 − β) / ρ(K⁻¹ G)``: boundary of heavy ball and of Nesterov where noise in the curvature rules.

    From ρ(1 − lr_eff K + lr_eff² G) < 1 with lr_eff = lr / (1 − β). It is the boundary of `boundary` as the relative
    variance of curvature goes to infinity; where all batches curve alike it is too low by up to (1 + β) / (1 − β).
    """
    H, p = _checked(hessians, weights)
    _check_step(1.0, momentum)
    return Prediction(
        (1 - momentum) * _plain_boundary(H, p), "largest stable learning rate", "(1 − β) / ρ(K⁻¹ G)",
        "momentum at small batch: noise in the curvature rules", "2604.14108 (second-hand)", "parameter² / loss",
    )  # fmt: skip


def _steps(H: Floats, lr: float, momentum: float, nesterov: bool) -> Floats:
    """M_B of every batch: of x, or of (x, m) with m = lr · velocity where there is momentum."""
    identity = np.eye(H.shape[1])
    if momentum == 0:
        plain: Floats = identity - lr * H
        return plain
    scaled = lr * H
    zero = np.broadcast_to(identity, H.shape)
    kept = momentum * zero
    ahead = momentum if nesterov else 0.0  # m⁺ = β m + lr g; x⁺ = x − m⁺, or x − lr g − β m⁺
    top = [identity - (1 + ahead) * scaled, -(ahead if nesterov else 1.0) * kept]
    return np.concatenate([np.concatenate(top, axis=2), np.concatenate([scaled, kept], axis=2)], axis=1)


def _radius(steps: Floats, weights: Floats) -> float:
    """Spectral radius of P → E[M P Mᵀ] on symmetric matrices."""
    n = steps.shape[1]
    rows, columns = np.triu_indices(n)
    basis = np.zeros((len(rows), n, n))
    basis[np.arange(len(rows)), rows, columns] = basis[np.arange(len(rows)), columns, rows] = 1.0
    moved = np.zeros_like(basis)
    for M, weight in zip(steps, weights, strict=True):
        moved += weight * (M @ basis @ M.T)
    return float(np.abs(np.linalg.eigvals(moved[:, rows, columns].T)).max())


def _plain_boundary(H: Floats, weights: Floats) -> float:
    """1 / ρ(K⁻¹ G) by power iteration on positive matrices, which cannot lose its way."""
    mean = np.einsum("b,bij->ij", weights, H)
    values = np.linalg.eigvalsh(mean)
    if not values[0] > 1e-12 * values[-1] or values[-1] <= 0:
        raise ValueError(
            f"expected a positive definite mean Hessian, got smallest eigenvalue {values[0]:.3g}: in that direction no "
            "learning rate makes iterates shrink (leave the direction out)"
        )
    P = np.eye(len(mean))
    last = math.inf
    for _ in range(100_000):
        P = solve_sylvester(mean, mean, np.einsum("b,bij,jk,bkl->il", weights, H, P, H, optimize=True))
        size = float(np.trace(P))
        P = (P + P.T) / (2 * size)
        if abs(size - last) <= 1e-14 * size:
            break
        last = size
    return 1 / size


def _checked(hessians: npt.ArrayLike, weights: npt.ArrayLike | None) -> tuple[Floats, Floats]:
    H = np.asarray(hessians, dtype=np.float64)
    H = H[:, None, None] if H.ndim == 1 else H
    if H.ndim != 3 or H.shape[1] != H.shape[2] or not H.size:
        raise ValueError(f"expected Hessians of shape (batches, n, n) or (batches,), got {H.shape}")
    if not np.isfinite(H).all() or not np.allclose(H, H.transpose(0, 2, 1), rtol=1e-8, atol=1e-12 * np.abs(H).max()):
        raise ValueError("expected finite, symmetric Hessians")
    p = np.full(len(H), 1 / len(H)) if weights is None else np.asarray(weights, dtype=np.float64)
    if p.shape != (len(H),) or not (p >= 0).all() or abs(p.sum() - 1) > 1e-9:
        raise ValueError(
            f"expected {len(H)} probabilities that add up to 1, got shape {p.shape} with sum {p.sum():.6g}"
        )
    return H, p


def _check_step(lr: float, momentum: float) -> None:
    if not 0 < lr < math.inf:
        raise ValueError(f"expected a learning rate > 0, got {lr}")
    if not 0 <= momentum < 1:
        raise ValueError(f"expected momentum in [0, 1), got {momentum}")
