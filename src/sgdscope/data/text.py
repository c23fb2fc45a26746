"""Text: windows of characters, each position labelled with the character that follows it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgdscope.data.arrays import MAX_BYTES, DataError, Dataset, folder_of, kept, shuffle
from sgdscope.data.utf8 import checksum, read_utf8

CONTEXT_LENGTH = 32
"""Characters per window unless told otherwise."""

MAX_VOCABULARY = 10_000
"""Distinct characters that are accepted; a model has one output for each. Chinese prose has some 5,000."""

TEST_SHARE = 10
"""One in so many characters, at the end of the text, is kept for the test set."""

_HINT = "pass the path of a plain text file; without one, the prose that ships with Python is used"


def load_text(
    *,
    data_dir: str | Path | None = None,
    subset: int | None = None,
    seed: int = 0,
    context_length: int | None = None,
    test: bool = True,
) -> Dataset:
    """Windows of `context_length` characters (32 unless given) of the text file `data_dir`, or of Python's own prose.

    Inputs and labels are whole numbers of shape ``(N, context_length)``: a character's place in the sorted vocabulary
    of the whole text. The label of a position is the next character. Windows do not overlap: they begin at multiples of
    `context_length` in the first nine tenths of the text, and in its last tenth for the test set (none if that is too
    short, or with `test` False). A `subset` is the first of a fixed shuffle of the training windows
    (``numpy.random.default_rng(seed)``); without, they are in the order of the text.

    Without a file the text is that of ``pydoc_data.topics``, what ``help()`` shows on statements and types: it is the
    one large prose in every installation of CPython (nearly half a million characters; the licence is not always
    installed and is 14,000, ``this`` is 800). Topics are joined in alphabetical order. It differs a little between
    versions of Python, so `preprocessing` names the version.

    Raises DataError if the file is missing, no UTF-8, too short for one window, has fewer than 2 or more than 10,000
    distinct characters, or if `context_length` is not a whole number ≥ 1.
    """
    length = CONTEXT_LENGTH if context_length is None else context_length
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise DataError(f"expected a context length that is a whole number ≥ 1, got {length!r}")
    if data_dir is None:
        text, source = python_prose(), f"pydoc_data.topics of Python {sys.version.split()[0]}"
    else:
        path = folder_of("text", data_dir, _HINT)
        text, source = read_utf8(path, "a text file", _HINT), path.name
    tokens, vocabulary = _encoded(text, source)
    trained_on = len(tokens) - len(tokens) // TEST_SHARE
    available = (trained_on - 1) // length
    if available < 1:
        raise DataError(
            f"expected a text of at least {length + 1 + length // (TEST_SHARE - 1)} characters for windows "
            f"of {length}, got {len(tokens)} in {source}\nhint: a longer text, or a smaller context length"
        )
    count = kept(subset, available, source)
    order = np.arange(available) if subset is None else shuffle(available, seed)[:count]
    if count * length * 16 > MAX_BYTES:
        raise DataError(
            f"expected windows of at most {MAX_BYTES} bytes, got {count} windows of {length} characters of {source}\n"
            "hint: a smaller subset"
        )
    inputs, labels = _windows(tokens[:trained_on], order * length, length)
    test_starts = np.arange((len(tokens) - trained_on - 1) // length) * length if test else np.arange(0)
    held_out = _windows(tokens[trained_on:], test_starts, length) if len(test_starts) else (None, None)
    which = "in order" if subset is None else f"first {count} of a fixed shuffle (seed {seed})"
    return Dataset(
        name="text",
        inputs=inputs,
        labels=labels,
        classes=len(vocabulary),
        vocabulary=len(vocabulary),
        checksum=checksum(text),
        test_inputs=held_out[0],
        test_labels=held_out[1],
        class_names=vocabulary,
        preprocessing=(
            f"{source}: {len(tokens):,} characters, {len(vocabulary)} distinct; windows of {length} that do not "
            f"overlap, from the first nine tenths, {which}; each position is labelled with the next character"
        ),
    )


def python_prose() -> str:
    """The text of ``help()``'s topics, joined in alphabetical order. Raises DataError if this Python has none."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataError(
            f"expected the help texts of Python (pydoc_data.topics), but this installation lacks them: {error}\n"
            "hint: pass the path of a text file of your own"
        ) from error
    return "\n\n".join(topics[name] for name in sorted(topics))


def _encoded(text: str, source: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Each character's place in the vocabulary, shape ``(len(text),)``, and the vocabulary in order."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    present = np.zeros(sys.maxunicode + 1, dtype=bool)
    present[codes] = True
    vocabulary = tuple(map(chr, np.flatnonzero(present)))
    if not 2 <= len(vocabulary) <= MAX_VOCABULARY:
        raise DataError(
            f"expected a text of 2 to {MAX_VOCABULARY:,} distinct characters, got {len(vocabulary):,} in {source}"
        )
    return (np.cumsum(present) - 1)[codes], vocabulary


def _windows(tokens: NDArray[np.int64], starts: NDArray[np.int64], length: int) -> tuple[Tensor, Tensor]:
    """Windows beginning at `starts`, and the same moved on by one; each of shape ``(len(starts), length)``."""
    places = starts[:, None] + np.arange(length)
    return torch.from_numpy(tokens[places]), torch.from_numpy(tokens[places + 1])
