"""Sinks: hand the recorded numbers to whatever logger the user has. Loggers are never dependencies."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from sgdscope.estimate import Estimate

Sink = Callable[[int, dict[str, float]], None]


def numbers_of(estimate: Estimate) -> dict[str, float]:
    """Flat names and values: ``sgdscope/lambda_max``, ``sgdscope/lambda_max/2`` for further components, errors too."""
    if estimate.value is None:
        return {}
    name = f"sgdscope/{estimate.name}"
    values = estimate.value if isinstance(estimate.value, tuple) else (estimate.value,)
    numbers = {name if i == 0 else f"{name}/{i + 1}": v for i, v in enumerate(values)}
    if isinstance(estimate.standard_error, float):
        numbers[f"{name}/standard_error"] = estimate.standard_error
    return numbers


def sink_of(logger: Any) -> Sink:
    """A function ``(step, numbers)`` out of a callable or a logger object.

    Understood, in this order: ``log_metrics(numbers, step=…)`` (Lightning loggers, MLflow), ``add_scalar(name, value,
    step)`` (TensorBoard), ``log(numbers)`` with the step under ``sgdscope/step`` (W&B and trackio drop rows whose own
    step does not increase, so theirs is left alone), any callable ``(step, numbers)``.

    Raises ValueError for anything else.
    """
    if hasattr(logger, "log_metrics"):
        return lambda step, numbers: logger.log_metrics(numbers, step=step)
    if hasattr(logger, "add_scalar"):

        def add(step: int, numbers: dict[str, float]) -> None:
            for name, value in numbers.items():
                logger.add_scalar(name, value, step)

        return add
    if hasattr(logger, "log") and not isinstance(logger, logging.Logger):  # whose log() takes a level first
        return lambda step, numbers: logger.log({**numbers, "sgdscope/step": step})
    if callable(logger):
        return lambda step, numbers: logger(step, numbers)
    raise ValueError(
        "expected a callable (step, numbers) or a logger with log_metrics, add_scalar or log, "
        f"got {type(logger).__name__}"
    )
