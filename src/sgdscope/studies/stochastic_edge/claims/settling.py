"""Settling: at which level batch sharpness hovers, in either of its readings, and the largest eigenvalue of descent."""

from __future__ import annotations

from collections.abc import Sequence

from sgdscope.cells import Results
from sgdscope.estimate import Estimate
from sgdscope.studies.claim import Claim, Judge
from sgdscope.studies.stochastic_edge.grids import Forks, Grid, Point
from sgdscope.studies.stochastic_edge.judging import HOVER, PAPER, rows, together, unless_climbing
from sgdscope.studies.stochastic_edge.window import over_runs
from sgdscope.theory import stability
from sgdscope.verdict import Verdict, compare


def settling(grids: Sequence[Grid], others: Sequence[Grid]) -> list[Claim]:
    """For every batch size and learning rate; `others` are networks with losses the paper does not claim it for."""
    found = [
        Claim(
            "Batch sharpness, E[gᵀH_B g / ‖g‖²], rises and then hovers at 2 / lr, whatever the batch size",
            f"{PAPER}, abstract and Def. 3", together(*(_settles(grid, "batch_sharpness") for grid in grids)),
            "the loss was gone before the edge was reached; or batches with large gradients are the sharper ones, so "
            "that it lies below the ratio of expectations", "2 / lr",
        ),
        Claim(
            "The ratio of expectations, E[gᵀH_B g] / E‖g‖², is at 2 / lr: a batch's own loss then stands still",
            "derived here, from the second-order change of a batch's loss in its own step",
            together(*map(_stands_still, grids)),
            "the loss still falls there, or near zero loss a few batches with large gradients rule the means",
            "in units of 2 / lr",
        ),
    ]  # fmt: skip
    if others:
        found.append(Claim(
            "Batch sharpness hovers at 2 / lr under cross-entropy too", f"{PAPER} claims it for squared error",
            together(*(_settles(grid, "batch_sharpness", highest=True) for grid in others)),
            "once all samples are told apart, the curvature of cross-entropy vanishes with the loss", "2 / lr",
        ))  # fmt: skip
    return found


def _settles(grid: Grid, quantity: str, *, highest: bool = False) -> Judge:
    def judged(point: Point, results: Results) -> Verdict:
        threshold = stability.sgd_threshold(point[0]).value
        settled = grid.settled(results, point, quantity)
        measured = unless_climbing(settled, grid.settled(results, point, "trend"), threshold)
        scope = grid.doubt(results, point)
        if highest:
            most = max(results[grid.cell(*point)]["curves"][quantity]["values"])
            scope = f"its highest reading was {most / threshold:.2f} of 2 / lr"
        return compare(measured, threshold, claim=grid.of(point), tolerance=HOVER, scope=scope)

    return lambda results: rows(grid.points, grid.of, lambda point: judged(point, results))


def _stands_still(grid: Grid) -> Judge:
    """The mean over all points of a network, in edge units."""

    def named(grid: Grid) -> str:
        return f"{grid.label}, mean of {len(grid.points)} settings" if len(grid.points) > 1 else grid.of(grid.points[0])

    def judged(grid: Grid, results: Results) -> Verdict:
        placed = []
        for point in grid.points:
            threshold = stability.sgd_threshold(point[0]).value
            settled, trend = (grid.settled(results, point, name) for name in ("ratio_of_expectations", "trend"))
            measured = unless_climbing(settled, trend, threshold)
            placed.append(measured if measured.value is None else measured.scaled(1 / threshold))
        lost = sum(e.value is None for e in placed)
        scope = f"without {lost} that still climb or diverged" if 0 < lost < len(placed) else ""
        return compare(over_runs("ratio_of_expectations", placed), 1.0, claim=named(grid), tolerance=HOVER, scope=scope)

    return lambda results: rows([grid], named, lambda grid: judged(grid, results))


def mini_batches(forks: Sequence[Forks]) -> list[Claim]:
    """What the first version of the paper claimed to hover."""

    def judged(fork: Forks, results: Results) -> Verdict:
        found = [Estimate.from_row(point["mini_batch_sharpness"]) for point in fork.points(results, -1)]
        measured = over_runs("mini_batch_sharpness", found)
        return compare(measured, stability.sgd_threshold(fork.point[0]).value, claim=fork.of, tolerance=HOVER,
                       scope=f"at step {fork.at[-1]:,}")  # fmt: skip

    return [Claim(
        "The largest eigenvalue of batches, E[λ_max(H_B)], hovers at 2 / lr", f"{PAPER} v1, withdrawn in v3",
        lambda results: rows(forks, lambda fork: fork.of, lambda fork: judged(fork, results)),
        "no batch's gradient lies along the sharpest direction of its own loss alone; batch sharpness is what hovers",
        "2 / lr",
    )] if forks else []  # fmt: skip


def full_batch(grids: Sequence[Grid]) -> list[Claim]:
    """Gradient descent, with all data in one batch."""

    def judge(grid: Grid) -> Judge:
        def judged(point: Point, results: Results) -> Verdict:
            return compare(
                grid.settled(results, point, "lambda_max"), stability.full_batch_threshold(point[0]).value,
                claim=grid.of(point), tolerance=HOVER, scope=grid.doubt(results, point),
            )  # fmt: skip

        return lambda results: rows(grid.points, grid.of, lambda point: judged(point, results))

    return [Claim(
        "With all data in one batch, λ_max hovers at 2 / lr", "Cohen et al. 2103.00065", together(*map(judge, grids)),
        "the loss was gone before the edge was reached", "2 / lr",
    )] if grids else []  # fmt: skip
