"""Data set: read once by each worker, for all its cells that want the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sgdscope import data


class KeptDataset:
    """Reads like `data.load` and keeps what it has read last, as long as the files stay as they are."""

    def __init__(self) -> None:
        self._asked: Any = None
        self._dataset: data.Dataset | None = None

    def __call__(self, name: str, **options: Any) -> data.Dataset:
        """The data set. Raises DataError as `data.load` does."""
        asked = name, options, _stamp(options.get("data_dir"))
        if self._dataset is None or asked != self._asked:
            self._dataset = None  # two large ones need not be in memory at once
            self._dataset = data.load(name, **options)
            self._asked = asked
        return self._dataset


def _stamp(place: str | Path | None) -> tuple[int, int, int]:
    """Number, size and time of the last change of all files at or below a place."""
    count = size = changed = 0
    for path in [] if place is None else [Path(place), *_below(Path(place))]:
        try:
            found = path.stat()
        except OSError:
            continue
        count, size, changed = count + 1, size + found.st_size, max(changed, found.st_mtime_ns)
    return count, size, changed


def _below(place: Path) -> list[Path]:
    return [Path(folder) / name for folder, _, names in os.walk(place) for name in names]
