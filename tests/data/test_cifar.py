"""CIFAR-10 from binary records, whichever of the files are there."""

import contextlib
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdscope.data import DataError, Dataset, load
from sgdscope.data.cifar import RECORD


def records(count, seed):
    rng = np.random.default_rng(seed)
    made = rng.integers(0, 256, (count, RECORD), dtype=np.uint8)
    made[:, 0] = rng.integers(0, 10, count)
    return made


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "cifar-10-batches-bin"
    place.mkdir()
    for i, count in ((1, 6), (3, 4)):
        records(count, i).tofile(place / f"data_batch_{i}.bin")
    records(5, 9).tofile(place / "test_batch.bin")
    return place


def test_files_that_are_there_are_joined_and_standardised_per_channel(folder):
    data = load("cifar10", data_dir=folder)
    raw = np.concatenate([records(6, 1), records(4, 3)])
    pixels = raw[:, 1:].reshape(-1, 3, 32, 32).astype(np.float64)
    mean, deviation = (f((0, 2, 3), keepdims=True) for f in (pixels.mean, pixels.std))
    np.testing.assert_allclose(data.inputs.numpy(), (pixels - mean) / deviation, atol=1e-6)
    assert data.labels.tolist() == raw[:, 0].tolist()
    test = records(5, 9)[:, 1:].reshape(-1, 3, 32, 32).astype(np.float64)
    np.testing.assert_allclose(data.test_inputs.numpy(), (test - mean) / deviation, atol=1e-6)
    assert data.class_names[:2] == ("airplane", "automobile")
    assert "first 10 images of data_batch_1.bin, data_batch_3.bin in file order" in data.preprocessing


def test_the_folder_is_found_from_above(folder, tmp_path):
    expected = load("cifar10", data_dir=folder).inputs
    assert torch.equal(load("cifar10", data_dir=str(tmp_path)).inputs, expected)
    assert torch.equal(load("cifar10", data_dir=tmp_path.parent).inputs, expected)


def test_a_subset_reads_only_the_files_it_needs(folder):
    (folder / "data_batch_3.bin").write_bytes(bytes([11] + [0] * (RECORD - 1)))  # a bad label, never looked at
    data = load("cifar10", data_dir=folder, subset=6, test=False)
    assert data.labels.tolist() == records(6, 1)[:, 0].tolist()
    assert data.test_inputs is None
    assert "first 6 images of data_batch_1.bin in" in data.preprocessing
    with pytest.raises(DataError, match=r"expected labels between 0 and 9 in data_batch_1.bin, .*, got 11\nhint: "):
        load("cifar10", data_dir=folder)
    with pytest.raises(DataError, match=r"expected a subset between 1 and 7 .*data_batch_1.bin, .*, got 8\nhint: "):
        load("cifar10", data_dir=folder, subset=8)


def test_no_training_file(tmp_path):
    with pytest.raises(
        DataError, match=r"expected data_batch_1.bin .. data_batch_5.bin in .*, found none\nhint: unpack"
    ):
        load("cifar10", data_dir=tmp_path)


@pytest.mark.parametrize("size", [0, 1, RECORD - 1, 2 * RECORD + 1])
@pytest.mark.parametrize("name", ["data_batch_1.bin", "test_batch.bin"])
def test_files_that_are_not_whole_records(folder, size, name):
    (folder / name).write_bytes(bytes(size))
    with pytest.raises(
        DataError, match=rf"expected .*{name} to hold records of 3073 bytes each .* got {size} bytes\nh"
    ):
        load("cifar10", data_dir=folder)


@settings(max_examples=40, deadline=None)
@given(st.one_of(st.binary(max_size=30), st.integers(1, 3 * RECORD).map(bytes)), st.integers(0, 255))
def test_any_bytes_give_a_data_set_or_a_data_error(content, first):
    with tempfile.TemporaryDirectory() as place:
        Path(place, "data_batch_2.bin").write_bytes(bytes([first]) + content)
        with contextlib.suppress(DataError):
            assert isinstance(load("cifar10", data_dir=place), Dataset)


@pytest.mark.skipif("SGDSCOPE_DATA" not in os.environ, reason="set SGDSCOPE_DATA to a folder with the real files")
def test_the_real_first_batch():
    data = load("cifar10", data_dir=os.environ["SGDSCOPE_DATA"], subset=10_000)
    assert data.labels.bincount().tolist() == [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]
    assert data.test_labels.bincount().tolist() == [1000] * 10
    assert "mean 0.4935, 0.4834, 0.4472" in data.preprocessing
