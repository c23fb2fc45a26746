"""Recipe: landscapes, batch sizes and networks, and the cells that follow from them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sgdscope.cells import Cell, Results
from sgdscope.studies.claim import Claim
from sgdscope.studies.fokker_planck.landscapes import DOUBLE_WELL, SKEWED, SKEWED_NOISE, SPLIT, TILTED, WELL
from sgdscope.studies.recipe import Figure, Recipe, Size

SIMULATED = "sgdscope.studies.simulated"


@dataclass(frozen=True, kw_only=True)
class FokkerPlanck(Recipe):
    """Does SGD prefer flat minima whatever the batch size, and how fast does it get there?

    Simulated are landscapes in one variable, per-sample variance 1 unless said: temperature D = lr / (2 · batch size).

    Attributes:
        lr: of the landscapes.
        temperatures: of escapes and of relaxation between wells, ascending.
        selection: temperatures at which both wells of the skewed landscape are compared, ascending.
        ratios: 2 · batch size / lr of noise that follows the curvature.
        in_well: batch sizes at which relaxation in one well is followed.
        steps_of_sgd: learning rates at which SGD is held against its differential equation.
        momenta: (learning rate, momentum, temperature) of momentum SGD on the double well.
        replicas: of escapes; other cells take multiples.
        settled: replicas of stationary laws.
        data: data sets of the networks, by name of `RunConfig`.
        models: networks by name.
        batch_sizes: of the networks; the learning rate is the same for all.
        updates: of the smallest batch at equal epochs, and of all at equal updates.
        seeds: of each network.
    """

    name: ClassVar[str] = "fokker-planck"
    title: ClassVar[str] = "Does SGD prefer flat minima whatever the batch size, and how soon?"
    paper: ClassVar[str] = (
        "Dai & Zhu, On Large Batch Training and Sharp Minima: A Fokker-Planck Perspective, arXiv 2112.00987, and its "
        "earlier form 1812.00542"
    )

    lr: float = 0.05
    temperatures: tuple[float, ...] = (0.0625, 0.08, 0.1)
    selection: tuple[float, ...] = (0.0625, 0.08, 0.1)
    ratios: tuple[float, ...] = (6.0, 9.0, 12.0)
    in_well: tuple[int, ...] = (1, 16)
    steps_of_sgd: tuple[float, ...] = (0.025, 0.05, 0.1)
    momenta: tuple[tuple[float, float, float], ...] = ((0.01, 0.9, 1 / 16),)
    replicas: int = 8000
    settled: int = 24_000
    data: tuple[str, ...] = ("digits",)
    models: tuple[str, ...] = ("mlp",)
    batch_sizes: tuple[int, ...] = (8, 32, 128)
    updates: int = 1600
    seeds: int = 2

    @classmethod
    def of_size(cls, size: Size, *, data_dir: Path | None = None, seed: int = 0) -> FokkerPlanck:
        """Toy: digits and barriers that are crossed soon. Small: real data where `data_dir` has them."""
        if size == "toy":
            return cls(size=size, data_dir=data_dir, seed=seed)
        wide: dict[str, Any] = {
            "temperatures": (0.03125, 0.04, 0.05, 0.0625, 0.1, 0.125), "selection": (0.04, 0.05, 0.0625, 0.1),
            "ratios": (6.0, 9.0, 12.0, 16.0), "in_well": (1, 4, 16, 64), "steps_of_sgd": (0.0125, 0.025, 0.05, 0.1),
            "momenta": ((0.01, 0.9, 1 / 16), (0.01, 0.9, 1 / 24), (0.01, 0.5, 1 / 16)),
            "data": ("digits",) if data_dir is None else ("digits", "fashion-mnist", "cifar10"),
            "batch_sizes": (8, 32, 128), "seeds": 3,
        }  # fmt: skip
        if size == "small":
            return cls(size=size, data_dir=data_dir, seed=seed, replicas=16_000, settled=48_000, updates=2400, **wide)
        wide |= {"models": ("mlp", "cnn"), "batch_sizes": (8, 32, 128, 512), "seeds": 5}
        return cls(size=size, data_dir=data_dir, seed=seed, replicas=60_000, settled=200_000, updates=60_000, **wide)

    # -- cells --------------------------------------------------------------------------------------------------

    def cells(self) -> Sequence[Cell]:
        """Networks first, as they take longest."""
        return [*self._networks(), *self._selection(), *self._escapes(), *self._relaxation(), *self._momentum(),
                *self._weak()]  # fmt: skip

    def escape_name(self, temperature: float) -> str:
        """Cell of the escape from the double well at a temperature."""
        return f"escape-{temperature:g}"

    def _escapes(self) -> Iterator[Cell]:
        for temperature in self.temperatures:
            yield Cell(self.escape_name(temperature), f"{SIMULATED}:passage", {
                "potential": DOUBLE_WELL, "process": self._sgd(temperature), "start": -1.0, "until": "x > 1",
                "replicas": self.replicas, "seed": self.seed,
                "steps": int(8 * _kramers(temperature) / self.lr), "temperature": temperature,
            })  # fmt: skip

    def _relaxation(self) -> Iterator[Cell]:
        for temperature in self.temperatures:
            time = _kramers(temperature) / 2  # both ways
            yield Cell(f"between-wells-{temperature:g}", f"{SIMULATED}:relaxation", {
                "potential": DOUBLE_WELL, "process": self._sgd(temperature), "start": -1.0, "of": "x < 0",
                "limit": 0.5, "shares": [0.8, 0.2], "groups": 8, "every": max(1, int(time / self.lr / 50)),
                "replicas": self.replicas, "steps": int(2.2 * time / self.lr), "seed": self.seed + 100,
                "temperature": temperature,
            })  # fmt: skip
        for batch_size in self.in_well:
            process = {"kind": "sgd", "lr": self.lr, "batch_size": batch_size, "variance": "1"}
            yield Cell(f"in-well-{batch_size}", f"{SIMULATED}:relaxation", {
                "potential": WELL, "process": process, "start": 3.0, "of": "x", "limit": 0.0, "shares": [0.9, 0.1],
                "groups": 8, "every": 1, "replicas": self.replicas, "steps": int(3 / self.lr), "seed": self.seed,
            })  # fmt: skip

    def _selection(self) -> Iterator[Cell]:
        for landscape, potential in (("skewed", SKEWED), ("tilted", TILTED)):
            for temperature in self.selection:
                yield Cell(f"{landscape}-{temperature:g}", f"{SIMULATED}:averages", {
                    **self._settled(potential, 3 * _kramers(temperature)),
                    "process": self._sgd(temperature, self.lr / 2),
                    "temperature": temperature,
                })  # fmt: skip
        for ratio in self.ratios:
            lr = self.lr / 2
            process = {"kind": "sgd", "lr": lr, "batch_size": ratio * lr / 2, "variance": SKEWED_NOISE}
            yield Cell(f"curvature-noise-{ratio:g}", f"{SIMULATED}:averages", {
                **self._settled(SKEWED, 3 * math.exp(0.32 * ratio) * 8), "process": process, "ratio": ratio,
            })  # fmt: skip

    def _settled(self, potential: str, time: float) -> dict[str, Any]:
        """Half of the replicas from each well, looked at once both must have settled.

        In steps of half the length: in the sharp well those of `lr` already widen the law by some per cent.
        """
        steps = int(2 * time / (self.lr / 2))
        return {
            "potential": potential, "start": 0.0, "starts": [-1.0, 1.0], "of": [f"x < {SPLIT}"], "every": 20,
            "after": steps // 2, "steps": steps, "replicas": self.settled, "seed": self.seed + 200,
        }  # fmt: skip

    def _momentum(self) -> Iterator[Cell]:
        for lr, momentum, temperature in self.momenta:
            batch_size = lr / (2 * (1 - momentum) * temperature)
            process = {"kind": "sgd", "lr": lr, "batch_size": batch_size, "variance": "1", "momentum": momentum}
            iterations = 4 * _kramers(temperature) / lr * (1 - momentum)
            yield Cell(f"momentum-{lr:g}-{momentum:g}-{temperature:.4g}", f"{SIMULATED}:passage", {
                "potential": DOUBLE_WELL, "process": process, "start": -1.0, "until": "x > 1",
                "replicas": self.replicas, "steps": int(6 * iterations), "seed": self.seed, "temperature": temperature,
                "lr": lr, "momentum": momentum,
            })  # fmt: skip

    def _weak(self) -> Iterator[Cell]:
        for lr in self.steps_of_sgd:
            process = {"kind": "sgd", "lr": lr, "batch_size": lr / 0.2, "variance": "(1+x**2)/2"}
            yield Cell(f"weak-{lr:g}", f"{SIMULATED}:at_the_end", {
                "potential": DOUBLE_WELL, "process": process, "start": -1.0, "replicas": 1000 * self.replicas,
                "steps": round(2 / lr), "seed": self.seed + 300, "lr": lr,
            })  # fmt: skip

    def _networks(self) -> Iterator[Cell]:
        smallest = min(self.batch_sizes)
        for data in self.data:
            for model in self.models:
                for batch_size in self.batch_sizes:
                    for equal in ("epochs", "updates") if batch_size > smallest else ("epochs",):
                        for seed in range(self.seed, self.seed + self.seeds):
                            steps = self.updates * smallest // batch_size if equal == "epochs" else self.updates
                            config = self.config(data, model) | {
                                "batch_size": batch_size, "steps": steps, "seed": seed, "every": max(steps, 1),
                                "checkpoint_every": max(steps, 1), "threads": 1,
                            }  # fmt: skip
                            yield Cell(f"{data}-{model}-b{batch_size}-{equal}-{seed}",
                                       "sgdscope.studies.trained:training", {
                                "config": config, "measure": ["lambda_max", "hessian_norm", "trace", "train_loss",
                                                              "held_out"],
                                "data": data, "model": model, "batch_size": batch_size, "equal": equal, "of_seed": seed,
                            })  # fmt: skip

    def config(self, data: str, model: str) -> dict[str, Any]:
        """What all networks of a data set share: cross-entropy, which leaves no batch size beyond its edge."""
        found: dict[str, Any] = {"data": data, "model": model, "loss": "cross-entropy"}
        if data == "digits":
            return found | {"lr": 0.2, "subset": 1024}
        if self.data_dir is None:
            raise ValueError(f"expected --data-dir for {data}: the folder of the real data sets")
        width = {"mlp": 128, "cnn": 16}[model]
        return found | {"data_dir": str(self.data_dir), "subset": 4096, "lr": 0.05, "width": width}

    # -- what is made of them -----------------------------------------------------------------------------------

    def claims(self) -> Sequence[Claim]:
        """See `claims`."""
        from sgdscope.studies.fokker_planck.claims import claims

        return claims(self)

    def figures(self, results: Results) -> Sequence[Figure]:
        """See `figures`."""
        from sgdscope.studies.fokker_planck.figures import figures

        return figures(self, results)

    def notes(self, results: Results) -> Sequence[str]:
        """What the landscapes stand for, and what was not readable in the source."""
        return (
            "The experiments of the source were not at hand in full; landscapes stand for its theorems, and networks "
            "for its data sets and models.",
            "Landscapes have per-sample variance 1 (or as said), so that a temperature D stands for a batch size "
            f"lr / (2 D) at the learning rate {self.lr:g}.",
        )

    def _sgd(self, temperature: float, lr: float | None = None) -> dict[str, Any]:
        lr = lr or self.lr
        return {"kind": "sgd", "lr": lr, "batch_size": lr / (2 * temperature), "variance": "1"}


def _kramers(temperature: float) -> float:
    """About how long an escape from the double well takes: only how long is simulated depends on it."""
    return 2 * math.pi / math.sqrt(2) * math.exp(0.25 / temperature)
