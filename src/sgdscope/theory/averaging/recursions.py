"""Recursions: one step of SGD, heavy ball and schedule-free SGD on a quadratic mode, and where they settle.

In each mode the gradient of the batch drawn is h (x − c), with h the curvature, x the distance to the minimum of the
full loss and c the distance of the batch's own minimum from it: independent from batch to batch, mean 0, variance σ².
"""

from __future__ import annotations

import numpy as np

from sgdscope.theory.averaging.arguments import Array


def sgd(lr: Array, curvatures: Array, momentum: float) -> tuple[Array, Array]:
    """Transitions (steps, modes, n, n) and kicks (steps, modes, n) for learning rates of shape (steps,).

    Plain SGD: x ← (1 − λh) x + λh c, n = 1. Heavy ball in PyTorch's convention, buffer b: b ← μ b + h (x − c), then
    x ← x − λ b, so for the state (x, b) n = 2.
    """
    step = lr[:, None] * curvatures
    if momentum == 0:
        return (1 - step)[..., None, None], step[..., None]
    transitions = np.empty((*step.shape, 2, 2))
    transitions[..., 0, 0] = 1 - step
    transitions[..., 0, 1] = -momentum * lr[:, None]
    transitions[..., 1, 0] = curvatures
    transitions[..., 1, 1] = momentum
    kicks = np.stack([step, np.broadcast_to(-curvatures, step.shape)], axis=-1)
    return transitions, kicks


def stationary_variance(lr: float, curvatures: Array, noise: Array, momentum: float) -> Array:
    """V = λ h σ² (1 + μ) / ((1 − μ) (2 (1 + μ) − λ h)), shape (modes,)."""
    step = lr * curvatures
    return step * noise * (1 + momentum) / ((1 - momentum) * (2 * (1 + momentum) - step))


def stationary_moment(lr: float, curvatures: Array, noise: Array, momentum: float) -> Array:
    """Second moment of the state of `sgd` once it no longer changes, shape (modes, n, n).

    For heavy ball E b² = h² (V + σ²) / (1 − μ² + μ λ h) and E x b = −λ E b² / 2: stationarity of E x² and of E b².
    """
    variance = stationary_variance(lr, curvatures, noise, momentum)
    if momentum == 0:
        return variance[:, None, None]
    buffer = curvatures**2 * (variance + noise) / (1 - momentum**2 + momentum * lr * curvatures)
    cross = -lr * buffer / 2
    return np.stack([np.stack([variance, cross], -1), np.stack([cross, buffer], -1)], -1)


def schedule_free(lr: float, curvatures: Array, steps: int, mix: float) -> tuple[Array, Array]:
    """Transitions and kicks of the state (x, z): y = (1 − b) z + b x, z ← z − λ h (y − c), x ← x + (z − x) / t."""
    share = 1 / np.arange(1.0, steps + 1)[:, None]
    step = lr * curvatures
    transitions = np.empty((steps, curvatures.size, 2, 2))
    transitions[..., 1, 0] = -step * mix
    transitions[..., 1, 1] = 1 - step * (1 - mix)
    transitions[..., 0, 0] = 1 - share + share * transitions[..., 1, 0]
    transitions[..., 0, 1] = share * transitions[..., 1, 1]
    kicks = np.stack([share * step, np.broadcast_to(step, (steps, step.size))], axis=-1)
    return transitions, kicks
