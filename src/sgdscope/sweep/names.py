"""Names: a folder for every cell, readable and the same whenever the same grid is laid out."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sgdscope.config import RunConfig
from sgdscope.sweep import options

_LONGEST = 100


def shown(value: Any) -> str:
    """A value as one word: numbers as short as they are exact, of paths the last part, lists joined by +.

    >>> shown(0.1), shown(1.0), shown(1e-5), shown(("betas=(0.9,0.95)", "eps=1"))
    ('0.1', '1', '1e-05', 'betas=(0.9,0.95)+eps=1')
    """
    if isinstance(value, float):
        brief = f"{value:g}"
        return brief if float(brief) == value else repr(value)
    if isinstance(value, Path):
        return value.name
    if isinstance(value, tuple):
        return "+".join(value)
    return str(value)


def folder_names(cells: Sequence[tuple[Mapping[str, Any], RunConfig]]) -> list[str]:
    """``lr=0.1,batch-size=4`` for each cell, from the settings that are its own, in the order in which a run has them.

    Letters that a file system or a shell may mind become ``-``. What is too long or would be there twice gets a mark of
    its configuration behind it, so that a name depends neither on the order of cells nor on what else is there.
    """
    plain = [_name(settings) for settings, _ in cells]
    count = Counter(name.casefold() for name in plain)  # some file systems do not tell a from A
    return [
        name if len(name) <= _LONGEST and count[name.casefold()] == 1 else marked(name, config)
        for name, (_, config) in zip(plain, cells, strict=True)
    ]


def _name(settings: Mapping[str, Any]) -> str:
    parts = [f"{options.spelled(name)}={shown(settings[name])}" for name in options.NAMES if name in settings]
    return re.sub(r"[^\w.=,+-]+", "-", ",".join(parts) or "run", flags=re.ASCII)


def marked(name: str, config: RunConfig) -> str:
    """A name with a mark of the configuration behind it."""
    mark = hashlib.sha256(json.dumps(config.to_json(), sort_keys=True).encode()).hexdigest()[:8]
    return f"{name[:_LONGEST]},{mark}"
