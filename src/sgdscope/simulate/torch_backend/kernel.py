"""Kernel: what `simulate.kernel` compiles with Numba, as torch operations on any device, called in the same way.

Lanes are worked on in chunks, so that memory stays bounded and, on a CPU, in its caches. Random integers are the same
to the last bit, normal numbers and formulas to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sgdscope.simulate.formula import Precision
from sgdscope.simulate.kernel import BLOCK, Recorded
from sgdscope.simulate.process import Update
from sgdscope.simulate.torch_backend.looks import Looks, due
from sgdscope.simulate.torch_backend.steps import Moving, Steps

Array = np.ndarray[Any, Any]

CHUNK = {"cpu": 1 << 16, "other": 1 << 22}
"""Lanes of a chunk, by type of device."""
UNROLLED = 8
"""Draws that are compiled as one. Steps of more are not compiled, as that would take minutes."""

EAGER = 256
"""Steps that are done together where nothing is compiled."""


class TorchKernel:
    """A kernel, see `kernel.ARGUMENTS` for how it is called: arrays are NumPy's, in the memory of the host.

    Args:
        update, recorded, parameters, precision, fast: as for `kernel.kernel_text`.
        device: where to compute, such as ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        compiled: whether torch compiles eight draws with their steps into one function (a minute at the first call); by
            default where the device is no CPU.
        chunk: lanes worked on at once, a multiple of 512; 65536 on a CPU, 4 million elsewhere.

    Raises ValueError for a device that is not there, and a chunk that is no multiple of 512.
    """

    def __init__(
        self,
        update: Update,
        recorded: Recorded,
        parameters: Sequence[Any],
        precision: Precision,
        fast: bool = False,
        *,
        device: str | torch.device = "cpu",
        compiled: bool | None = None,
        chunk: int | None = None,
    ) -> None:
        self.device = present(device)
        self.steps = Steps(update, recorded.passage, parameters, precision, fast)
        self.looks = Looks(update, recorded, parameters, precision)
        self.dtype = getattr(torch, precision)
        self.chunk = chunk or CHUNK["cpu" if self.device.type == "cpu" else "other"]
        if self.chunk % BLOCK:
            raise ValueError(f"expected a chunk that is a multiple of {BLOCK}, got {chunk}")
        self.compiled = self.device.type != "cpu" if compiled is None else compiled
        self._advance = compiled_for_any_length(self.steps) if self.compiled else self.steps.advance

    @torch.no_grad()
    def __call__(
        self, state: Array, words: Array, spare: Array, passage: Array, sums: Array, cells: Array, course: Array,
        paths: Array, numbers: Array, times: Array, rounds: int, signs: int, first: int, steps: int, begin: int,
        end: int, table: Array | None = None,
    ) -> None:  # fmt: skip
        """Moves the lanes of some blocks on by some steps, and adds to the records."""
        given = [torch.tensor(float(number), dtype=self.dtype, device=self.device) for number in numbers]
        samples = None if table is None else self._put(table.reshape(-1, len(self.steps.update.noise)))
        counts = torch.zeros(cells.size, dtype=torch.int64, device=self.device)
        for at in range(begin * BLOCK, end * BLOCK, self.chunk):
            part = slice(at, min(at + self.chunk, end * BLOCK))
            lanes = Moving(
                [self._put(row) for row in state[:, part]], [self._put(row.view(np.int32)) for row in words[:, part]],
                self._put(_words(spare[part]) if self.steps.samples else spare[part]), self._put(passage[part]),
            )  # fmt: skip
            totals = self._put(sums[:, part])
            done = 0
            while done < steps:
                step = first + done
                self._look(step, lanes.rows, given, at, first, times, counts, totals, course, paths)
                until = min(first + steps, self.looks.next(step + 1, [int(time) for time in times]))
                lanes = self._moved(lanes, given, step, until - step, rounds, signs, samples)
                done += until - step
            for array, tensors in ((state, lanes.rows), (words.view(np.int32), lanes.words)):
                for row, tensor in zip(array, tensors, strict=True):
                    row[part] = tensor.cpu().numpy()
            left = lanes.spare.cpu().numpy()
            spare[part] = left.view(np.uint32) if self.steps.samples else left
            passage[part] = lanes.passage.cpu().numpy()
            sums[:, part] = totals.cpu().numpy()
        cells += counts.view(cells.shape).cpu().numpy()

    def _look(
        self, step: int, rows: list[Tensor], given: list[Tensor], at: int, first: int, times: Array, counts: Tensor,
        totals: Tensor, course: Array, paths: Array,
    ) -> None:  # fmt: skip
        recorded = self.looks.recorded
        if recorded.counted and due(step, times[0], times[1]):
            self.looks.count(rows, given, counts)
        if recorded.averaged and due(step, times[2], times[3]):
            self.looks.average(rows, given, totals)
        if recorded.followed and due(step, times[4], 0):
            block = at // BLOCK
            sums = self.looks.follow(rows, given)
            course[_row(step, first, times[4]), block : block + len(sums)] = sums
        if recorded.paths and at == 0 and due(step, times[5], 0):
            for j in range(paths.shape[1]):
                paths[_row(step, first, times[5]), j] = rows[j][: paths.shape[2]].cpu().numpy()

    def _moved(
        self, lanes: Moving, given: list[Tensor], step: int, count: int, rounds: int, signs: int, table: Tensor | None
    ) -> Moving:
        compiled = self.compiled and rounds <= UNROLLED
        advance = self._advance if compiled else self.steps.advance
        while count:
            together = min(count, EAGER)
            if compiled:
                together = UNROLLED // rounds if count >= UNROLLED // rounds else 1
            counters: Any = self.steps.counters(step, together, rounds)
            ends: Any = range(step + 1, step + together + 1)
            if compiled:
                counters = torch.tensor(counters, dtype=torch.int32).to(self.device, non_blocking=True)
                ends = torch.tensor(ends).to(self.device, non_blocking=True)
            second = step * rounds % 2 == 1
            lanes = advance(lanes, given, counters, ends, rounds, signs, second, table)
            step, count = step + together, count - together
        return lanes

    def _put(self, array: Array) -> Tensor:
        """A copy on the device."""
        return torch.tensor(array, device=self.device)


def compiled_for_any_length(steps: Steps) -> Callable[..., Moving]:
    """The advance of these steps, compiled once for every number of lanes.

    Torch counts what it compiles of one function and gives up beyond eight: each kernel has a function of its own.
    """
    names: dict[str, Any] = {"steps": steps}
    exec("def advance(*arguments): return steps.advance(*arguments)", names)
    made: Callable[..., Moving] = torch.compile(names["advance"], dynamic=True, fullgraph=True)
    return made


def present(device: str | torch.device) -> torch.device:
    """The device of a name. Raises ValueError if it is not there."""
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"expected a device that torch can compute on, got {str(device)!r}: {reason}") from error
    return found


def _words(numbers: Array) -> Array:
    """Words kept as floating-point numbers, as signed integers."""
    return numbers.astype(np.int64).astype(np.uint32).view(np.int32)


def _row(step: int, first: int, every: int) -> int:
    """The row of a step among those that are recorded from the first step of a call on."""
    return int(step // every - -(-first // every))
