"""Oscillating: gradient-noise interaction says that the loss oscillates, and not that this is an edge."""

from __future__ import annotations

from collections.abc import Sequence

from sgdscope.cells import Results
from sgdscope.estimate import Estimate
from sgdscope.studies.claim import Claim, Judge
from sgdscope.studies.fits import ratio
from sgdscope.studies.stochastic_edge.grids import Forks, Grid, Point
from sgdscope.studies.stochastic_edge.judging import BLOG, RAISED, geometric_mean, rows, together
from sgdscope.studies.stochastic_edge.window import over_runs
from sgdscope.theory import stability
from sgdscope.verdict import Verdict, compare

_STANDS_STILL = 0.25
"""Band around 2 / lr: the identity behind it holds while the full loss stands still, and here it still falls a little,
while the oscillation of single windows moves it by as much."""


def oscillating(grids: Sequence[Grid], forks: Sequence[Forks]) -> list[Claim]:
    """At 2 / lr far below the edge too, where forks with a larger learning rate do not blow up."""
    found = []
    if grids:
        found += [
            Claim(
                "Gradient-noise interaction, E[gᵀHg] / ‖∇L‖², is at 2 / lr also far below the edge", BLOG,
                together(*(_at_level(grid) for grid in grids)), "the full loss has not come to stand still in mean",
                "2 / lr",
            ),
            Claim(
                "There batch sharpness is below 2 / lr: the loss oscillates from noise, not from instability", BLOG,
                together(*(_below_level(grid) for grid in grids)), "these runs reached the edge", "2 / lr",
            ),
        ]  # fmt: skip
    if forks:
        found.append(Claim(
            "Before the edge, where gradient-noise interaction is at 2 / lr already, forks whose learning rate is "
            "raised by a fifth do not blow up", BLOG,
            lambda results: rows(forks, lambda fork: fork.of, lambda fork: _calm(fork, results)),
            "that point was at the edge already", "bar of the edge test",
        ))  # fmt: skip
    return found


def interaction(signal: Estimate, sharpness: Estimate) -> Estimate:
    """Gradient-noise interaction over a window: the ratio of the means of E[gᵀHg] and ‖∇L‖², both over E‖g‖².

    ‖∇L‖² varies so much along a run that the mean of single ratios lies above.
    """
    return ratio(sharpness, signal, "gradient_noise_interaction")


def _at_level(grid: Grid) -> Judge:
    def judged(point: Point, results: Results) -> Verdict:
        means = (grid.settled(results, point, name) for name in ("gradient_signal", "interaction_aware_sharpness"))
        return compare(interaction(*means), stability.sgd_threshold(point[0]).value, claim=grid.of(point),
                       tolerance=_STANDS_STILL)  # fmt: skip

    return lambda results: rows(grid.points, grid.of, lambda point: judged(point, results))


def _below_level(grid: Grid) -> Judge:
    def judged(point: Point, results: Results) -> Verdict:
        return compare(grid.settled(results, point, "batch_sharpness"), stability.sgd_threshold(point[0]).value,
                       claim=grid.of(point), relation="below")  # fmt: skip

    return lambda results: rows(grid.points, grid.of, lambda point: judged(point, results))


def _calm(fork: Forks, results: Results) -> Verdict:
    lr, batch_size = fork.point
    points = fork.points(results, 0)
    excess = [change["excess"] for point in points for change in point["changes"]
              if change["batch_size"] == batch_size and change["lr_factor"] == RAISED]  # fmt: skip
    meter = over_runs("gni", [Estimate.from_row(point["gradient_noise_interaction"]) for point in points])
    sharp = over_runs("bs", [Estimate.from_row(point["batch_sharpness"]) for point in points])
    threshold = stability.sgd_threshold(lr).value
    return compare(
        geometric_mean("edge_test_excess", [Estimate.from_row(row) for row in excess]),
        float(fork.found(results)[0]["calm"]), claim=fork.of, relation="below",
        scope=f"at step {fork.at[0]:,}; there the interaction is {float(meter) / threshold:.2f} of 2 / lr, batch "
        f"sharpness {float(sharp) / threshold:.2f}",
    )  # fmt: skip
