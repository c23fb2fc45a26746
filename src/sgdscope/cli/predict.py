"""`sgdscope predict …`: theory as tables, and as a picture with ``--plot``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import tyro

from sgdscope.cli.answering import answering

if TYPE_CHECKING:
    from sgdscope.predict import Answer

SUBJECTS = ("stability", "escape", "stationary", "averaging", "fokker-planck")


def predict(arguments: tyro.conf.Positional[tuple[str, ...]] = ()) -> int:
    """What theory says, without a run: stability, escape, stationary, averaging or fokker-planck, each with --help.

    Args:
        arguments: a subject and its options.
    """
    return answer(list(arguments))


def answer(arguments: list[str]) -> int:
    """`sgdscope predict` with the words that follow it."""
    commands = {subject: answering(_function(subject)) for subject in _asked_for(arguments)}
    return int(
        tyro.extras.subcommand_cli_from_dict(
            commands, prog="sgdscope predict", args=arguments, description="What theory says, without a run.",
        )
    )  # fmt: skip


def _asked_for(arguments: list[str]) -> tuple[str, ...]:
    """The one subject that is named, so that no other is loaded; else all, for the help or the complaint."""
    return tuple(s for s in SUBJECTS if arguments and s == arguments[0].replace("_", "-")) or SUBJECTS


def _function(subject: str) -> Callable[..., Answer]:
    name = subject.replace("-", "_")
    found: Callable[..., Answer] = getattr(importlib.import_module(f"sgdscope.predict.{name}"), name)
    return found
