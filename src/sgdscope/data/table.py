"""Table: a CSV file with a named target; numbers standardised, categories one-hot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgdscope.data.arrays import MAX_BYTES, DataError, Dataset, folder_of, kept, shuffle
from sgdscope.data.delimited import Columns, read_columns

Task = Literal["classification", "regression"]

MISSING = frozenset({"", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None"})
"""What stands for a missing value: what pandas writes or reads as one, and UCI's question mark."""

MAX_CATEGORIES = 50
"""Distinct values of a column that are made into columns of their own."""

FEW_CLASSES = 20
"""A target of whole numbers with at most so many distinct values is taken for classes."""

MAX_CLASSES = 1000
"""Distinct values of a target that are taken for classes at all."""

_HINT = "pass the path of a CSV file, and the name of the column to predict as target"


def load_table(
    *,
    data_dir: str | Path | None = None,
    target: str | None = None,
    task: Task | None = None,
    ignore: Sequence[str] = (),
    subset: int | None = None,
    seed: int = 0,
    test: bool = True,
) -> Dataset:
    """The CSV file `data_dir` with the column `target` to be predicted, inputs of shape ``(N, features)``.

    Classification if the target has values that are no numbers, or whole numbers with at most 20 distinct values;
    labels are its places in sorted order. Otherwise regression: labels are the target as standardised numbers of shape
    ``(N, 1)``. `task` decides it instead. Columns named in `ignore` are left out.

    Features: a column of numbers is standardised, and a missing value takes its mean; any other column is one-hot over
    its sorted values, at most 50, where missing is a value of its own. A row without target is dropped, and so is a
    column without variation. Missing is an empty field and what else is in `MISSING`.

    A `subset` is the first of a fixed shuffle of the rows (``numpy.random.default_rng(seed)``), and the others are the
    test set; without one, or with `test` False, there is no test set. Means and deviations are those of the training
    rows. File format: see `delimited.read_columns`.

    Raises DataError if the file or the target is missing, a row is ragged, a number is not finite, a column has too
    many values, the target is constant or has more than 1,000 classes, or no other column varies.
    """
    path = folder_of("table", data_dir, _HINT)
    table = read_columns(path)
    names = list(table.values)
    if target is None:
        raise DataError(f"expected target, the column to predict, got none\n"
                        f"hint: on the command line --target NAME; {path.name} has {_listed(names)}")  # fmt: skip
    for name in (target, *ignore):
        if name not in names:
            what = "the target among" if name == target else "columns to ignore among"
            raise DataError(f"expected {what} the columns of {path.name}, got {name!r}\nhint: it has {_listed(names)}")
    if target in ignore:
        raise DataError(f"expected a target that is not ignored, got {target!r} as both")
    if task not in (None, "classification", "regression"):
        raise DataError(f"expected task 'classification' or 'regression', got {task!r}")

    there = np.array([value not in MISSING for value in table.values[target]])
    if not there.any():
        raise DataError(f"expected values in the target {target!r} of {path.name}, but all of them are missing")
    rows = np.flatnonzero(there)
    count = kept(subset, len(rows), path.name)
    order = rows if subset is None else rows[shuffle(len(rows), seed)]
    labels, classes, told = _labels(table, target, order, count, task)
    features, told_features = _features(
        table, [n for n in names if n != target and n not in ignore], order, count, path
    )
    dropped = f"; {len(there) - len(rows)} rows without target dropped" if len(rows) < len(there) else ""
    which = "in file order" if subset is None else f"first {count} of a fixed shuffle (seed {seed})"
    rest = test and count < len(rows)
    return Dataset(
        name="table",
        inputs=features[:count].clone(),
        labels=labels[:count].clone(),
        classes=None if classes is None else len(classes),
        test_inputs=features[count:].clone() if rest else None,
        test_labels=labels[count:].clone() if rest else None,
        class_names=classes or (),
        checksum=table.checksum,
        preprocessing=f"{path.name}: {count:,} rows, {which}{dropped}; {told}; {told_features}",
    )


def _labels(
    table: Columns, target: str, order: NDArray[np.int64], count: int, task: Task | None
) -> tuple[Tensor, tuple[str, ...] | None, str]:
    """The target's rows in `order` as labels, the names of the classes (None: regression), and a word on it."""
    values = [table.values[target][row] for row in order]
    numbers = _numbers(values)
    distinct: list[Any] = sorted(set(values)) if numbers is None else np.unique(numbers).tolist()
    if len(distinct) < 2:
        raise DataError(f"expected a target with at least two different values, but {target!r} is always {values[0]!r}")
    whole = numbers is not None and bool((numbers == np.round(numbers)).all())
    few = whole and len(distinct) <= FEW_CLASSES
    if task == "regression" or (task is None and numbers is not None and not few):
        if numbers is None:
            row = next(row for row, value in zip(order, values, strict=True) if _number(value) is None)
            raise DataError(
                f"expected numbers in the target {target!r} of a regression, got {table.values[target][row]!r} in line "
                f"{table.lines[row]}\nhint: leave the task out to have its values taken for classes"
            )
        _finite(table, target, order, numbers)
        standardised, mean, deviation = _standardised(numbers, count)
        if deviation == 0:
            raise DataError(f"expected a target that varies, but {target!r} is constant in the {count} training rows")
        told = f"regression of {target}, standardised by mean {mean:.6g} and standard deviation {deviation:.6g}"
        return torch.from_numpy(standardised.astype(np.float32))[:, None], None, told
    if len(distinct) > MAX_CLASSES:
        raise DataError(
            f"expected at most {MAX_CLASSES:,} classes in the target {target!r}, got {len(distinct):,}\n"
            "hint: is it a column of names? choose another target; for numbers the task may be regression"
        )
    keys = values if numbers is None else numbers.tolist()
    place = {value: index for index, value in enumerate(distinct)}
    labels = torch.tensor([place[key] for key in keys], dtype=torch.int64)
    class_names = tuple(value if isinstance(value, str) else f"{value:g}" for value in distinct)
    return labels, class_names, f"classification of {target}, {len(distinct)} classes"


