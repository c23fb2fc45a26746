"""Data: named data sets as tensors, read without unpickling anything.

    digits          1,797 images of 8×8 that come with scikit-learn; needs no files
    cifar10         CIFAR-10, binary version
    mnist           MNIST, idx files
    fashion-mnist   Fashion-MNIST, idx files
    folder          images, one sub-folder per class
    npz             arrays saved with numpy.savez
    table           a CSV file with a named target, for classification or regression
    text            the characters of a text file, or of the prose that ships with Python; needs no files

The same arguments give the same tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sgdscope.data.arrays import DataError, Dataset
from sgdscope.data.cifar import load_cifar10
from sgdscope.data.digits import load_digits
from sgdscope.data.folder import load_folder
from sgdscope.data.idx import load_mnist
from sgdscope.data.npz import load_npz
from sgdscope.data.table import Task, load_table
from sgdscope.data.text import load_text

NAMES = ("cifar10", "digits", "fashion-mnist", "folder", "mnist", "npz", "table", "text")
"""What `load` knows."""

__all__ = [
    "NAMES", "DataError", "Dataset", "load", "load_cifar10", "load_digits", "load_folder", "load_mnist", "load_npz",
    "load_table", "load_text",
]  # fmt: skip


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    subset: int | None = None,
    seed: int = 0,
    size: int | tuple[int, int] | None = None,
    context_length: int | None = None,
    target: str | None = None,
    task: Task | None = None,
    ignore: Sequence[str] = (),
    test: bool = True,
) -> Dataset:
    """The data set `name`, one of `NAMES`. The loader of each says what it reads and what it does to the numbers.

    Args:
        name: one of `NAMES`.
        data_dir: where the files are: a folder; for npz, table and text the file. Not used by digits.
        subset: how many training samples to keep; None for all. The first in file order (cifar10, mnist,
            fashion-mnist, npz) or the first of a fixed shuffle (digits, folder, table, text).
        seed: of that shuffle; without effect where the order is that of the file.
        size: for folder only: a side in pixels, or (height, width), to resize the images to.
        context_length: for text only: characters per window.
        target: for table only, and needed there: the column to predict.
        task: for table only: "classification" or "regression", where the target alone should not decide it.
        ignore: for table only: columns to leave out.
        test: whether to load the test set, where there is one.

    Raises:
        DataError: (a ValueError) the name is not known, files are missing or damaged, or there are fewer samples than
            `subset`. Its message says what was expected, what was given, and what to do.
    """
    for owner, options in (("folder", {"size": size}), ("text", {"context_length": context_length}),
                           ("table", {"target": target, "task": task, "ignore": tuple(ignore) or None})):  # fmt: skip
        for option, value in options.items():
            if value is not None and name != owner:
                raise DataError(f"expected {option} only with the data set {owner}, got {option}={value!r} with {name}")
    try:
        match name:
            case "digits":
                return load_digits(subset=subset, seed=seed, test=test)
            case "cifar10":
                return load_cifar10(data_dir=data_dir, subset=subset, test=test)
            case "mnist" | "fashion-mnist":
                return load_mnist(name, data_dir=data_dir, subset=subset, test=test)
            case "folder":
                return load_folder(data_dir=data_dir, subset=subset, seed=seed, size=size)
            case "npz":
                return load_npz(data_dir=data_dir, subset=subset, test=test)
            case "table":
                return load_table(
                    data_dir=data_dir, target=target, task=task, ignore=ignore, subset=subset, seed=seed, test=test
                )
            case "text":
                return load_text(data_dir=data_dir, subset=subset, seed=seed, context_length=context_length, test=test)
    except OSError as error:  # no permission, a disk that fails
        raise DataError(f"cannot read the data of {name}: {error}") from error
    raise DataError(f"expected a data set among {', '.join(NAMES)}, got {name!r}\nhint: your own arrays go in as npz")
