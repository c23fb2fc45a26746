"""Batches: every shape data comes in."""

import random
from collections import UserDict

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, SubsetRandomSampler, TensorDataset
from torch.utils.data import WeightedRandomSampler as Weighted

from sgdscope.batches import BatchListSource, Sweep, TensorSource, draw_indices, length, map_tensors, source_of

X, Y = torch.arange(24.0).reshape(12, 2), torch.arange(12)


class Noisy(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, i):
        return X[i] + torch.rand(2) + random.random() + np.random.rand(), Y[i]  # noqa: NPY002


class Stream(IterableDataset):
    def __len__(self):
        return 3

    def __iter__(self):
        return iter([1, 2, 3])


@pytest.mark.parametrize(
    "data",
    [(X, Y), [X, Y][0], {"x": X, "y": Y}, UserDict(x=X, y=Y), (X, {"y": Y}), TensorDataset(X, Y),
     DataLoader(TensorDataset(X, Y), 5), [(X[:5], Y[:5]), (X[5:], Y[5:])]],
)  # fmt: skip
def test_becomes_tensors(data):
    source = source_of(data)
    assert isinstance(source, TensorSource)
    assert source.size == 12
    taken = source.take(torch.tensor([3, 1]))
    assert length(taken) == 2
    first = next(t for t in [taken] if isinstance(t, torch.Tensor)) if isinstance(taken, torch.Tensor) else None
    assert first is None or torch.equal(first, X[[3, 1]])
    assert sum(length(c) for c in source.chunks(5)) == 12


def test_batches_of_different_shapes():
    source = source_of([torch.ones(2, 3), torch.ones(4, 5), torch.ones(2, 7)])
    assert isinstance(source, BatchListSource)
    g = torch.Generator().manual_seed(0)
    assert {source.draw(2, g).shape[1] for _ in range(30)} == {3, 7}
    with pytest.raises(
        ValueError, match=r"expected a batch size among \[2, 4\] \(the lengths of the batches given\), got 3"
    ):
        source.draw(3, g)
    with pytest.raises(ValueError, match="expected samples that can be drawn one by one"):
        source.take(torch.tensor([0]))
    with pytest.raises(ValueError, match="expected replacement=False for batches of different shapes"):
        source.draw(2, g, replacement=True)


def test_other_contents_are_not_taken_from_the_first_batch():
    assert isinstance(source_of([(X[:1], 0), (X[1:2], 1)]), BatchListSource)
    assert isinstance(source_of([(X[:1], 0), (X[1:2], 0)]), TensorSource)


def test_augmentation_is_reproducible_and_undisturbing():
    source = source_of(DataLoader(Noisy(), 4))
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    one, two = (source.take(torch.tensor([1, 2]))[0] for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one - X[1:3], source.take(torch.tensor([2, 1]))[0] - X[[2, 1]])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002


def test_a_loader_restricted_by_its_sampler():
    loader = DataLoader(TensorDataset(X, Y), 2, sampler=SubsetRandomSampler([7, 9]))
    source = source_of(loader)
    assert sorted(source.take(torch.arange(2))[1].tolist()) == [7, 9]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((X, Y[:5]), "expected tensors of one length, got lengths [5, 12]"),
        ((X.numpy(), Y.numpy()), "expected tensors, a map-style dataset or a list of batches, got tuple\nhint: arrays"),
        (Stream(), "expected tensors, a map-style dataset or a list of batches, got Stream"),
        ("digits", "expected tensors, a map-style dataset or a list of batches, got str"),
        ([], "expected tensors, a map-style dataset or a list of batches, got list"),
        (torch.ones(0, 3), "expected at least one sample, got empty data"),
        ({"x": 1}, "expected a batch with at least one tensor of dimension ≥ 1, got dict"),
        (DataLoader(TensorDataset(X, Y), batch_size=None), "expected a DataLoader that forms batches, got one with"),
        (DataLoader(TensorDataset(X), 2, sampler=Weighted([1.0] * 12, 12)), "expected a DataLoader that visits every"),
    ],
)
def test_messages(data, said):
    with pytest.raises(ValueError) as error:
        source_of(data)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(("size", "count"), [(10, 7), (100, 3)])
def test_draws_are_uniform_without_replacement(size, count):
    g = torch.Generator().manual_seed(0)
    draws = torch.stack([draw_indices(size, count, g) for _ in range(2000)])
    assert all(len(set(row)) == count for row in draws.tolist())
    for column in draws.T:
        seen = torch.bincount(column, minlength=size).double()
        assert float(((seen - 2000 / size) ** 2 / (2000 / size)).sum()) < size + 5 * (2 * size) ** 0.5


def test_mappings_keep_their_type():
    doubled = map_tensors(lambda t: 2 * t, UserDict(x=X, name="a"))
    assert type(doubled) is UserDict
    assert torch.equal(doubled["x"], 2 * X)
    assert doubled["name"] == "a"


def test_a_sweep_uses_every_sample_once_before_any_again():
    sweep = Sweep(10, 3, torch.Generator().manual_seed(0))
    batches = [sweep() for _ in range(7)]
    for first in (0, 3):
        once = torch.cat(batches[first : first + 3])
        assert len(set(once.tolist())) == 9  # the tenth is left out, another each time
    assert all(len(batch) == 3 for batch in batches)
    same = Sweep(10, 3, torch.Generator().manual_seed(0))
    assert all(torch.equal(batch, same()) for batch in batches)


def test_each_batch_of_a_sweep_is_uniform():
    sweep = Sweep(5, 2, torch.Generator().manual_seed(1))
    counts = torch.zeros(5)
    for _ in range(4000):
        counts[sweep()] += 1
    assert torch.allclose(counts / 1600, torch.ones(5), atol=0.06)