def _features(table: Columns, names: list[str], order: NDArray[np.int64], count: int, path: Path) -> tuple[Tensor, str]:
    """The columns `names` as numbers, shape ``(rows, features)``, and a word on what was done."""
    parts: list[NDArray[np.float32]] = []
    numeric, categorical, flat, filled = 0, 0, [], 0
    for name in names:
        column = table.values[name]
        values = [None if column[row] in MISSING else column[row] for row in order]
        numbers = _numbers(values)
        if numbers is None:
            encoded = _one_hot(table, name, order, values)
            categorical += 1
        else:
            _finite(table, name, order, numbers)
            encoded = _standardised(numbers, count)[0][:, None]
            numeric += 1
        if encoded.shape[1] == 0 or not np.ptp(encoded[:count], axis=0).any():
            flat.append(name)
            numeric, categorical = numeric - (numbers is not None), categorical - (numbers is None)
            continue
        filled += 0 if numbers is None else int(np.isnan(numbers).sum())
        parts.append(encoded.astype(np.float32))
        if sum(part.nbytes for part in parts) > MAX_BYTES:
            raise DataError(f"expected features of at most {MAX_BYTES} bytes, got more in {path.name}\n"
                            "hint: fewer rows, or leave columns out with ignore")  # fmt: skip
    if not parts:
        raise DataError(
            f"expected a column besides the target in {path.name} that varies, got none of {len(names)}\n"
            "hint: what predicts the target stands in columns of the same file"
        )
    features = np.concatenate(parts, axis=1)
    told = [f"{numeric} columns of numbers standardised, {categorical} of categories one-hot: "
            f"{features.shape[1]} features"]  # fmt: skip
    told += [f"{filled} missing numbers took the mean"] * bool(filled)
    told += [f"without variation and left out: {_listed(flat)}"] * bool(flat)
    return torch.from_numpy(features), "; ".join(told)


def _number(value: str) -> float | None:
    try:
        return None if "_" in value else float(value)  # Python reads 1_000 as a number; a table does not mean it
    except ValueError:
        return None


def _numbers(values: Sequence[str | None]) -> NDArray[np.float64] | None:
    """All values as numbers, NaN where missing; None if one is no number."""
    found = np.empty(len(values))
    for index, value in enumerate(values):
        number = math.nan if value is None else _number(value)
        if number is None:
            return None
        found[index] = number
    return found


def _finite(table: Columns, name: str, order: NDArray[np.int64], numbers: NDArray[np.float64]) -> None:
    """Raises DataError if a number is infinite."""
    for index in np.flatnonzero(np.isinf(numbers)):
        row = order[index]
        raise DataError(
            f"expected finite numbers in the column {name!r}, got {table.values[name][row]!r} in line "
            f"{table.lines[row]}\nhint: an empty field stands for a missing number"
        )


def _standardised(numbers: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], float, float]:
    """``(x − mean) / deviation`` by the first `count` rows, missing ones 0; all 0 if these do not vary."""
    known = numbers[:count][~np.isnan(numbers[:count])]
    size = float(np.abs(known).max(initial=0.0)) or 1.0  # keeps the squares of very large and small numbers in range
    mean, deviation = (float((known / size).mean()), float((known / size).std())) if len(known) else (0.0, 0.0)
    if deviation <= 1e-12 * abs(mean):  # constant but for rounding
        return np.zeros(len(numbers)), size * mean, 0.0
    with np.errstate(over="ignore"):  # a test row may lie beyond any number
        standardised = np.clip((numbers / size - mean) / deviation, -1e30, 1e30)
    return np.nan_to_num(standardised, nan=0.0), size * mean, size * deviation


def _one_hot(table: Columns, name: str, order: NDArray[np.int64], values: list[str | None]) -> NDArray[np.float64]:
    """One column per distinct value in sorted order, the missing one last."""
    distinct = sorted({value for value in values if value is not None})
    if len(distinct) > MAX_CATEGORIES:
        row = next(r for r, v in zip(order, values, strict=True) if v is not None and _number(v) is None)
        raise DataError(
            f"expected numbers, or at most {MAX_CATEGORIES} different values, in the column {name!r}, got "
            f"{len(distinct):,} values, one of them {table.values[name][row]!r} in line {table.lines[row]}\n"
            f"hint: leave it out (on the command line: --ignore-columns {name!r}), or group its rare values"
        )
    place: dict[str | None, int] = {value: index for index, value in enumerate(distinct)}
    if None in values:
        place[None] = len(place)
    encoded = np.zeros((len(values), len(place)))
    encoded[np.arange(len(values)), [place[value] for value in values]] = 1
    return encoded


def _listed(names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
