"""Answer: what `sgdscope predict` says, as tables of plain text, with the pictures that go with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sgdscope.picture import Picture
from sgdscope.theory.prediction import Prediction


@dataclass(frozen=True)
class Table:
    """Rows of text under a title; the first column is flush left, numbers read best to three or six digits.

    Attributes:
        title: what the table is about.
        columns: names of the columns.
        rows: one text per column each.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]

    def __str__(self) -> str:
        widths = [max(len(row[i]) for row in [self.columns, *self.rows]) for i in range(len(self.columns))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                 for row in [self.columns, *self.rows]]  # fmt: skip
        return "\n".join([self.title, *(f"  {line}" for line in lines)])


@dataclass(frozen=True)
class Answer:
    """What is printed: tables, then notes (assumptions broken, sources); and what ``--plot`` draws.

    `draw` makes the pictures when they are asked for: some take longer than the tables.
    """

    tables: Sequence[Table]
    notes: Sequence[str] = ()
    draw: Callable[[], Sequence[Picture]] = tuple

    def __str__(self) -> str:
        parts = [str(table) for table in self.tables]
        return "\n\n".join([*parts, "\n".join(self.notes)] if self.notes else parts)


def notes_of(predictions: Sequence[Prediction]) -> list[str]:
    """Each broken assumption once, then each source once."""
    warnings = dict.fromkeys(f"outside its range: {said}" for found in predictions for said in found.warnings)
    sources = dict.fromkeys(found.source for found in predictions if found.source)
    return [*warnings, *([f"source: {'; '.join(sources)}"] if sources else [])]


def number(value: float | None) -> str:
    """Six digits for a glance and for copying; a dash for what there is none of.

    >>> number(1941.6999), number(2.5e-7), number(None)
    ('1941.7', '2.5e-07', '–')
    """
    return "–" if value is None else f"{value:.6g}"
