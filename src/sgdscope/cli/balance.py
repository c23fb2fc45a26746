"""`sgdscope balance RUN`: move a run's weights to balance between its layers."""

from __future__ import annotations

import tyro

from sgdscope.cli.answering import answering


def balance(arguments: tyro.conf.Positional[tuple[str, ...]] = ()) -> int:
    """Move a run's weights to balance between its layers, the function unchanged, and write them: see balance --help.

    Args:
        arguments: a run folder and options.
    """
    return balanced(list(arguments))


def balanced(arguments: list[str]) -> int:
    """`sgdscope balance` with the words that follow it."""
    from sgdscope import rebalance  # torch

    return int(tyro.cli(answering(rebalance.rebalance), prog="sgdscope balance", args=arguments))
