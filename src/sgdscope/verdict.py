"""Verdict: measured beside predicted, with the margin and the scope of the claim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sgdscope.estimate import Estimate, with_error

Outcome = Literal["agrees", "disagrees", "undecided", "unassessed"]
Relation = Literal["equal", "below", "above"]


@dataclass(frozen=True)
class Verdict:
    """One claim laid beside one measurement. Immutable.

    Attributes:
        claim: what theory says, in a sentence.
        measured: the estimate it is held against.
        predicted: the number theory gives, in the unit of `measured`.
        relation: how measured should stand to predicted.
        tolerance: relative band around `predicted` inside which "equal" holds.
        outcome: ``agrees``, ``disagrees``, ``undecided`` (the error bars cross the border) or ``unassessed``.
        margin: signed, relative: (measured - predicted) / |predicted|; None if unassessed.
        scope: when the claim was and was not tested.
        source: paper and equation or section of the claim.
    """

    claim: str
    measured: Estimate
    predicted: float
    relation: Relation
    tolerance: float
    outcome: Outcome
    margin: float | None
    scope: str = ""
    source: str = ""

    def __str__(self) -> str:
        if self.measured.value is None:
            return f"{self.outcome}: {self.claim} ({self.measured.reason})"
        error = self.measured.standard_error
        shown = with_error(float(self.measured), error if isinstance(error, float) else None)
        sign = {"equal": "", "below": "< ", "above": "> "}[self.relation]
        return f"{self.outcome}: {self.claim}: measured {shown}, predicted {sign}{self.predicted:.4g}"

    def to_row(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "claim": self.claim,
            "measured": self.measured.to_row(),
            "predicted": self.predicted,
            "relation": self.relation,
            "tolerance": self.tolerance,
            "outcome": self.outcome,
            "margin": self.margin,
            "scope": self.scope,
            "source": self.source,
        }


def compare(
    measured: Estimate,
    predicted: float,
    *,
    claim: str,
    relation: Relation = "equal",
    tolerance: float = 0.1,
    confidence: float = 2.0,
    scope: str = "",
    source: str = "",
) -> Verdict:
    """Hold a measurement against a prediction.

    ``equal`` agrees if measured lies within `tolerance` (relative) of predicted, ``below`` and ``above`` if it
    lies on that side of predicted. The answer is ``undecided`` when the border lies within `confidence` standard
    errors (plus the solver's residual) of the measured value, and ``unassessed`` when there is no value.

    Raises ValueError for a negative tolerance or a prediction of zero with relation ``equal``.
    """
    if tolerance < 0:
        raise ValueError(f"expected tolerance ≥ 0, got {tolerance}")
    if relation == "equal" and predicted == 0:
        raise ValueError("expected a prediction other than 0: a relative tolerance around 0 is empty")
    if measured.value is None:
        return Verdict(claim, measured, predicted, relation, tolerance, "unassessed", None, scope, source)

    def first(number: Any) -> float:
        return float(number[0] if isinstance(number, tuple) else number or 0.0)

    value = first(measured.value)
    doubt = confidence * first(measured.standard_error) + first(measured.residual)
    difference = value - predicted
    # `inside` is the signed distance to the border of the claim, positive where the claim holds
    inside = {"equal": tolerance * abs(predicted) - abs(difference), "below": -difference, "above": difference}[
        relation
    ]
    outcome: Outcome = "undecided" if abs(inside) <= doubt else "agrees" if inside > 0 else "disagrees"
    margin = difference / abs(predicted) if predicted else None
    return Verdict(claim, measured, predicted, relation, tolerance, outcome, margin, scope, source)
