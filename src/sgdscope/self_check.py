"""Self-check: a fast way is compared with the plain one, once per risk, and refused with the reason if they differ."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch

from sgdscope.risk import Risk

ROUNDING = 2e3
"""Difference allowed between the two ways, in units of the precision times the size of what is compared."""


class SelfCheck:
    """Remembers for each risk why a fast way is refused; empty if it passed.

    Args:
        compare: says for a risk what differs, empty if nothing does, None if these parameters cannot tell (derivatives
            that are zero or not finite): then it is asked again next time. What it raises is a reason too; the message
            of one of `expected` is told as it is.
        expected: exceptions that name what stands in the way themselves.
    """

    def __init__(self, compare: Callable[[Risk], str | None], *expected: type[Exception]) -> None:
        self._compare = compare
        self._expected = expected
        self._refusals: WeakKeyDictionary[Risk, str] = WeakKeyDictionary()

    def refusal(self, risk: Risk) -> str:
        """Why the fast way is not taken on this risk; empty if it is. Cost: a few samples, once per risk."""
        if risk not in self._refusals:
            try:
                found = self._compare(risk)
            except self._expected as error:
                self._refusals[risk] = str(error)
            except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
                self._refusals[risk] = f"self-check: {type(error).__name__}: {error}"
            else:
                if found is None:
                    return "self-check: nothing to compare (the derivatives are zero or not finite)"
                self._refusals[risk] = f"self-check: {found}" if found else ""
        return self._refusals[risk]


def allowed(risk: Risk) -> float:
    """Relative difference that rounding explains, in the precision of the risk's parameters."""
    return ROUNDING * torch.finfo(risk.parameters[0].dtype).eps
