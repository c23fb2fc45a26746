"""Claim: a statement of a paper that can fail, how it is judged, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from sgdscope.cells import MissingCellError, Results
from sgdscope.estimate import Estimate, with_error
from sgdscope.verdict import Verdict

Judge = Callable[[Results], Verdict | Iterable[Verdict]]
"""Holds results against theory; computed, never written down. May raise `MissingCellError`, or ValueError and
ArithmeticError where there is no number for what was measured."""


@dataclass(frozen=True)
class Claim:
    """One statement and how it is judged.

    Attributes:
        statement: what should hold, in a sentence.
        source: paper and section, equation or figure; or that it was derived here.
        judge: see `Judge`; several verdicts are several rows.
        if_not: the likely reason where it does not hold, in a sentence: said only then.
        formula: of the predicted number, where there is one.
    """

    statement: str
    source: str
    judge: Judge
    if_not: str = ""
    formula: str = ""

    def findings(self, results: Results) -> list[Finding]:
        """What came of it; `unassessed` with the reason where results are missing."""
        try:
            found = self.judge(results)
            verdicts = [found] if isinstance(found, Verdict) else list(found)
        except (MissingCellError, ValueError, ArithmeticError) as error:
            missing = Estimate.failed("result", str(error).splitlines()[0])
            verdicts = [Verdict(self.statement, missing, 0.0, "equal", 0.0, "unassessed", None, "", self.source)]
        return [Finding(self, replace(v, source=v.source or self.source)) for v in verdicts]


@dataclass(frozen=True)
class Finding:
    """A claim with one verdict. The verdict's own claim says of what it is where a claim has several."""

    claim: Claim
    verdict: Verdict

    @property
    def of(self) -> str:
        """Which of the claim's cases this is; empty if it has one only."""
        return "" if self.verdict.claim == self.claim.statement else self.verdict.claim

    @property
    def predicted(self) -> str:
        """The predicted number with its relation; a dash where nothing was assessed."""
        if self.verdict.outcome == "unassessed" and not self.verdict.predicted:
            return "–"
        sign = {"equal": "", "below": "< ", "above": "> "}[self.verdict.relation]
        return f"{sign}{self.verdict.predicted:.4g}".replace("-", "−")

    @property
    def formula(self) -> str:
        """Of the predicted number; empty where it says no more than the number."""
        return "" if self.predicted in ("–", self.claim.formula) else self.claim.formula

    @property
    def equation(self) -> str:
        """The predicted number and its formula in one: ``0.25 = ΔL``."""
        return self.predicted + (f" = {self.formula}" if self.formula else "")

    @property
    def measured(self) -> str:
        """The measured number with its error, or why there is none."""
        measured = self.verdict.measured
        if measured.value is None:
            return measured.reason
        error = measured.standard_error
        error = error[0] if isinstance(error, tuple) else error
        return (with_error(float(measured), error) if error else f"{float(measured):.4g}").replace("-", "−")

    @property
    def remark(self) -> str:
        """The likely reason where the claim does not hold; else the scope of the verdict."""
        failed = self.verdict.outcome == "disagrees"
        return "; ".join(s for s in (self.claim.if_not if failed else "", self.verdict.scope) if s)
