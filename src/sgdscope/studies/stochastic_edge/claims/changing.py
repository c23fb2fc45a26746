"""Changing: what follows when the learning rate or the batch size is changed in the middle of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sgdscope.cells import Results
from sgdscope.estimate import Estimate
from sgdscope.studies.claim import Claim, Judge
from sgdscope.studies.fits import ratio
from sgdscope.studies.stochastic_edge.grids import Changes, Point
from sgdscope.studies.stochastic_edge.judging import BLOG, HOVER, rows, together, unless_climbing
from sgdscope.studies.stochastic_edge.window import over_runs
from sgdscope.theory import stability
from sgdscope.verdict import Relation, Verdict, compare

Found = Sequence[Mapping[str, Any]]
"""Of each seed, what was found after one change; ``before`` is what was found before."""
Judged = Callable[[Found, Point, bool], Verdict]
"""With the point after the change, and whether it goes towards instability."""


def changing(changes: Sequence[Changes]) -> list[Claim]:
    """Larger steps or smaller batches, then smaller steps or larger batches."""
    if not changes:
        return []

    def claim(statement: str, judged: Judged, up: bool | None, if_not: str, formula: str = "2 / lr") -> Claim:
        judge = together(*(_judge(each, judged, up) for each in changes))
        return Claim(statement, BLOG, judge, if_not, formula)

    late = "there was too little loss left to climb on, or too little time"
    larger = "raising the learning rate or lowering the batch size"
    smaller = "lowering the learning rate or raising the batch size"
    return [
        claim(f"{larger.capitalize()} puts batch sharpness above the new 2 / lr at once",
              _at_once, True, "the run was not at its edge before"),
        claim(f"After {larger} the training loss rises in a catapult", _catapult, True,
              "the change was too small", "the loss before"),
        claim(f"After {larger} λ_max settles lower than before", _lambda_max, True, late, "no change"),
        claim(f"{smaller.capitalize()} leaves batch sharpness below the new 2 / lr",
              _at_once, False, "the change was too small"),
        claim(f"After {smaller} batch sharpness climbs again", _climbs, False, late, "at once"),
        claim(f"After {smaller} λ_max settles higher than before", _lambda_max, False, late, "no change"),
        claim("After any such change batch sharpness settles at the new 2 / lr", _settles, None, late),
    ]  # fmt: skip


def towards_instability(change: Changes, after: Point) -> bool:
    """Whether a change makes the step larger or the batch smaller."""
    return after[0] > change.before[0] or after[1] < change.before[1]


def in_words(change: Changes, after: Point) -> str:
    """A change of one of both."""
    (lr, size), (new_lr, new_size) = change.before, after
    parts = [f"lr {lr:g} → {new_lr:g}"] * (lr != new_lr) + [f"batch {size} → {new_size}"] * (size != new_size)
    return f"{change.label}: {', '.join(parts)}"


def _judge(change: Changes, judged: Judged, up: bool | None) -> Judge:
    cases = [after for after in change.after if up is None or towards_instability(change, after) == up]

    def one(after: Point, results: Results) -> Verdict:
        number = change.after.index(after)
        found = [{**each["after"][number], "before": each["before"]} for each in change.found(results)]
        lost = [each["last_step"] for each in found if each["status"] == "diverged"]
        verdict = judged(found, after, towards_instability(change, after))
        said = f"{len(lost)} of {len(found)} trainings diverged after it" if lost else ""
        return _named(verdict, in_words(change, after), said)

    return lambda results: rows(cases, lambda after: in_words(change, after), lambda after: one(after, results))


def _named(verdict: Verdict, claim: str, scope: str) -> Verdict:
    return replace(verdict, claim=claim, scope=scope)


def _mean(found: Found, quantity: str) -> Estimate:
    return over_runs(quantity, [Estimate.from_row(each[quantity]) for each in found])


def _at_once(found: Found, after: Point, up: bool) -> Verdict:
    relation: Relation = "above" if up else "below"
    return compare(_mean(found, "at_once"), stability.sgd_threshold(after[0]).value, claim="", relation=relation)


def _settles(found: Found, after: Point, up: bool) -> Verdict:
    threshold = stability.sgd_threshold(after[0]).value
    measured = unless_climbing(_mean(found, "batch_sharpness"), _mean(found, "trend"), threshold)
    return compare(measured, threshold, claim="", tolerance=HOVER)


def _climbs(found: Found, after: Point, up: bool) -> Verdict:
    start = _mean(found, "at_once")
    error = start.standard_error if isinstance(start.standard_error, float) else 0.0
    return compare(_mean(found, "batch_sharpness"), float(start), claim="", relation="above", predicted_error=error)


def _lambda_max(found: Found, after: Point, up: bool) -> Verdict:
    quotients = [
        ratio(Estimate.from_row(each["lambda_max"]), Estimate.from_row(each["before"]["lambda_max"]), "ratio of λ_max")
        for each in found if each["status"] != "diverged"
    ]  # fmt: skip
    relation: Relation = "below" if up else "above"
    return compare(over_runs("ratio of λ_max", quotients), 1.0, claim="", relation=relation)


def _catapult(found: Found, after: Point, up: bool) -> Verdict:
    """Highest mean of the training loss over some fifty steps after the change, over the last one before; the lowest of
    several trainings.
    """
    peaks = [max(each["curves"]["loss"]["values"]) / each["before"]["curves"]["loss"]["values"][-1] for each in found]
    return compare(Estimate("peak of the loss", min(peaks), count=len(peaks)), 1.0, claim="", relation="above")
