r"""Noise equilibrium: the point of an orbit of the symmetry where noise (and weight decay) no longer move the charge.

Along the orbit θ(λ) = e^{λA} θ gradients go as e^{−λA}, so in the eigenbasis of A, with eigenvalues a, per-sample
gradient variance s_a and squared weights c_a in each eigenspace,

.. math:: \dot C(\lambda) = T \sum_a a\, e^{-2\lambda a} s_a - 4\gamma \sum_a a\, e^{2\lambda a} c_a,

which falls with λ: there is at most one equilibrium, whatever the start. Sources: Ziyin, Li & Ueda 2308.06671, Eq. 3
and below (rescaling); Ziyin, Wang, Li & Wu 2402.07193 (exponential symmetries); weight decay derived here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

Floats = npt.NDArray[np.float64]
_LARGEST = 300.0
"""Of |2 λ a|: beyond it exponentials leave the range of floats."""


@dataclass(frozen=True)
class Equilibrium:
    """Where on its orbit a network comes to rest under noise.

    Attributes:
        log_scale: λ: the weights there are e^{λA} θ. 0 if θ is the equilibrium.
        charge: C = Σ a c_a e^{2λa} there; None where the squared weights were not given.
        relaxation_rate: at which a small deviation of the charge decays, per unit of time lr · steps, if the noise
            changes along the orbit only; None where the squared weights were not given.
    """

    log_scale: float
    charge: float | None = None
    relaxation_rate: float | None = None

    @property
    def scale(self) -> float:
        """e^λ: the factor on u (its inverse on w) for a rescaling."""
        return math.exp(self.log_scale)


def rescaling_equilibrium(
    noise_u: float, noise_w: float, *, squared_norm_u: float | None = None, squared_norm_w: float | None = None,
    temperature: float = 1.0, weight_decay: float = 0.0,
) -> Equilibrium:  # fmt: skip
    """Equilibrium of ``u → λu, w → w/λ``: ``λ⁴ = (T Tr Cov_u + 4 γ ‖w‖²) / (T Tr Cov_w + 4 γ ‖u‖²)``.

    Args:
        noise_u: Tr Cov[∇_u ℓ] of single samples at the present weights.
        noise_w: Tr Cov[∇_w ℓ].
        squared_norm_u: ‖u‖², needed with weight decay, and for the charge and rate of the answer.
        squared_norm_w: ‖w‖².
        temperature: T = lr / batch size; matters with weight decay and for the rate.
        weight_decay: γ, in the loss as γ‖θ‖².

    Raises ValueError for negative noise, or where there is no equilibrium: noise on one side only.
    """
    squares = None if squared_norm_u is None or squared_norm_w is None else [squared_norm_u, squared_norm_w]
    return equilibrium([1.0, -1.0], [noise_u, noise_w], squares, temperature=temperature, weight_decay=weight_decay)


def log_ratio_to_equilibrium(
    noise_u: npt.ArrayLike, noise_w: npt.ArrayLike, squared_norm_u: npt.ArrayLike = 0.0,
    squared_norm_w: npt.ArrayLike = 0.0, *, temperature: float = 1.0, weight_decay: float = 0.0,
) -> Floats:  # fmt: skip
    """By how much ln(‖u‖ / ‖w‖) changes from here to equilibrium, ``2 ln λ = ½ ln λ⁴``, for many rescalings at once.

    Arguments as for `rescaling_equilibrium`, in arrays of one shape. +∞ or −∞ where there is no equilibrium because
    noise and decay push one way only, 0 where nothing pushes.
    """
    up = temperature * np.asarray(noise_u, dtype=np.float64) + 4 * weight_decay * np.asarray(squared_norm_w)
    down = temperature * np.asarray(noise_w, dtype=np.float64) + 4 * weight_decay * np.asarray(squared_norm_u)
    if not (np.isfinite(up).all() and np.isfinite(down).all() and (up >= 0).all() and (down >= 0).all()):
        raise ValueError("expected finite noise and squared norms ≥ 0")
    with np.errstate(divide="ignore", invalid="ignore"):
        changed: Floats = np.where((up == 0) & (down == 0), 0.0, (np.log(up) - np.log(down)) / 2)
    return changed


def equilibrium(
    generator: npt.ArrayLike, noise: npt.ArrayLike, squares: npt.ArrayLike | None = None, *, temperature: float = 1.0,
    weight_decay: float = 0.0,
) -> Equilibrium:  # fmt: skip
    """Equilibrium of any exponential symmetry.

    Args:
        generator: eigenvalues of A, shape (k,).
        noise: trace of the covariance of per-sample gradients within each eigenspace, shape (k,).
        squares: squared norm of the weights within each eigenspace, shape (k,); needed with weight decay.
        temperature: T = lr / batch size.
        weight_decay: γ, in the loss as γ‖θ‖².

    Raises ValueError where there is no equilibrium, saying why: all of noise and decay push the charge one way (scale
    invariance without weight decay: ‖θ‖² grows forever).
    """
    a, s = (np.asarray(values, dtype=np.float64) for values in (generator, noise))
    c = None if squares is None else np.asarray(squares, dtype=np.float64)
    if a.ndim != 1 or not a.size or s.shape != a.shape or (c is not None and c.shape != a.shape):
        raise ValueError(f"expected generator, noise and squares of one length, got shapes {a.shape}, {s.shape}"
                         + ("" if c is None else f", {c.shape}"))  # fmt: skip
    for what, values in (("generator", a), ("noise", s), ("squares", c)):
        if values is not None and not (np.isfinite(values).all() and (what == "generator" or values.min() >= 0)):
            raise ValueError(f"expected finite {what}{'' if what == 'generator' else ' ≥ 0'}, got {values.tolist()}")
    if not (0 < temperature < math.inf and 0 <= weight_decay < math.inf):
        raise ValueError(f"expected temperature > 0 and weight decay ≥ 0, got {temperature} and {weight_decay}")
    if weight_decay and c is None:
        raise ValueError("expected squared norms of the weights too: weight decay pulls at them")
    pull = np.zeros_like(s) if c is None else 4 * weight_decay * c
    up = bool(((temperature * s > 0) & (a > 0)).any() or ((pull > 0) & (a < 0)).any())
    down = bool(((temperature * s > 0) & (a < 0)).any() or ((pull > 0) & (a > 0)).any())
    if not (up and down):
        side = "only raise" if up else "only lower" if down else "do not move"
        raise ValueError(f"there is no equilibrium: noise and weight decay {side} the charge")

    def rate(log_scale: float) -> float:
        return float((a * (temperature * np.exp(-2 * log_scale * a) * s - np.exp(2 * log_scale * a) * pull)).sum())

    reach = _LARGEST / (2 * np.abs(a[a != 0]).max())
    if not rate(-reach) > 0 > rate(reach):
        raise ValueError(
            f"the equilibrium lies more than a factor e^{reach:.3g} away: noise on one side is next to none"
        )
    found = float(brentq(rate, -reach, reach, xtol=1e-15, rtol=8.9e-16))
    if c is None:
        return Equilibrium(found)
    weights = np.exp(2 * found * a) * c
    spread = float((a * a * weights).sum())
    moved = float((a * a * temperature * np.exp(-2 * found * a) * s).sum())
    rate_there = moved / spread + 4 * weight_decay if spread else None
    return Equilibrium(found, float((a * weights).sum()), rate_there)
