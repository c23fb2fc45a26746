"""Recipe: products of weights on Gaussian data, small networks of ReLUs, networks on real data, and their cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sgdscope.cells import Cell, Results
from sgdscope.studies.claim import Claim
from sgdscope.studies.recipe import Figure, Recipe, Size
from sgdscope.theory.stationary import DiagonalNoise

DIAGONAL = "sgdscope.studies.balance.diagonal_runs"
NETWORKS = "sgdscope.studies.balance.networks"
STRONG = 900.0
"""Noise variance of the targets at which steps at the critical temperature are small."""
LOUD = 1e4
"""The same where not even a rare large step crosses 0."""


@dataclass(frozen=True, kw_only=True)
class Balance(Recipe):
    """Does minibatch noise balance the layers of a network, and does SGD settle in the law that follows?

    Products of weights learn y = x + ε with Gaussian x and ε, batch size 1 unless said. T = lr / batch size.

    Attributes:
        pairs: replicas of runs that follow a charge.
        laws: (depth, noise variance, lr) of stationary laws; lr ≤ 0 stands for T = |lr| · T_c.
        samples: replicas of those.
        ratios: T / T_c of the way to the critical temperature, ascending; the mean is extrapolated from those above ½.
        along: replicas of those.
        deviations: σ of the targets, columns of the phase diagram, ascending.
        levels: T / T_c, rows of the phase diagram, ascending.
        batches: batch sizes at which the threshold of real steps is looked for, noise variance 2500.
        kicks: replicas of those.
        tails: noise variances of the equation whose tail is followed.
        tail: replicas of that.
        crossings: (noise variance, lr) of three layers, in which rare large steps cross 0.
        runs: replicas of those.
        collapse: (weight decay, noise variance, lr, steps, replicas) of three layers that are metastable.
        networks: name and `RunConfig` settings of networks on real data.
        warm: steps after which those are held against the law: early, and later.
        forks: of each.
        relu: hidden units, steps and seeds of the network of ReLUs.
        units: replicas and steps of the single hidden unit.
    """

    name: ClassVar[str] = "balance"
    title: ClassVar[str] = "Does minibatch noise balance layers, and does SGD settle in the law that follows?"
    paper: ClassVar[str] = (
        "Ziyin, Li & Ueda, Law of Balance and Stationary Distribution of Stochastic Gradient Descent, arXiv "
        "2308.06671; Ziyin, Wang, Li & Wu, Parameter Symmetry and Noise Equilibrium of Stochastic Gradient Descent, "
        "arXiv 2402.07193"
    )

    pairs: int = 500
    laws: tuple[tuple[int, float, float], ...] = (
        (0, 1.0, 0.005), (1, 1.0, 0.01), (1, 9.0, 0.01), (1, STRONG, -0.7), (2, 1.0, 0.01), (3, 1.0, 0.005),
    )  # fmt: skip
    samples: int = 20_000
    ratios: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.3)
    along: int = 2000
    deviations: tuple[float, ...] = (6.0, 10.0, 18.0, 32.0)
    levels: tuple[float, ...] = (0.15, 0.25, 0.42, 0.6, 0.8, 0.95, 1.05, 1.2)
    batches: tuple[int, ...] = (64,)
    kicks: int = 20_000
    tails: tuple[float, ...] = ()
    tail: int = 4000
    crossings: tuple[tuple[float, float], ...] = ((1.0, 0.01), (9.0, 0.01), (100.0, 0.005))
    runs: int = 2000
    collapse: tuple[float, float, float, int, int] = (0.36, 4.0, 0.005, 78_000, 1000)
    networks: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    warm: tuple[int, int] = (5, 400)
    forks: int = 200
    relu: tuple[int, int, int] = (40, 6000, 1)
    units: tuple[int, int] = (64, 12_000)

    @classmethod
    def of_size(cls, size: Size, *, data_dir: Path | None = None, seed: int = 0) -> Balance:
        """Toy: digits and few replicas. Small: closer to the critical temperature, CIFAR-10 where it is at hand."""
        digits = {"data": "digits", "subset": 1024, "model": "mlp", "activation": "relu", "width": 32, "depth": 3,
                  "loss": "cross-entropy", "batch_size": 64, "lr": 0.1, "sampling": "replacement",
                  "precision": "float64"}  # fmt: skip
        networks: list[tuple[str, Mapping[str, Any]]] = [("digits", digits)]
        if size == "toy":
            return cls(size=size, data_dir=data_dir, seed=seed, networks=tuple(networks))
        if data_dir is not None:
            networks.append(("cifar10", digits | {"data": "cifar10", "data_dir": str(data_dir), "subset": 2048,
                                                  "lr": 0.02}))  # fmt: skip
        wide: dict[str, Any] = {
            "networks": tuple(networks),
            "laws": (*cls.laws, (1, 100.0, 0.002), (2, 9.0, 0.001)),
            "ratios": (0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 0.85, 1.3),
            "deviations": (6.0, 8.0, 11.0, 16.0, 22.0, 32.0, 45.0),
            "levels": (0.1, 0.2, 0.28, 0.38, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97, 1.03, 1.1, 1.2),
            "batches": (16, 64), "tails": (1.0, 0.1), "relu": (200, 8000, 2), "forks": 1000,
            "units": (256, 12_000),
            "collapse": (0.36, 4.0, 0.005, 78_000, 4000),
        }  # fmt: skip
        many: dict[str, Any] = {
            "pairs": 2000, "samples": 40_000, "along": 4000, "tail": 4000, "runs": 4000,
        }  # fmt: skip
        if size == "paper":
            many = {name: 10 * count for name, count in many.items()}
            wide |= {"ratios": (*wide["ratios"][:-1], 0.9, 1.3), "relu": (200, 40_000, 5), "forks": 4000}
        return cls(size=size, data_dir=data_dir, seed=seed, **wide, **many)

    # -- cells --------------------------------------------------------------------------------------------------

    def cells(self) -> Sequence[Cell]:
        """Long ensembles first."""
        return [*self._phases(), *self._sparse(), *self._laws(), *self._tails(), *self._relu(), *self._networks(),
                *self._charges(), *self._growth(), *self._diagram()]  # fmt: skip

    def _settings(self, replicas: int, **changes: Any) -> dict[str, Any]:
        found = {
            "slope": 1.0, "noise_variance": 1.0, "input_variance": 1.0, "depth": 1, "width": 1, "weight_decay": 0.0,
            "lr": 0.01, "batch_size": 1, "start": [1.0], "replicas": replicas, "seed": self.seed,
        }  # fmt: skip
        return found | changes

    def temperature(self, noise_variance: float, lr: float) -> float:
        """Learning rate of a law, which may be given as a share of T_c."""
        return lr if lr > 0 else -lr * DiagonalNoise.gaussian(1.0, noise_variance).critical_temperature()

    def law_name(self, depth: int, noise_variance: float, lr: float) -> str:
        """Cell of a stationary law."""
        return f"law-{depth}-{noise_variance:g}-{abs(lr):g}"

    def _phases(self) -> Iterator[Cell]:
        for ratio in self.ratios:
            lr = self.temperature(STRONG, -ratio)
            # about six relaxation times, 2 T / (T_c (1 − T/T_c)²), of which the first half is not counted
            time = min(10 + 12 * ratio / (1 - ratio) ** 2, 400.0)
            yield Cell(f"phase-{ratio:g}", f"{DIAGONAL}:moments", self._settings(
                self.along, noise_variance=STRONG, lr=lr, steps=int(time / lr), ratio=ratio,
            ))  # fmt: skip

    def _sparse(self) -> Iterator[Cell]:
        """Three layers: beyond β₂ / α₃, across 0, and held in a state that does not last."""
        lr = 1.2 * self.temperature(LOUD, -1.0)
        yield Cell("deep-hot", f"{DIAGONAL}:weights", self._settings(
            self.runs // 2, noise_variance=LOUD, lr=lr, depth=2, start=[0.1], steps=int(8 / lr), levels=100,
        ))  # fmt: skip
        for noise_variance, lr in self.crossings:
            yield Cell(f"crossing-{noise_variance:g}-{lr:g}", f"{DIAGONAL}:weights", self._settings(
                self.runs, noise_variance=noise_variance, lr=lr, depth=2, steps=20_000, levels=100,
            ))  # fmt: skip
        yield Cell("wrong-sign", f"{DIAGONAL}:weights", self._settings(
            self.runs, start=[-0.5], steps=2000, levels=100,
        ))  # fmt: skip
        decay, noise_variance, lr, steps, replicas = self.collapse
        for weight_decay, size in ((decay, 1), (decay, 4), (0.0, 1)):
            yield Cell(f"collapse-{weight_decay:g}-{size}", f"{DIAGONAL}:weights", self._settings(
                replicas, noise_variance=noise_variance, lr=lr * size, batch_size=size, depth=2,
                weight_decay=weight_decay, start=[0.614], steps=steps // size, levels=100,
            ))  # fmt: skip

    def _laws(self) -> Iterator[Cell]:
        for depth, noise_variance, lr in self.laws:
            step = self.temperature(noise_variance, lr)
            time, replicas = (70.0, self.samples // 2) if lr < 0 else (20.0, self.samples)
            yield Cell(self.law_name(depth, noise_variance, lr), f"{DIAGONAL}:weights", self._settings(
                replicas, depth=depth, noise_variance=noise_variance, lr=step, steps=int(time / step), levels=400,
            ))  # fmt: skip
        yield Cell("interpolating", f"{DIAGONAL}:weights", self._settings(
            self.samples, noise_variance=0.0, input_variance=2.0, weight_decay=0.3, lr=0.002, start=[0.7], steps=10_000,
            levels=400,
        ))  # fmt: skip

    def _tails(self) -> Iterator[Cell]:
        for noise_variance in self.tails:
            yield Cell(f"tail-{noise_variance:g}", f"{DIAGONAL}:tail", self._settings(
                self.tail, noise_variance=noise_variance, temperature=self.temperature(noise_variance, -0.6),
                steps=120_000, beyond=[5.0, 15.0],
            ))  # fmt: skip

    def _charges(self) -> Iterator[Cell]:
        pair = self._settings(self.pairs, start=[2.0, 0.3], looks=40)
        yield Cell("charge-minibatch", f"{DIAGONAL}:charges", pair | {"noise": "minibatch", "steps": 10_000})
        yield Cell("charge-isotropic", f"{DIAGONAL}:charges", pair | {
            "noise": "isotropic", "variance": 4.0, "steps": 10_000,
        })  # fmt: skip
        for lr, time in ((0.01, 100), (0.005, 20)):
            steps = int(time / lr)
            yield Cell(f"charge-none-{lr:g}", f"{DIAGONAL}:charges", pair | {
                "noise": "none", "lr": lr, "steps": steps, "looks": steps, "replicas": 1,
            })  # fmt: skip
        yield Cell("charge-decay", f"{DIAGONAL}:charges", pair | {
            "noise": "minibatch", "steps": 1500, "weight_decay": 0.05,
        })  # fmt: skip
        yield Cell("charge-deep", f"{DIAGONAL}:charges", pair | {
            "noise": "minibatch", "depth": 2, "start": [1.5, 0.6, 1.0], "lr": 0.005, "steps": 8000,
        })  # fmt: skip
        yield Cell("opposite", f"{DIAGONAL}:opposite", self._settings(
            2 * self.pairs, width=2, start=[1.2, 1.2, -0.5, 0.5], lr=0.002, steps=4000,
        ))  # fmt: skip

    def _growth(self) -> Iterator[Cell]:
        for batch_size in self.batches:
            for ratio in (0.85, 0.95, 1.05):
                lr = batch_size * self.temperature(2500.0, -ratio)
                yield Cell(f"growth-{batch_size}-{ratio:g}", f"{DIAGONAL}:growth", self._settings(
                    self.kicks, noise_variance=2500.0, lr=lr, batch_size=batch_size, start=[1e-24], steps=int(8 / lr),
                ))  # fmt: skip
        for ratio in (0.25, 0.5):
            lr = self.temperature(STRONG, -ratio)
            yield Cell(f"exponent-{ratio:g}", f"{DIAGONAL}:growth", self._settings(
                self.kicks, noise_variance=STRONG, lr=lr, start=[1e-24], steps=int(2 / lr), ratio=ratio,
            ))  # fmt: skip

    def _diagram(self) -> Iterator[Cell]:
        for deviation in self.deviations:
            variance = deviation**2
            yield Cell(f"diagram-{deviation:g}", f"{DIAGONAL}:exponents", self._settings(
                self.kicks // 4, noise_variance=variance, start=[1e-24], time=2.0,
                temperatures=[self.temperature(variance, -level) for level in self.levels],
            ))  # fmt: skip

    def _relu(self) -> Iterator[Cell]:
        width, steps, seeds = self.relu
        for seed in range(self.seed, self.seed + seeds):
            yield Cell(f"relu-{seed}", f"{NETWORKS}:traces", {
                "inputs": 20, "width": width, "stretch": 2.0, "noise_variance": 1.0, "samples": 1024, "lr": 0.004,
                "batch_size": 1, "steps": steps, "looks": 24, "seed": seed,
            })  # fmt: skip
        for name, variances in (("anisotropic", [1.0, 4.0]), ("isotropic", [1.0, 1.0])):
            for number, start in enumerate(([2.0, 0.5], [0.5, 2.0])):
                yield Cell(f"unit-{name}-{number}", f"{NETWORKS}:unit", {
                    "replicas": self.units[0], "seed": self.seed, "input_variance": variances, "start": start,
                    "steps": self.units[1], "lr": 0.01, "data": name,
                })  # fmt: skip

    def _networks(self) -> Iterator[Cell]:
        for name, config in self.networks:
            for when, warm in zip(("early", "late"), self.warm, strict=True):
                yield Cell(f"drift-{name}-{when}", f"{NETWORKS}:drift", {
                    "config": {**config, "seed": self.seed}, "warm": warm, "forks": self.forks,
                })  # fmt: skip

    # -- what is made of them -----------------------------------------------------------------------------------

    def claims(self) -> Sequence[Claim]:
        """See `claims`."""
        from sgdscope.studies.balance.claims import claims

        return claims(self)

    def figures(self, results: Results) -> Sequence[Figure]:
        """See `figures`."""
        from sgdscope.studies.balance.figures import figures

        return figures(self, results)

    def notes(self, results: Results) -> Sequence[str]:
        """What was chosen here, and what is compared with what."""
        return (
            "The source gives few settings of its experiments; those here were chosen so that steps are small where "
            "the differential equation is judged, and large where its limits are.",
            "Equations are numbered as in the conference form of 2308.06671. Printed and corrected formulas are "
            "separate claims.",
            "Data of the products of weights: y = x + ε, both Gaussian, a new sample in each step.",
        )
