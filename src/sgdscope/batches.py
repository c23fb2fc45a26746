"""Batches: data of any shape seen as N samples that can be drawn, in chunks or at random, as batches.

A batch is a tensor, a tuple or list, a dict or any mapping object (such as Hugging Face's BatchEncoding), nested as
you like; its length is the leading dimension of the first tensor found.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset, default_collate

Batch = Any


def tensors_of(batch: Batch) -> Iterator[Tensor]:
    """All tensors inside a batch, in order."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from tensors_of(value)
    elif isinstance(batch, list | tuple):
        for value in batch:
            yield from tensors_of(value)


def length(batch: Batch) -> int:
    """Number of samples in a batch. Raises ValueError if it holds no tensor."""
    for tensor in tensors_of(batch):
        if tensor.ndim:
            return len(tensor)
    raise ValueError(f"expected a batch with at least one tensor of dimension ≥ 1, got {type(batch).__name__}")


def map_tensors(function: Callable[[Tensor], Tensor], batch: Batch) -> Batch:
    """The same structure with `function` applied to each tensor; other leaves are kept."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, MutableMapping) and not isinstance(batch, dict):  # BatchEncoding and the like
        copy = type(batch)()
        copy.update({key: map_tensors(function, value) for key, value in batch.items()})
        return copy
    if isinstance(batch, Mapping):
        return {key: map_tensors(function, value) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(map_tensors(function, value) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(map_tensors(function, value) for value in batch)
    return batch


class Source(ABC):
    """N samples; `take` gives those of the indices as one batch."""

    size: int
    batch_lengths: tuple[int, ...] | None = None
    """Set if only whole batches can be drawn (a list of batches that cannot be joined)."""

    @abstractmethod
    def take(self, indices: Tensor) -> Batch:
        """Samples `indices` (shape ``(b,)``, int64) as a batch."""

    def draw(self, batch_size: int, generator: torch.Generator, *, replacement: bool = False) -> Batch:
        """A batch of uniformly drawn samples. Raises ValueError if it is larger than the data."""
        if not 1 <= batch_size <= self.size and not (replacement and batch_size >= 1):
            raise ValueError(
                f"expected a batch size between 1 and {self.size} (the number of samples), got {batch_size}\n"
                "hint: draw a smaller batch, or sample with replacement"
            )
        return self.take(draw_indices(self.size, batch_size, generator, replacement=replacement))

    def chunks(self, chunk_size: int) -> Iterator[Batch]:
        """All samples in order, `chunk_size` at a time."""
        for start in range(0, self.size, chunk_size):
            yield self.take(torch.arange(start, min(start + chunk_size, self.size)))


def draw_indices(size: int, count: int, generator: torch.Generator, *, replacement: bool = False) -> Tensor:
    """`count` uniform indices below `size`; without replacement in O(count) memory where count ≪ size."""
    if replacement:
        return torch.randint(size, (count,), generator=generator)
    if count * 8 > size:
        return torch.randperm(size, generator=generator)[:count]
    chosen: dict[int, None] = {}  # ordered, so that the same seed gives the same order
    while len(chosen) < count:
        for index in torch.randint(size, (count,), generator=generator).tolist():
            if len(chosen) < count:
                chosen[index] = None
    return torch.tensor(list(chosen))


class TensorSource(Source):
    """Tensors that share their leading dimension, in any structure."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.size = length(batch)
        lengths = {len(t) for t in tensors_of(batch) if t.ndim}
        if len(lengths) != 1:
            raise ValueError(f"expected tensors of one length, got lengths {sorted(lengths)}")

    def take(self, indices: Tensor) -> Batch:
        """Rows `indices` of every tensor."""
        return map_tensors(lambda t: t[indices.to(t.device)] if t.ndim else t, self.batch)

    def chunks(self, chunk_size: int) -> Iterator[Batch]:
        """Slices, which copy nothing."""
        for start in range(0, self.size, chunk_size):
            stop = min(start + chunk_size, self.size)
            yield map_tensors(lambda t, a=start, b=stop: t[a:b] if t.ndim else t, self.batch)  # type: ignore[misc]


