"""Checkpoints: the stored models of one run, in order, with their steps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from sgdscope.average.files import SUFFIXES, CheckpointError, file_of
from sgdscope.theory.averaging.arguments import count

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Checkpoints:
    """Files of one run, oldest first, and the step of each.

    Attributes:
        paths: files, or folders that hold one.
        steps: increasing.
        entry: where in each file the state dict is, if it holds several things.
    """

    paths: tuple[Path, ...]
    steps: tuple[int, ...]
    entry: str | None = None

    @classmethod
    def of(
        cls, source: str | Path | Iterable[str | Path] | Mapping[int, str | Path], *,
        steps: Iterable[int] | None = None, entry: str | None = None,
    ) -> Checkpoints:  # fmt: skip
        """From a run folder, a folder of files, files in order, or files by step.

        In a folder the last number in each name is its step. Files in order are steps 1, 2, … unless `steps` are given.
        Raises CheckpointError for what is not there, ValueError for steps that do not fit.
        """
        if isinstance(source, Mapping):
            if steps is not None:
                raise ValueError("expected steps either as keys or as `steps`, got both")
            pairs = [(Path(path), step) for step, path in sorted(source.items())]
        elif isinstance(source, str | Path):
            pairs = _in_folder(Path(source))
        else:
            pairs = [(Path(path), number) for number, path in enumerate(source, 1)]
        paths = tuple(path for path, _ in pairs)
        numbers = tuple(count(n, "step", 0) for n in (steps if steps is not None else (number for _, number in pairs)))
        if len(numbers) != len(paths):
            raise ValueError(f"expected one step per checkpoint, got {len(numbers)} for {len(paths)} of them")
        if any(b <= a for a, b in pairwise(numbers)):
            raise ValueError(f"expected steps that increase, oldest first, got {numbers}")
        if not paths:
            raise CheckpointError(f"expected checkpoints, got none in {source}")
        for path in paths:
            if file_of(path) is None:
                raise CheckpointError(f"expected a checkpoint, got {path}: there is no file with weights")
        return cls(paths, numbers, entry)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: slice) -> Checkpoints:
        return Checkpoints(self.paths[index], self.steps[index], self.entry)


def _in_folder(folder: Path) -> list[tuple[Path, int]]:
    """Checkpoints of a run folder, or files and folders with weights, by the last number of their names."""
    if not folder.is_dir():
        raise CheckpointError(f"expected a folder of checkpoints, or several files, got {folder}")
    inside = folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder
    found: dict[int, Path] = {}
    for path in sorted(inside.iterdir()):
        if path.suffix in (".tmp",) or path.name.startswith("."):
            continue
        if (path.is_dir() and file_of(path) is None) or (path.is_file() and path.suffix not in SUFFIXES):
            continue
        numbers = _NUMBER.findall(path.stem if path.is_file() else path.name)
        if not numbers:
            raise CheckpointError(
                f"expected a step in the name of each checkpoint in {inside}, got {path.name}\n"
                "hint: give the files in order, or by step: {1000: 'a.pt', 2000: 'b.pt'}"
            )
        step = int(numbers[-1])
        if step in found:
            raise CheckpointError(
                f"expected one checkpoint per step in {inside}, got {found[step].name} and {path.name}\n"
                "hint: give the files in order, or by step: {1000: 'a.pt', 2000: 'b.pt'}"
            )
        found[step] = path
    return [(path, step) for step, path in sorted(found.items())]
