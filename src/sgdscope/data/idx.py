"""Idx files, plain or gzipped: MNIST, Fashion-MNIST and whatever is stored in their layout."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from sgdscope.data.arrays import MAX_BYTES, MAX_DEFLATION, DataError, Dataset, folder_of, kept, labels_of, scaling_of

_FOLDERS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
_CLASS_NAMES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
}  # fmt: skip
_FETCH_AGAIN = "hint: the file is damaged or was not fetched whole; fetch it again"


def load_mnist(
    name: str = "mnist", *, data_dir: str | Path | None = None, subset: int | None = None, test: bool = True
) -> Dataset:
    """MNIST or Fashion-MNIST (`name`) from the idx files, shape ``(N, 1, 28, 28)``, standardised.

    `data_dir` is the folder of the four files (``train-images-idx3-ubyte`` etc., ``.gz`` or not) or holds it as
    ``MNIST/raw``, ``FashionMNIST/raw`` or ``raw``. `subset` keeps the first images in file order, and only those are
    read. Mean and standard deviation are those of the training images loaded. Without test files, or with `test`
    False, there is no test set.
    Source: LeCun, Cortes and Burges, "The MNIST database"; Xiao, Rasul and Vollgraf, arXiv:1708.07747.
    Raises DataError if a file is missing, damaged or holds something else.
    """
    if name not in _FOLDERS:
        raise DataError(f"expected a data set among {', '.join(_FOLDERS)}, got {name!r}")
    top = _FOLDERS[name]
    hint = f"put the four idx files in a folder {top}/raw and pass its path, or that of the folder above {top}"
    root = folder_of(name, data_dir, hint)
    places = [root, root / top / "raw", root / "raw"]
    folder = next((place for place in places if _find(place, "train", "images")), None)
    if folder is None:
        raise DataError(
            f"expected train-images-idx3-ubyte or train-images-idx3-ubyte.gz in {root} or {root / top / 'raw'}, "
            f"found neither\nhint: {hint}"
        )
    images, labels = _read_pair(folder, "train", subset)
    scaling = scaling_of(images)
    with_test = test and any(_find(folder, "t10k", kind) for kind in ("images", "labels"))
    test_images, test_labels = _read_pair(folder, "t10k", None) if with_test else (None, None)
    return Dataset(
        name=name,
        inputs=scaling(images),
        labels=labels_of(labels, 10, "the training labels"),
        classes=10,
        test_inputs=None if test_images is None else scaling(test_images),
        test_labels=None if test_labels is None else labels_of(test_labels, 10, "the test labels"),
        class_names=_CLASS_NAMES[name],
        preprocessing=f"{name} idx files, first {len(images)} in file order: {scaling}",
    )


def _find(folder: Path, part: str, kind: str) -> Path | None:
    """The file of a part (train, t10k) and kind (images, labels), under one of the names in use."""
    dimensions = {"images": 3, "labels": 1}[kind]
    names = [f"{part}-{kind}{dot}idx{dimensions}-ubyte{end}" for dot in "-." for end in ("", ".gz")]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read_pair(folder: Path, part: str, subset: int | None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images ``(n, 1, h, w)`` and labels ``(n,)`` of one part."""
    found = {kind: _find(folder, part, kind) for kind in ("images", "labels")}
    for kind, path in found.items():
        if path is None:
            raise DataError(
                f"expected the {kind} of the part {part!r} in {folder}, found none\n"
                "hint: images and labels come as two files; put both into the folder"
            )
    images_path, labels_path = cast(Path, found["images"]), cast(Path, found["labels"])
    images = read_idx(images_path, dimensions=3, first=subset)
    labels = read_idx(labels_path, dimensions=1, first=subset)
    if images.size == 0:
        raise DataError(f"expected at least one image in {images_path}, got shape {images.shape}\n{_FETCH_AGAIN}")
    if len(images) != len(labels):
        raise DataError(
            f"expected one label per image, got {len(images)} images in {images_path.name} and {len(labels)} labels in "
            f"{labels_path.name}\nhint: the two files belong to different data sets"
        )
    return images[:, None], labels


def read_idx(path: str | Path, *, dimensions: int, first: int | None = None) -> NDArray[np.uint8]:
    """The array of an idx file of bytes with `dimensions` dimensions; its `first` entries if given, and only those.

    The size that the header claims is held against the size of the file and against 1 GiB before anything is read;
    a file read whole must end where its header says.
    Format: a magic number (two zero bytes, the type 8 for bytes, the number of dimensions), then each size as a
    big-endian 32-bit number, then the bytes. Raises DataError on anything else.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    return _read(cast(BinaryIO, unpacked), path, dimensions, first, size * MAX_DEFLATION)
            return _read(file, path, dimensions, first, size)
    except (OSError, EOFError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        raise DataError(f"cannot read {path}: {error}\n{_FETCH_AGAIN}") from error


def _read(file: BinaryIO, path: Path, dimensions: int, first: int | None, room: int) -> NDArray[np.uint8]:
    """Read an opened idx file; `room` bounds the bytes it can hold."""
    header = file.read(4 + 4 * dimensions)
    magic = bytes((0, 0, 8, dimensions))
    if header[:4] != magic or len(header) < 4 + 4 * dimensions:
        raise DataError(
            f"expected an idx file of bytes with {dimensions} dimension{'s' * (dimensions > 1)} "
            f"(magic number {magic.hex()}) in {path}, got {header[:4].hex() or 'an empty file'}\n{_FETCH_AGAIN}"
        )
    shape = [int.from_bytes(header[i : i + 4], "big") for i in range(4, len(header), 4)]
    declared = math.prod(shape)
    if declared > MAX_BYTES:
        raise DataError(f"expected at most {MAX_BYTES} bytes in {path}, but its header says {declared}\n{_FETCH_AGAIN}")
    if declared + len(header) > room:
        raise DataError(
            f"expected {declared} bytes after the header of {path}, as it says, but the file is too short for them\n"
            f"{_FETCH_AGAIN}"
        )
    count = kept(first, shape[0], path.name)
    wanted = count * math.prod(shape[1:])
    content = file.read(wanted)
    if len(content) < wanted:
        raise DataError(f"expected {wanted} bytes after the header of {path}, got {len(content)}\n{_FETCH_AGAIN}")
    if count == shape[0] and file.read(1):
        raise DataError(f"expected {path} to end after {declared} bytes, as its header says, got more\n{_FETCH_AGAIN}")
    return np.frombuffer(content, dtype=np.uint8).reshape(count, *shape[1:])
