"""Forking: at the edge forks blow up, and batch sharpness at the new batch size says beforehand which will."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sgdscope.cells import Results
from sgdscope.edge_map import SPIKE
from sgdscope.estimate import Estimate
from sgdscope.studies.claim import Claim, Judge
from sgdscope.studies.stochastic_edge.grids import Forks
from sgdscope.studies.stochastic_edge.judging import BLOG, PAPER, RAISED, geometric_mean, rows, together
from sgdscope.studies.stochastic_edge.window import over_runs
from sgdscope.theory import stability
from sgdscope.verdict import Verdict, compare

Fate = tuple[float, Estimate, str]
"""Predicted place in edge units, how far the loss peaked over the control's own peak, and after which change."""


def edge_tests(forks: Sequence[Forks]) -> list[Claim]:
    """Forks at the edge."""

    def judge(fork: Forks) -> Judge:
        cases = [case for case in fork.changes if case in ((RAISED, fork.point[1]), (1.0, fork.point[1] // 2))]

        def named(case: tuple[float, int]) -> str:
            return f"{fork.of}: {said(case, fork)}"

        def judged(case: tuple[float, int], results: Results) -> Verdict:
            changes = [change for point in fork.points(results, -1) for change in point["changes"]
                       if (change["lr_factor"], change["batch_size"]) == case]  # fmt: skip
            lost, of = (sum(change[key] for change in changes) for key in ("diverged", "orders"))
            return compare(
                geometric_mean("edge_test_excess", [Estimate.from_row(change["excess"]) for change in changes]),
                float(fork.found(results)[0]["spike"]), claim=named(case), relation="above",
                scope=f"at step {fork.at[-1]:,}; {lost} of {of} forks diverged",
            )  # fmt: skip

        return lambda results: rows(cases, named, lambda case: judged(case, results))

    return [Claim(
        "At the edge, forks with a larger learning rate or a smaller batch blow up", BLOG, together(*map(judge, forks)),
        "batch sharpness is a little below 2 / lr at that point, or spikes pass between the orders looked at",
        "bar of the edge test",
    )] if forks else []  # fmt: skip


def fates(forks: Sequence[Forks]) -> list[Claim]:
    """Batch sharpness at the new batch size on the present weights, held against the new 2 / lr."""

    def judge(fork: Forks, above: bool) -> Judge:
        def judged(results: Results) -> Verdict:
            spike = float(fork.found(results)[0]["spike"])
            chosen = [fate for fate in predicted_fates(fork, results) if (fate[0] > SPIKE if above else fate[0] < 1)]
            if not chosen:
                raise ValueError(f"no change tried was predicted {f'above {SPIKE:g}' if above else 'below 1'}")
            least = (min if above else max)(chosen, key=lambda fate: float(fate[1]))
            return compare(
                least[1], spike, claim=fork.of, relation="above" if above else "below",
                scope=f"{'smallest' if above else 'largest'} peak of {len(chosen)} changes: {least[2]}, predicted at "
                f"{least[0]:.2f} of the edge",
            )  # fmt: skip

        return lambda results: rows([fork], lambda fork: fork.of, lambda _: judged(results))

    def claim(statement: str, above: bool, if_not: str) -> Claim:
        return Claim(statement, f"{BLOG}; bars measured here", together(*(judge(fork, above) for fork in forks)),
                     if_not, "bar of the edge test")  # fmt: skip

    return [
        claim(f"Changes that are predicted to put the run {SPIKE:g} times past its edge blow up", True,
              "landscapes differ in how fast they flatten away from the edge"),
        claim("Changes that are predicted to leave the run below its edge do not blow up", False,
              "the theorem is one-sided, below 2 / lr nothing is certified: a streak of sharp batches may do, or "
              "sharpening on the way"),
    ] if forks else []  # fmt: skip


def predicted_fates(fork: Forks, results: Results) -> list[Fate]:
    """Of each point and change, over the trainings."""
    found = []
    for which, step in enumerate(fork.at):
        points = fork.points(results, which)
        for number, case in enumerate(fork.changes):
            tried: list[Mapping[str, Any]] = [point["changes"][number] for point in points]
            place = over_runs("predicted_edge", [Estimate.from_row(each["predicted"]) for each in tried])
            excess = geometric_mean("edge_test_excess", [Estimate.from_row(each["excess"]) for each in tried])
            found.append((float(place), excess, f"{said(case, fork)} at step {step:,}"))
    return found


def said(case: tuple[float, int], fork: Forks) -> str:
    """A change in words."""
    factor, size = case
    parts = [f"lr × {factor:g}"] * (factor != 1) + [f"batch {fork.point[1]} → {size}"] * (size != fork.point[1])
    return ", ".join(parts)


def theorem(forks: Sequence[Forks]) -> list[Claim]:
    """The one-step part of Theorem 1."""

    def judge(fork: Forks) -> Judge:
        def named(which: int) -> str:
            return f"{fork.of}, step {fork.at[which]:,}"

        def judged(which: int, results: Results) -> Verdict:
            points, lr = fork.points(results, which), fork.point[0]
            growth, sharp = (
                over_runs(name, [Estimate.from_row(point[name]) for point in points])
                for name in ("gradient_growth", "batch_sharpness")
            )
            bound = stability.gradient_growth_bound(lr, float(sharp))
            slope = 2 * lr * bound**0.5  # of the bound in batch sharpness
            error = sharp.standard_error if isinstance(sharp.standard_error, float) else 0.0
            return compare(growth, bound, claim=named(which), relation="above", predicted_error=slope * error,
                           scope=f"batch sharpness is {float(sharp) * lr / 2:.2f} of 2 / lr there")  # fmt: skip

        return lambda results: rows(range(len(fork.at)), named, lambda which: judged(which, results))

    return [Claim(
        "Over its own step a batch's squared gradient grows by (1 − lr · batch sharpness)² at least",
        f"{PAPER}, Theorem 1 (its one-step part, derived here)", together(*map(judge, forks)),
        "batch losses are not quadratic over a step", "(1 − lr · batch sharpness)²",
    )] if forks else []  # fmt: skip
