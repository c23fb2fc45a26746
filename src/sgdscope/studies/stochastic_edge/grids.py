"""Grids: what is trained, as plain values; a grid names its cells and reads their results back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgdscope.cells import Cell, Results
from sgdscope.estimate import Estimate
from sgdscope.studies.stochastic_edge.window import over_runs

_HERE = "sgdscope.studies.stochastic_edge"
_READINGS = 60
"""Readings of batch sharpness along a run; those of all data are dearer, and read a third as often."""

Point = tuple[float, int]
"""Learning rate and batch size."""


@dataclass(frozen=True)
class Grid:
    """Trainings of one network, over learning rates and batch sizes.

    Attributes:
        name: of its cells: small letters, digits and ``-``.
        label: what a reader calls it.
        run: settings of `RunConfig` that all of them share, but for the place of data.
        points: learning rates with batch sizes.
        steps: of trainings with the smallest learning rate; others have as much time, learning rate · steps.
        first: step from which on they should have settled, likewise.
        seeds: trainings per point.
        noise: shape of the noise that is injected in place of drawing batches; none for SGD.
        full_batch: whether its batch sizes are all data.
    """

    name: str
    label: str
    run: Mapping[str, Any]
    points: tuple[Point, ...]
    steps: int
    first: int
    seeds: int = 1
    noise: str = ""
    full_batch: bool = False

    def cells(self, seed: int, data_dir: Path | None = None) -> Iterator[Cell]:
        """One per point and seed."""
        for lr, batch_size in self.points:
            for number in range(self.seeds):
                settings = {
                    "run": self.options(lr, batch_size, seed + number, data_dir), "first": self.at(self.first, lr),
                    **({"shape": self.noise} if self.noise else {}),
                }  # fmt: skip
                function = f"{_HERE}.noise:noisy" if self.noise else f"{_HERE}.runs:settle"
                yield Cell(self.cell(lr, batch_size, number), function, settings)

    def at(self, step: int, lr: float) -> int:
        """As many steps as `step` are with the smallest learning rate."""
        return round(step * self.learning_rates[0] / lr)

    def cell(self, lr: float, batch_size: int, number: int = 0) -> str:
        """Name of a cell."""
        return f"{self.name}-lr{lr:g}-b{batch_size}-{number}"

    def options(self, lr: float, batch_size: int, seed: int, data_dir: Path | None) -> dict[str, Any]:
        """Of one training, as `RunConfig` takes them."""
        steps = self.at(self.steps, lr)
        often = max(1, steps // _READINGS)
        cadence = {"batch_sharpness": often, "lambda_max": 3 * often, "gradient_noise_interaction": 3 * often}
        return {
            "threads": 1, "every": steps, "keep_checkpoints": 1, "checkpoint_every": max(1, steps // 4),
            "cadence": [f"{name}={every}" for name, every in cadence.items()],
            **self.run, "lr": lr, "batch_size": batch_size, "steps": steps, "seed": seed,
            **({"data_dir": str(data_dir)} if self.run["data"] != "digits" else {}),
        }  # fmt: skip

    def settled(self, results: Results, point: Point, quantity: str) -> Estimate:
        """A quantity of a point over its window, mean over its seeds. Raises MissingCellError."""
        return over_runs(quantity, [results.estimate(self.cell(*point, n), quantity) for n in range(self.seeds)])

    def doubt(self, results: Results, point: Point) -> str:
        """How many of the trainings of a point diverged; empty if none did, or all. Raises MissingCellError."""
        lost = sum(results[self.cell(*point, n)]["status"] == "diverged" for n in range(self.seeds))
        return f"{lost} of {self.seeds} trainings diverged" if 0 < lost < self.seeds else ""

    def of(self, point: Point) -> str:
        """A point in words."""
        size = "all data" if self.full_batch else f"batch {point[1]}"
        return f"{self.label}, lr {point[0]:g}, {size}"

    @property
    def learning_rates(self) -> list[float]:
        """Ascending."""
        return sorted({lr for lr, _ in self.points})

    def batch_sizes(self, lr: float) -> list[int]:
        """Those of a learning rate, ascending."""
        return sorted({b for each, b in self.points if each == lr})


@dataclass(frozen=True)
class Forks:
    """Forks of one training, with changes of the learning rate (as factors) and of the batch size.

    Attributes:
        name, label, run: as of a `Grid`.
        point: learning rate and batch size before.
        at: steps at which it is forked: well before the edge first, at the edge last; all multiples of the first.
        changes: factor of the learning rate with batch size.
        seeds: trainings.
        orders: of the data, for each change.
        steps: of each fork.
    """

    name: str
    label: str
    run: Mapping[str, Any]
    point: Point
    at: tuple[int, ...]
    changes: tuple[Point, ...]
    seeds: int = 1
    orders: int = 4
    steps: int = 200

    def cells(self, seed: int, data_dir: Path | None = None) -> Iterator[Cell]:
        """One per seed."""
        grid = Grid(self.name, self.label, self.run, (self.point,), max(self.at), 0)
        for number in range(self.seeds):
            options = grid.options(*self.point, seed + number, data_dir)
            yield Cell(f"{self.name}-{number}", f"{_HERE}.forks:fork", {
                "run": options | {"checkpoint_every": self.at[0], "keep_checkpoints": 0, "cadence": []},
                "at": self.at, "orders": self.orders, "steps": self.steps,
                "changes": [{"lr_factor": factor, "batch_size": size} for factor, size in self.changes],
            })  # fmt: skip

    @property
    def of(self) -> str:
        """What is forked, in words."""
        return f"{self.label}, lr {self.point[0]:g}, batch {self.point[1]}"

    def found(self, results: Results) -> list[Mapping[str, Any]]:
        """Of each training. Raises MissingCellError."""
        return [results[f"{self.name}-{number}"] for number in range(self.seeds)]

    def points(self, results: Results, which: int) -> list[Mapping[str, Any]]:
        """What was found at one of the steps, of each training. Raises MissingCellError."""
        return [found["points"][which] for found in self.found(results)]


@dataclass(frozen=True)
class Changes:
    """One training, and what follows when its learning rate or batch size is changed half-way.

    Attributes:
        name, label, run: as of a `Grid`.
        before: learning rate and batch size before the change.
        after: those after it, each by itself.
        steps, first: of the training before, and of the window in it.
        further, settle: steps after a change, and after how many of them its window begins.
        seeds: trainings.
    """

    name: str
    label: str
    run: Mapping[str, Any]
    before: Point
    after: tuple[Point, ...]
    steps: int
    first: int
    further: int
    settle: int
    seeds: int = 1

    def cells(self, seed: int, data_dir: Path | None = None) -> Iterator[Cell]:
        """One per seed."""
        grid = Grid(self.name, self.label, self.run, (self.before,), self.steps, self.first)
        for number in range(self.seeds):
            yield Cell(f"{self.name}-{number}", f"{_HERE}.runs:change", {
                "run": grid.options(*self.before, seed + number, data_dir), "first": self.first, "steps": self.further,
                "settle": self.settle, "changes": [{"lr": lr, "batch_size": b} for lr, b in self.after],
            })  # fmt: skip

    def found(self, results: Results) -> list[Mapping[str, Any]]:
        """Of each training. Raises MissingCellError."""
        return [results[f"{self.name}-{number}"] for number in range(self.seeds)]
