"""Recipe: trainings, forks and changes, and the cells, claims and figures that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sgdscope.cells import Cell, Results
from sgdscope.studies.claim import Claim
from sgdscope.studies.recipe import Figure, Recipe, Size
from sgdscope.studies.stochastic_edge import claims, figures, sizes
from sgdscope.studies.stochastic_edge.grids import Changes, Forks, Grid
from sgdscope.studies.stochastic_edge.window import BLOCKS


@dataclass(frozen=True, kw_only=True)
class StochasticEdge(Recipe):
    """Where does SGD stop sharpening?

    Attributes:
        plateaus: SGD with squared error, up to the edge and on; the first is the one that figures follow.
        full_batch: gradient descent.
        below: SGD whose learning rate is too small to get to the edge.
        cross_entropy: SGD with another loss.
        momenta: heavy ball and Nesterov.
        adaptive: optimizers without a theory of their edge.
        noises: gradient descent with injected noise; each has the points of one of `beside`.
        beside: SGD as it is held against those, over the same steps.
        forks: what becomes of changes right after them.
        changes: what follows in the long run.
    """

    name: ClassVar[str] = "stochastic-edge"
    title: ClassVar[str] = "Where does SGD stop sharpening?"
    paper: ClassVar[str] = (
        "Andreyev & Beneventano, Edge of Stochastic Stability: Revisiting the Edge of Stability for SGD, "
        "arXiv 2412.20553"
    )

    plateaus: tuple[Grid, ...] = ()
    full_batch: tuple[Grid, ...] = ()
    below: tuple[Grid, ...] = ()
    cross_entropy: tuple[Grid, ...] = ()
    momenta: tuple[Grid, ...] = ()
    adaptive: tuple[Grid, ...] = ()
    noises: tuple[Grid, ...] = ()
    beside: tuple[Grid, ...] = ()
    forks: tuple[Forks, ...] = ()
    changes: tuple[Changes, ...] = ()

    @classmethod
    def of_size(cls, size: Size, *, data_dir: Path | None = None, seed: int = 0) -> StochasticEdge:
        """Toy: digits. Small: digits, and CIFAR-10 if `data_dir` is given. Paper: CIFAR-10 as in the source.

        Raises ValueError for the paper's size without `data_dir`.
        """
        return cls(size=size, data_dir=data_dir, seed=seed, **sizes.of_size(size, data_dir))

    @property
    def grids(self) -> list[Grid]:
        """All trainings that are neither forked nor changed."""
        return [*self.plateaus, *self.full_batch, *self.below, *self.cross_entropy, *self.momenta, *self.adaptive,
                *self.noises, *self.beside]  # fmt: skip

    def cells(self) -> Sequence[Cell]:
        """Forks and changes first, as they take longest."""
        trained: list[Changes | Forks | Grid] = [*self.changes, *self.forks, *self.grids]
        return [cell for each in trained for cell in each.cells(self.seed, self.data_dir)]

    def claims(self) -> Sequence[Claim]:
        """What settles where, then what does not, then what changes do, then momentum, noise and other optimizers."""
        return [
            *claims.settling(self.plateaus, self.cross_entropy), *claims.mini_batches(self.forks),
            *claims.full_batch(self.full_batch), *claims.sharpness(self.plateaus),
            *claims.oscillating(self.below, self.forks), *claims.theorem(self.forks), *claims.edge_tests(self.forks),
            *claims.fates(self.forks), *claims.changing(self.changes), *claims.momenta(self.momenta),
            *claims.noises(self.beside, self.noises), *claims.adaptive(self.adaptive),
        ]  # fmt: skip

    def figures(self, results: Results) -> Sequence[Figure]:
        """Curves, plateaus, forks, changes and noise: those of which there are results."""
        return figures.all_of(self, results)

    def notes(self, results: Results) -> Sequence[str]:
        """How it was measured, and what is not the source's."""
        return [
            "Curvatures are in loss / parameter². Batch sharpness is the expectation of the ratio (Def. 3), of 64 "
            "batches or fewer at each reading; squared error is summed over classes, on CIFAR-10 without a factor ½.",
            "A level counts as held within a tenth; a run that still climbs at its end is not assessed. Errors are "
            f"those over seeds where there are several, else over {BLOCKS} blocks of a run's window.",
            *sizes.NOTES[self.size],
        ]  # fmt: skip
