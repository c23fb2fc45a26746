"""Pair drift: the change of one layer pair's charge as measured, beside the discrete and the continuous law."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sgdscope.estimate import Estimate, with_error
from sgdscope.measure.noise_traces import NoiseTraces, Totals
from sgdscope.risk import Risk
from sgdscope.verdict import Outcome, Verdict, compare

UNIT = "parameter²"
Law = Callable[[Risk, NoiseTraces, Totals], float]
SOURCE = "Ziyin, Li & Ueda 2308.06671, Theorem 3.1; discrete law from the per-sample identity, Eq. 26"


@dataclass(frozen=True)
class PairDrift:
    """One layer pair.

    Attributes:
        layers: name of the symmetry.
        measured: change of its charge.
        predicted: by the exact discrete law, with the error of the traces.
        continuous: by the continuous law, which leaves out the mean gradient.
        verdict: measured held against predicted.
    """

    layers: str
    measured: Estimate
    predicted: Estimate
    continuous: Estimate
    verdict: Verdict

    @property
    def z(self) -> float | None:
        """(measured − predicted) in standard errors of the difference; None where nothing was sampled."""
        return _standardised(self.measured, self.predicted)

    @property
    def z_continuous(self) -> float | None:
        """The same for the continuous law."""
        return _standardised(self.measured, self.continuous)

    def to_row(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "layers": self.layers, "measured": self.measured.to_row(), "predicted": self.predicted.to_row(),
            "continuous": self.continuous.to_row(), "z": self.z, "z_continuous": self.z_continuous,
            "verdict": self.verdict.to_row(),
        }  # fmt: skip


def predicted_by(name: str, law: Law, risk: Risk, traces: NoiseTraces) -> Estimate:
    """What a law says of one step, with the error of the traces."""
    error = traces.error(lambda totals: law(risk, traces, totals))
    return Estimate(name, law(risk, traces, traces.total), error, count=traces.samples, unit=UNIT)


def verdict_of(claim: str, measured: Estimate, predicted: Estimate, tolerance: float, scope: str) -> Verdict:
    """Whether measured is as predicted within a relative tolerance, errors of both considered."""
    value = float(predicted)
    if value == 0 and measured.value is not None:  # nothing moves, or nothing can be said
        outcome: Outcome = "agrees" if float(measured) == 0 else "undecided"
        return Verdict(claim, measured, value, "equal", tolerance, outcome, None, scope, SOURCE)
    doubt = _error(predicted)
    return compare(measured, value or math.ulp(0.0), claim=claim, tolerance=tolerance, predicted_error=doubt,
                   scope=scope, source=SOURCE)  # fmt: skip


def table(pairs: Sequence[PairDrift], what: str) -> list[str]:
    """Lines of a table, `what` being measured."""
    titles = ("layers", what, "discrete law", "z", "continuous law", "z", "verdict")
    rows = [titles, *(
        (p.layers, _shown(p.measured), _shown(p.predicted), _sigmas(p.z), _shown(p.continuous),
         _sigmas(p.z_continuous), p.verdict.outcome)
        for p in pairs
    )]  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(titles))]
    return ["  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in rows]


def _error(estimate: Estimate) -> float:
    return estimate.standard_error if isinstance(estimate.standard_error, float) else 0.0


def _standardised(measured: Estimate, predicted: Estimate) -> float | None:
    if measured.value is None:
        return None
    spread = math.hypot(_error(measured), _error(predicted))
    return (float(measured) - float(predicted)) / spread if spread else None


def _shown(estimate: Estimate) -> str:
    if estimate.value is None:
        return estimate.reason
    error = _error(estimate)
    return with_error(float(estimate), error) if error else f"{float(estimate):.4g}"


def _sigmas(z: float | None) -> str:
    return "–" if z is None else f"{z:+.1f}"
