"""Sweep: all cells of a folder, what they differ in, and what came of them."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgdscope.estimate import plain
from sgdscope.sweep_records import table
from sgdscope.sweep_records.cell import SweepCell
from sgdscope.sweep_records.files import read_manifest

HELD_OUT = ("held_out_loss", "held_out_accuracy")
"""Quantities that are shown where a run recorded them."""
_ORDER = (
    "stable, noise-driven", "below the edge", "approaching the edge", "at the edge", "above the edge", "diverged",
    "unknown", "running", "interrupted", "failed", "waiting",
)  # fmt: skip
_IN_WORDS = {"stable, noise-driven": "stable (noise-driven)", "unknown": "with no known edge"}


@dataclass(frozen=True)
class Sweep:
    """A sweep as read from disk, finished or not. Reading runs no code of the folder.

    Attributes:
        path: its folder.
        manifest: what ``sweep.json`` holds.
        cells: in the order in which they were laid out.
    """

    path: Path
    manifest: Mapping[str, Any]
    cells: tuple[SweepCell, ...]

    @classmethod
    def open(cls, path: str | Path) -> Sweep:
        """Read a sweep folder. Raises RecordsError if it is none, or comes from a newer format."""
        path = Path(path)
        manifest = read_manifest(path)
        return cls(
            path, manifest, tuple(SweepCell.read(path, entry, manifest["common"]) for entry in manifest["cells"])
        )

    @property
    def status(self) -> str:
        """running, finished (every cell was tried) or interrupted, as the manifest says."""
        return str(self.manifest.get("status", "running"))

    @property
    def varying(self) -> tuple[str, ...]:
        """Options that were set cell by cell and are not the same in all."""
        names = dict.fromkeys(name for name in self.manifest["common"])
        names |= dict.fromkeys(name for cell in self.cells for name in cell.config)
        given = {name for cell in self.cells for name in cell.settings}
        return tuple(n for n in names if n in given and any(c.config.get(n) != self.cells[0].config.get(n)
                                                           for c in self.cells))  # fmt: skip

    @property
    def outcomes(self) -> dict[str, int]:
        """How many cells came to what, see `SweepCell.outcome`; in a fixed order."""
        count = Counter(cell.outcome for cell in self.cells)
        known = {name: count[name] for name in _ORDER if count[name]}
        return {**known, **{name: n for name, n in count.items() if name not in known}}

    @property
    def headline(self) -> str:
        """``9 runs: 3 below the edge, 4 at the edge, 2 diverged``."""
        said = [f"{count} {_IN_WORDS.get(outcome, outcome)}" for outcome, count in self.outcomes.items()]
        return f"{len(self.cells)} {'run' if len(self.cells) == 1 else 'runs'}: {', '.join(said)}"

    def __getitem__(self, name: str) -> SweepCell:
        for cell in self.cells:
            if cell.name == name:
                return cell
        raise KeyError(f"this sweep has no {name!r}")

    def __iter__(self) -> Iterator[SweepCell]:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)

    def where(self, **options: Any) -> tuple[SweepCell, ...]:
        """Cells with these options, e.g. ``sweep.where(lr=0.1, seed=0)``."""
        wanted = plain(options)
        return tuple(cell for cell in self.cells if all(cell.config.get(name) == v for name, v in wanted.items()))

    def rows(self) -> list[dict[str, Any]]:
        """One row of plain numbers and words per cell; None where there is no number.

        ``edge`` is measured over threshold of the quantity in ``edge_of`` (batch sharpness; λ_max for full batch; else
        half the edge ratio). Quantities in edge units end in ``_edge_units``; ``_error`` is the standard error. Means
        are over the last quarter of the run, see `regime.Standing`.
        """
        extra = [name for name in HELD_OUT if any(cell.mean(name) for cell in self.cells)]
        return [table.row(cell, self.varying, extra) for cell in self.cells]

    def to_csv(self) -> str:
        """`rows` as comma-separated values with a line of names."""
        rows = self.rows()
        file = io.StringIO()
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["cell"], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: table.field(value) for name, value in row.items()} for row in rows)
        return file.getvalue()

    def to_json(self) -> str:
        """`rows` as a JSON list of objects."""
        return json.dumps(plain(self.rows()), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def __str__(self) -> str:
        return "\n".join([self.headline, *table.lines(self.cells, self.varying)])
