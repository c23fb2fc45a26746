"""Judging: what the judges of this study share."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from sgdscope.cells import MissingCellError
from sgdscope.estimate import Estimate
from sgdscope.regime import label
from sgdscope.studies.claim import Judge
from sgdscope.verdict import Verdict

PAPER = "2412.20553"
BLOG = "authors' blog on 2412.20553, part II"

HOVER = 0.1
"""Band around a level that counts as hovering there: single readings of one settled run scatter by as much."""
RAISED = 1.2
"""Factor of the learning rate for which the bars of the edge test were measured."""

Case = TypeVar("Case")


def rows(cases: Iterable[Case], named: Callable[[Case], str], judged: Callable[[Case], Verdict]) -> Iterator[Verdict]:
    """A verdict per case; one whose results are missing, or have no value where one is needed, is not assessed."""
    for case in cases:
        try:
            yield judged(case)
        except (MissingCellError, ValueError) as error:
            missing = Estimate.failed("result", str(error).splitlines()[0])
            yield Verdict(named(case), missing, 0.0, "equal", 0.0, "unassessed", None)


def together(*judges: Judge) -> Judge:
    """The rows of several judges, one after the other."""

    def judge(results):  # type: ignore[no-untyped-def]
        for each in judges:
            found = each(results)
            yield from [found] if isinstance(found, Verdict) else found

    return judge


def unless_climbing(settled: Estimate, trend: Estimate, threshold: float) -> Estimate:
    """Without its value where a run still climbs towards its threshold: the claim is of what follows."""
    if settled.value is None or trend.value is None:
        return settled
    if label(settled.scaled(1 / threshold), trend.scaled(1 / threshold), None) != "approaching the edge":
        return settled
    return Estimate.failed(settled.name, f"still climbing at the end, at {float(settled) / threshold:.2f} of 2 / lr")


def geometric_mean(name: str, found: Sequence[Estimate]) -> Estimate:
    """Mean over runs of what varies by factors; the error is that of the scatter of its logarithms."""
    values = [float(e) for e in found]
    if min(values) <= 0:
        raise ValueError(f"expected positive values of {name}, got {min(values):g}")
    mean = math.exp(statistics.fmean(map(math.log, values)))
    within = math.sqrt(sum((_error(e) / v) ** 2 for e, v in zip(found, values, strict=True))) / len(values)
    between = statistics.stdev(map(math.log, values)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Estimate(name, mean, mean * max(within, between) or None, count=sum(e.count for e in found))


def _error(estimate: Estimate) -> float:
    return estimate.standard_error if isinstance(estimate.standard_error, float) else 0.0
