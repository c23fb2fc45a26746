"""What every law of escape shares: checks at the door, flags of validity, and the answer as a `Prediction`."""

from __future__ import annotations

import math
from typing import Literal

from sgdscope.theory.escape.units import TIME, log_unit
from sgdscope.theory.prediction import Prediction

Interpretation = Literal["ito", "stratonovich", "anti-ito"]
"""Where in a step the noise is evaluated: before it (Itô: what SGD does), midway, after it (flux −P∇L − D∇P)."""

_POINT_OF_THE_STEP = {"ito": 0.0, "stratonovich": 0.5, "anti-ito": 1.0}
LARGEST_EXPONENT = 700.0  # e^700 is still a float


def point_of_the_step(interpretation: str) -> float:
    """The α of a stochastic integral: 0 Itô, ½ Stratonovich, 1 anti-Itô. Raises ValueError for any other name."""
    if interpretation not in _POINT_OF_THE_STEP:
        raise ValueError(f"expected an interpretation among {', '.join(_POINT_OF_THE_STEP)}, got {interpretation!r}")
    return _POINT_OF_THE_STEP[interpretation]


def require_positive(**named: float) -> None:
    """Raises ValueError for the first argument that is not a finite number > 0."""
    for name, number in named.items():
        if not 0 < number < math.inf:
            raise ValueError(f"expected {name} > 0 and finite, got {number}")


def require_curvatures(curvature_minimum: float, curvature_saddle: float) -> None:
    """Raises ValueError unless the curvature is positive at the minimum and negative at the saddle."""
    if not 0 < curvature_minimum < math.inf:
        raise ValueError(f"expected curvature_minimum > 0 (along the escape direction), got {curvature_minimum}")
    if not -math.inf < curvature_saddle < 0:
        raise ValueError(
            f"expected curvature_saddle < 0 (the negative eigenvalue of the saddle's Hessian), got {curvature_saddle}"
        )


def require_fraction(fraction: float) -> None:
    """Raises ValueError unless 0 ≤ fraction ≤ 1."""
    if not 0 <= fraction <= 1:
        raise ValueError(
            f"expected fraction in [0, 1] (the part of the climb made with the noise of the minimum), got {fraction}"
        )


def require_momentum(momentum: float) -> None:
    """Raises ValueError unless 0 ≤ momentum < 1."""
    if not 0 <= momentum < 1:
        raise ValueError(f"expected momentum in [0, 1), got {momentum}")


def validity_warnings(
    *,
    exponent: float | None = None,
    lr: float | None = None,
    largest_curvature: float | None = None,
    batch_size: float | None = None,
    bounded_noise: bool = False,
    transverse_ratio: float | None = None,
) -> tuple[str, ...]:
    """One sentence for each condition of the leading-order laws that the numbers given break.

    Args:
        exponent: the barrier in units of the noise, ∫L'/D along the path; ΔL / D for constant noise. Below 4 there is
            no separation between escape and motion inside the well.
        lr: learning rate; with `largest_curvature` it is held against lr · curvature ≤ 0.1 (5 % in the time).
        largest_curvature: largest |curvature| met between the minimum and the saddle.
        batch_size: with `bounded_noise`, batches below 4 are flagged.
        bounded_noise: whether the noise of one sample is bounded, which slows discrete escape at small batches.
        transverse_ratio: transverse curvature at the saddle over that at the minimum, where noise varies along the path
            and no transverse factor was applied; flagged beyond 10 %.

    Source: derived here, from simulations of the discrete recursion on a quartic double well.
    """
    if transverse_ratio is not None:
        require_positive(transverse_ratio=transverse_ratio)
    said = []
    if exponent is not None and exponent < 4:
        said.append(f"the barrier is {exponent:.3g} in units of the noise, below 4: escape is not yet a rare event")
    if lr is not None and largest_curvature is not None and lr * largest_curvature > 0.1:
        said.append(
            f"lr · largest curvature is {lr * largest_curvature:.3g}, above 0.1: "
            "steps of finite size change the time by more than 5 %"
        )
    if batch_size is not None and bounded_noise and batch_size < 4:
        said.append(f"batches of {batch_size:g} with bounded noise per sample escape later than the diffusion, by 30 %")
    if transverse_ratio is not None and abs(math.log(transverse_ratio)) > math.log(1.1):
        said.append(
            f"the transverse curvature changes by a factor {transverse_ratio:.3g} along the path: "
            "multiply by transverse_factor"
        )
    return tuple(said)


def escape_time(
    log_prefactor: float,
    exponent: float,
    *,
    formula: str,
    scope: str,
    source: str,
    warnings: tuple[str, ...] = (),
    error: float | None = None,
    unit: str = TIME,
    logarithm: bool = False,
) -> Prediction:
    """A mean escape time ``exp(log_prefactor + exponent)``, or its natural logarithm if `logarithm`.

    Raises ValueError for a time beyond floating point unless the logarithm was asked for.
    """
    value = log_prefactor + exponent
    if logarithm:
        return Prediction(
            value, "log mean escape time", f"ln of {formula}", scope, source, log_unit(unit), error, warnings
        )
    if value > LARGEST_EXPONENT:
        raise ValueError(
            f"the mean escape time is e^{value:.6g}, beyond floating point; ask for it with logarithm=True"
        )
    return Prediction(math.exp(value), "mean escape time", formula, scope, source, unit, error, warnings)
