"""CIFAR-10, binary version: 32×32 colour images in files of records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sgdscope.data.arrays import MAX_BYTES, DataError, Dataset, folder_of, kept, labels_of, scaling_of

RECORD = 1 + 3 * 32 * 32
"""Bytes of a record: the label, then the red, green and blue planes, each row by row."""

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_FOLDER = "cifar-10-batches-bin"
_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_TEST = "test_batch.bin"


def load_cifar10(*, data_dir: str | Path | None = None, subset: int | None = None, test: bool = True) -> Dataset:
    """CIFAR-10 from the files of its binary version, shape ``(N, 3, 32, 32)``, standardised per channel.

    `data_dir` holds ``data_batch_1.bin`` .. ``data_batch_5.bin`` and ``test_batch.bin``, or a folder
    ``cifar-10-batches-bin`` with them, at most one level further down. Training files that are missing are done
    without; `preprocessing` names those used. `subset` keeps the first images in file order, and only those are read:
    8192 gives the subset of the papers. Mean and standard deviation are those of the training images loaded. Without
    the test file, or with `test` False, there is no test set.
    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    Raises DataError if there is no training file, or one is not made of records with labels 0..9.
    """
    hint = f"unpack the binary version of CIFAR-10 and pass the folder {_FOLDER} or the one above it"
    root = folder_of("cifar10", data_dir, hint)
    folder = _folder(root)
    if folder is None:
        raise DataError(
            f"expected data_batch_1.bin .. data_batch_5.bin in {root} or {root / _FOLDER}, found none\nhint: {hint}"
        )
    paths = [folder / name for name in _TRAIN if (folder / name).is_file()]
    sizes = [_records_in(path) for path in paths]
    left = kept(subset, sum(sizes), ", ".join(path.name for path in paths))
    parts, used = [], []
    for path, size in zip(paths, sizes, strict=True):
        if left > 0:
            parts.append(_read(path, min(left, size)))
            used.append(path.name)
            left -= len(parts[-1])
    images, labels = _split(np.concatenate(parts))
    targets = labels_of(labels, 10, ", ".join(used))
    scaling = scaling_of(images)
    test_images = test_labels = None
    if test and (folder / _TEST).is_file():
        test_bytes, test_targets = _split(_read(folder / _TEST, _records_in(folder / _TEST)))
        test_images, test_labels = scaling(test_bytes), labels_of(test_targets, 10, _TEST)
    return Dataset(
        name="cifar10",
        inputs=scaling(images),
        labels=targets,
        classes=10,
        test_inputs=test_images,
        test_labels=test_labels,
        class_names=CLASS_NAMES,
        preprocessing=f"CIFAR-10, first {len(images)} images of {', '.join(used)} in file order: {scaling}",
    )


def _folder(root: Path) -> Path | None:
    """The folder with training files: `root`, or ``cifar-10-batches-bin`` in it or in a folder of it."""
    places = [root, root / _FOLDER, *sorted(root.glob(f"*/{_FOLDER}"))]
    return next((place for place in places if any((place / name).is_file() for name in _TRAIN)), None)


def _records_in(path: Path) -> int:
    """Number of records in a file, from its size. Raises DataError if that is not a whole number, 0 or too large."""
    size = path.stat().st_size
    if size == 0 or size % RECORD or size > MAX_BYTES:
        raise DataError(
            f"expected {path} to hold records of {RECORD} bytes each (10000 in the original), got {size} bytes\n"
            "hint: the file is damaged or is not of the binary version of CIFAR-10; fetch it again"
        )
    return size // RECORD


def _read(path: Path, count: int) -> NDArray[np.uint8]:
    """The first `count` records, shape ``(count, 3073)``."""
    try:
        content = np.fromfile(path, dtype=np.uint8, count=count * RECORD)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if content.size < count * RECORD:  # it shrank since its size was asked
        raise DataError(f"expected {count * RECORD} bytes in {path}, got {content.size}\nhint: fetch the file again")
    return content.reshape(count, RECORD)


def _split(records: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images ``(n, 3, 32, 32)`` and labels ``(n,)``."""
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]
