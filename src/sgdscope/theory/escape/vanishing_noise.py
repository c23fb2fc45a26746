"""Noise equal to |L''|: it vanishes where the curvature changes sign, and only steps of finite size carry SGD past."""

from __future__ import annotations

from sgdscope.theory.escape.law import require_positive
from sgdscope.theory.escape.units import TIME
from sgdscope.theory.prediction import Prediction

_SOURCE = "derived here"


def vanishing_noise_exponent(slope: float, third_derivative: float, lr: float, batch_size: float) -> float:
    """The p of ``τ ∝ lr^−p`` at fixed lr / B when the noise variance is |L''(θ)|: ``p = 2 q |L'(c)| / |L'''(c)|``.

    c is the inflection point between minimum and saddle, where L'' = 0 while the slope L'(c) still points back, and
    q = 2 B / lr. There ∫ L' / D diverges logarithmically on both sides: the diffusion never passes (τ is infinite),
    and discrete steps, which jump over c, cut the logarithm off at a length ∝ lr. Source: derived here. Raises
    ValueError where slope or third derivative is 0, or lr or batch_size is not positive.
    """
    require_positive(lr=lr, batch_size=batch_size)
    require_positive(slope_at_the_inflection=abs(slope), third_derivative_there=abs(third_derivative))
    return 2 * (2 * batch_size / lr) * abs(slope) / abs(third_derivative)


def vanishing_noise_escape_time(
    known: Prediction | float, known_lr: float, lr: float, slope: float, third_derivative: float, ratio: float
) -> Prediction:
    """Escape time at another learning rate, same lr / B, from one that is known (measured): ``τ (lr₀ / lr)^p``.

    Args:
        known: τ at `known_lr`, in learning rate · iterations.
        known_lr: lr₀.
        lr: learning rate wanted.
        slope: L'(c) at the inflection point.
        third_derivative: L'''(c).
        ratio: q = 2 B / lr, the same at both learning rates.

    An asymptotic law: on a quartic well with p = 1.78 simulated times grew with local powers of 1.9 to 2.4 between
    lr = 0.2 and 0.0125. Raises ValueError for anything that is not positive, and a `known` in another unit.
    """
    if isinstance(known, Prediction) and known.unit != TIME:
        raise ValueError(f"expected the known time in {TIME}, got {known.quantity} in {known.unit or 'no unit'}")
    require_positive(known=float(known), known_lr=known_lr, lr=lr, ratio=ratio)
    power = vanishing_noise_exponent(slope, third_derivative, 2.0, ratio)  # 2 B / lr = ratio
    return Prediction(
        float(known) * (known_lr / lr) ** power,
        "mean escape time",
        "τ(lr₀) · (lr₀ / lr)^p, p = 2 q |L'(c)| / |L'''(c)|",
        "discrete SGD with noise variance |L''(θ)|, fixed lr / B, small lr",
        _SOURCE,
        TIME,
        warnings=("the power is asymptotic; simulations at accessible learning rates show powers up to 35 % larger",),
    )
