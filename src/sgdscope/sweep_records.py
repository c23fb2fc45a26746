"""Sweep records: many runs beside each other in one folder, read as rows of a table. Needs no torch.

    SWEEP/sweep.json              what was laid out: cells with their settings, versions, command, status
    SWEEP/cells/NAME/             one run folder per cell, see `records`
    SWEEP/cells/NAME/cell.json    how its run went, as far as the run folder does not say it: attempts, why it failed
    SWEEP/lock                    held while a process runs the sweep

The settings that all cells share are written once (``common``), each cell has those in which it differs.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sgdscope.edge_units import EdgeUnits, halved, reading
from sgdscope.estimate import Estimate, plain, short
from sgdscope.records import RecordsError, Run, open_run, write_json
from sgdscope.regime import Standing

FORMAT = 1
SETTLED = ("finished", "diverged")
"""Statuses of a cell that has come to its end; both are results."""
HELD_OUT = ("held_out_loss", "held_out_accuracy")
"""Quantities that are shown where a run recorded them."""
_NAME = re.compile(r"(?!\.+$)[\w.=,+-]{1,150}", re.ASCII)
_LARGEST, _TAIL = 256 << 20, 1 << 16
"""Bytes of a file with cells, and of the end of a file with rows."""
_ORDER = (
    "stable, noise-driven", "below the edge", "approaching the edge", "at the edge", "above the edge", "diverged",
    "unknown", "running", "interrupted", "failed", "waiting",
)  # fmt: skip
_IN_WORDS = {"stable, noise-driven": "stable (noise-driven)", "unknown": "with no known edge"}


def is_sweep(path: str | Path) -> bool:
    """Whether a folder holds a sweep."""
    return (Path(path) / "sweep.json").is_file()


@dataclass(frozen=True)
class SweepCell:
    """One run of a sweep.

    Attributes:
        name: of its folder.
        path: its run folder, which need not be there yet.
        settings: the options in which it is meant to differ from others.
        config: all its options.
        status: waiting, running, finished, interrupted, diverged or failed.
        reason: why it failed, or has no report; else empty.
        attempts: how often it was begun.
        run: what it recorded; None as long as there is nothing.
    """

    name: str
    path: Path
    settings: Mapping[str, Any]
    config: Mapping[str, Any]
    status: str
    reason: str
    attempts: int
    run: Run | None

    @property
    def settled(self) -> bool:
        """Whether it has come to its end."""
        return self.status in SETTLED

    @cached_property
    def standing(self) -> Standing | None:
        """Where it stands, or stood last; None without records."""
        return self.run.standing() if self.run is not None and self.run.rows else None

    @property
    def outcome(self) -> str:
        """What came of it in a word or two: the regime if it finished, else the status."""
        return self.standing.regime if self.status == "finished" and self.standing is not None else self.status

    @cached_property
    def positions(self) -> dict[str, Estimate]:
        """Batch sharpness, λ_max and the streamed edge ratio in edge units, means over the window of the standing."""
        if self.run is None or self.standing is None:
            return {}
        units, window = EdgeUnits.of(self.run), self.standing.window
        series = {name: units.convert(self.run.get(name)) for name in ("batch_sharpness", "lambda_max")}
        series["edge_ratio"] = halved(self.run.get("edge_ratio"))
        return {name: reading(readings, *window) for name, readings in series.items() if len(readings)}

    def mean(self, name: str) -> Estimate | None:
        """A recorded quantity, in its own unit, mean over the window of the standing; None if it has no reading."""
        if self.run is None or self.standing is None or name not in self.run:
            return None
        return reading(self.run[name], *self.standing.window)


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
        manifest = _manifest(path)
        return cls(path, manifest, tuple(_cell(path, entry, manifest["common"]) for entry in manifest["cells"]))

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
        return [_row(cell, self.varying, extra) for cell in self.cells]

    def to_csv(self) -> str:
        """`rows` as comma-separated values with a line of names."""
        rows = self.rows()
        file = io.StringIO()
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["cell"], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _written(value) for name, value in row.items()} for row in rows)
        return file.getvalue()

    def to_json(self) -> str:
        """`rows` as a JSON list of objects."""
        return json.dumps(plain(self.rows()), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def __str__(self) -> str:
        return "\n".join([self.headline, *_table(self)])


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write ``sweep.json``. Raises RecordsError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "sweep.json", {"format": FORMAT, **manifest})
    except OSError as error:
        raise RecordsError(f"cannot write the sweep in {path}: {error.strerror or error}") from error


@dataclass(frozen=True)
class Note:
    """What a sweep knows of a cell beside its run: how it went last, why it failed, and how often it was begun."""

    status: str = "waiting"
    reason: str = ""
    attempts: int = 0


def note_of(path: Path) -> Note:
    """The note of a cell's folder."""
    content = _read(path / "cell.json") or {}
    attempts = content.get("attempts")
    return Note(str(content.get("status", "waiting")), str(content.get("reason", "")),
                attempts if type(attempts) is int else 0)  # fmt: skip


def write_note(path: Path, status: str, reason: str = "", *, attempts: int | None = None) -> None:
    """Write the note of a cell's folder, with the number of attempts as it was unless given. Raises RecordsError."""
    begun = note_of(path).attempts if attempts is None else attempts
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "cell.json", {"status": status, "reason": reason, "attempts": begun})
    except OSError as error:
        raise RecordsError(f"cannot write in {path}: {error.strerror or error}") from error


