"""Motion: SGD with its real steps, or the differential equation that stands for it, behind one face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sgdscope.diagonal.setting import Setting
from sgdscope.simulate import Ensemble, ensemble
from sgdscope.simulate.data import BalancedWeight, WeightDiffusion
from sgdscope.simulate.formula import Precision
from sgdscope.simulate.record import Record

Array = NDArray[np.float64]
Process = Literal["sgd", "diffusion"]

_FINE = 1e-4
"""Relative change of a weight in a step below which single precision would lose it."""


@dataclass(frozen=True)
class Motion:
    """What moves, and how v is read from it.

    Attributes:
        setting: the network.
        kind: sgd, the steps themselves, or diffusion, their differential equation (depth 1, layers balanced, and v > 0
            on the side of the optimum, whatever the sign of the data).

    Raises ValueError for another kind, and for a diffusion at another depth or where noise vanishes at some weight.
    """

    setting: Setting
    kind: Process = "sgd"

    def __post_init__(self) -> None:
        if self.kind not in ("sgd", "diffusion"):
            raise ValueError(f"expected a process sgd or diffusion, got {self.kind!r}")
        if self.kind == "diffusion" and self.setting.depth != 1:
            raise ValueError(f"expected depth 1 for the diffusion, got {self.setting.depth}")
        _ = self.landscape

    @property
    def landscape(self) -> Any:
        """What an ensemble moves on."""
        if self.kind == "sgd":
            return self.setting.network
        return BalancedWeight(self.setting.noise.oriented, self.setting.weight_decay)

    @property
    def process(self) -> Any:
        """How."""
        if self.kind == "sgd":
            return self.setting.process
        return WeightDiffusion.usual(self.setting.noise.oriented, self.setting.temperature)

    @property
    def size(self) -> str:
        """Formula of |v|, to be recorded."""
        return "exp(log_v)" if self.kind == "diffusion" else f"abs({self.setting.network.weight})"

    @property
    def log_size(self) -> str:
        """Formula of ln |v|."""
        return "log_v" if self.kind == "diffusion" else f"log(abs({self.setting.network.weight}))"

    @property
    def precision(self) -> Precision:
        """Double where steps are too small for single precision."""
        noise = self.setting.noise
        step = self.setting.lr * max(noise.square_mean, abs(noise.product_mean))
        return "float64" if self.kind == "sgd" and step < _FINE else "float32"

    def start(self, size: float) -> Array:
        """Where runs of weight |v| = size begin, on the side of the optimum, layers balanced."""
        landscape = self.landscape
        if self.kind == "diffusion":
            found: Array = landscape.start(size)
            return found
        return self.setting.network.balanced((self.setting.noise.sign or 1) * size)

    def weights(self, positions: Array) -> Array:
        """V of positions, of shape (replicas,); for the diffusion |v|."""
        places = (positions if positions.ndim > 1 else positions[:, None]).astype(np.float64)
        return np.exp(places[:, 0]) if self.kind == "diffusion" else self.setting.subnetworks(places).sum(-1)

    def steps(self, time: float) -> int:
        """Steps that make up a time, in learning rate · steps; at least one."""
        return max(round(time / float(self.process.duration)), 1)

    def run(
        self, *, steps: int, start: Any, replicas: int, record: Record | tuple[Record, ...] = (), seed: int = 0,
        threads: int | None = None,
    ) -> Ensemble:  # fmt: skip
        """An ensemble of it."""
        return ensemble(
            self.landscape, self.process, steps=steps, start=start, replicas=replicas, record=record, seed=seed,
            threads=threads, precision=self.precision, fast=True,
        )  # fmt: skip
