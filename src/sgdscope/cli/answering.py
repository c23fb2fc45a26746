"""Commands out of functions that return an `Answer`: it is printed, and drawn with ``--plot``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import tyro

from sgdscope.config import ConfigError
from sgdscope.picture import check_kind

if TYPE_CHECKING:
    from sgdscope.predict import Answer

_BY_POSITION = ("potential", "run")
_PLOT = "        plot: file to draw a picture to; .png, .svg or .pdf."


def answering(function: Callable[..., Answer], **given: Any) -> Callable[..., int]:
    """The function as a command: its own arguments but those `given`, a potential or run by position, and --plot."""

    @functools.wraps(function)
    def command(*, plot: Path | None = None, **settings: Any) -> int:
        try:
            if plot is not None:
                check_kind(plot)
            found: Answer = function(**settings, **given)
            print(found)
            if plot is not None:
                _draw(found, plot)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return 0

    hints = get_type_hints(function) | {"plot": Path | None, "return": int}
    for name in set(hints) & set(_BY_POSITION):
        hints[name] = Annotated[hints[name], tyro.conf.Positional]
    own = [
        parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in given
    ]
    drawn = inspect.Parameter("plot", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hints["plot"])
    command.__signature__ = inspect.Signature([*own, drawn], return_annotation=int)  # type: ignore[attr-defined]
    command.__annotations__ = hints
    del command.__wrapped__
    command.__doc__ = (function.__doc__ or "").rstrip() + f"\n{_PLOT}\n"
    return command


def _draw(found: Answer, path: Path) -> None:
    from sgdscope.report.draw import save

    pictures = found.draw()
    if not pictures:
        raise ValueError("there is no picture of this prediction: leave out --plot")
    try:
        print(f"picture: {save(pictures, path)}")
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error}") from error
