"""Arrays of the user's own: checked, cast, never unpickled."""

import contextlib
import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdscope.data import DataError, Dataset, load

X = np.random.default_rng(0).normal(size=(6, 2, 3))
Y = np.array([0, 1, 2, 1, 0, 2])


@pytest.fixture
def save(tmp_path):
    def save(how=np.savez, **arrays):
        how(tmp_path / "data.npz", **arrays)
        return tmp_path / "data.npz"

    return save


@pytest.mark.parametrize("how", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", [np.float64, np.dtype(">f4"), np.float16, np.int16])
def test_arrays_are_cast_and_otherwise_left_alone(save, how, dtype):
    x = np.asfortranarray((10 * X).astype(dtype))
    data = load("npz", data_dir=save(how, x=x, y=Y.astype(np.uint8)))
    assert torch.equal(data.inputs, torch.from_numpy(x.astype(np.float32)))
    assert data.labels.tolist() == Y.tolist()
    assert data.classes == 3
    assert data.test_inputs is None
    assert data.preprocessing == "arrays x and y of data.npz, first 6 in file order, as they are"


def test_training_and_test_arrays(save):
    path = save(x_train=X, y_train=Y, x_test=X[:2], y_test=Y[:2])
    data = load("npz", data_dir=path, subset=4)
    assert len(data) == 4
    assert torch.equal(data.test_inputs, torch.from_numpy(X[:2].astype(np.float32)))
    assert load("npz", data_dir=path, test=False).test_labels is None
    with pytest.raises(
        DataError, match=r"expected a subset between 1 and 6 \(the samples in data.npz\), got 7\nhint: "
    ):
        load("npz", data_dir=path, subset=7)


NAN = np.where(X > 1, np.nan, X)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "expected arrays x and y, or x_train and y_train, in .*, got x\nhint: numpy.savez"),
        ({"a": X}, "got none of them\nhint: "),
        (
            {"x_train": X, "y_train": Y, "x_test": X},
            "expected x_train, y_train, x_test and y_test in .*, got x_train, ",
        ),
        ({"x": X[:, 0, 0], "y": Y}, r"expected x of shape \(N, ...\), not empty, in .*, got shape \(6,\)\nhint: "),
        ({"x": X[:0], "y": Y[:0]}, r"got shape \(0, 2, 3\)\nhint: "),
        ({"x": X, "y": Y[:, None]}, r"expected y of shape \(6,\), one label per sample of x, got \(6, 1\)\nhint: "),
        ({"x": X, "y": Y.astype(float)}, "expected whole numbers in y, got float64\nhint: "),
        ({"x": X, "y": Y - 1}, "expected labels from 0 to the number of classes - 1 in y, got -1 to 1"),
        ({"x": X, "y": Y.astype(np.uint64) << np.uint64(60)}, "classes - 1 in y, got 0 to 23058430"),
        ({"x": X, "y": Y * 5}, "got the label 10 among 6 samples\nhint: number the classes with"),
        ({"x": NAN, "y": Y}, "expected finite numbers in x, got .* NaN, infinite or too large for float32\nhint: "),
        ({"x": X * 1e300, "y": Y}, "too large for float32"),
        ({"x": X.astype(complex), "y": Y}, "expected numbers in x of .*, got complex128\nhint: "),
        ({"x": X.astype(object), "y": Y}, "expected numbers in x of .*, got Python objects, which only unpickling"),
    ],
)
def test_arrays_that_do_not_fit(save, arrays, message):
    with pytest.raises(DataError, match=message):
        load("npz", data_dir=save(**arrays))


def test_test_labels_beyond_the_training_classes(save):
    with pytest.raises(DataError, match="expected labels between 0 and 2, got labels from 3 to 4"):
        load("npz", data_dir=save(x_train=X, y_train=Y, x_test=X[:2], y_test=np.array([3, 4])))


def npy(shape, content, version=1):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return (
        b"\x93NUMPY" + bytes((version, 0)) + len(header).to_bytes(2 if version == 1 else 4, "little") + header + content
    )


@pytest.mark.parametrize(
    ("member", "compression", "message"),
    [
        (
            npy((6, 1 << 60), bytes(48)),
            zipfile.ZIP_STORED,
            r"to hold shape \(6, 1152921504606846976\) of float64, got 48",
        ),
        (npy((6, -1), bytes(48)), zipfile.ZIP_STORED, "to hold shape"),
        (npy((6, 1), bytes(48), version=3), zipfile.ZIP_STORED, r"in NumPy's format 1.0 or 2.0, got \(3, 0\)"),
        (npy((6, 1), bytes(48)), zipfile.ZIP_BZIP2, "expected x in .* stored or deflated"),
        (b"not an array", zipfile.ZIP_STORED, "cannot read .* as an .npz file: .*\nhint: "),
    ],
)
def test_members_that_lie_about_themselves(tmp_path, member, compression, message):
    with zipfile.ZipFile(tmp_path / "data.npz", "w", compression) as archive:
        archive.writestr("x.npy", member)
    with pytest.raises(DataError, match=message):
        load("npz", data_dir=tmp_path / "data.npz")


def test_a_member_larger_than_its_file_can_hold(save):
    path = save(x=X, y=Y)
    size = 128 + X.nbytes
    central = path.read_bytes().rindex(b"PK\x01\x02", 0, path.read_bytes().rindex(b"y.npy"))
    content = bytearray(path.read_bytes())
    first = content.index(b"PK\x01\x02")
    assert first < central
    assert content[first + 24 : first + 28] == size.to_bytes(4, "little")
    content[first + 24 : first + 28] = (1 << 31).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"expected at most .* bytes in x of .*, got 2147483648"):
        load("npz", data_dir=path)


def test_files_that_are_no_archive(tmp_path):
    with pytest.raises(DataError, match=r"expected an .npz file, got the folder .*\nhint: "):
        load("npz", data_dir=tmp_path)
    (tmp_path / "data.npz").write_text("x, y")
    with pytest.raises(DataError, match=r"cannot read .* as an .npz file: File is not a zip file\nhint: "):
        load("npz", data_dir=tmp_path / "data.npz")


def content_of(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


WHOLE = content_of(x=X, y=Y)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6),
        st.integers(0, len(WHOLE)),
    )
)
def test_any_bytes_give_a_data_set_or_a_data_error(damage):
    content = bytearray(damage if isinstance(damage, bytes) else WHOLE)
    if isinstance(damage, int):
        del content[damage:]
    elif isinstance(damage, list):
        for place, byte in damage:
            content[place] = byte
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        path.write_bytes(content)
        with contextlib.suppress(DataError):
            assert isinstance(load("npz", data_dir=path), Dataset)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(st.binary(max_size=80), st.text(max_size=60).map(lambda text: npy("(1, 1)", b"")[:10] + text.encode()))
)
def test_any_member_gives_a_data_error(member):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", member)
            archive.writestr("y.npy", npy((1, 1), bytes(8)))
        with pytest.raises(DataError):
            load("npz", data_dir=path)
