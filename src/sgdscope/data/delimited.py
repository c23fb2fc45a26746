"""Delimited text (CSV): columns of strings by name, with the line each row stood in."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from sgdscope.data.arrays import DataError
from sgdscope.data.utf8 import checksum, read_utf8

DELIMITERS = ",;\t|"

_HINT = "a CSV file has the names of the columns in its first line, and one row per line"


@dataclass(frozen=True)
class Columns:
    """The rows of a file by column.

    Attributes:
        values: name to one string per row, stripped of blanks, in the order of the file.
        lines: the line in which each row ended, counted from 1.
        checksum: of the file's text.
    """

    values: dict[str, list[str]]
    lines: list[int]
    checksum: str


def read_columns(path: Path) -> Columns:
    """Read a CSV file in UTF-8 whose first line names the columns; blank lines are passed over.

    The delimiter is the one of comma, semicolon, tab and bar that splits the first line into most names; quotes are
    double quotes. Format: RFC 4180. Raises DataError for a file that is none of that: a name that is missing or there
    twice, a row of another length, no row at all.
    """
    text = read_utf8(path, "a CSV file", _HINT)
    first = text.lstrip("\n").partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            if row:
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"cannot read line {reader.line_num} of {path}: {error}\nhint: {_HINT}") from error
    if not rows:
        raise DataError(f"expected a CSV file, but {path} is empty\nhint: {_HINT}")
    names = _names(rows.pop(0), lines.pop(0), path)
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(names):
            raise DataError(
                f"expected {len(names)} values in line {line} of {path}, as line 1 has names, got {len(row)}\n"
                f'hint: a value that contains {delimiter!r} stands in double quotes: "a{delimiter}b"'
            )
    if not rows:
        raise DataError(f"expected rows below the names in {path}, got none\nhint: {_HINT}")
    columns = [[value.strip() for value in column] for column in zip(*rows, strict=True)]
    return Columns(dict(zip(names, columns, strict=True)), lines, checksum(text))


def _names(row: list[str], line: int, path: Path) -> list[str]:
    names = [name.strip() for name in row]
    if "" in names:
        raise DataError(
            f"expected a name for every column in line {line} of {path}, got none for column {names.index('') + 1}\n"
            "hint: an unnamed first column is the row index that pandas writes; save with to_csv(index=False)"
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(
            f"expected different names in line {line} of {path}, got {twice!r} more than once\nhint: {_HINT}"
        )
    return names
