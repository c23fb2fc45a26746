"""Loggers of any make: what they are handed, and what is refused."""

import logging

import pytest

from sgdscope.estimate import Estimate
from sgdscope.monitor.recorder import sinks_of
from sgdscope.monitor.sinks import numbers_of, sink_of


class Calls:
    """Notes how it was called under one method name."""

    def __init__(self, method):
        self.calls = []
        setattr(self, method, lambda *args, **named: self.calls.append((args, named)))


def test_numbers_are_flat_and_named():
    estimate = Estimate("lambda_max", (3.0, 2.0), residual=(0.1, 0.1))
    assert numbers_of(estimate) == {"sgdscope/lambda_max": 3.0, "sgdscope/lambda_max/2": 2.0}
    assert numbers_of(Estimate("loss", 1.0, 0.5)) == {"sgdscope/loss": 1.0, "sgdscope/loss/standard_error": 0.5}
    assert numbers_of(Estimate.failed("loss", "no reason")) == {}


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("log_metrics", [(({"a": 1.0, "b": 2.0},), {"step": 7})]),
        ("add_scalar", [(("a", 1.0, 7), {}), (("b", 2.0, 7), {})]),
        ("log", [(({"a": 1.0, "b": 2.0, "sgdscope/step": 7},), {})]),
    ],
)
def test_loggers_are_called_as_they_expect(method, expected):
    logger = Calls(method)
    sink_of(logger)(7, {"a": 1.0, "b": 2.0})
    assert logger.calls == expected


def test_a_callable_and_several_at_once():
    seen = []
    sinks = sinks_of([lambda step, numbers: seen.append((step, numbers)), Calls("log"), None])
    assert len(sinks) == 2
    sinks[0](1, {"a": 1.0})
    assert seen == [(1, {"a": 1.0})]
    assert sinks_of(None) == []


@pytest.mark.parametrize("wrong", [3, "wandb", logging.getLogger("x"), {}])
def test_what_is_no_logger_is_refused(wrong):
    with pytest.raises(ValueError, match=r"expected a callable \(step, numbers\) or a logger with log_metrics"):
        sinks_of(wrong)