class DatasetSource(Source):
    """A map-style dataset and the function that joins its samples."""

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Batch] | None = None) -> None:
        self.dataset = dataset
        self.collate = collate or default_collate
        self.size = len(dataset)

    def take(self, indices: Tensor) -> Batch:
        """Samples fetched one by one; Python's and NumPy's random state are put back (augmentations use them)."""
        with keep_host_random_state():
            return self.collate([self.dataset[i] for i in indices.tolist()])


class BatchListSource(Source):
    """Batches that can only be used whole (their shapes differ)."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = list(batches)
        self.batch_lengths = tuple(length(b) for b in self.batches)
        self.size = sum(self.batch_lengths)

    def take(self, indices: Tensor) -> Batch:
        """Not possible: batches of different shapes cannot be mixed."""
        raise ValueError(
            "expected samples that can be drawn one by one, got batches of different shapes\n"
            "hint: pass a dataset with a collate function, or measure with batch_size=None (the batches as they are)"
        )

    def draw(self, batch_size: int, generator: torch.Generator, *, replacement: bool = False) -> Batch:
        """One of the batches at random; all must have the length asked for."""
        fitting = [b for b, n in zip(self.batches, self.batch_lengths or (), strict=True) if n == batch_size]
        if not fitting:
            raise ValueError(
                f"expected a batch size among {sorted(set(self.batch_lengths or ()))} (the lengths of the batches "
                f"given), got {batch_size}"
            )
        return fitting[int(torch.randint(len(fitting), (1,), generator=generator))]

    def chunks(self, chunk_size: int) -> Iterator[Batch]:
        """The batches as they are, whatever the chunk size."""
        yield from self.batches


def source_of(data: Any, collate: Callable[[list[Any]], Batch] | None = None) -> Source:
    """A `Source` from tensors, a map-style dataset, a DataLoader (its dataset and collate function) or batches.

    Raises ValueError for anything else, and for empty data.
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, DataLoader):
        return source_of(data.dataset, collate or data.collate_fn)
    if isinstance(data, TensorDataset) and collate is None:
        source: Source = TensorSource(data.tensors)
    elif isinstance(data, Tensor | Mapping) or (
        isinstance(data, tuple) and data and all(isinstance(t, Tensor) for t in data)
    ):
        source = TensorSource(data)
    elif isinstance(data, list) and data and all(isinstance(b, Tensor | Mapping | list | tuple) for b in data):
        source = _joined(data)
    elif hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, list | str):
        source = DatasetSource(data, collate)
    else:
        raise ValueError(
            f"expected tensors, a map-style dataset or a list of batches, got {type(data).__name__}\n"
            "hint: an iterable dataset becomes a list of batches with list(itertools.islice(loader, 50))"
        )
    if source.size < 1:
        raise ValueError("expected at least one sample, got empty data")
    return source


def _joined(batches: list[Batch]) -> Source:
    """One `TensorSource` of all batches where their shapes allow it, else a `BatchListSource`."""
    first = list(tensors_of(batches[0]))
    lengths = [length(b) for b in batches]
    for batch, n in zip(batches, lengths, strict=True):
        tensors = list(tensors_of(batch))
        same = len(tensors) == len(first) and all(
            t.ndim == f.ndim and t.ndim and len(t) == n and t.shape[1:] == f.shape[1:] and t.dtype == f.dtype
            for t, f in zip(tensors, first, strict=True)
        )
        if not same:
            return BatchListSource(batches)
    columns = [torch.cat(column) for column in zip(*(tensors_of(b) for b in batches), strict=True)]
    joined = iter(columns)
    return TensorSource(map_tensors(lambda _: next(joined), batches[0]))


@contextmanager
def keep_host_random_state() -> Iterator[None]:
    """Put back the global random state of Python and of NumPy."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
