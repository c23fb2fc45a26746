"""First passage on a line, exactly: mean and variance of the time to reach a target, for any loss and any diffusion."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sgdscope.theory.escape.law import LARGEST_EXPONENT, Interpretation, point_of_the_step
from sgdscope.theory.escape.line import Line, log_integrals, log_sum
from sgdscope.theory.escape.panels import WEIGHTS, Floats, Profile
from sgdscope.theory.escape.units import TIME
from sgdscope.theory.prediction import Prediction

_SOURCE = "Gardiner, Handbook of Stochastic Methods, first passage in one dimension"


@dataclass(frozen=True)
class FirstPassage:
    """Mean and variance of a first-passage time, as logarithms, in learning rate · iterations.

    Attributes:
        log_mean: natural logarithm of the mean time.
        log_variance: natural logarithm of its variance.
        error: relative error of the mean: change under halved panels, plus rounding.
        panels: how many panels of 16 nodes the answer took.
    """

    log_mean: float
    log_variance: float
    error: float
    panels: int

    @property
    def mean(self) -> float:
        """Mean time. Raises ValueError beyond floating point."""
        return _exp(self.log_mean, "mean time")

    @property
    def variance(self) -> float:
        """Variance of the time. Raises ValueError beyond floating point."""
        return _exp(self.log_variance, "variance")

    @property
    def second_moment(self) -> float:
        """Mean of the squared time. Raises ValueError beyond floating point."""
        return _exp(float(np.logaddexp(self.log_variance, 2 * self.log_mean)), "second moment")

    @property
    def spread(self) -> float:
        """Standard deviation over mean: 1 for rare escapes, whose times are exponentially distributed."""
        return math.exp(self.log_variance / 2 - self.log_mean)


def _exp(logarithm: float, what: str) -> float:
    if logarithm > LARGEST_EXPONENT:
        raise ValueError(f"the {what} is e^{logarithm:.6g}, beyond floating point; use its logarithm")
    return math.exp(logarithm)


def first_passage(
    gradient: Profile | None,
    diffusion: Profile,
    start: float,
    target: float,
    *,
    value: Profile | None = None,
    reflecting: float | None = None,
    interpretation: Interpretation = "ito",
    relative_error: float = 1e-10,
) -> FirstPassage:
    """Time from `start` to the first visit of `target` for dθ = −L'(θ) dt + √(2 D(θ)) dW, by nested quadrature.

    Mean ``∫_start^target s(y) ∫_end^y m(z) dz dy`` and variance ``2 ∫ s(y) ∫ s(z) M(z)² dz dy`` with M the integral of
    m, s and m as in `theory.escape.line`; both by Gauss-Legendre panels fitted to the functions, in logarithms. Jumps
    of the diffusion are found by bisection; features narrower than a hundredth of the way may be stepped over. Cost:
    some 100 panels, each one call of each function; milliseconds.

    Args:
        gradient: L'(θ), a function or a constant; None if `value` is given.
        diffusion: D(θ) > 0, a function or a constant; lr · (variance of the batch gradient) / 2 for SGD.
        start: where the coordinate is released.
        target: where the clock stops, on either side of the start.
        value: L(θ). Alone it is differentiated numerically; with a constant diffusion Φ = L / D needs no integral.
        reflecting: a wall on the far side of the start; None where the loss confines by itself: the far end is then
            placed where the stationary mass beyond is below e^−40 of the mass on the way there.
        interpretation: where in a step the noise is evaluated; Itô for SGD.
        relative_error: wanted of the mean; panels are halved up to three times to reach it.

    Source: Gardiner, Handbook of Stochastic Methods, first passage in one dimension; the form of the variance, free of
    cancellation, and the other interpretations derived here. Raises ValueError for a diffusion that is not positive, a
    loss that does not confine, or a wall on the wrong side.
    """
    if gradient is None and value is None:
        raise ValueError("expected the gradient or the value of the loss, got neither")
    for name, point in (("start", start), ("target", target)):
        if not math.isfinite(point):
            raise ValueError(f"expected a finite {name}, got {point}")
    if start == target:
        raise ValueError(f"expected a target other than the start, got both at {start}")
    line = Line(gradient, value, diffusion, point_of_the_step(interpretation))
    if target < start:
        line, start, target = line.mirrored(), -start, -target
        reflecting = None if reflecting is None else -reflecting
    if reflecting is not None and not -math.inf < reflecting <= start:
        raise ValueError("expected the reflecting end beyond the start, on the side away from the target")
    span = target - start
    if reflecting is None:
        behind = -line.mirrored().march(-start, None, span)[::-1]
    elif reflecting < start:
        behind = line.march(reflecting, start, start - reflecting)
    else:
        behind = np.array([start])
    edges = np.concatenate([behind, line.march(start, target, span)[1:]])
    first = len(behind) - 1  # the panel that begins at the start

    coarse = _moments(line, edges, first)
    for _ in range(3):
        edges, first = _halved(edges), 2 * first
        fine = _moments(line, edges, first)
        error = abs(fine[0] - coarse[0]) + 4 * fine[2]
        if error <= relative_error:
            break
        coarse = fine
    return FirstPassage(fine[0], fine[1], float(error), len(edges) - 1)


def _moments(line: Line, edges: Floats, first: int) -> tuple[float, float, float]:
    """Logarithms of mean and variance, and rounding: double integrals over panels, the outer from panel `first`."""
    sampled = line.sample(edges)
    weights = (sampled.widths[:, None] * WEIGHTS)[first:]
    log_mass, _ = log_integrals(sampled.log_speed, sampled.widths)
    log_spread, _ = log_integrals(sampled.log_scale + 2 * log_mass, sampled.widths)
    scale = sampled.log_scale[first:]
    log_mean = log_sum(scale + log_mass[first:], weights)
    log_variance = math.log(2) + log_sum(scale + log_spread[first:], weights)
    return log_mean, log_variance, float(np.finfo(float).eps) + sampled.rounding


def _halved(edges: Floats) -> Floats:
    return np.sort(np.concatenate([edges, (edges[:-1] + edges[1:]) / 2]))


def mean_first_passage_time(
    gradient: Profile | None,
    diffusion: Profile,
    start: float,
    target: float,
    *,
    value: Profile | None = None,
    reflecting: float | None = None,
    interpretation: Interpretation = "ito",
    relative_error: float = 1e-10,
) -> Prediction:
    """Mean of `first_passage`, as a `Prediction` in learning rate · iterations with the error of the quadrature.

    Arguments, cost and errors as there; raises ValueError as well for a mean beyond floating point, whose logarithm
    `first_passage` gives.
    """
    passage = first_passage(
        gradient,
        diffusion,
        start,
        target,
        value=value,
        reflecting=reflecting,
        interpretation=interpretation,
        relative_error=relative_error,
    )
    missed = passage.error > relative_error
    return Prediction(
        passage.mean,
        "mean first-passage time",
        "τ = ∫_start^target s(y) ∫_end^y m(z) dz dy",
        "one coordinate in continuous time, diffusion positive",
        _SOURCE,
        TIME,
        passage.error,
        (f"the quadrature reached {passage.error:.2g}, not the {relative_error:.2g} asked for",) if missed else (),
    )


def log_mass_ratio(
    gradient: Profile | None,
    diffusion: Profile,
    split: float,
    *,
    value: Profile | None = None,
    interpretation: Interpretation = "ito",
    left_end: float | None = None,
    right_end: float | None = None,
) -> float:
    """Logarithm of the stationary mass left of `split` over that right of it, by quadrature.

    For two wells put the split at the barrier. Ends are reflecting walls, or None where the loss confines. Functions,
    interpretation and errors as in `first_passage`; accurate to about 1e-11.
    """
    if gradient is None and value is None:
        raise ValueError("expected the gradient or the value of the loss, got neither")
    if (left_end is not None and left_end >= split) or (right_end is not None and right_end <= split):
        raise ValueError(f"expected left_end < split < right_end, got {left_end}, {split}, {right_end}")
    line = Line(gradient, value, diffusion, point_of_the_step(interpretation))
    masses = []
    for side, at, end in ((line.mirrored(), -split, None if left_end is None else -left_end), (line, split, right_end)):
        sampled = side.sample(side.march(at, end, max(1.0, abs(at)) if end is None else end - at))
        masses.append(log_sum(sampled.log_speed, sampled.widths[:, None] * WEIGHTS))
    return masses[0] - masses[1]
