"""Combine: averages of checkpoints on disk, one file open at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sgdscope.average.checkpoints import Checkpoints
from sgdscope.average.files import StateFile, opened
from sgdscope.average.names import check_alike, few, match
from sgdscope.average.running import RunningAverage
from sgdscope.average.tensors import accumulator, all_finite, is_averaged
from sgdscope.theory.averaging import Average, averages

Weights = Average | RunningAverage | Sequence[float]
"""Weights of checkpoints, oldest first: an average of `theory.averaging` (one that reaches back fewer points sits at
the end), numbers that sum to one, or what a running average would give, updated at the steps of the checkpoints."""


def combine(checkpoints: Checkpoints, weights: Weights, *, dtype: torch.dtype | None = None) -> dict[str, Any]:
    """Σ w_i θ_i over checkpoints, as a state dict with the names and the precision of the newest.

    Whole numbers, flags and what is no tensor come from the newest; running statistics are averaged like parameters
    (see `recompute_batch_norm`). Sums are taken in the precision of the weights, at least float32, or in `dtype`; take
    float64 for large weights of both signs. Each file with a weight is read once. Memory: the sum, one tensor and what
    one file takes (mapped into memory if written by safetensors or by torch since 1.6).

    Raises ValueError for fewer than two checkpoints, weights that do not fit and NaN in a checkpoint, MismatchError for
    checkpoints of different models, CheckpointError for files that cannot be read.
    """
    used = weights_of(checkpoints, weights)
    chosen = [index for index, weight in enumerate(used) if weight]
    total = _Sum(dtype)
    for index in reversed(chosen):  # from the newest on, whose names count
        with opened(checkpoints.paths[index], checkpoints.entry) as file:
            total.add(file, used[index])
        del file  # before the next one takes its room
    if broken := [name for name, tensor in total.tensors.items() if not all_finite(tensor)]:
        raise ValueError(_broken(checkpoints, chosen, broken))
    return total.result()


class _Sum:
    """What has been added up of the files so far; the first says what the others are held to."""

    def __init__(self, dtype: torch.dtype | None) -> None:
        self.dtype = dtype
        self.path = ""
        self.tensors: dict[str, Tensor] = {}
        self.precisions: dict[str, torch.dtype] = {}
        self.newest: dict[str, Any] = {}  # in the order of the file; None where there is a sum

    def add(self, file: StateFile, weight: float) -> None:
        if not self.path:
            self._begin(file, weight)
            return
        names = [name for name, value in self.newest.items() if name in self.tensors or isinstance(value, Tensor)]
        for name, there in match(names, file.names, source=self.path, target=str(file.path)).items():
            tensor, like = file.read(there), self.newest[name]
            if name in self.tensors:
                like = torch.empty(self.tensors[name].shape, dtype=self.precisions[name], device="meta")
            check_alike(name, like, tensor, source=self.path, target=str(file.path))
            if name in self.tensors:
                self.tensors[name].add_(tensor.to(self.tensors[name].dtype), alpha=weight)

    def _begin(self, file: StateFile, weight: float) -> None:
        self.path = str(file.path)
        for name in file.names:
            tensor = file.read(name)
            if is_averaged(tensor):
                self.newest[name], self.precisions[name] = None, tensor.dtype
                self.tensors[name] = tensor.to(self.dtype or accumulator(tensor.dtype), copy=True).mul_(weight)
            else:
                self.newest[name] = tensor.clone()
        self.newest |= file.others

    def result(self) -> dict[str, Any]:
        """The state dict; the sums are given away one by one."""
        return {name: self.tensors.pop(name).to(self.precisions[name]) if name in self.tensors else value
                for name, value in self.newest.items()}  # fmt: skip


def weights_of(checkpoints: Checkpoints, weights: Weights) -> list[float]:
    """One weight per checkpoint, oldest first. Raises ValueError as `combine` does."""
    if len(checkpoints) < 2:
        raise ValueError(
            f"expected at least two checkpoints to average, got {len(checkpoints)}: keep more of them while training"
        )
    if isinstance(weights, RunningAverage):
        average = weights.weights(checkpoints.steps)
    else:
        average = weights if isinstance(weights, Average) else averages.given(weights)
        if not isinstance(weights, Average) and average.weights.size != len(checkpoints):
            raise ValueError(
                f"expected one weight per checkpoint, got {average.weights.size} for {len(checkpoints)} of them"
            )
    return [float(weight) for weight in average.over(len(checkpoints) - 1).weights]


def _broken(checkpoints: Checkpoints, chosen: list[int], names: list[str]) -> str:
    """Which of the files the NaN came from."""
    paths = []
    for index in chosen:
        with opened(checkpoints.paths[index], checkpoints.entry) as file:
            found = match(names, file.names, source="the average", target=str(file.path), whole=False)
            if not all(all_finite(file.read(there)) for there in found.values()):
                paths.append(str(checkpoints.paths[index]))
    return (
        f"expected finite weights, got NaN or infinity in {few(names)} of {few(paths) if paths else 'the sum'}: the "
        "run had diverged there, so leave these checkpoints out"
    )
