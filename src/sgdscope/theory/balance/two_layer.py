r"""Balance of a two-layer linear network ``f = U W x`` under ``ℓ = ‖U W x − y‖²``: a matrix of charges, UᵀU − WWᵀ.

With r = UWx − y a step of SGD changes it by ``lr² (Ĝ_Uᵀ Ĝ_U − Ĝ_W Ĝ_Wᵀ)``, exactly: what is linear in lr cancels. Its
mean is that of 4 (‖r‖² W xxᵀ Wᵀ − ‖x‖² Uᵀ rrᵀ U). Source: Ziyin, Wang, Li & Wu 2402.07193 (derived again here).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sgdscope.theory.prediction import Prediction

Floats = npt.NDArray[np.float64]


def charges(U: npt.ArrayLike, W: npt.ArrayLike) -> Floats:
    """UᵀU − WWᵀ, shape (hidden, hidden), for U (out, hidden) and W (hidden, in)."""
    U, W = _weights(U, W)
    return U.T @ U - W @ W.T


def noise_sides(U: npt.ArrayLike, W: npt.ArrayLike, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Floats, Floats]:
    """The two sides whose difference, times T, is dC/dt: per-sample ``Cov`` of ∇_U and of ∇_W, (hidden, hidden) each.

    ``E[∇_Uᵀ∇_U] − E[∇_U]ᵀE[∇_U]`` and ``E[∇_W∇_Wᵀ] − E[∇_W]E[∇_W]ᵀ`` over samples x (n, in), y (n, out) of equal
    weight. They are equal at noise balance.
    """
    (U, W), x, y = _weights(U, W), np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or x.shape[1] != W.shape[1] or y.shape[1] != U.shape[0]:
        raise ValueError(
            f"expected x (samples, {W.shape[1]}) and y (samples, {U.shape[0]}), got {x.shape} and {y.shape}"
        )
    r = x @ (U @ W).T - y
    hidden, back = x @ W.T, r @ U  # (n, hidden) each
    mean_u, mean_w = 2 * r.T @ hidden / len(x), 2 * back.T @ x / len(x)
    of_u = 4 * np.einsum("n,nh,nk->hk", (r * r).sum(1), hidden, hidden) / len(x) - mean_u.T @ mean_u
    of_w = 4 * np.einsum("n,nh,nk->hk", (x * x).sum(1), back, back) / len(x) - mean_w @ mean_w.T
    return of_u, of_w


def expected_change(
    U: npt.ArrayLike, W: npt.ArrayLike, x: npt.ArrayLike, y: npt.ArrayLike, *, lr: float, batch_size: int
) -> Floats:
    """Mean change of the charges in one step of SGD with batches drawn with replacement: exact at any lr.

    ``lr² ((side_U − side_W) / S + mean_Uᵀ mean_U − mean_W mean_Wᵀ)``, shape (hidden, hidden).
    """
    if not lr > 0 or batch_size < 1:
        raise ValueError(f"expected lr > 0 and a batch size ≥ 1, got {lr} and {batch_size}")
    of_u, of_w = noise_sides(U, W, x, y)
    (U, W), x, y = _weights(U, W), np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    r = x @ (U @ W).T - y
    mean_u, mean_w = 2 * r.T @ (x @ W.T) / len(x), 2 * (r @ U).T @ x / len(x)
    mean: Floats = lr * lr * ((of_u - of_w) / batch_size + mean_u.T @ mean_u - mean_w @ mean_w.T)
    return mean


def norm_ratio_at_minimum(
    direction_out: npt.ArrayLike, direction_in: npt.ArrayLike, input_covariance: npt.ArrayLike,
    noise_covariance: npt.ArrayLike,
) -> Prediction:  # fmt: skip
    """‖W‖² / ‖U‖² of one hidden unit at noise balance, at a minimum with noise independent of the inputs.

    ``Tr(Σ_ε) w̃ᵀΣ_x w̃ ‖W‖² = Tr(Σ_x) ũᵀΣ_ε ũ ‖U‖²`` with unit vectors ũ, w̃: norms are equal only where data and noise
    are isotropic.

    Args:
        direction_out: direction of U, shape (out,).
        direction_in: direction of W, shape (in,).
        input_covariance: Σ_x, (in, in), of centred inputs.
        noise_covariance: Σ_ε, (out, out).
    """
    u, w = (np.asarray(v, dtype=np.float64) for v in (direction_out, direction_in))
    of_x, of_noise = (np.asarray(m, dtype=np.float64) for m in (input_covariance, noise_covariance))
    if of_x.shape != (w.size, w.size) or of_noise.shape != (u.size, u.size):
        raise ValueError(f"expected covariances of shape {(w.size,) * 2} and {(u.size,) * 2}, got {of_x.shape} and "
                         f"{of_noise.shape}")  # fmt: skip
    along_w, along_u = w @ of_x @ w / (w @ w), u @ of_noise @ u / (u @ u)
    below = np.trace(of_noise) * along_w
    if not below > 0:
        raise ValueError("expected input variance along W and noise: without either there is no noise balance")
    return Prediction(
        np.trace(of_x) * along_u / below, "‖W‖² / ‖U‖²", "Tr(Σ_x) ũᵀΣ_ε ũ / (Tr(Σ_ε) w̃ᵀΣ_x w̃)",
        "one hidden unit at a minimum, noise independent of centred inputs, small learning rate",
        "Ziyin, Wang, Li & Wu 2402.07193",
    )  # fmt: skip


def _weights(U: npt.ArrayLike, W: npt.ArrayLike) -> tuple[Floats, Floats]:
    first, second = np.asarray(U, dtype=np.float64), np.asarray(W, dtype=np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[0]:
        raise ValueError(f"expected U (out, hidden) and W (hidden, in), got {first.shape} and {second.shape}")
    return first, second
