"""Cells: independent pieces of a larger computation, each a file of its own, so that nothing is done twice or lost.

    FOLDER/cells/NAME.json   what the cell was asked and what it found, written whole, then renamed
    FOLDER/cells/NAME/       what it needs on the way, such as a run folder to resume from
    FOLDER/lock              held while a process works on the folder

A cell whose file is there and asks the same is skipped; one that failed is tried again the next time.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sgdscope.estimate import Estimate, plain
from sgdscope.executors import Executor, outcomes
from sgdscope.records import RecordsError, locked, write_json

FORMAT = 1
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,119}")
_LARGEST = 64 << 20
"""Bytes of a result file that are read."""

Progress = Callable[[int, int], None]
"""Called with the number of cells that are finished, and of all."""


class MissingCellError(LookupError):
    """A result was asked for that is not there: its cell was not run, or failed; the message says which and why."""


@dataclass(frozen=True)
class Cell:
    """One piece: a function, by name, and its settings.

    Attributes:
        name: of its file: small letters, digits, ``.``, ``_``, ``-``.
        function: ``"package.module:function"`` of this package; called as ``function(settings, folder)`` with the
            folder that is the cell's own, it returns a mapping of plain JSON types and Estimates.
        settings: plain JSON types; all that the result may depend on, seeds included.

    Raises ValueError for another name or function.
    """

    name: str
    function: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"expected a cell's name of small letters, digits, '.', '_' and '-', got {self.name!r:.80}"
            )
        if not re.fullmatch(r"sgdscope(\.\w+)+:\w+", self.function):
            raise ValueError(
                f"expected a function of this package as 'sgdscope.module:name', got {self.function!r:.80}"
            )
        object.__setattr__(self, "settings", plain(dict(self.settings)))

    def file(self, folder: Path) -> Path:
        """Where its result is kept."""
        return folder / "cells" / f"{self.name}.json"


class Results(Mapping[str, Mapping[str, Any]]):
    """What cells found, by name; asking for one that is not there raises `MissingCellError`.

    Attributes:
        cells: all of them, finished or not.
        failures: why those that failed did, by name.
    """

    def __init__(
        self, cells: Sequence[Cell], found: Mapping[str, Mapping[str, Any]], failures: Mapping[str, str] | None = None
    ) -> None:
        self.cells = {cell.name: cell for cell in cells}
        self.failures = dict(failures or {})
        self._found = dict(found)

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        if name in self._found:
            return self._found[name]
        why = self.failures.get(name, "it was not run" if name in self.cells else "there is no such cell")
        raise MissingCellError(f"the result of {name} is missing: {why}")

    def __contains__(self, name: object) -> bool:
        return name in self._found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def where(self, **settings: Any) -> dict[str, Mapping[str, Any]]:
        """Results of all cells with these settings, in the order of cells.

        Raises MissingCellError if one of them is missing, or if there is no such cell.
        """
        wanted = plain(settings)
        named = [n for n, cell in self.cells.items() if all(cell.settings.get(k) == v for k, v in wanted.items())]
        if not named:
            raise MissingCellError("no cell has " + ", ".join(f"{k} {v}" for k, v in wanted.items()))
        return {name: self[name] for name in named}

    def estimate(self, name: str, key: str) -> Estimate:
        """An Estimate out of a result. Raises MissingCellError if it is none."""
        row = self[name].get(key)
        try:
            return Estimate.from_row(row)  # type: ignore[arg-type]
        except ValueError as error:
            raise MissingCellError(f"the result of {name} has no estimate {key!r}") from error


def read_results(cells: Sequence[Cell], folder: Path) -> Results:
    """What is there of these cells. A file that asks another thing, or cannot be read, counts as not there."""
    found, failures = {}, {}
    for cell in cells:
        kept = _read(cell.file(folder))
        if kept is None or kept.get("function") != cell.function or kept.get("settings") != cell.settings:
            continue
        if isinstance(kept.get("result"), dict):
            found[cell.name] = kept["result"]
        elif isinstance(kept.get("failure"), str):
            failures[cell.name] = kept["failure"]
    return Results(cells, found, failures)


def run_cells(
    cells: Sequence[Cell], folder: str | Path, *, executor: Executor = None, progress: Progress | None = None
) -> Results:
    """Do all cells that are not finished, and return what all of them found.

    A cell that raises is written down with its reason and leaves the others alone; one whose worker is lost is begun
    again. After an interrupt, finished cells are kept, and those under way may find what they left in their folders.

    Args:
        cells: with names of their own.
        folder: made if needed.
        executor: who does the work; see `executors.Executor`.
        progress: see `Progress`.

    Raises RecordsError if the folder cannot be written or another process works on it, ValueError for two cells of one
    name.
    """
    folder = Path(folder)
    names = [cell.name for cell in cells]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"expected cells with names of their own, got two of {twice}")
    try:
        (folder / "cells").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordsError(f"cannot create {folder / 'cells'}: {error.strerror or error}") from error
    with locked(folder):
        before = read_results(cells, folder)
        left = [cell for cell in cells if cell.name not in before]
        done = len(cells) - len(left)
        if progress is not None:
            progress(done, len(cells))
        with closing(outcomes(_do, [(cell, folder) for cell in left], executor=executor)) as under_way:
            for outcome in under_way:
                if outcome.error is not None:
                    _note_failure(left[outcome.key], folder, outcome.error)
                done += 1
                if progress is not None:
                    progress(done, len(cells))
    return read_results(cells, folder)


def _do(task: tuple[Cell, Path]) -> None:
    """One cell: call its function and keep what it gives."""
    cell, folder = task
    module, _, name = cell.function.partition(":")
    own = folder / "cells" / cell.name
    function = getattr(importlib.import_module(module), name)
    start = time.monotonic()
    with _one_thread():
        result = function(dict(cell.settings), own)
    _keep(cell, folder, {"result": _rows(result), "seconds": round(time.monotonic() - start, 2)})


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One thread of torch, if it is loaded: numbers then do not depend on how many cores a machine has, nor do cells
    that run side by side wait for each other's threads.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _note_failure(cell: Cell, folder: Path, error: BaseException) -> None:
    said = str(error).splitlines()[0] if str(error) else ""
    with contextlib.suppress(OSError):  # then it is only not told
        _keep(cell, folder, {"failure": f"{type(error).__name__}: {said}"[:300]})


def _keep(cell: Cell, folder: Path, found: Mapping[str, Any]) -> None:
    write_json(cell.file(folder), {"format": FORMAT, "function": cell.function, "settings": cell.settings, **found})


def _rows(result: Any) -> Any:
    """Estimates become rows; numbers that are none are refused, as they could not be told from numbers later."""
    if isinstance(result, Estimate):
        return result.to_row()
    if isinstance(result, Mapping):
        return {str(key): _rows(value) for key, value in result.items()}
    if isinstance(result, list | tuple):
        return [_rows(value) for value in result]
    found = plain(result)
    if isinstance(found, str) and not isinstance(result, str | Path):
        raise ValueError(f"expected finite numbers, text and Estimates as a cell's result, got {found:.80}")
    return [_rows(value) for value in found] if isinstance(found, list) else found


def _read(path: Path) -> dict[str, Any] | None:
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return None
        kept = json.loads(path.read_bytes().decode("utf-8"), parse_constant=lambda _: None)
    except (OSError, ValueError, RecursionError):
        return None
    return kept if isinstance(kept, dict) and kept.get("format") == FORMAT else None
