"""Cell: one run of a sweep, as its folder shows it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sgdscope.edge_units import EdgeUnits, halved, reading, window_mean
from sgdscope.estimate import Estimate
from sgdscope.records import RecordsError, Run, open_run
from sgdscope.regime import Standing
from sgdscope.sweep_records.note import note_of

SETTLED = ("finished", "diverged")
"""Statuses of a cell that has come to its end; both are results."""


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

    @classmethod
    def read(cls, sweep: Path, entry: Mapping[str, Any], common: Mapping[str, Any]) -> SweepCell:
        """The cell of an entry of the manifest, with the settings that all cells share."""
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
        return cls(entry["name"], path, entry["settings"], config, status, reason, note.attempts, run)

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
        """A recorded quantity, in its own unit, mean over the window of the standing; None without a reading there."""
        if self.run is None or self.standing is None or name not in self.run:
            return None
        found = window_mean(self.run[name], *self.standing.window)
        return None if found.value is None else found
