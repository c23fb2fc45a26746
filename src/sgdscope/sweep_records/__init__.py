"""Sweep records: many runs beside each other in one folder, read as rows of a table. Needs no torch.

    SWEEP/sweep.json              what was laid out: cells with their settings, versions, command, status
    SWEEP/cells/NAME/             one run folder per cell, see `records`
    SWEEP/cells/NAME/cell.json    how its run went, as far as the run folder does not say it: attempts, why it failed
    SWEEP/lock                    held while a process runs the sweep

The settings that all cells share are written once (``common``), each cell has those in which it differs.
"""

from __future__ import annotations

from sgdscope.sweep_records.cell import SETTLED, SweepCell
from sgdscope.sweep_records.files import is_sweep, last_step, list_sweeps, write_manifest
from sgdscope.sweep_records.note import Note, note_of, write_note
from sgdscope.sweep_records.sweep import Sweep

__all__ = [
    "SETTLED", "Note", "Sweep", "SweepCell", "is_sweep", "last_step", "list_sweeps", "note_of", "write_manifest",
    "write_note",
]  # fmt: skip
