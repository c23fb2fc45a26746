"""Harm: whether averaging two measured points lowers the loss, with the errors of what was measured.

Averaging helps against noise and hurts against progress: while the older point is still much higher, it drags the
average up. All from L_s, L_t and D = (∇L_t − ∇L_s) · (θ_t − θ_s). Source: derived here; see `chord`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sgdscope.theory.averaging.arguments import finite, non_negative, positive
from sgdscope.theory.averaging.chord import chord_losses

Verdict = Literal["helps", "hurts", "undecided"]


@dataclass(frozen=True)
class Judgement:
    """A number from measured ones, its standard error, what it says about averaging, and that in one sentence."""

    value: float
    error: float
    verdict: Verdict
    sentence: str

    def __str__(self) -> str:
        return self.sentence


def two_point_gain(
    older_loss: float,
    newer_loss: float,
    chord_curvature: float,
    *,
    newer_weight: float = 0.5,
    older_error: float = 0.0,
    newer_error: float = 0.0,
    curvature_error: float = 0.0,
    correlation: float = 0.0,
    standard_errors: float = 2.0,
) -> Judgement:
    """How far the average lies below the newer point: (1 − a)(L_t − L_s + ½ a D), positive where averaging helps.

    At equal weights it hurts iff L_s − L_t > D / 4. The errors are standard errors; `correlation` is that of the two
    losses (close to 1 when both are measured on the same samples); D counts as independent of them. The verdict needs a
    margin of `standard_errors` errors.
    """
    a = finite(newer_weight, "weight on the newer point")
    difference, spread, D = _measured(
        older_loss, newer_loss, chord_curvature, older_error, newer_error, curvature_error, correlation
    )
    gain = newer_loss - float(chord_losses(older_loss, newer_loss, D, a))
    error = abs(1 - a) * math.hypot(spread, 0.5 * a * curvature_error)
    verdict = _judge(gain, error, standard_errors)
    return Judgement(
        gain, error, verdict,
        f"averaging {_words(verdict)}: weights {1 - a:.3g} and {a:.3g} change the loss of the newer point by "
        f"{-gain:.3g} ± {error:.2g} (older minus newer loss {difference:.3g}, chord curvature {D:.3g})",
    )  # fmt: skip


def best_newer_weight(
    older_loss: float,
    newer_loss: float,
    chord_curvature: float,
    *,
    older_error: float = 0.0,
    newer_error: float = 0.0,
    curvature_error: float = 0.0,
    correlation: float = 0.0,
    standard_errors: float = 2.0,
) -> Judgement:
    """a* = ½ + (L_s − L_t) / D, the best weight on the newer point; errors as in `two_point_gain`, to first order.

    Any weight on the older point helps iff a* < 1, that is L_s − L_t < D / 2: the verdict is that of this margin, and
    undecided while D itself is not clearly positive. Raises ValueError for D ≤ 0, where the chord has no lowest point.
    """
    difference, spread, D = _measured(
        older_loss, newer_loss, chord_curvature, older_error, newer_error, curvature_error, correlation
    )
    if D <= 0:
        raise ValueError(
            f"expected a chord that curves upwards, got D = {D:.6g}: the two points do not share a basin (or D is "
            "lost in its error), so do not average them"
        )
    weight = 0.5 + difference / D
    error = math.hypot(spread, difference / D * curvature_error) / D
    verdict = _judge(0.5 * D - difference, math.hypot(spread, 0.5 * curvature_error), standard_errors)
    if standard_errors * curvature_error >= D:
        verdict = "undecided"
    return Judgement(
        weight, error, verdict,
        f"some weight on the older point {_words(verdict)}: the best weight on the newer one is "
        f"{weight:.3g} ± {error:.2g}",
    )  # fmt: skip


def _words(verdict: Verdict) -> str:
    return "may help or hurt" if verdict == "undecided" else verdict


def _measured(
    older: float, newer: float, D: float, older_error: float, newer_error: float, D_error: float, correlation: float
) -> tuple[float, float, float]:
    """L_s − L_t, its standard error, and D; checked."""
    for value, what in ((older, "older loss"), (newer, "newer loss"), (D, "chord curvature")):
        finite(value, what)
    for error, what in ((older_error, "older"), (newer_error, "newer"), (D_error, "curvature")):
        non_negative(error, f"{what} error")
    if not -1 <= correlation <= 1:
        raise ValueError(f"expected a correlation in [−1, 1], got {correlation}")
    variance = older_error**2 + newer_error**2 - 2 * correlation * older_error * newer_error
    return older - newer, math.sqrt(max(variance, 0.0)), D


def _judge(margin: float, error: float, standard_errors: float) -> Verdict:
    if abs(margin) <= positive(standard_errors, "number of standard errors") * error or margin == 0:
        return "undecided"
    return "helps" if margin > 0 else "hurts"
