"""Columns: two columns of numbers out of a CSV file."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_LIMIT = 64 << 20
"""Bytes of a data file read at most."""


def columns(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Inputs x and targets y, each of shape (samples,), from lines ``x,y``; a first line of words is skipped.

    Raises ValueError for a file that cannot be read, is larger than 64 MiB, or holds a line of anything else.
    """
    try:
        if path.stat().st_size > _LIMIT:
            raise ValueError(
                f"expected a file of at most {_LIMIT >> 20} MiB, {path} has {path.stat().st_size >> 20} MiB"
            )
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    pairs = []
    for line, row in enumerate(csv.reader(text.splitlines()), start=1):
        if not row:
            continue
        try:
            x, y = map(float, row)
        except ValueError as error:
            if line == 1:
                continue  # a header
            raise ValueError(f"{path}, line {line}: expected two numbers x, y, got {','.join(row)[:80]!r}") from error
        pairs.append((x, y))
    if not pairs:
        raise ValueError(f"expected lines of two numbers x, y in {path}, found none")
    x, y = np.array(pairs).T
    return x, y
