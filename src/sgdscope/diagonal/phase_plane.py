"""Phase diagram: noise against temperature, simulated cell by cell, and how many cells are in the phase of theory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sgdscope.diagonal.cell import Cell, Label, simulate_cell
from sgdscope.diagonal.data import RegressionData
from sgdscope.diagonal.motion import Motion, Process
from sgdscope.diagonal.setting import Setting
from sgdscope.estimate import Estimate
from sgdscope.theory import stationary as theory
from sgdscope.theory.prediction import Prediction
from sgdscope.verdict import Verdict, compare

Array = NDArray[np.float64]

AGREEING = 0.95
"""Share of the decided cells that must be in the phase of theory."""
RATIOS = tuple(((np.arange(13) + 0.5) / 9).tolist())
"""Of T to T_c: T_c / 3 and T_c are borders between cells."""
DEVIATIONS = {"sgd": (3.0, 30.0), "diffusion": (0.3, 5.0)}
"""Range of σ, in units of the root mean square of the best prediction: steps of finite size need strong noise."""
COLUMNS = 12
_SHORT, _LONG, _MOST = 5.0, 20.0, 100.0
"""Length of the runs in units of 1 / (β₂ − γ): short + long · r / (1 − r)², at most so much."""


@dataclass(frozen=True)
class PhaseDiagram:
    """Cells of the plane of noise σ and temperature, two layers.

    Attributes:
        data: of which σ is changed.
        kind: sgd or diffusion.
        batch_size: samples per batch.
        weight_decay: γ.
        deviations: σ of each column.
        ratios: T / T_c of each row; T_c is that of the column.
        cells: rows of cells.
    """

    data: RegressionData
    kind: Process
    batch_size: int
    weight_decay: float
    deviations: tuple[float, ...]
    ratios: tuple[float, ...]
    cells: tuple[tuple[Cell, ...], ...]

    def field(self, value: Callable[[Cell], float]) -> Array:
        """A number of every cell, of shape (ratios, deviations)."""
        return np.array([[value(one) for one in row] for row in self.cells])

    def boundary(self, find: Callable[..., Prediction], deviations: Sequence[float] | None = None) -> Array:
        """A boundary of theory (`critical_temperature`, …) at every σ; NaN where there is none."""
        return np.array([
            _or_nan(lambda at=at: find(self.data.with_deviation(at).noise.oriented, self.weight_decay))  # type: ignore[misc]
            for at in (self.deviations if deviations is None else deviations)
        ])  # fmt: skip

    def discrete_boundary(self, deviations: Sequence[float] | None = None) -> Array:
        """T_c of steps of finite size at every σ; NaN where steps get too large before they collapse."""
        return np.array([
            _or_nan(lambda at=at: self.data.with_deviation(at).discrete_critical_temperature(  # type: ignore[misc]
                self.batch_size, self.weight_decay))
            for at in (self.deviations if deviations is None else deviations)
        ])  # fmt: skip

    @property
    def agreement(self) -> Verdict:
        """Share of the decided cells that are in the phase that theory of the differential equation says."""
        pairs = [(one.found, one.predicted) for row in self.cells for one in row]
        return _counted(pairs, "cells are in the phase that theory of the differential equation says")

    @property
    def discrete_agreement(self) -> Verdict:
        """The same with the threshold of steps of finite size for T_c; of SGD."""
        limits = self.discrete_boundary()
        pairs: list[tuple[Label, Label]] = []
        for row in self.cells:
            for one, limit in zip(row, limits, strict=True):
                expected = one.predicted
                if np.isfinite(limit) and (one.temperature < limit) == (expected == "I"):
                    expected = "I" if one.temperature >= limit else "IIa"
                elif not np.isfinite(limit) and expected == "I":
                    expected = "IIa"  # such steps do not collapse
                pairs.append((one.found, expected))
        return _counted(pairs, "cells are in the phase of theory, T_c that of steps of finite size")


def phase_diagram(
    data: RegressionData, *, kind: Process = "sgd", batch_size: int = 1, weight_decay: float = 0.0,
    deviations: Sequence[float] | None = None, ratios: Sequence[float] = RATIOS, replicas: int = 4096, seed: int = 0,
    threads: int | None = None, progress: Callable[[float], None] | None = None,
) -> PhaseDiagram:  # fmt: skip
    """Simulate the plane of noise and temperature of two-layer networks, cell by cell.

    Args:
        data: of which the noise σ of the targets is changed.
        kind: sgd, with batches that are drawn; or diffusion, its differential equation, which has no steps of finite
            size in the way where the noise is weak.
        batch_size: of sgd.
        weight_decay: γ ≥ 0.
        deviations: values of σ. [3 to 30, or 0.3 to 5 for the diffusion, times the best prediction's root mean square]
        ratios: values of T / T_c. [13 up to 1.39; T_c / 3 and T_c lie between them]
        replicas: runs of each cell.
        seed: of the noise, the same in all cells.
        threads: of the processor. [all]
        progress: hears the share done.

    Cost: half a second for each cell. Raises ValueError for data without mean of xy, and values that are not positive.
    """
    scale = abs(data.noise.optimum) * float(np.sqrt(data.noise.square_mean))
    columns = np.geomspace(*DEVIATIONS[kind], COLUMNS) * scale if deviations is None else deviations
    for name, values in (("deviations", columns), ("ratios", ratios)):
        if not len(values) or not all(0 < value < np.inf for value in values):
            raise ValueError(f"expected {name} > 0, got {tuple(values)}")
    rows: list[tuple[Cell, ...]] = []
    for i, ratio in enumerate(ratios):
        row = []
        for j, deviation in enumerate(columns):
            at = data.with_deviation(float(deviation))
            temperature = ratio * theory.critical_temperature(at.noise, weight_decay).value
            setting = Setting(at, temperature * batch_size, batch_size, weight_decay=weight_decay)
            time = min(_SHORT + _LONG * ratio / max((1 - ratio) ** 2, 1e-9), _MOST)
            pull = abs(at.noise.product_mean) - weight_decay
            row.append(simulate_cell(Motion(setting, kind), time=time / pull, replicas=replicas, seed=seed,
                                     threads=threads))  # fmt: skip
            if progress is not None:
                progress((i * len(columns) + j + 1) / (len(ratios) * len(columns)))
        rows.append(tuple(row))
    return PhaseDiagram(data, kind, batch_size, weight_decay, tuple(map(float, columns)), tuple(map(float, ratios)),
                        tuple(rows))  # fmt: skip


def _counted(pairs: Sequence[tuple[Label, Label]], words: str) -> Verdict:
    decided = [found == expected for found, expected in pairs if found]
    claim = f"{sum(decided)} of {len(decided)} decided {words}"
    if not decided:
        measured = Estimate.failed("agreement", "no cell is decided")
    else:
        measured = Estimate("agreement", sum(decided) / len(decided), count=len(decided))
    return compare(
        measured, AGREEING, claim=claim, relation="above", scope=f"{len(pairs) - len(decided)} cells undecided"
    )


def _or_nan(find: Callable[[], Prediction]) -> float:
    try:
        return find().value
    except ValueError:
        return float("nan")
