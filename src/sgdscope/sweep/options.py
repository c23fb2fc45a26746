"""Options: those of a run by name, and values for them out of a file or the command line, checked at the door."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sgdscope.config import ConfigError, RunConfig

NAMES = tuple(field.name for field in fields(RunConfig))
"""Every option of a run, in the order in which a run lists them."""

_TYPES = {name: get_type_hints(RunConfig)[name] for name in NAMES}
LISTS = tuple(name for name in NAMES if get_origin(_TYPES[name]) is tuple)
"""Options whose one value is a list of texts."""


def spelled(name: str) -> str:
    """As on the command line: ``batch-size``."""
    return name.replace("_", "-")


def named(word: str, where: str = "") -> str:
    """The option that a word names, with dashes or underscores. Raises ConfigError with the nearest one."""
    name = word.replace("-", "_")
    if name in NAMES:
        return name
    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"did you mean {spelled(near[0])}?" if near else "`sgdscope run --help` lists them"
    place = f" {where}" if where else ""
    raise ConfigError(f"expected an option of a run{place}, got {word!r:.80}\nhint: {hint}")


def value(name: str, given: Any, where: str = "") -> Any:
    """One value of an option, of its type: whole numbers pass for numbers, nothing else for anything else.

    Paths become absolute, as cells may run elsewhere. Raises ConfigError.
    """
    kinds = {get_origin(kind) or kind for kind in (_TYPES[name], *get_args(_TYPES[name]))}
    choices = _choices(name)
    if name in LISTS:
        if isinstance(given, list | tuple) and all(isinstance(text, str) for text in given):
            return tuple(given)
        raise _wrong(name, "a list of texts", given, where)
    if choices:
        if given in choices and isinstance(given, str):
            return given
        raise _wrong(name, "one of " + ", ".join(choices), given, where)
    if int in kinds:
        if type(given) is int:
            return given
        raise _wrong(name, "a whole number", given, where)
    if float in kinds:
        if type(given) in (int, float):
            return _float(name, given, where)
        raise _wrong(name, "a number", given, where)
    if not isinstance(given, str | Path) or not str(given):
        raise _wrong(name, "a path" if Path in kinds else "a text", given, where)
    return Path(given).absolute() if Path in kinds else str(given)


def read(name: str, text: str) -> Any:
    """One value of an option out of a word of the command line. Raises ConfigError."""
    kinds = {_TYPES[name], *get_args(_TYPES[name])}
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                hint = "\nhint: the file with the grid comes before the options" if text.endswith(".toml") else ""
                expected = "whole numbers" if kind is int else "numbers"
                raise ConfigError(f"expected {expected} for --{spelled(name)}, got {text!r:.80}{hint}") from None
    return text


def taken(arguments: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Options of a run among the words of a command line, each with the words that follow it; and the other words.

    Raises ConfigError for an option that is given twice, or without a value.
    """
    found: dict[str, list[str]] = {}
    rest: list[str] = []
    into = rest
    for word in arguments:
        head, equals, tail = word.partition("=")
        name = head[2:].replace("-", "_") if head.startswith("--") else ""
        if name in NAMES:
            if name in found:
                raise ConfigError(f"expected --{spelled(name)} once, with one value or several, got it twice")
            into = found[name] = [tail] if equals else []
        elif word.startswith("--"):
            into = rest
            rest.append(word)
        else:
            into.append(word)
    for name, words in found.items():
        if not words or words == [""]:
            raise ConfigError(f"expected a value after --{spelled(name)}, got none")
    return found, rest


def _choices(name: str) -> tuple[str, ...]:
    parts = (_TYPES[name], *get_args(_TYPES[name]))
    return tuple(choice for part in parts if get_origin(part) is Literal for choice in get_args(part))


def _float(name: str, given: float, where: str) -> float:
    try:
        return float(given)
    except OverflowError:
        raise _wrong(name, "a number", given, where) from None


def _wrong(name: str, expected: str, given: Any, where: str) -> ConfigError:
    place = f" {where}" if where else ""
    return ConfigError(f"expected {spelled(name)} as {expected}{place}, got {given!r:.80}")
