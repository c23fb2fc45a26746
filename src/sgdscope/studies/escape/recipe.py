"""Recipe: landscapes, valleys of tables and networks, and the cells that follow from them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sgdscope.cells import Cell, Results
from sgdscope.studies.claim import Claim
from sgdscope.studies.escape import landscapes as on
from sgdscope.studies.recipe import Figure, Recipe, Size

SIMULATED = "sgdscope.studies.simulated"
HERE = "sgdscope.studies.escape"


@dataclass(frozen=True, kw_only=True)
class Escape(Recipe):
    """Does SGD leave sharp minima exponentially sooner, and white noise only polynomially?

    Noise of SGD on a landscape has a per-sample variance h; all depends on q = 2 · batch size / lr.

    Attributes:
        lr: of the landscapes.
        ratios: q of the double well, ascending.
        rates: learning rates at the middle q.
        sharpness: factors k on all curvatures, the barriers kept.
        temperatures: of white noise on the double well, ascending.
        literal: learning rates at which noise is the size of the curvature itself, which vanishes on the way.
        literal_ratio: q of that noise.
        discrete: learning rates, in inverse curvatures of the minimum, at which noise of single samples is ±1.
        momenta: (learning rate, momentum) at temperature 1/16.
        replicas: of each ensemble.
        tables: of logistic regression; those of scikit-learn, or of `data_dir`.
        features: principal components of a table that are used.
        heights: barriers of valleys, in noise units at the middle batch size.
        batch_sizes: of valleys, ascending.
        samples: of the logistic model that is well specified.
        networks: `RunConfig` settings of the networks whose noise is held against their Hessian.
    """

    name: ClassVar[str] = "escape"
    title: ClassVar[str] = "Does SGD leave sharp minima exponentially sooner than flat ones?"
    paper: ClassVar[str] = (
        "Xie, Sato & Sugiyama, A Diffusion Theory For Deep Learning Dynamics: Stochastic Gradient Descent "
        "Exponentially Favors Flat Minima, ICLR 2021, arXiv 2002.03495"
    )

    lr: float = 0.04
    ratios: tuple[float, ...] = (12.0, 16.0, 20.0)
    rates: tuple[float, ...] = (0.02, 0.04)
    sharpness: tuple[float, ...] = (1.0, 1.5, 2.0)
    temperatures: tuple[float, ...] = (0.05, 0.0625, 0.08)
    literal: tuple[float, ...] = (0.1, 0.05, 0.025)
    literal_ratio: float = 8.0
    discrete: tuple[float, ...] = (0.17,)
    momenta: tuple[tuple[float, float], ...] = ((0.01, 0.9),)
    replicas: int = 6000
    tables: tuple[str, ...] = ("breast-cancer",)
    features: int = 5
    heights: float = 4.0
    batch_sizes: tuple[int, ...] = (6, 8, 10)
    samples: tuple[int, ...] = (1000, 10_000)
    networks: tuple[tuple[str, dict[str, Any]], ...] = (
        ("digits, mlp", {"data": "digits", "model": "mlp", "width": 16, "loss": "cross-entropy", "lr": 0.2,
                         "batch_size": 16, "steps": 3000, "subset": 1024}),
    )  # fmt: skip

    @classmethod
    def of_size(cls, size: Size, *, data_dir: Path | None = None, seed: int = 0) -> Escape:
        """Toy: barriers that are soon crossed. Small: higher ones, the source's tables where `data_dir` has them."""
        if size == "toy":
            return cls(size=size, data_dir=data_dir, seed=seed)
        real = data_dir is not None
        networks = list(cls.networks)
        if real:
            networks.append(("mnist, three layers", {
                "data": "mnist", "data_dir": str(data_dir), "model": "mlp", "width": 32, "depth": 2,
                "loss": "cross-entropy", "lr": 0.1, "batch_size": 16, "steps": 6000, "subset": 2048}))  # fmt: skip
        return cls(
            size=size, data_dir=data_dir, seed=seed, lr=0.02, ratios=(16.0, 20.0, 24.0, 28.0), rates=(0.01, 0.02, 0.03),
            sharpness=(0.75, 1.0, 1.5, 2.0), temperatures=(0.03, 0.04, 0.05, 0.0625), literal=(0.2, 0.1, 0.05, 0.025),
            discrete=(0.17, 0.33), momenta=((0.01, 0.9), (0.01, 0.5)),
            replicas=10_000 if size == "small" else 100_000,
            tables=("banknote", "cardiotocography", "sensorless", "avila") if real else ("breast-cancer", "wine"),
            batch_sizes=(6, 8, 10, 12), heights=5.0, samples=(1000, 10_000, 100_000), networks=tuple(networks),
        )  # fmt: skip

    # -- cells --------------------------------------------------------------------------------------------------

    def cells(self) -> Sequence[Cell]:
        """Long ones first."""
        return [*self._networks(), *self._valleys(), *self._double_well(), *self._white(), *self._literal(),
                *self._skewed(), *self._others(), *self._logistic()]  # fmt: skip

    def _passage(self, name: str, potential: str, process: dict[str, Any], time: float, **more: Any) -> Cell:
        """A passage from −1 beyond 1 unless said otherwise, watched for nine times the `time` it may take."""
        step = process.get("lr", 1.0)
        settings = {
            "potential": potential, "process": process, "start": -1.0, "until": "x > 1", "replicas": self.replicas,
            "seed": self.seed, "steps": int(9 * time / step) + 10, **more,
        }  # fmt: skip
        return Cell(name, f"{SIMULATED}:passage", settings)

    def sgd(self, ratio: float, lr: float | None = None, variance: str = on.NOISE, **more: Any) -> dict[str, Any]:
        """SGD at 2 · batch size / lr = `ratio`."""
        lr = lr or self.lr
        return {"kind": "sgd", "lr": lr, "batch_size": ratio * lr / 2, "variance": variance, **more}

    @property
    def middle(self) -> float:
        """The q at which other things are varied."""
        return self.ratios[len(self.ratios) // 2]

    def _double_well(self) -> Iterator[Cell]:
        for q in self.ratios:
            yield self._passage(f"sgd-{q:g}", on.DOUBLE_WELL, self.sgd(q), _sgd_time(q), ratio=q)
        q = self.middle
        for lr in self.rates:  # at the batch size of the middle
            batch_size = q * self.lr / 2
            process = {"kind": "sgd", "lr": lr, "batch_size": batch_size, "variance": on.NOISE}
            ratio = 2 * batch_size / lr
            if ratio < 1.8 * max(self.ratios):  # smaller steps would take too long to leave
                yield self._passage(f"rate-{lr:g}", on.DOUBLE_WELL, process, _sgd_time(ratio), lr=lr, ratio=ratio)
        for k in self.sharpness:
            lr = self.lr / k
            process = self.sgd(q, lr, on.sharper_noise(on.NOISE, k))
            edge = 1 / k**0.5
            yield self._passage(f"sharp-{k:g}", on.sharper(on.DOUBLE_WELL, k), process, _sgd_time(q / k) / k,
                                start=-edge, until=f"x > {edge:.12g}", sharpness=k, ratio=q)  # fmt: skip

    def _white(self) -> Iterator[Cell]:
        for t in self.temperatures:
            process = {"kind": "white-noise", "lr": self.lr, "temperature": t}
            yield self._passage(f"white-{t:g}", on.DOUBLE_WELL, process, _white_time(t), temperature=t)
        t = self.temperatures[-1]
        for k in self.sharpness:
            process = {"kind": "white-noise", "lr": self.lr / k, "temperature": t}
            edge = 1 / k**0.5
            yield self._passage(f"white-sharp-{k:g}", on.sharper(on.DOUBLE_WELL, k), process, _white_time(t) / k,
                                start=-edge, until=f"x > {edge:.12g}", sharpness=k, temperature=t)  # fmt: skip
        t = 0.15  # 717 / k in 2 π / |H_b| and so on: see the claims
        yield self._passage("styblinski-tang", on.STYBLINSKI_TANG, {"kind": "white-noise", "lr": 0.1, "temperature": t},
                            900.0, start=2.746803, until="x < -2.903534", temperature=t)  # fmt: skip

    def _literal(self) -> Iterator[Cell]:
        for lr in self.literal:
            time = 9 * lr**-1.9
            process = self.sgd(self.literal_ratio, lr, on.LITERAL)
            yield self._passage(f"literal-{lr:g}", on.DOUBLE_WELL, process, time, lr=lr, replicas=self.replicas // 4)

    def _skewed(self) -> Iterator[Cell]:
        for side, start, until, time in (("left", -1.0, "x > 1", 900.0), ("right", 1.0, "x < -1", 30.0)):
            process = self.sgd(16.0, self.lr / 2, on.SKEWED_NOISE)
            yield self._passage(f"skewed-{side}", on.SKEWED, process, time, start=start, until=until,
                                replicas=self.replicas // 2)  # fmt: skip

    def _others(self) -> Iterator[Cell]:
        q = 16.0
        for curvature in self.discrete:
            for noise in ("gaussian", "two-point"):
                lr = curvature / 2
                batch_size = max(1, round(q * lr / 2))  # whole samples
                process = {"kind": "sgd", "lr": lr, "batch_size": batch_size, "variance": on.NOISE, "noise": noise}
                yield self._passage(f"{noise}-{curvature:g}", on.DOUBLE_WELL, process, _sgd_time(2 * batch_size / lr),
                                    lr=lr, batch_size=batch_size, noise=noise)  # fmt: skip
        for lr, momentum in self.momenta:
            t = 1 / 16
            process = {"kind": "sgd", "lr": lr, "batch_size": lr / (2 * (1 - momentum) * t), "variance": "1",
                       "momentum": momentum}  # fmt: skip
            yield self._passage(f"momentum-{momentum:g}", on.DOUBLE_WELL, process, 2 * _white_time(t) * (1 - momentum),
                                lr=lr, momentum=momentum, temperature=t)  # fmt: skip
        if self.size != "toy":
            yield Cell("valley-2d", f"{HERE}.plane:passage", {"replicas": self.replicas // 2, "ratio": 24.0, "lr": 0.02,
                                                              "steps": 100_000, "seed": self.seed})  # fmt: skip

    def _valleys(self) -> Iterator[Cell]:
        for table in self.tables:
            shared = {"table": table, "data_dir": None if self.data_dir is None else str(self.data_dir),
                      "features": self.features, "seed": self.seed, "replicas": max(self.replicas // 4, 500),
                      "heights": self.heights, "middle": self.batch_sizes[len(self.batch_sizes) // 2]}  # fmt: skip
            for direction in (0, 1):
                for size in self.batch_sizes:
                    yield Cell(f"table-{table}-{direction}-b{size}", f"{HERE}.valleys:leaving", {
                        **shared, "direction": direction, "batch_size": size})  # fmt: skip

    def _logistic(self) -> Iterator[Cell]:
        for kind in ("well specified", "misspecified"):
            for n in self.samples:
                yield Cell(f"logistic-{kind.split()[0]}-{n}", f"{HERE}.covariance:logistic", {
                    "kind": kind, "samples": n, "features": 10, "seed": self.seed})  # fmt: skip
        for deviation in (0.5, 1.0):
            yield Cell(f"linear-{deviation:g}", f"{HERE}.covariance:linear", {
                "deviation": deviation, "samples": 4000, "features": 10, "seed": self.seed})  # fmt: skip

    def _networks(self) -> Iterator[Cell]:
        for number, (name, config) in enumerate(self.networks):
            for when in ("trained", "untrained"):
                yield Cell(f"network-{number}-{when}", f"{HERE}.covariance:network", {
                    "config": {**config, "seed": self.seed, "threads": 1}, "when": when, "network": name})  # fmt: skip

    # -- what is made of them -----------------------------------------------------------------------------------

    def claims(self) -> Sequence[Claim]:
        """See `claims`."""
        from sgdscope.studies.escape.claims import claims

        return claims(self)

    def figures(self, results: Results) -> Sequence[Figure]:
        """See `figures`."""
        from sgdscope.studies.escape.figures import figures

        return figures(self, results)

    def notes(self, results: Results) -> Sequence[str]:
        """What was not at hand, and what stands for it."""
        return (
            "Theorems and figures of the source were not at hand in full; formulas are as later papers restate them.",
            "Valleys of tables: logistic regression on the leading principal components, first class against the "
            "others; left is the well of the quadratic along one eigenvector of the Hessian.",
            f"Landscapes: learning rate {self.lr:g}; what counts is 2 · batch size / lr.",
        )


def _sgd_time(ratio: float) -> float:
    """About how long SGD takes out of the double well: only how long is simulated depends on it."""
    return math.pi * math.exp((math.log(2) - 0.5) * ratio) * 1.3


def _white_time(temperature: float) -> float:
    return math.pi * math.sqrt(2) * math.exp(0.25 / temperature) * 1.3
