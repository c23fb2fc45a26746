"""MNIST and Fashion-MNIST from idx files, plain and gzipped, whole and damaged."""

import gzip
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdscope.data import DataError, Dataset, load, load_mnist
from sgdscope.data.idx import read_idx

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 5, 6), dtype=np.uint8)
LABELS = RNG.integers(0, 10, 12, dtype=np.uint8)


def idx(array, *, magic=None, shape=None):
    sizes = array.shape if shape is None else shape
    header = bytes((0, 0, 8, array.ndim)) if magic is None else magic
    return header + b"".join(n.to_bytes(4, "big") for n in sizes) + array.tobytes()


def write(folder, *, pack=True, images=IMAGES, labels=LABELS, parts=("train", "t10k")):
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            if pack:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (folder / name).write_bytes(idx(array))
    return folder


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize(("name", "top"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_images_and_labels_come_back_standardised(tmp_path, pack, name, top):
    write(tmp_path / top / "raw", pack=pack)
    data = load(name, data_dir=tmp_path)
    assert data.inputs.shape == (12, 1, 5, 6)
    assert data.labels.tolist() == LABELS.tolist()
    expected = (IMAGES.astype(np.float64) - IMAGES.mean()) / IMAGES.std()
    np.testing.assert_allclose(data.inputs[:, 0].numpy(), expected, atol=1e-6)
    assert torch.equal(data.inputs, data.test_inputs)
    assert f"mean {IMAGES.mean() / 255:.4f} and standard deviation {IMAGES.std() / 255:.4f}" in data.preprocessing
    for place in (tmp_path / top, tmp_path / top / "raw"):
        assert torch.equal(load(name, data_dir=str(place)).inputs, data.inputs)


def test_a_subset_is_the_first_images_and_is_scaled_by_them(tmp_path):
    data = load("mnist", data_dir=write(tmp_path), subset=5, test=False)
    expected = (IMAGES[:5].astype(np.float64) - IMAGES[:5].mean()) / IMAGES[:5].std()
    np.testing.assert_allclose(data.inputs[:, 0].numpy(), expected, atol=1e-6)
    assert data.test_inputs is None
    with pytest.raises(DataError, match=r"expected a subset between 1 and 12 .*images-idx3-ubyte.gz.*, got 13\nhint: "):
        load("mnist", data_dir=tmp_path, subset=13)


def test_the_test_set_may_be_absent_but_not_half_of_it(tmp_path):
    write(tmp_path, parts=("train",))
    assert load("mnist", data_dir=tmp_path).test_inputs is None
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(LABELS))
    with pytest.raises(DataError, match=r"expected the images of the part 't10k' in .*, found none\nhint: "):
        load("mnist", data_dir=tmp_path)


def test_missing_files_and_unknown_names(tmp_path):
    with pytest.raises(DataError, match=r"expected train-images-idx3-ubyte or .*gz in .*, found neither\nhint: put"):
        load("mnist", data_dir=tmp_path)
    with pytest.raises(DataError, match="expected a data set among mnist, fashion-mnist, got 'kmnist'"):
        load_mnist("kmnist", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected an idx file of bytes with 3 dimensions .magic number 00000803. .* got an empty file\nhint: "),
        (idx(LABELS), "got 00000801\nhint: the file is damaged"),
        (idx(IMAGES, magic=b"\0\0\x0d\3"), "got 00000d03\nhint: "),
        (idx(IMAGES)[:-1], "expected 360 bytes after the header .* as it says, but the file is too short"),
        (idx(IMAGES) + b"x", "to end after 360 bytes, as its header says, got more\nhint: "),
        (idx(IMAGES, shape=(1 << 31, 1 << 31, 1 << 31)), "expected at most 1073741824 bytes in .* header says 9903520"),
        (gzip.compress(idx(IMAGES, shape=(1 << 20, 28, 28))), "expected 822083584 bytes .* file is too short"),
        (gzip.compress(idx(IMAGES)[:-1]), "expected 360 bytes after the header of .*, got 359\nhint: "),
        (gzip.compress(idx(IMAGES))[:-20], "cannot read .*end-of-stream.*\nhint: "),
        (gzip.compress(idx(IMAGES))[:-8] + bytes(8), "cannot read .*CRC check failed.*\nhint: "),
        (idx(IMAGES[:0]), "expected at least one image in"),
        (idx(IMAGES[:7]), "expected one label per image, got 7 images in .* and 12 labels in .*\nhint: "),
    ],
)
def test_damaged_files_are_named(tmp_path, content, message):
    write(tmp_path, pack=False)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load("mnist", data_dir=tmp_path)
    assert len(str(caught.value).splitlines()) <= 2


def test_labels_above_9_are_refused(tmp_path):
    with pytest.raises(DataError, match="expected labels between 0 and 9 in the training labels, got 11\nhint: "):
        load("mnist", data_dir=write(tmp_path, labels=np.arange(12, dtype=np.uint8)))


valid = st.sampled_from([idx(IMAGES), gzip.compress(idx(IMAGES)), gzip.compress(idx(IMAGES), compresslevel=0)])
changes = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.binary(max_size=80), st.builds(lambda tail: idx(LABELS)[:4] + tail, st.binary(max_size=20))),
    valid,
    changes,
)
def test_any_bytes_give_an_array_or_a_data_error(noise, content, changed):
    damaged = bytearray(content)
    for place, byte in changed:
        damaged[place % len(damaged)] = byte
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        for content_ in (noise, bytes(damaged)):
            path.write_bytes(content_)
            for dimensions in (1, 3):
                try:
                    array = read_idx(path, dimensions=dimensions)
                except DataError:
                    continue
                assert array.ndim == dimensions


@pytest.mark.skipif("SGDSCOPE_DATA" not in os.environ, reason="set SGDSCOPE_DATA to a folder with the real files")
@pytest.mark.parametrize(("name", "mean", "deviation"), [("mnist", 0.1307, 0.3081), ("fashion-mnist", 0.2860, 0.3530)])
def test_the_real_files(name, mean, deviation):
    data = load(name, data_dir=os.environ["SGDSCOPE_DATA"])
    assert isinstance(data, Dataset)
    assert (len(data), len(data.test_inputs)) == (60_000, 10_000)
    assert data.input_shape == (1, 28, 28)
    assert f"mean {mean:.4f} and standard deviation {deviation:.4f}" in data.preprocessing