def last_step(path: Path) -> int:
    """Step of the last row of a run folder, from the end of its file; 0 if there is none to be read."""
    try:
        with open(path / "rows.jsonl", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().splitlines()
    except OSError:
        return 0
    for line in reversed(lines):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        step = row.get("step", row.get("rewind_to")) if isinstance(row, dict) else None
        if type(step) is int:
            return step
    return 0


def list_sweeps(folder: str | Path) -> list[Path]:
    """Sweep folders at or below `folder` (two levels), oldest first."""
    found = {}
    for pattern in ("sweep.json", "*/sweep.json", "*/*/sweep.json"):
        for manifest in Path(folder).glob(pattern):
            found[manifest.parent] = os.path.getmtime(manifest) if manifest.exists() else 0.0
    return sorted(found, key=lambda path: (found[path], path))


def _manifest(path: Path) -> dict[str, Any]:
    file = path / "sweep.json"
    if not os.path.lexists(file):
        raise RecordsError(f"expected a sweep folder with a sweep.json, got {path}")
    content = _read(file)
    version = content.get("format") if content is not None else None
    if content is None or type(version) is not int or version < 1:
        raise RecordsError(f"cannot read {file}: it is damaged, or no sweep")
    if version > FORMAT:
        raise RecordsError(f"{path} was written in format {version:.6g}, this version reads up to {FORMAT}\n"
                           "hint: upgrade sgdscope")  # fmt: skip
    cells, common = content.get("cells"), content.get("common")
    if not (isinstance(cells, list) and isinstance(common, dict) and all(map(_is_entry, cells))) or len(
        {entry["name"] for entry in cells}
    ) < len(cells):
        raise RecordsError(f"cannot read {file}: its cells are not what they should be")
    return content


def _is_entry(entry: Any) -> bool:
    return (isinstance(entry, dict) and isinstance(entry.get("name"), str) and bool(_NAME.fullmatch(entry["name"]))
            and isinstance(entry.get("settings"), dict) and isinstance(entry.get("config"), dict))  # fmt: skip


def _cell(sweep: Path, entry: Mapping[str, Any], common: Mapping[str, Any]) -> SweepCell:
    path = sweep / "cells" / entry["name"]
    note, run = note_of(path), None
    status, reason = note.status, note.reason
    if os.path.lexists(path / "manifest.json"):
        try:
            run = open_run(path)
        except RecordsError as error:
            status, reason = "failed", str(error).splitlines()[0]
        else:
            if status != "failed" or run.status in SETTLED:  # a killed run still says that it is running
                status, reason = run.status, reason if status == run.status else ""
    config = {**common, **entry["config"]}
    return SweepCell(entry["name"], path, entry["settings"], config, status, reason, note.attempts, run)


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object; None if there is none."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return None
        content = json.loads(path.read_bytes().decode("utf-8"), parse_constant=lambda _: None)
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _row(cell: SweepCell, varying: Sequence[str], extra: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"cell": cell.name, **{name: cell.config.get(name) for name in varying},
                           "status": cell.status, "reason": cell.reason, "attempts": cell.attempts}  # fmt: skip
    standing = cell.standing
    row["step"] = cell.run.last_step if cell.run is not None else None
    row["regime"] = standing.regime if standing is not None else None
    edge = standing.edge if standing is not None else None
    row["edge_of"] = edge.name if edge is not None and edge.value is not None else None
    row |= _number("edge", edge)
    for name in ("batch_sharpness", "lambda_max", "edge_ratio"):
        row |= _number(f"{name}_edge_units", cell.positions.get(name))
    for name in ("batch_sharpness", "lambda_max", "loss", "full_loss", *extra):
        row |= _number(name, cell.mean(name))
    return row


def _number(name: str, found: Estimate | None) -> dict[str, float | None]:
    value = float(found) if found is not None and found.value is not None else None
    error = found.standard_error if found is not None and value is not None else None
    return {name: value, f"{name}_error": error[0] if isinstance(error, tuple) else error}


def _written(value: Any) -> Any:
    """A field of a CSV file; a text is kept from being taken for a formula by a spreadsheet."""
    if isinstance(value, list | tuple):
        value = " ".join(map(str, value))
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


def _table(sweep: Sweep, most: int = 40) -> list[str]:
    """Cells as lines of text."""
    options = sweep.varying
    rows = [[*(name.replace("_", "-") for name in options), "outcome", "edge", "λ_max", "loss"]]
    for cell in sweep.cells[:most]:
        edge = cell.standing.edge if cell.standing is not None else None
        numbers = (edge, cell.positions.get("lambda_max"))
        loss = cell.mean("loss")
        rows.append([
            *(f"{v:g}" if isinstance(v := cell.config.get(name), float) else str(v) for name in options), cell.outcome,
            *(short(e) if e is not None and e.value is not None else "–" for e in numbers),
            f"{float(loss):.3g}" if loss is not None and loss.value is not None else "–",
        ])  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    reasons = ["", *(cell.reason for cell in sweep.cells[:most])]
    lines = [
        "  ".join(["", *(word.ljust(width) for word, width in zip(row, widths, strict=True)), reason]).rstrip()
        for row, reason in zip(rows, reasons, strict=True)
    ]
    return lines + [f"  … and {len(sweep) - most:,} more"] * (len(sweep) > most)
