"""Task: one cell as it is handed to a worker, and what comes back. Needs no torch before it is carried out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sgdscope.config import RunConfig
from sgdscope.errors import usage_errors
from sgdscope.records import RecordsError


@dataclass(frozen=True)
class Task:
    """One cell of a sweep.

    Attributes:
        sweep: folder of the sweep, absolute.
        name: of the cell.
        config: of its run, filled in.
        mark: of the session it belongs to.
        report: whether to write the report of its run.
        command: what the user typed.
    """

    sweep: Path
    name: str
    config: RunConfig
    mark: str
    report: bool
    command: Sequence[str]

    @property
    def path(self) -> Path:
        """Its run folder."""
        return self.sweep / "cells" / self.name


@dataclass(frozen=True)
class Result:
    """What came of a task: status and regime of the run, and why it failed if it did."""

    status: str
    regime: str = ""
    reason: str = ""


def carry_out(task: Task) -> Result:
    """Train the run of a cell to its end; see `cell.carry_out`."""
    from sgdscope.sweep import cell  # torch: only where something is trained

    return cell.carry_out(task)


def in_words(error: BaseException) -> str:
    """What an exception says, in a line; its kind too unless it was raised to be read."""
    said = str(error).split("\nhint:")[0].replace("\n", " ")[:300]
    plain = isinstance(error, (RecordsError, *usage_errors()))
    return said if plain and said else f"{type(error).__name__}: {said}"
