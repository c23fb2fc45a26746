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
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

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
        mapped = {key: map_tensors(function, value) for key, value in batch.items()}
        try:
            copy = type(batch)()
        except TypeError:  # needs arguments of its own
            return mapped
        copy.update(mapped)
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
        self.check_batch_size(batch_size, replacement=replacement)
        return self.take(draw_indices(self.size, batch_size, generator, replacement=replacement))

    def check_batch_size(self, batch_size: int, *, replacement: bool = False) -> None:
        """Raises ValueError for a batch size that cannot be drawn."""
        if not 1 <= batch_size <= self.size and not (replacement and batch_size >= 1):
            raise ValueError(
                f"expected a batch size between 1 and {self.size} (the number of samples), got {batch_size}\n"
                "hint: draw a smaller batch, or sample with replacement"
            )

    def chunks(self, chunk_size: int) -> Iterator[Batch]:
        """All samples in order, `chunk_size` at a time."""
        for start in range(0, self.size, chunk_size):
            yield self.take(torch.arange(start, min(start + chunk_size, self.size)))


def draw_indices(size: int, count: int, generator: torch.Generator, *, replacement: bool = False) -> Tensor:
    """`count` uniform indices below `size`; without replacement in O(count) memory where count ≪ size."""
    if replacement:
        return torch.randint(size, (count,), generator=generator, device=generator.device)
    if count * 8 > size:
        return torch.randperm(size, generator=generator, device=generator.device)[:count]
    chosen: dict[int, None] = {}  # ordered, so that the same seed gives the same order
    while len(chosen) < count:
        for index in torch.randint(size, (count,), generator=generator, device=generator.device).tolist():
            if len(chosen) < count:
                chosen[index] = None
    return torch.tensor(list(chosen))


class Sweep:
    """Draws batches that share no sample until the data are used up; each alone is uniform, as `draw_indices` has it.

    Means over them scatter less than over independent ones: what is additive over samples cancels within a sweep.
    """

    def __init__(self, size: int, batch_size: int, generator: torch.Generator) -> None:
        self.size = size
        self.batch_size = batch_size
        self._generator = generator
        self._left = torch.empty(0, dtype=torch.long)

    def __call__(self) -> Tensor:
        """Indices of the next batch."""
        if len(self._left) < self.batch_size:
            self._left = draw_indices(self.size, self.size, self._generator)
        batch, self._left = self._left[: self.batch_size], self._left[self.batch_size :]
        return batch


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
        """Samples fetched one by one, under random states of their own: the same indices give the same augmentation.

        So passes over all data see one function, and the training's random states are left alone.
        """
        wanted = indices.tolist()
        with keep_host_random_state(seed := hash(tuple(wanted)) & 0xFFFFFFFF), torch.random.fork_rng([]):
            torch.default_generator.manual_seed(seed)
            return self.collate([self.dataset[i] for i in wanted])


class BatchListSource(Source):
    """Batches that can only be used whole (their shapes differ)."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = list(batches)
        self.batch_lengths: tuple[int, ...] = tuple(length(b) for b in self.batches)
        self.size = sum(self.batch_lengths)

    def take(self, indices: Tensor) -> Batch:
        """Not possible: batches of different shapes cannot be mixed."""
        raise ValueError(
            "expected samples that can be drawn one by one, got batches of different shapes\n"
            "hint: pass a dataset with a collate function, or ask for the length of one of the batches"
        )

    def check_batch_size(self, batch_size: int, *, replacement: bool = False) -> None:
        """Raises ValueError unless there are batches of that length."""
        if replacement:
            raise ValueError("expected replacement=False for batches of different shapes: they are used whole")
        if batch_size not in self.batch_lengths:
            raise ValueError(
                f"expected a batch size among {sorted(set(self.batch_lengths))} (the lengths of the batches given), "
                f"got {batch_size}"
            )

    def draw(self, batch_size: int, generator: torch.Generator, *, replacement: bool = False) -> Batch:
        """One of the batches of the length asked for, at random."""
        self.check_batch_size(batch_size, replacement=replacement)
        fitting = [b for b, n in zip(self.batches, self.batch_lengths, strict=True) if n == batch_size]
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
        return _source_of_loader(data, collate)
    if isinstance(data, TensorDataset) and collate in (None, default_collate):
        source: Source = TensorSource(data.tensors)
    elif isinstance(data, Tensor | Mapping) or (isinstance(data, tuple) and next(tensors_of(data), None) is not None):
        source = TensorSource(data)
    elif isinstance(data, list) and collate is None and data and all(next(tensors_of(b), None) is not None
                                                                     for b in data):  # fmt: skip
        source = _joined(data)
    elif (
        hasattr(data, "__len__")
        and hasattr(data, "__getitem__")
        and not isinstance(data, str | tuple | IterableDataset)
        and (collate is not None or not isinstance(data, list))
    ):
        source = DatasetSource(data, collate)
    else:
        raise ValueError(
            f"expected tensors, a map-style dataset or a list of batches, got {type(data).__name__}\n"
            "hint: arrays become tensors with torch.from_numpy; an iterable dataset becomes a list of batches with "
            "list(itertools.islice(loader, 50))"
        )
    if source.size < 1:
        raise ValueError("expected at least one sample, got empty data")
    return source


def _source_of_loader(loader: DataLoader[Any], collate: Callable[[list[Any]], Batch] | None) -> Source:
    """The dataset of a loader, joined by its collate function, restricted as its sampler does."""
    if loader.batch_size is None and loader.batch_sampler is None:
        raise ValueError(
            "expected a DataLoader that forms batches, got one with batch_size=None\n"
            "hint: pass a list of its batches: list(itertools.islice(loader, 50))"
        )
    dataset = loader.dataset
    if isinstance(loader.sampler, WeightedRandomSampler):
        raise ValueError(
            "expected a DataLoader that visits every sample equally often, got one with a WeightedRandomSampler\n"
            "hint: pass loader.dataset to measure without the weights, or a list of its batches to keep them"
        )
    if isinstance(loader.sampler, SubsetRandomSampler):
        dataset = Subset(dataset, [int(i) for i in loader.sampler.indices])
    return source_of(dataset, collate or loader.collate_fn)


def _joined(batches: list[Batch]) -> Source:
    """One `TensorSource` of all batches where their shapes and other contents agree, else a `BatchListSource`."""
    first = _skeleton(batches[0])
    for batch in batches:
        n = length(batch)
        if _skeleton(batch) != first or any(not t.ndim or len(t) != n for t in tensors_of(batch)):
            return BatchListSource(batches)
    columns = [torch.cat(column) for column in zip(*(tensors_of(b) for b in batches), strict=True)]
    joined = iter(columns)
    return TensorSource(map_tensors(lambda _: next(joined), batches[0]))


def _skeleton(batch: Batch) -> Any:
    """What must be equal for batches to be joined: structure, shapes past the first dimension, other contents."""
    if isinstance(batch, Tensor):
        return (tuple(batch.shape[1:]), batch.dtype, batch.device)
    if isinstance(batch, Mapping):
        return [(key, _skeleton(value)) for key, value in batch.items()]
    if isinstance(batch, list | tuple):
        return [_skeleton(value) for value in batch]
    return repr(batch)


@contextmanager
def keep_host_random_state(seed: int) -> Iterator[None]:
    """Seed the global random state of Python and of NumPy, and put it back in the end."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        random.seed(seed)
        np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
