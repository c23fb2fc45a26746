"""Looks: what is recorded of a chunk of lanes between steps, in torch operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sgdscope.simulate.formula import Precision
from sgdscope.simulate.kernel import BLOCK, BOUND, Recorded, range_parameters
from sgdscope.simulate.observable import Observable
from sgdscope.simulate.process import Update
from sgdscope.simulate.record import GROUPS
from sgdscope.simulate.torch_backend.formulas import function

Array = np.ndarray[Any, Any]


class Looks:
    """What an ensemble records, other than first passages.

    Args:
        update: the process.
        recorded: what is recorded of it.
        parameters: symbols of the numbers a look is called with.
        precision: of the state.
    """

    def __init__(self, update: Update, recorded: Recorded, parameters: Sequence[Any], precision: Precision) -> None:
        self.recorded, self.positions = recorded, len(update.positions)
        self._place = {symbol: i for i, symbol in enumerate(parameters)}
        arguments = [*update.positions, *update.memory, *parameters]

        def reader(observables: Sequence[Observable]) -> Any:
            return function(arguments, [e for o in observables for e in o.expressions], precision)

        self._counted, self._averaged = reader(recorded.counted), reader(recorded.averaged)
        self._followed = reader(recorded.followed)

    def next(self, step: int, times: Sequence[int]) -> int:
        """The first step from this one on at which there is something to look at; far away if there is none."""
        count_every, count_after, average_every, average_after, course_every, paths_every = times
        due = [1 << 62]
        if self.recorded.counted:
            due.append(_next(step, count_every, count_after))
        if self.recorded.averaged:
            due.append(_next(step, average_every, average_after))
        if self.recorded.followed:
            due.append(_next(step, course_every, 0))
        if self.recorded.paths:
            due.append(_next(step, paths_every, 0))
        return min(due)

    def count(self, rows: Sequence[Tensor], given: Sequence[Any], counts: Tensor) -> None:
        """Adds positions to the histogram, of shape (groups · columns,)."""
        bins = self.recorded.bins
        alive = rows[0] == rows[0]
        cell = torch.zeros_like(rows[0], dtype=torch.int64)
        inside = alive
        for j, value in enumerate(self._values(self._counted, self.recorded.counted, rows, given)):
            low, density = (given[self._place[symbol]] for symbol in range_parameters(j))
            scaled = (value - low) * density
            within = (scaled >= 0) & (scaled < bins[j])
            inside = inside & within
            cell = cell * bins[j] + torch.where(within, scaled, 0).to(torch.int64)
        beyond = torch.where(alive, math.prod(bins), math.prod(bins) + 1)
        columns = len(counts) // GROUPS
        group = torch.arange(len(alive), device=alive.device) % GROUPS
        counts += torch.bincount(group * columns + torch.where(inside, cell, beyond), minlength=len(counts))

    def average(self, rows: Sequence[Tensor], given: Sequence[Any], sums: Tensor) -> None:
        """Adds observables and the number of looks to the sums of each lane, of shape (observables + 1, lanes)."""
        alive = rows[0] == rows[0]
        for j, value in enumerate(self._values(self._averaged, self.recorded.averaged, rows, given)):
            sums[j] += torch.where(alive, value, 0)
        sums[-1] += alive

    def follow(self, rows: Sequence[Tensor], given: Sequence[Any]) -> Array:
        """For each block the number of lanes within bounds, then sum and sum of squares of each observable."""
        near = torch.ones_like(rows[0], dtype=torch.bool)
        for row in rows[: self.positions]:
            near &= row.abs() <= given[self._place[BOUND]]
        found = [near.double()]
        for value in self._values(self._followed, self.recorded.followed, rows, given):
            kept = torch.where(near, value, 0).double()
            found += [kept, kept.square()]
        return np.stack([part.view(-1, BLOCK).sum(1).cpu().numpy() for part in found], axis=1)

    def _values(
        self, read: Any, observables: Sequence[Observable], rows: Sequence[Tensor], given: Sequence[Any]
    ) -> list[Tensor]:
        """One tensor for each observable; conditions are one or zero."""
        parts = read(*rows, *given)
        found = []
        for o in observables:
            own, parts = parts[: len(o.expressions)], parts[len(o.expressions) :]
            if o.condition:
                holds = torch.ones_like(rows[0], dtype=torch.bool)
                for margin in own:
                    holds &= margin > 0
                found.append(holds.to(rows[0].dtype))
            else:
                found.append(torch.zeros_like(rows[0]) + own[0])
        return found


def due(step: int, every: int, after: int) -> bool:
    """Whether a step is looked at."""
    return step >= after and (step - after) % every == 0


def _next(step: int, every: int, after: int) -> int:
    return after if step <= after else after + -(-(step - after) // every) * every
