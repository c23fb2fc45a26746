"""`sgdscope predict …`: theory as tables, and as a picture with ``--plot``."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import tyro

from sgdscope.config import ConfigError
from sgdscope.picture import check_kind

if TYPE_CHECKING:
    from sgdscope.predict import Answer

SUBJECTS = ("stability", "escape", "stationary", "averaging", "fokker-planck")
_PLOT = "        plot: file to draw a picture to; .png, .svg or .pdf."


def predict(arguments: tyro.conf.Positional[tuple[str, ...]] = ()) -> int:
    """What theory says, without a run: stability, escape, stationary, averaging or fokker-planck, each with --help.

    Args:
        arguments: a subject and its options.
    """
    return answer(list(arguments))


def answer(arguments: list[str]) -> int:
    """`sgdscope predict` with the words that follow it."""
    commands = {subject: _command(subject) for subject in _asked_for(arguments)}
    return int(
        tyro.extras.subcommand_cli_from_dict(
            commands, prog="sgdscope predict", args=arguments, description="What theory says, without a run.",
        )
    )  # fmt: skip


def _asked_for(arguments: list[str]) -> tuple[str, ...]:
    """The one subject that is named, so that no other is loaded; else all, for the help or the complaint."""
    return tuple(s for s in SUBJECTS if arguments and s == arguments[0].replace("_", "-")) or SUBJECTS


def _command(subject: str) -> Callable[..., int]:
    """The prediction as a command: its own arguments, and --plot."""
    name = subject.replace("-", "_")
    function = getattr(importlib.import_module(f"sgdscope.predict.{name}"), name)

    @functools.wraps(function)
    def command(*, plot: Path | None = None, **settings: Any) -> int:
        try:
            if plot is not None:
                check_kind(plot)
            found: Answer = function(**settings)
            print(found)
            if plot is not None:
                _draw(found, plot)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return 0

    hints = get_type_hints(function) | {"plot": Path | None, "return": int}
    if "potential" in hints:
        hints["potential"] = Annotated[str, tyro.conf.Positional]
    own = [
        parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(function).parameters.values()
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
