"""Files of a sweep: its manifest, checked, and what else is read from its folders without opening whole runs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sgdscope.records import RecordsError, write_json

FORMAT = 1
_NAME = re.compile(r"(?!\.+$)[\w.=,+-]{1,150}", re.ASCII)
_LARGEST, _TAIL = 256 << 20, 1 << 16
"""Bytes of a file with cells, and of the end of a file with rows."""


def is_sweep(path: str | Path) -> bool:
    """Whether a folder holds a sweep."""
    return (Path(path) / "sweep.json").is_file()


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write ``sweep.json``. Raises RecordsError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "sweep.json", {"format": FORMAT, **manifest})
    except OSError as error:
        raise RecordsError(f"cannot write the sweep in {path}: {error.strerror or error}") from error


def read_manifest(path: Path) -> dict[str, Any]:
    """What ``sweep.json`` holds, its cells checked. Raises RecordsError if it is no sweep, or from a newer format."""
    file = path / "sweep.json"
    if not os.path.lexists(file):
        raise RecordsError(f"expected a sweep folder with a sweep.json, got {path}")
    content = read_object(file)
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


def read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object; None if there is none."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return None
        content = json.loads(path.read_bytes().decode("utf-8"), parse_constant=lambda _: None)
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


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
