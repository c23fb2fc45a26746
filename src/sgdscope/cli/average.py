"""`sgdscope average RUN`: which average of a run's checkpoints to keep."""

from __future__ import annotations

import tyro

from sgdscope.cli.answering import answering


def average(arguments: tyro.conf.Positional[tuple[str, ...]] = ()) -> int:
    """Say which average of a run's checkpoints to keep, why, and what it gives; write it: see average --help.

    Args:
        arguments: a run folder and options.
    """
    return averaged(list(arguments))


def averaged(arguments: list[str]) -> int:
    """`sgdscope average` with the words that follow it."""
    from sgdscope import best_average  # torch

    return int(tyro.cli(answering(best_average.average), prog="sgdscope average", args=arguments))
