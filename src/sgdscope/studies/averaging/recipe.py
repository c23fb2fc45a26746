"""Recipe: networks, averages and quadratics, and the cells that follow from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sgdscope.cells import Cell, Results
from sgdscope.studies.claim import Claim
from sgdscope.studies.recipe import Figure, Recipe, Size

CELLS = "sgdscope.studies.averaging.cells"
Network = Mapping[str, Any]


def network(name: str, **changes: Any) -> dict[str, Any]:
    """A network of the study: its name, `RunConfig` settings and label noise."""
    digits = {"data": "digits", "subset": 1437, "model": "mlp", "width": 32, "loss": "cross-entropy", "batch_size": 16,
              "sampling": "replacement", "precision": "float64", "weight_decay": 1e-3}  # fmt: skip
    made = {
        "digits": {"config": digits | {"lr": 0.2}, "label_noise": 0.0},
        "digits, noisy labels": {"config": digits | {"lr": 0.5}, "label_noise": 0.2},
    }
    return {"name": name, **made[name], **changes}


@dataclass(frozen=True, kw_only=True)
class Averaging(Recipe):
    """Is the loss of a fixed batch quadratic along the path, and can averages stand for schedules?

    Attributes:
        networks: each a mapping of name, ``config``, ``label_noise``, and of ``warm`` and ``seeds`` where they are not
            those of all.
        norms: networks with BatchNorm, whose statistics averages must get right.
        warm, span, stride: steps until a network has settled, steps followed from there, and between points kept.
        chord: length in steps of the chord along which a batch is followed.
        gaps, windows, decays: averages, in steps.
        schedules: averages that schedules stand for, of the networks.
        early: a warm-up too short to have settled, and the gap of two points that is too wide for it.
        modes: curvatures of the quadratic, at learning rate 0.3.
        slow: u = lr · curvature · span of slow modes, where two points are held against a window.
        chains: of the quadratic.
        seeds: of each network.
    """

    name: ClassVar[str] = "averaging"
    title: ClassVar[str] = "Are batches quadratic along the path, and do averages stand for schedules?"
    paper: ClassVar[str] = (
        "Sandler, Zhmoginov, Vladymyrov & Miller, Training trajectories, mini-batch losses and the curious role of the "
        "learning rate, arXiv 2301.02312"
    )

    networks: tuple[Network, ...] = (network("digits"), network("digits, noisy labels"))
    norms: tuple[Network, ...] = ()
    warm: int = 2000
    span: int = 1000
    stride: int = 10
    chord: int = 500
    gaps: tuple[int, ...] = (10, 100, 500)
    windows: tuple[int, ...] = (100, 500)
    decays: tuple[float, ...] = (0.99,)
    schedules: tuple[Mapping[str, Any], ...] = ({"decay": 0.99}, {"window": 500})
    early: tuple[int, int] = (60, 1000)
    modes: tuple[float, ...] = (0.01, 0.5, 2.0)
    slow: tuple[float, ...] = (1.0, 4.0)
    chains: int = 20_000
    seeds: int = 3

    @classmethod
    def of_size(cls, size: Size, *, data_dir: Path | None = None, seed: int = 0) -> Averaging:
        """Toy: digits. Small: more seeds, and images; paper: residual networks with and without BatchNorm."""
        norm = {"config": {
            "data": "digits", "subset": 1437, "model": "cnn", "width": 8, "norm": "batch", "loss": "cross-entropy",
            "batch_size": 32, "optimizer": "momentum", "lr": 0.05, "momentum": 0.9}, "label_noise": 0.2,
            "name": "digits, cnn with BatchNorm, noisy labels"}  # fmt: skip
        if size == "toy":
            return cls(size=size, data_dir=data_dir, seed=seed, norms=(norm,), seeds=2)
        networks = list(cls.networks)
        if data_dir is not None:
            image = {"data_dir": str(data_dir), "loss": "cross-entropy", "batch_size": 32, "sampling": "replacement"}
            for data, lr in (("fashion-mnist", 0.03), ("cifar10", 0.005)):
                if size == "small":
                    config = image | {"data": data, "model": "mlp", "width": 64, "depth": 1, "subset": 2048, "lr": lr}
                    networks.append({"name": f"{data}, mlp", "config": config, "label_noise": 0.0, "seeds": 2})
                    continue
                for kind in ("none", "batch"):
                    config = image | {"data": data, "model": "resnet", "norm": kind, "subset": 8192, "lr": 0.05}
                    label = f"{data}, resnet" + (" with BatchNorm" if kind == "batch" else "")
                    networks.append({"name": label, "config": config, "label_noise": 0.0})
        large: dict[str, Any] = {"seeds": 3, "warm": 6000}
        if size == "paper":
            large = {"warm": 20_000, "span": 10_000, "stride": 100, "chord": 5000, "gaps": (100, 1000, 5000),
                     "windows": (1000, 5000), "decays": (0.999,), "seeds": 8}  # fmt: skip
        return cls(size=size, data_dir=data_dir, seed=seed, networks=tuple(networks), norms=(norm,), chains=100_000,
                   modes=(0.01, 0.1, 0.5, 2.0), slow=(0.5, 1.0, 2.0, 4.0), **large)  # fmt: skip

    def cells(self) -> Sequence[Cell]:
        """Networks first, as they take longest."""
        return [*self._paths(), *self._schedules(), *self._norms(), *self._quadratics()]

    def _runs(self, networks: Sequence[Network]) -> Iterator[tuple[int, int, dict[str, Any]]]:
        for number, each in enumerate(networks):
            for seed in range(self.seed, self.seed + each.get("seeds", self.seeds)):
                yield number, seed, {
                    "config": {**each["config"], "seed": seed}, "label_noise": each["label_noise"],
                    "network": each["name"], "of_seed": seed,
                }  # fmt: skip

    def _paths(self) -> Iterator[Cell]:
        sizes = {"span": self.span, "stride": self.stride, "chord": self.chord, "windows": list(self.windows),
                 "decays": list(self.decays)}  # fmt: skip
        for number, seed, settings in self._runs(self.networks):
            warm = self.networks[number].get("warm", self.warm)
            settled = settings | sizes | {"warm": warm, "gaps": list(self.gaps), "when": "settled"}
            yield Cell(f"path-{number}-{seed}", f"{CELLS}:path", settled)
            if number == 0:
                short, gap = self.early
                early = settings | sizes | {"warm": short, "gaps": [*self.gaps[:2], gap], "when": "early"}
                yield Cell(f"early-{number}-{seed}", f"{CELLS}:path", early)

    def _schedules(self) -> Iterator[Cell]:
        for number, seed, settings in self._runs(self.networks[:2]):
            for which, average in enumerate(self.schedules):
                yield Cell(f"schedule-{number}-{which}-{seed}", f"{CELLS}:schedule", settings | {
                    "warm": self.warm, "span": self.span, "average": dict(average),
                })  # fmt: skip

    def _norms(self) -> Iterator[Cell]:
        for number, seed, settings in self._runs(self.norms):
            yield Cell(f"norm-{number}-{seed}", f"{CELLS}:batch_norm", settings | {
                "warm": self.warm // 4, "span": self.span // 2, "decay": 0.99,
            })  # fmt: skip

    def _quadratics(self) -> Iterator[Cell]:
        for h in self.modes:
            yield Cell(
                f"mode-ema-{h:g}", f"{CELLS}:quadratic", self._mode(h, 400 if h >= 0.1 else 1500, {"decay": 0.9})
            )
        for u in self.slow:
            span = 300
            for kind in ({"window": span}, {"gap": span}):
                h = u / (0.3 * span)
                yield Cell(f"slow-{next(iter(kind))}-{u:g}", f"{CELLS}:quadratic", {
                    **self._mode(h, span + 20, kind), "u": u,
                })  # fmt: skip

    def _mode(self, curvature: float, steps: int, average: Mapping[str, Any]) -> dict[str, Any]:
        return {"curvature": curvature, "lr": 0.3, "steps": steps, "chains": self.chains, "seed": self.seed,
                "average": dict(average)}  # fmt: skip

    def claims(self) -> Sequence[Claim]:
        """See `claims`."""
        from sgdscope.studies.averaging.claims import claims

        return claims(self)

    def figures(self, results: Results) -> Sequence[Figure]:
        """See `figures`."""
        from sgdscope.studies.averaging.figures import figures

        return figures(self, results)

    def notes(self, results: Results) -> Sequence[str]:
        """What differs from the source."""
        return (
            "The source trains ResNet34 on ImageNet; its accuracies are not compared with. Small networks stand for "
            "it, and quadratics drawn anew at each step for its model.",
        )
