"""Verdict: measured beside predicted, with the margin and the scope of the claim."""

from __future__ import annotations

import math
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
        margin: signed, relative: (measured - predicted) / |predicted|; None if unassessed or predicted is 0.
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
        if self.outcome == "unassessed":
            return f"{self.outcome}: {self.claim} ({self.measured.reason})"
        error = self.measured.standard_error
        shown = with_error(float(self.measured), error[0] if isinstance(error, tuple) else error)
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
    predicted_error: float = 0.0,
    scope: str = "",
    source: str = "",
) -> Verdict:
    """Hold a measurement against a prediction.

    ``equal`` agrees if measured lies within `tolerance` (relative) of predicted, ``below`` and ``above`` if it
    lies on that side of predicted; of a tuple value the first component is held. The answer is ``undecided`` when
    the border lies within the doubt: `confidence` standard errors (those of measured and, if the prediction is itself
    measured, `predicted_error`, added in squares) plus the solver's residual. It is also ``undecided`` when the
    estimate says that its accuracy fell short and does not say by how much, and ``unassessed`` when there is no
    value or its status is ``failed`` or ``diverged``. With tolerance 0, ``equal`` agrees only with exact measurements.

    Raises ValueError for a negative tolerance, confidence or error, a prediction that is not finite, and a prediction
    of zero with relation ``equal``.
    """
    for name, number in (("tolerance", tolerance), ("confidence", confidence), ("predicted error", predicted_error)):
        if not number >= 0:
            raise ValueError(f"expected {name} ≥ 0, got {number}")
    if not math.isfinite(predicted):
        raise ValueError(f"expected a finite prediction, got {predicted}")
    if relation == "equal" and predicted == 0:
        raise ValueError("expected a prediction other than 0: a relative tolerance around 0 is empty")
    if measured.value is None or measured.status in ("failed", "diverged"):
        return Verdict(claim, measured, predicted, relation, tolerance, "unassessed", None, scope, source)

    def first(number: Any) -> float:
        return float(number[0] if isinstance(number, tuple) else number or 0.0)

    spread = math.hypot(first(measured.standard_error), predicted_error)
    doubt = confidence * spread + first(measured.residual)
    if (measured.status == "not_converged" and measured.residual is None) or (
        measured.status == "few_samples" and measured.standard_error is None
    ):
        doubt = math.inf
    difference = float(measured) - predicted
    # `inside` is the signed distance to the border of the claim, positive where the claim holds
    borders = {"equal": tolerance * abs(predicted) - abs(difference), "below": -difference, "above": difference}
    inside = borders[relation]
    holds = inside >= 0 if relation == "equal" else inside > 0
    outcome: Outcome = "undecided" if doubt > 0 and abs(inside) <= doubt else "agrees" if holds else "disagrees"
    margin = difference / abs(predicted) if predicted else None
    return Verdict(claim, measured, predicted, relation, tolerance, outcome, margin, scope, source)
