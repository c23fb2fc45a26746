"""Arrays: a data set as tensors, checked once when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MAX_BYTES = 1 << 30
"""Largest raw array a reader accepts (1 GiB), whatever a file says about itself. CIFAR-10 has 0.15 GiB."""

MAX_DEFLATION = 1032
"""A deflated byte stands for at most this many bytes (RFC 1951: 258 bytes for two bits), so a header can be doubted."""


class DataError(ValueError):
    """Data cannot be loaded. The message says what was expected, what was given and what to do."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory, for classification or regression. Immutable; raises DataError if its parts do not fit.

    Attributes:
        name: the name it was loaded under.
        inputs: training inputs, float32, shape ``(N, *shape)``, finite. Of a text: tokens, int64, shape ``(N,
            positions)``, in ``0 .. vocabulary - 1``.
        labels: training labels, int64, shape ``(N,)``, in ``0 .. classes - 1``; of a text one per position, shape ``(N,
            positions)``. Of a regression: the numbers to predict, float32, shape ``(N, 1)``, finite.
        classes: number of classes; None for a regression.
        vocabulary: number of distinct tokens of a text; None where inputs are numbers.
        test_inputs: inputs never trained on, same ``shape``, preprocessed as `inputs`; None if there are none.
        test_labels: their labels; None exactly if `test_inputs` is.
        class_names: one per class, or empty.
        preprocessing: one sentence for the records: where the numbers come from and what was done to them.
        checksum: of the file they come from, for text and tables, which users edit; else empty.
    """

    name: str
    inputs: Tensor
    labels: Tensor
    classes: int | None
    test_inputs: Tensor | None = None
    test_labels: Tensor | None = None
    class_names: tuple[str, ...] = ()
    preprocessing: str = ""
    vocabulary: int | None = None
    checksum: str = ""

    def __post_init__(self) -> None:
        self._check("inputs", self.inputs, self.labels)
        if (self.test_inputs is None) != (self.test_labels is None):
            raise DataError("expected test inputs and test labels, or neither, got only one of them")
        if self.test_inputs is not None and self.test_labels is not None:
            self._check("test inputs", self.test_inputs, self.test_labels)
            if self.test_inputs.shape[1:] != self.inputs.shape[1:]:
                raise DataError(
                    f"expected test inputs of shape {tuple(self.inputs.shape[1:])} like the training inputs, "
                    f"got {tuple(self.test_inputs.shape[1:])}"
                )
        if self.class_names and len(self.class_names) != self.classes:
            raise DataError(f"expected {self.classes} class names, one per class, got {len(self.class_names)}")

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.inputs.shape[1:])

    @property
    def outputs(self) -> int:
        """Numbers that a model gives per label: one per class, or one in all for a regression."""
        return 1 if self.classes is None else self.classes

    def _check(self, what: str, inputs: Tensor, labels: Tensor) -> None:
        """Raises DataError unless inputs and labels are of the types and shapes that the attributes promise."""
        of_inputs = torch.float32 if self.vocabulary is None else torch.int64
        of_labels = torch.float32 if self.classes is None else torch.int64
        if inputs.dtype != of_inputs or labels.dtype != of_labels:
            raise DataError(
                f"expected {what} in {_plain(of_inputs)} with labels in {_plain(of_labels)}, got {inputs.dtype} and "
                f"{labels.dtype}"
            )
        if inputs.ndim < 2 or inputs.numel() == 0:
            raise DataError(f"expected {what} of shape (N, ...), not empty, got shape {tuple(inputs.shape)}")
        expected = (len(inputs), 1) if self.classes is None else inputs.shape[: 1 if self.vocabulary is None else 2]
        if labels.shape != expected:
            per = "sample" if self.vocabulary is None else "position"
            raise DataError(
                f"expected one label per {per}, got {what} of shape {tuple(inputs.shape)} and labels of shape "
                f"{tuple(labels.shape)}"
            )
        _check_numbers("labels", labels, self.classes)
        _check_numbers(what, inputs, self.vocabulary)


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check_numbers(what: str, numbers: Tensor, count: int | None) -> None:
    """Raises DataError unless all are in ``0 .. count - 1``, or finite if there is no `count`."""
    low, high = (end.item() for end in torch.aminmax(numbers))  # copies nothing, and both ends carry NaN
    if count is not None and (low < 0 or high >= count):
        raise DataError(f"expected {what} between 0 and {count - 1}, got {what} from {low} to {high}")
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int((~torch.isfinite(numbers)).sum())
        raise DataError(
            f"expected finite {what}, got {bad} NaN or infinite numbers\nhint: drop or repair those samples"
        )


def kept(subset: int | None, available: int, where: str) -> int:
    """How many samples to keep: `subset`, or all that are `available`. Raises DataError if there are fewer."""
    if subset is None:
        return available
    if isinstance(subset, bool) or not isinstance(subset, int) or not 1 <= subset <= available:
        raise DataError(
            f"expected a subset between 1 and {available} (the samples in {where}), got {subset!r}\n"
            "hint: leave subset out to use all of them"
        )
    return subset


def shuffle(count: int, seed: int) -> NDArray[np.int64]:
    """A fixed order of `count` samples: ``numpy.random.default_rng(seed).permutation(count)``."""
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise DataError(f"expected a seed that is a whole number ≥ 0, got {seed!r}")
    return np.random.default_rng(seed).permutation(count)


def folder_of(name: str, data_dir: str | Path | None, hint: str) -> Path:
    """`data_dir` as a path. Raises DataError, with `hint`, if it was not given or does not exist."""
    if data_dir is None:
        raise DataError(f"expected data_dir for {name}, which does not come with sgdscope, got none\nhint: {hint}")
    path = Path(data_dir).expanduser()
    if not path.exists():
        raise DataError(f"expected the data of {name} at {path}, but there is nothing\nhint: {hint}")
    return path


@dataclass(frozen=True)
class Scaling:
    """Standardisation of images in bytes: per channel, on the scale 0..1. See `scaling_of`."""

    means: tuple[float, ...]
    deviations: tuple[float, ...]
    count: int

    def __call__(self, images: NDArray[np.uint8]) -> Tensor:
        """``(pixels / 255 - mean) / deviation``; float32, same shape ``(N, C, H, W)``. A constant channel becomes 0."""
        columns = (1, -1, 1, 1)
        mean = 255 * np.array(self.means).reshape(columns)
        deviation = 255 * np.array(self.deviations).reshape(columns)
        scaled = images.astype(np.float32)
        scaled -= mean.astype(np.float32)
        scaled /= np.where(deviation > 0, deviation, 1.0).astype(np.float32)
        return torch.from_numpy(scaled)

    def __str__(self) -> str:
        def list_of(numbers: tuple[float, ...]) -> str:
            return ", ".join(f"{number:.4f}" for number in numbers)

        return (
            f"pixels / 255, standardised per channel by mean {list_of(self.means)} and standard deviation "
            f"{list_of(self.deviations)} of the {self.count} training images loaded"
        )


def scaling_of(images: NDArray[np.uint8], chunk: int = 1024) -> Scaling:
    """Mean and standard deviation of each channel over all images of shape ``(N, C, H, W)``.

    The sums are of whole numbers, hence exact and the same on every machine; `chunk` images at a time bound the memory.
    """
    sums = np.zeros(images.shape[1], dtype=np.int64)
    squares = np.zeros_like(sums)
    for start in range(0, len(images), chunk):
        pixels = images[start : start + chunk].astype(np.int64)
        sums += pixels.sum(axis=(0, 2, 3))
        squares += (pixels * pixels).sum(axis=(0, 2, 3))
    n = images.size // images.shape[1]
    means = sums / n
    # var = (n Σx² − (Σx)²) / n², in Python's whole numbers: no cancellation for a nearly constant channel
    variances = [(n * int(q) - int(s) ** 2) / n**2 for s, q in zip(sums, squares, strict=True)]
    return Scaling(
        tuple(float(mean) / 255 for mean in means), tuple(float(np.sqrt(v)) / 255 for v in variances), len(images)
    )


def labels_of(bytes_: NDArray[np.uint8], classes: int, where: str) -> Tensor:
    """Labels from bytes, int64. Raises DataError if one is not below `classes`."""
    if len(bytes_) and int(bytes_.max()) >= classes:
        raise DataError(
            f"expected labels between 0 and {classes - 1} in {where}, got {int(bytes_.max())}\n"
            "hint: the file is damaged or holds another data set; fetch it again"
        )
    return torch.from_numpy(bytes_.astype(np.int64))
