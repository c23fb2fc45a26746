"""Npz: arrays that the user has saved with ``numpy.savez``."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgdscope.data.arrays import MAX_BYTES, MAX_DEFLATION, DataError, Dataset, folder_of, kept

_HINT = "numpy.savez('data.npz', x=inputs, y=labels), or x_train, y_train, x_test, y_test; pass the path of the file"
_LAYOUTS = (("x", "y"), ("x_train", "y_train"))
_TEST = ("x_test", "y_test")


def load_npz(*, data_dir: str | Path | None = None, subset: int | None = None, test: bool = True) -> Dataset:
    """Arrays ``x, y`` or ``x_train, y_train, x_test, y_test`` of the .npz file `data_dir`, cast to float32, else as is.

    Inputs have shape ``(N, ...)``, labels ``(N,)`` whole numbers from 0; the largest label gives the number of
    classes, which may not exceed N. `subset` keeps the first samples in file order. Nothing is standardised. With
    `test` False, or without test arrays, there is no test set.
    Nothing is ever unpickled, and sizes that the file claims are held against its own size and 1 GiB per array.
    Raises DataError if the file is damaged, an array is missing, holds objects or other things than numbers, NaN or
    infinities, or if labels and inputs do not fit.
    """
    path = folder_of("npz", data_dir, _HINT)
    if not path.is_file():
        raise DataError(f"expected an .npz file, got the folder {path}\nhint: {_HINT}")
    arrays = _read(path, ("x", "y", "x_train", "y_train", *(_TEST if test else ())))
    names = next((layout for layout in _LAYOUTS if all(name in arrays for name in layout)), None)
    if names is None:
        raise DataError(
            f"expected arrays x and y, or x_train and y_train, in {path}, got {', '.join(arrays) or 'none of them'}\n"
            f"hint: {_HINT}"
        )
    inputs, labels = _pair(arrays, names, path)
    classes = int(labels.max()) + 1
    if classes > len(labels):
        raise DataError(
            f"expected labels from 0 to the number of classes - 1, got the label {classes - 1} among {len(labels)} "
            "samples\nhint: number the classes with numpy.unique(y, return_inverse=True)[1]"
        )
    test_inputs = test_labels = None
    if any(name in arrays for name in _TEST):
        if names == ("x", "y") or not all(name in arrays for name in _TEST):
            raise DataError(f"expected x_train, y_train, x_test and y_test in {path}, got {', '.join(arrays)}")
        test_inputs, test_labels = _pair(arrays, _TEST, path)
    count = kept(subset, len(inputs), path.name)
    return Dataset(
        name="npz",
        inputs=inputs[:count].clone(),
        labels=labels[:count].clone(),
        classes=classes,
        test_inputs=test_inputs,
        test_labels=test_labels,
        preprocessing=f"arrays {names[0]} and {names[1]} of {path.name}, first {count} in file order, as they are",
    )


def _pair(arrays: dict[str, NDArray[Any]], names: tuple[str, str], path: Path) -> tuple[Tensor, Tensor]:
    """Inputs as float32 and labels as int64; every check that needs the arrays as they were stored."""
    x, y = (arrays[name] for name in names)
    if x.ndim < 2 or x.size == 0:
        raise DataError(
            f"expected {names[0]} of shape (N, ...), not empty, in {path}, got shape {x.shape}\n"
            f"hint: one number per sample is {names[0]}.reshape(-1, 1)"
        )
    if y.shape != x.shape[:1]:
        raise DataError(
            f"expected {names[1]} of shape ({len(x)},), one label per sample of {names[0]}, got {y.shape}\n"
            "hint: labels in one column are y.reshape(-1), one-hot labels y.argmax(axis=1)"
        )
    if y.dtype.kind not in "iu":
        raise DataError(
            f"expected whole numbers in {names[1]}, got {y.dtype}\nhint: save the labels as {names[1]}.astype('int64')"
        )
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= 1 << 31:
        raise DataError(f"expected labels from 0 to the number of classes - 1 in {names[1]}, got {low} to {high}")
    with np.errstate(over="ignore"):
        inputs = torch.from_numpy(x.astype(np.float32))
    bad = int((~torch.isfinite(inputs)).sum())
    if bad:
        raise DataError(
            f"expected finite numbers in {names[0]}, got {bad} NaN, infinite or too large for float32\n"
            "hint: drop or repair those samples"
        )
    return inputs, torch.from_numpy(y.astype(np.int64))


def _read(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Those of the arrays `names` that the file holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
            return {name: _array(archive, name, path) for name in names if f"{name}.npy" in members}
    except DataError:
        raise
    except Exception as error:  # zipfile and NumPy's header reader raise many types on damaged bytes
        raise DataError(f"cannot read {path} as an .npz file: {error}\nhint: {_HINT}") from error


def _array(archive: zipfile.ZipFile, name: str, path: Path) -> NDArray[Any]:
    """One array, as ``numpy.load(allow_pickle=False)`` reads it, but allocating only for bytes that are there."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"expected {name} in {path} stored or deflated, as numpy.savez does, got another compression")
    possible = min(info.compress_size, path.stat().st_size) * MAX_DEFLATION
    if info.file_size > min(MAX_BYTES, possible):
        raise DataError(f"expected at most {min(MAX_BYTES, possible)} bytes in {name} of {path}, got {info.file_size}")
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise DataError(f"expected {name} in {path} in NumPy's format 1.0 or 2.0, got {version}")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(member)
        if dtype.kind not in "biuf":
            what = "Python objects, which only unpickling could read" if dtype.hasobject else str(dtype)
            raise DataError(
                f"expected numbers in {name} of {path}, got {what}\nhint: save it as an array of float32 or int64"
            )
        content = member.read()
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(content):
        raise DataError(f"expected {name} in {path} to hold shape {shape} of {dtype}, got {len(content)} bytes")
    return np.frombuffer(content, dtype=dtype).reshape(shape, order="F" if fortran else "C")
