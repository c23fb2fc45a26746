"""Grid: runs that differ in some of their options, laid out and checked before any of them begins."""

from __future__ import annotations

import itertools
import math
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sgdscope.config import ConfigError, RunConfig
from sgdscope.sweep import options
from sgdscope.sweep.names import folder_names, shown

MOST = 10_000
"""Runs of a grid."""

Values = Mapping[str, Any]
_Lists = dict[str, list[Any]]


@dataclass(frozen=True)
class GridCell:
    """One run of a grid.

    Attributes:
        name: of its folder; see `names.folder_names`.
        settings: the options in which it is meant to differ from others.
        config: all its options, filled in and checked.
    """

    name: str
    settings: Values
    config: RunConfig


class Grid:
    """Runs by their options: one value each, or several of which every combination is a run.

    Args:
        values: by option, a value or a list of values. (For options whose one value is a list of texts, such as
            ``optimizer_options``, several values are a list of lists.)
        together: lists that go in step: the first value of each, then the second of each, …; every such step with every
            combination of the others.
        single: single runs by the options that are theirs, on top of those in `values` that have one value. With single
            runs and no lists there are no others.

    Attributes:
        cells: the runs, in the order of the lists, the first of which changes slowest; then the single ones.

    A run trains on one thread unless it says otherwise: runs beside each other would only fight, and its numbers depend
    on their count. Raises ConfigError for options and values that make no run, options given in two places, values or
    runs that are there twice, and more than 10,000 runs.
    """

    def __init__(
        self, values: Values | None = None, *, together: Sequence[Values] = (), single: Sequence[Values] = ()
    ) -> None:
        lists = _lists(values or {}, "")
        steps = [_lists(group, "in step", repeated=True) for group in together]
        alone = [_lists(cell, f"in run {i}") for i, cell in enumerate(single, 1)]
        common = {name: several[0] for name, several in lists.items() if len(several) == 1}
        _once(lists, *steps)
        for i, cell in enumerate(alone, 1):
            _once(common, cell)
            if not cell or any(len(several) > 1 for several in cell.values()):
                raise ConfigError(f"expected options with one value each in run {i}, got {dict(single[i - 1])!r:.80}")
        for group in steps:
            lengths = {options.spelled(name): len(several) for name, several in group.items()}
            if len(set(lengths.values())) != 1 or min(lengths.values()) < 2:
                said = ", ".join(f"{name} with {length}" for name, length in lengths.items()) or "none"
                raise ConfigError(f"expected lists in step of one length, two or more, got {said}")
        axes = [[{name: value} for value in several] for name, several in lists.items() if len(several) > 1]
        axes += [[dict(zip(group, step, strict=True)) for step in zip(*group.values(), strict=True)] for group in steps]
        count = (math.prod(map(len, axes)) if axes or not alone else 0) + len(alone)
        if count > MOST:
            raise ConfigError(f"expected a grid of at most {MOST:,} runs, got one of {count:,}")
        own = [_merged(combination) for combination in itertools.product(*axes)] if axes or not alone else []
        own += [{name: value for name, (value,) in cell.items()} for cell in alone]
        self.cells = _different([(settings, _resolved(common, settings)) for settings in own])

    @classmethod
    def read(cls, path: str | Path, more: Values | None = None) -> Grid:
        """Out of a TOML file; `more` options may come from elsewhere.

        ``lr = [0.1, 0.2]`` at the top are options; a table ``[zip]`` (or several ``[[zip]]``) holds lists in step, each
        table ``[[cells]]`` a single run. Raises ConfigError.
        """
        path, more = Path(path), more or {}
        try:
            with open(path, "rb") as file:
                content = tomllib.load(file)
        except OSError as error:
            raise ConfigError(f"expected a file with a grid at {path}: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"expected {path} to be TOML, but it is not: {error}") from error
        zipped, single = content.pop("zip", []), content.pop("cells", [])
        together = [zipped] if isinstance(zipped, dict) else zipped
        for name, tables in (("zip", together), ("cells", single)):
            if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
                raise ConfigError(f"expected [[{name}]] as tables in {path}, got {tables!r:.80}")
        if twice := {word.replace("-", "_") for word in content} & set(more):
            raise ConfigError(f"expected --{options.spelled(min(twice))} in {path} or on the command line, not in both")
        return cls({**content, **more}, together=together, single=single)


def _lists(given: Values, where: str, *, repeated: bool = False) -> _Lists:
    """Every option with a list of its values, which may hold one twice if `repeated`. Raises ConfigError."""
    found: _Lists = {}
    for word, content in given.items():
        name = options.named(str(word), where)
        if name in found:
            raise ConfigError(f"expected {options.spelled(name)} once, got it with dashes and with underscores")
        values = content.tolist() if callable(getattr(content, "tolist", None)) else content
        several = isinstance(values, list | tuple)
        if name in options.LISTS:
            several = several and len(values) > 0 and all(isinstance(each, list | tuple) for each in values)
        found[name] = [options.value(name, each, where) for each in (values if several else [values])]
        if not found[name]:
            raise ConfigError(f"expected at least one value of {options.spelled(name)}, got an empty list")
        twice = [value for value, times in Counter(found[name]).items() if times > 1]
        if twice and not repeated:
            raise ConfigError(f"expected different values of {options.spelled(name)}, got {shown(twice[0])} twice")
    return found


def _once(*places: Values) -> None:
    """Raises ConfigError for an option that is given in two places."""
    names = [name for place in places for name in place]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"expected {options.spelled(name)} in one place of the grid, got it in two")


def _merged(parts: Iterable[Values]) -> Values:
    return {name: value for part in parts for name, value in part.items()}


def _resolved(common: Values, settings: Values) -> RunConfig:
    """Everything filled in. Raises ConfigError that says of which run it is."""
    config = RunConfig(**{**common, **settings})
    try:
        return replace(config, threads=1 if config.threads is None else config.threads).resolved()
    except ConfigError as error:
        what, *hint = str(error).split("\n")
        own = " ".join(f"--{options.spelled(name)} {shown(value)}" for name, value in settings.items())
        raise ConfigError("\n".join([f"{what} (in the run {own})" if own else what, *hint])) from error


def _different(runs: Sequence[tuple[Values, RunConfig]]) -> tuple[GridCell, ...]:
    """The cells with their names. Raises ConfigError for two that are the same run."""
    found: dict[RunConfig, GridCell] = {}
    for name, (settings, config) in zip(folder_names(runs), runs, strict=True):
        if config in found:
            raise ConfigError(f"expected runs that differ, but {found[config].name} and {name} are the same run")
        found[config] = GridCell(name, settings, config)
    return tuple(found.values())
