"""Batch normalisation: running statistics of averaged weights, taken anew.

Statistics that the last iterate gathered belong to its weights. Under averaged weights the activations have other means
and variances, and wrong statistics can cost more than averaging gains; means of statistics are better, not right.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from sgdscope.average.tensors import all_finite
from sgdscope.batches import Batch, keep_host_random_state, map_tensors

Batches = Iterable[Batch]
"""A DataLoader, a list of batches, or anything else that yields batches."""
Call = Callable[[nn.Module, Batch], Any]
"""Runs the model on a batch, as a loss function does; what it returns is not looked at."""


class BatchNormWarning(UserWarning):
    """A model with running statistics got averaged weights, and no batches to take its statistics from."""


@dataclass(frozen=True)
class Recomputed:
    """What `recompute_batch_norm` did: layers with running statistics, batches they were taken from."""

    layers: int
    batches: int

    def __str__(self) -> str:
        if not self.layers:
            return "no layer with running statistics: nothing to recompute"
        return f"running statistics of {self.layers} layers recomputed from {self.batches} batches"


def statistics(model: nn.Module) -> list[_NormBase]:
    """The layers of a model that keep running statistics, each once."""
    return [m for m in model.modules() if isinstance(m, _NormBase) and isinstance(m.running_mean, Tensor)]


def warn_of_averages(model: nn.Module) -> None:
    """Say that the statistics of a model are averages, which belong to no weights."""
    warnings.warn(
        f"{len(statistics(model))} layers keep averaged running statistics, which do not fit averaged weights: pass "
        "training batches to have them recomputed, or choose buffers='average' to keep them without this warning",
        BatchNormWarning, stacklevel=4,
    )  # fmt: skip


def recompute_batch_norm(model: nn.Module, batches: Batches, loss_fn: Call | None = None) -> Recomputed:
    """Running means and variances of the model's present weights: the mean over `batches` of training data.

    `loss_fn(model, batch)` runs the model; without it a tensor is passed as it is, of a tuple or list the first part, a
    mapping by its names, moved to where the model is. Only layers with statistics are put in train mode, so that they
    see what they will see when the model is used: no dropout. Counters of batches start anew. Modes, momenta, random
    state and gradients are as before in the end, and on an error the statistics too. Cost: one forward pass per batch;
    give about as many samples as make the statistics stable (some thousand), in batches as in training.

    Raises ValueError for no batches, and where statistics come out as NaN.
    """
    layers = statistics(model)
    if not layers:
        return Recomputed(0, 0)
    if isinstance(batches, Tensor | Mapping | str | bytes) or not isinstance(batches, Iterable):
        raise ValueError(
            f"expected batches of training data one after another, got {type(batches).__name__}\n"
            "hint: a DataLoader, or a list of batches such as [(inputs, targets)]"
        )
    seen = 0
    with torch.no_grad(), _gathering(model, layers), _undone_on_error(layers), random_state_kept(model):
        for layer in layers:
            layer.reset_running_stats()
        for batch in batches:
            for layer in layers:
                if not isinstance(layer, _BatchNorm):  # instance norm has no cumulative mean of its own
                    layer.momentum = 1 / (seen + 1)
            _run(model, batch, loss_fn)
            seen += 1
        if not seen:
            raise ValueError("expected at least one batch to take running statistics from, got none")
        for layer in layers:
            if not all(all_finite(t) for t in (layer.running_mean, layer.running_var) if isinstance(t, Tensor)):
                raise ValueError(
                    "expected finite running statistics, got NaN or infinity from these weights or batches"
                )
    return Recomputed(len(layers), seen)


def _run(model: nn.Module, batch: Batch, loss_fn: Call | None) -> None:
    batch = map_tensors(lambda tensor: tensor, batch)  # a loss function may pop from it
    if loss_fn is not None:
        loss_fn(model, batch)
        return
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    batch = map_tensors(lambda tensor: tensor.to(device), batch)
    if isinstance(batch, Mapping):
        try:
            model(**batch)
        except TypeError as error:
            raise ValueError(
                f"expected a model that takes {', '.join(map(str, batch))} by name, got {error}\n"
                "hint: pass loss_fn, called as loss_fn(model, batch)"
            ) from error
    elif isinstance(batch, list | tuple):
        model(batch[0])
    else:
        model(batch)


@contextmanager
def _gathering(model: nn.Module, layers: list[_NormBase]) -> Iterator[None]:
    """Layers with statistics in train mode and taking the mean over batches, all others in eval mode."""
    modes = [(module, module.training) for module in model.modules()]
    momenta = [(layer, layer.momentum) for layer in layers]
    try:
        for module, _ in modes:
            module.training = False
        for layer in layers:
            layer.training, layer.momentum = True, None  # None: cumulative mean, by the counter of batches
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for layer, momentum in momenta:
            layer.momentum = momentum


@contextmanager
def _undone_on_error(layers: list[_NormBase]) -> Iterator[None]:
    buffers = [buffer for layer in layers for buffer in layer._buffers.values() if buffer is not None]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    except BaseException:
        for buffer, copy in zip(buffers, before, strict=True):
            buffer.copy_(copy)
        raise


@contextmanager
def random_state_kept(model: nn.Module) -> Iterator[None]:
    """Shuffling loaders and augmentation draw from global generators, which belong to the training."""
    cuda = sorted({t.device.index or 0 for t in (*model.parameters(), *model.buffers()) if t.device.type == "cuda"})
    with keep_host_random_state(0), torch.random.fork_rng(cuda):
        yield
