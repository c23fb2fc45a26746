"""Errors that say the user asked for something that cannot be (exit code 2), as opposed to something that failed."""

from __future__ import annotations

import sys

from sgdscope.config import ConfigError


def usage_errors() -> tuple[type[Exception], ...]:
    """Wrong settings, and data that are not what they should be (known only once the readers are loaded)."""
    data = sys.modules.get("sgdscope.data")
    return (ConfigError, data.DataError) if data is not None else (ConfigError,)
