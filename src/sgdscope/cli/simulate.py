"""`sgdscope simulate POTENTIAL …`: an ensemble of SGD beside what theory predicts for it."""

from __future__ import annotations

import sys

import tyro

from sgdscope.cli.answering import answering


def simulate(arguments: tyro.conf.Positional[tuple[str, ...]] = ()) -> int:
    """Run many replicas of SGD on a landscape you write down, beside what theory predicts: see simulate --help.

    Args:
        arguments: a potential and options.
    """
    return simulated(list(arguments))


def simulated(arguments: list[str]) -> int:
    """`sgdscope simulate` with the words that follow it."""
    from sgdscope.trial import trial

    command = answering(trial, progress=sys.stderr.isatty())
    return int(tyro.cli(command, prog="sgdscope simulate", args=arguments))
