"""Harm: in words, what speaks against averaging these checkpoints, or against trusting the prediction.

Equal weights hurt where L_s − L_t > D / 4, any weight where L_s − L_t > D / 2 (`theory.averaging.harm`); beside that
basins, shapes and buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sgdscope.measure.points import normalisation_notes
from sgdscope.risk import Risk
from sgdscope.theory.averaging import Average, average_loss
from sgdscope.theory.averaging.harm import Judgement, best_newer_weight, two_point_gain

Array = NDArray[np.float64]

_ASYMMETRIC = 0.5
"""Third-order part of the chords, in parts of what two equal weights gain on them, from which on it is said."""
_SMALL = 1e-3
"""Largest gain, in parts of the loss, below which there is nothing to average."""


@dataclass(frozen=True)
class Pairs:
    """Each older checkpoint against the newest: L_s − L_newest, D and their standard errors, shapes (count − 1,)."""

    differences: Array
    curvatures: Array
    difference_errors: Array
    curvature_errors: Array

    def _each(self, judge: Callable[..., Judgement]) -> Iterator[Judgement | None]:
        columns = (self.differences, self.curvatures, self.difference_errors, self.curvature_errors)
        for older, D, error, D_error in zip(*(column.tolist() for column in columns), strict=True):
            usable = D > 0 or judge is two_point_gain
            yield judge(older, 0.0, D, older_error=error, curvature_error=D_error) if usable else None

    def equal_weights(self) -> tuple[Judgement, ...]:
        """Whether equal weights on each and the newest help."""
        return tuple(found for found in self._each(two_point_gain) if found is not None)

    def early(self) -> list[int]:
        """Checkpoints on which any weight beside the newest hurts, with two standard errors of certainty."""
        judged = enumerate(self._each(best_newer_weight))
        return [i for i, found in judged if found is not None and found.verdict == "hurts"]


def general(
    risk: Risk, losses: Array, D: Array, D_errors: Array, asymmetry: Array, early: list[int], largest_gain: float
) -> Iterator[str]:
    """Sentences that hold for all averages of these checkpoints."""
    count = losses.size
    if early:
        begun = ": the run was still making fast progress" if early == list(range(len(early))) else ""
        yield f"far above the newest, so that any weight beside it hurts: {_listed(early)}{begun}"
    older, newer = np.triu_indices(count, 1)
    downwards = D[older, newer] + 2 * D_errors[older, newer] < 0
    if downwards.any():
        yield (
            f"{int(downwards.sum())} of {older.size} chords curve downwards: these checkpoints do not share a basin, "
            "so their averages may be worse than any of them"
        )
    size = float(np.abs(D[older, newer]).mean()) / 8
    third = float(np.sqrt((asymmetry[older, newer] ** 2).mean()))
    if third > _ASYMMETRIC * size:
        yield (
            f"the loss is not quadratic between the checkpoints (third-order part {third:.2g}, gain of two equal "
            f"weights {size:.2g} in mean): predictions may be off by as much"
        )
    if largest_gain < _SMALL * abs(float(losses[-1])):
        yield f"no average gains more than {max(largest_gain, 0.0):.2g}: hardly any noise is left to average"
    for note in normalisation_notes(risk):
        if "running statistics" in note:
            yield f"{note}: recompute them for each checkpoint and average, or measure in train mode"


def of_average(average: Average, early: list[int], losses: Array, D: Array) -> Iterator[str]:
    """Sentences about one average."""
    yield from average.warnings
    share = float(average.weights[early].sum()) if early else 0.0
    if 0 < share < 1 - 1e-9:
        kept = average.weights.copy()
        kept[early] = 0.0
        without = Average("without the early ones", kept / kept.sum())
        drop = float(average_loss(average, losses, D)) - float(average_loss(without, losses, D))
        if drop > 0:
            part = f"{100 * share:.2g} % of its weight"
            yield f"{part} is on early checkpoints ({_listed(early)}); without these it would gain {drop:.2g} more"


def _listed(indices: list[int]) -> str:
    first, last = indices[0], indices[-1]
    if first == last:
        return f"checkpoint {first}"
    joined = len(indices) == last - first + 1
    return f"checkpoints {first} to {last}" if joined else f"{len(indices)} checkpoints from {first} to {last}"
