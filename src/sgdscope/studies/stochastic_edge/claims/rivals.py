"""Rivals: momentum, injected noise in place of batches, and optimizers without a theory of their edge."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from sgdscope.cells import Results
from sgdscope.estimate import Estimate
from sgdscope.studies.claim import Claim, Judge
from sgdscope.studies.stochastic_edge.grids import Grid, Point
from sgdscope.studies.stochastic_edge.judging import HOVER, PAPER, rows, together, unless_climbing
from sgdscope.theory import stability
from sgdscope.theory.prediction import Prediction
from sgdscope.verdict import Relation, Verdict, compare


def momenta(grids: Sequence[Grid]) -> list[Claim]:
    """Small batches first, then all data in a batch."""

    def claim(statement: str, source: str, full: bool, if_not: str) -> list[Claim]:
        chosen = [grid for grid in grids if grid.full_batch == full]
        return [Claim(statement, source, together(*map(_level, chosen)), if_not)] if chosen else []

    return [
        *claim("With momentum β, batch sharpness at small batch hovers at 2 (1 − β) / lr, for heavy ball and Nesterov",
               "2604.14108 (second-hand)", False,
               "the batch is not small enough: for larger ones the level rises towards that of the full batch"),
        *claim("With momentum and all data in one batch, λ_max hovers at 2 (1 + β) / lr, for Nesterov at "
               "2 (1 + β) / (lr (1 + 2β))", "Cohen et al. 2103.00065", True,
               "the loss was gone before the edge was reached"),
    ]  # fmt: skip


def _predicted(grid: Grid, point: Point) -> Prediction:
    momentum = float(grid.run.get("momentum", 0.9))
    return stability.threshold(
        point[0], momentum, nesterov=grid.run["optimizer"] == "nesterov", full_batch=grid.full_batch
    )


def _level(grid: Grid) -> Judge:
    def judged(point: Point, results: Results) -> Verdict:
        predicted = _predicted(grid, point)
        settled = grid.settled(results, point, predicted.quantity)
        if not grid.full_batch:
            settled = unless_climbing(settled, grid.settled(results, point, "trend"), predicted.value)
        return compare(settled, predicted.value, claim=grid.of(point), tolerance=HOVER,
                       scope=grid.doubt(results, point))  # fmt: skip

    return lambda results: rows(grid.points, grid.of, lambda point: judged(point, results))


def noises(sgd: Sequence[Grid], noisy: Sequence[Grid]) -> list[Claim]:
    """Gradient descent with injected noise, each beside SGD (`sgd`, with the same points)."""
    if not noisy:
        return []
    drawn = {grid.points: grid for grid in sgd}
    matched = [grid for grid in noisy if grid.noise == "covariance"]
    others = [grid for grid in noisy if grid.noise != "covariance"]
    same, other = (_beside(drawn, chosen) for chosen in (matched, others))
    found = [Claim(
        "Gradient descent with injected Gaussian noise, whatever its shape, lets λ_max settle higher than SGD does",
        f"{PAPER}, abstract, read without qualifier (that such models miss the dynamics)",
        together(*(_differs(*pair) for pair in (*other, *same))),
        "noise of the batch's own covariance is the gradient of a randomly re-weighted loss, and so stabilises as "
        "batches do", f"SGD's, and {100 * HOVER:g} % more",
    )]  # fmt: skip
    if others:
        found.append(Claim(
            "Noise that has the trace of the batch's noise but not its shape lets λ_max rise to 2 / lr, as without "
            "noise, and batch sharpness beyond it", "derived here (such noise does not follow the curvature)",
            together(*(_as_without_noise(grid) for grid in others)), "", "2 / lr",
        ))  # fmt: skip
    if matched:
        found.append(Claim(
            "Gaussian noise of the batch's covariance settles where SGD does", "derived here (corrects the former)",
            together(*(_agrees(*pair) for pair in same)), "", "SGD's",
        ))  # fmt: skip
    return found


def _beside(drawn: dict[tuple[Point, ...], Grid], noisy: Sequence[Grid]) -> list[tuple[Grid, Grid]]:
    return [(drawn[grid.points], grid) for grid in noisy if grid.points in drawn]


def _differs(sgd: Grid, noisy: Grid) -> Judge:
    def judged(point: Point, results: Results) -> Verdict:
        theirs = sgd.settled(results, point, "lambda_max")
        return compare(
            noisy.settled(results, point, "lambda_max"), float(theirs) * (1 + HOVER), relation="above",
            predicted_error=_error(theirs), claim=noisy.of(point), scope=noisy.doubt(results, point),
        )  # fmt: skip

    return lambda results: rows(noisy.points, noisy.of, lambda point: judged(point, results))


def _agrees(sgd: Grid, noisy: Grid) -> Judge:
    words = {"batch_sharpness": "batch sharpness", "lambda_max": "λ_max"}

    def named(case: tuple[Point, str]) -> str:
        return f"{noisy.of(case[0])}: {words[case[1]]}"

    def judged(case: tuple[Point, str], results: Results) -> Verdict:
        theirs = sgd.settled(results, *case)
        return compare(noisy.settled(results, *case), float(theirs), predicted_error=_error(theirs), tolerance=HOVER,
                       claim=named(case), scope=noisy.doubt(results, case[0]))  # fmt: skip

    return lambda results: rows(product(noisy.points, words), named, lambda case: judged(case, results))


def _as_without_noise(grid: Grid) -> Judge:
    quantities: dict[str, tuple[str, Relation]] = {
        "lambda_max": ("λ_max", "equal"), "batch_sharpness": ("batch sharpness", "above"),
    }  # fmt: skip

    def named(case: tuple[Point, str]) -> str:
        return f"{grid.of(case[0])}: {quantities[case[1]][0]}"

    def judged(case: tuple[Point, str], results: Results) -> Verdict:
        point, quantity = case
        return compare(grid.settled(results, point, quantity), stability.full_batch_threshold(point[0]).value,
                       claim=named(case), relation=quantities[quantity][1], tolerance=HOVER,
                       scope=grid.doubt(results, point))  # fmt: skip

    return lambda results: rows(product(grid.points, quantities), named, lambda case: judged(case, results))


def adaptive(grids: Sequence[Grid]) -> list[Claim]:
    """Half the generalised edge ratio, as found; nothing is held against it."""

    def judge(grid: Grid) -> Judge:
        def judged(point: Point, results: Results) -> Verdict:
            found = grid.settled(results, point, "edge_ratio")
            measured = found if found.value is None else found.scaled(0.5, name="half the edge ratio")
            return Verdict(grid.of(point), measured, 0.0, "equal", 0.0, "unassessed", None,
                           "exploratory: no theory says where it settles; at 1 a step no longer lowers the loss of its "
                           "own batch")  # fmt: skip

        return lambda results: rows(grid.points, grid.of, lambda point: judged(point, results))

    return [Claim(
        "Half the edge ratio of the realised step, E[sᵀH_B s] / E[−gᵀs], under adaptive optimizers",
        "exploratory, no claim", together(*map(judge, grids)),
    )] if grids else []  # fmt: skip


def _error(estimate: Estimate) -> float:
    return estimate.standard_error if isinstance(estimate.standard_error, float) else 0.0
