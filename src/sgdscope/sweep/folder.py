"""Folder: what a sweep folder holds of its grid, and how a grid fits to what is there already."""

from __future__ import annotations

import importlib.metadata
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sgdscope._version import __version__
from sgdscope.config import ConfigError, RunConfig
from sgdscope.estimate import plain
from sgdscope.records import RecordsError
from sgdscope.sweep import options
from sgdscope.sweep.grid import Grid, GridCell
from sgdscope.sweep.names import marked
from sgdscope.sweep_records import Sweep


def manifest_of(cells: Sequence[GridCell], began: Sweep | None, command: Sequence[str]) -> dict[str, Any]:
    """What ``sweep.json`` says of these cells. The time at which the sweep was made stays that of `began`."""
    configs = [cell.config.to_json() for cell in cells]
    common = {key: value for key, value in configs[0].items() if all(config[key] == value for config in configs)}
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {
        "created": now if began is None else began.manifest.get("created", now),
        "sgdscope": __version__,
        "versions": {"python": sys.version.split()[0], "numpy": _version("numpy"), "torch": _version("torch")},
        "command": list(command),
        "common": common,
        "cells": [
            {"name": cell.name, "settings": {name: config[name] for name in cell.settings},
             "config": {key: value for key, value in config.items() if key not in common}}
            for cell, config in zip(cells, configs, strict=True)
        ],
    }  # fmt: skip


def _version(package: str) -> str:
    """Without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def planned(began: Sweep) -> Iterator[GridCell]:
    """The cells that a folder was begun with. Raises ConfigError if they make no runs any more."""
    for cell in began:
        yield GridCell(cell.name, cell.settings, RunConfig.from_json(cell.config).resolved())


def joined(began: Sweep, cells: Sequence[GridCell]) -> tuple[GridCell, ...]:
    """The cells of a grid, those that the folder has by the names they have there. Raises ConfigError."""
    there = {cell.config: cell for cell in planned(began)}
    wanted = {cell.config for cell in cells}
    if gone := [cell.name for config, cell in there.items() if config not in wanted]:
        raise ConfigError(
            f"expected a grid with all {len(there)} runs that {began.path} was begun with, but it lacks {len(gone)}, "
            f"such as {gone[0]}\nhint: choose another --out, or go on with  sgdscope sweep --resume {began.path}"
        )
    taken = {cell.name.casefold() for cell in there.values()}
    named = [
        cell if cell.name.casefold() not in taken else replace(cell, name=marked(cell.name, cell.config))
        for cell in cells
    ]
    return tuple(there.get(cell.config, cell) for cell in named)


def check_runs(began: Sweep, cells: Sequence[GridCell]) -> None:
    """Raises ConfigError for a cell whose folder holds another run."""
    there = {cell.name: cell for cell in began}
    for cell in cells:
        run = there[cell.name].run if cell.name in there else None
        if run is None:
            continue
        config = RunConfig.from_json(run.config).resolved().to_json()
        other = next((n for n, value in cell.config.to_json().items() if plain(value) != plain(config[n])), None)
        if other is not None:
            wanted = f"--{options.spelled(other)} {getattr(cell.config, other)}"
            raise ConfigError(
                f"expected a run with {wanted} in {run.path}, got one with {config[other]}\n"
                "hint: choose another --out, or move that run out of the sweep"
            )


def holds(folder: str | Path, grid: Grid) -> bool:
    """Whether a folder is a sweep of just the runs of a grid."""
    try:
        began = Sweep.open(folder)
        return {cell.config for cell in planned(began)} == {cell.config for cell in grid.cells}
    except (RecordsError, ConfigError):
        return False
