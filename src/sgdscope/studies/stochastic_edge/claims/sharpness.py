"""Sharpness: λ_max of the full loss under SGD, below the edge and lower for smaller batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from sgdscope.cells import Results
from sgdscope.estimate import Estimate
from sgdscope.studies.claim import Claim, Judge
from sgdscope.studies.fits import ratio
from sgdscope.studies.stochastic_edge.grids import Grid, Point
from sgdscope.studies.stochastic_edge.judging import PAPER, rows, together
from sgdscope.theory import stability
from sgdscope.verdict import Verdict, compare


def sharpness(grids: Sequence[Grid]) -> list[Claim]:
    """Where λ_max plateaus, against the edge, batch sharpness, batch size and learning rate."""
    found = [
        Claim(
            "λ_max of the full loss plateaus below 2 / lr", f"{PAPER}, abstract", together(*map(_below_edge, grids)),
            "at large batch sizes SGD is nearly gradient descent, whose λ_max is at 2 / lr itself", "2 / lr",
        ),
        Claim(
            "λ_max plateaus below batch sharpness", f"{PAPER}, abstract (generally so; no theorem)",
            together(*map(_below_batch_sharpness, grids)),
            "at large batch sizes the two meet, and gradients do not lie along the sharpest direction alone",
            "batch sharpness",
        ),
        Claim(
            "The smaller the batch, the lower λ_max plateaus", f"{PAPER}, abstract", together(*map(_batches, grids)),
            "at large batch sizes it is at 2 / lr already", "no change",
        ),
    ]  # fmt: skip
    if any(list(_same_batch(grid)) for grid in grids):
        found.append(Claim(
            "The larger the learning rate, the lower λ_max plateaus", f"{PAPER}, abstract",
            together(*map(_learning_rates, grids)), "", "no change",
        ))  # fmt: skip
    return found


def _extremes(grid: Grid) -> list[Point]:
    """Smallest and largest batch at the learning rate that has most of them."""
    lr = max(grid.learning_rates, key=lambda each: len(grid.batch_sizes(each)))
    sizes = grid.batch_sizes(lr)
    return [(lr, size) for size in dict.fromkeys((sizes[0], sizes[-1]))]


def _below_edge(grid: Grid) -> Judge:
    def judged(point: Point, results: Results) -> Verdict:
        threshold = stability.sgd_threshold(point[0]).value
        return compare(grid.settled(results, point, "lambda_max"), threshold, claim=grid.of(point), relation="below",
                       scope=grid.doubt(results, point))  # fmt: skip

    return lambda results: rows(_extremes(grid), grid.of, lambda point: judged(point, results))


def _below_batch_sharpness(grid: Grid) -> Judge:
    def judged(point: Point, results: Results) -> Verdict:
        other = grid.settled(results, point, "batch_sharpness")
        error = other.standard_error if isinstance(other.standard_error, float) else 0.0
        return compare(grid.settled(results, point, "lambda_max"), float(other), predicted_error=error,
                       claim=grid.of(point), relation="below", scope=grid.doubt(results, point))  # fmt: skip

    return lambda results: rows(_extremes(grid), grid.of, lambda point: judged(point, results))


def _quotient(grid: Grid, results: Results, above: Point, below: Point) -> Estimate:
    return ratio(
        grid.settled(results, above, "lambda_max"), grid.settled(results, below, "lambda_max"), "ratio of λ_max"
    )


def _batches(grid: Grid) -> Judge:
    pairs = [(lr, a, b) for lr in grid.learning_rates for a, b in pairwise(grid.batch_sizes(lr))]

    def named(case: tuple[float, int, int]) -> str:
        lr, small, large = case
        return f"{grid.label}, lr {lr:g}: batch {small} over batch {large}"

    def judged(case: tuple[float, int, int], results: Results) -> Verdict:
        lr, small, large = case
        return compare(_quotient(grid, results, (lr, small), (lr, large)), 1.0, claim=named(case), relation="below")

    return lambda results: rows(pairs, named, lambda case: judged(case, results))


def _same_batch(grid: Grid) -> Iterator[tuple[int, float, float]]:
    """Batch sizes with neighbouring learning rates that both have them."""
    for size in sorted({b for _, b in grid.points}):
        for low, high in pairwise(sorted(lr for lr, b in grid.points if b == size)):
            yield size, low, high


def _learning_rates(grid: Grid) -> Judge:
    def named(case: tuple[int, float, float]) -> str:
        size, low, high = case
        return f"{grid.label}, batch {size}: lr {high:g} over lr {low:g}"

    def judged(case: tuple[int, float, float], results: Results) -> Verdict:
        size, low, high = case
        return compare(_quotient(grid, results, (high, size), (low, size)), 1.0, claim=named(case), relation="below")

    return lambda results: rows(_same_batch(grid), named, lambda case: judged(case, results))
