"""Digits: 1,797 handwritten digits of 8×8 pixels that come with scikit-learn."""

from __future__ import annotations

import numpy as np
import torch

from sgdscope.data.arrays import Dataset, kept, shuffle


def load_digits(*, subset: int | None = None, seed: int = 0, test: bool = True) -> Dataset:
    """scikit-learn's digits in a fixed order, shape ``(N, 1, 8, 8)``; the images that a subset leaves out are the test.

    Order: ``numpy.random.default_rng(seed).permutation(1797)``; `subset` keeps its first images. Pixels (0..16) have
    the mean image of all 1,797 taken off and are divided by 8, which gives numbers from about -1.5 to 2.
    Without a subset, or with `test` False, there is no test set.
    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998 (its test part).
    Raises DataError if `subset` is not in 1 .. 1797.
    """
    # imported here: it takes a second, and only this data set needs it
    from sklearn.datasets import load_digits as read_digits  # type: ignore[import-untyped]

    images, labels = read_digits(return_X_y=True)
    order = shuffle(len(images), seed)
    count = kept(subset, len(images), "digits")
    centred = (images - images.mean(axis=0)) / 8
    inputs = torch.from_numpy(centred[order].astype(np.float32)).reshape(-1, 1, 8, 8)
    targets = torch.from_numpy(labels[order].astype(np.int64))
    rest = test and count < len(images)
    return Dataset(
        name="digits",
        inputs=inputs[:count].clone(),
        labels=targets[:count].clone(),
        classes=10,
        test_inputs=inputs[count:].clone() if rest else None,
        test_labels=targets[count:].clone() if rest else None,
        class_names=tuple("0123456789"),
        preprocessing=(
            f"scikit-learn digits: (pixels - mean image of all {len(images)}) / 8; first {count} of a fixed shuffle "
            f"(seed {seed}), {'the others are the test set' if rest else 'no test set'}"
        ),
    )
