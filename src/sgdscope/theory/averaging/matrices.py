"""Second moments as matrices, in the coordinates of the parameters: where H and C need not commute."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.theory.averaging import recursions
from sgdscope.theory.averaging.arguments import Array, stable
from sgdscope.theory.averaging.noisy_quadratic import NoisyQuadratic


def second_moment_matrices(
    quadratic: NoisyQuadratic, lr: ArrayLike, steps: int | None = None, *, momentum: float = 0.0
) -> Array:
    """E (θ_t − θ*)(θ_t − θ*)ᵀ for t = 0 … T, shape (steps + 1, parameters, parameters).

    Cost and memory: (steps · parameters²). A run without start begins at `stationary_covariance`.
    """
    path = quadratic.path(lr, steps, momentum=momentum)
    noise = _covariance(quadratic)[:, :, None, None]
    if quadratic.start is None:
        moment = _stationary(quadratic, float(np.ravel(lr)[0]), momentum)
    else:
        moment = np.zeros((*noise.shape[:2], *path.start.shape[1:]))
        moment[..., 0, 0] = np.outer(quadratic.start, quadratic.start)
    moments = [moment[..., 0, 0]]
    for A, k in zip(path.transitions, path.kicks, strict=True):
        moment = A[:, None] @ moment @ A[None].swapaxes(-1, -2) + noise * k[:, None, :, None] * k[None, :, None, :]
        moments.append(moment[..., 0, 0])
    return _in_parameters(quadratic, np.stack(moments))


def stationary_covariance(quadratic: NoisyQuadratic, lr: float, *, momentum: float = 0.0) -> Array:
    """V with V = Q V Q + λ² H C H, Q = I − λ H (or its heavy-ball form), shape (parameters, parameters)."""
    return _in_parameters(quadratic, _stationary(quadratic, lr, momentum)[..., 0, 0])


def _stationary(quadratic: NoisyQuadratic, lr: float, momentum: float) -> Array:
    """Covariance of the states of modes i and j, shape (modes, modes, n, n): P = A_i P A_jᵀ + C_ij k_i k_jᵀ."""
    stable(lr, quadratic.curvatures, momentum)
    transitions, kicks = (a[0] for a in recursions.sgd(np.array([lr]), quadratic.curvatures, momentum))
    n = kicks.shape[-1]
    added = _covariance(quadratic)[..., None, None] * kicks[:, None, :, None] * kicks[None, :, None, :]
    if momentum == 0:
        step = lr * quadratic.curvatures
        return np.asarray(added / (step[:, None] + step - step[:, None] * step)[..., None, None])
    carried = np.einsum("iab,jcd->ijacbd", transitions, transitions).reshape(*added.shape[:2], n * n, n * n)
    solved = np.linalg.solve(np.eye(n * n) - carried, added.reshape(*added.shape[:2], n * n, 1))
    return np.asarray(solved.reshape(added.shape))


def _covariance(quadratic: NoisyQuadratic) -> Array:
    return np.diag(quadratic.noise) if quadratic.covariance is None else quadratic.covariance


def _in_parameters(quadratic: NoisyQuadratic, matrices: Array) -> Array:
    U = quadratic.basis
    return matrices if U is None else np.asarray(U @ matrices @ U.T)
