"""Discovery: the symmetries of the watched model, looked for once in a run."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from sgdscope.measure.symmetries import Symmetries, symmetries
from sgdscope.measure.symmetries.verify import samples_of
from sgdscope.monitor.recorder import reason_of
from sgdscope.risk import Risk

_GRADIENTS = 60
"""What a search takes, in gradients of one of its samples, tracing the model included: 30 to 90 were measured."""


class Discovery:
    """Looks when first asked, and never again: what a model's structure allows does not change while it trains.

    Attributes:
        looked: whether it has looked.
        symmetries: those found, or None.
        reason: why there are none to follow, once it has looked; empty if there are some.
    """

    def __init__(self, risk: Risk) -> None:
        self.risk = risk
        self.looked = False
        self.symmetries: Symmetries | None = None
        self.reason = ""
        self._expected: float | None = None

    @property
    def expected(self) -> float:
        """About how many seconds looking will take, by a gradient that is timed; 0 once it has looked."""
        if self.looked:
            return 0.0
        if self._expected is None:
            self._attempt(self._time)
        return self._expected or 0.0

    def _time(self) -> None:
        sample = samples_of(self.risk, 1, torch.Generator().manual_seed(0))[0]
        self.risk.gradient(sample)  # the first one sets things up
        start = time.perf_counter()
        self.risk.gradient(sample)
        self._expected = _GRADIENTS * (time.perf_counter() - start)

    def look(self) -> str:
        """Why there is nothing to follow, or an empty string; a failure is a reason too."""
        if not self.looked:
            self._attempt(self._search)
        return self.reason

    def _search(self) -> None:
        self.looked = True
        self.symmetries = symmetries(self.risk)
        self.reason = "" if self.symmetries.holding else _none(self.symmetries)

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # looking must not end the run
            self.looked, self.reason = True, reason_of(error)


def _none(found: Symmetries) -> str:
    if not len(found):
        return "no layers of the model were found that could be rescaled unseen"
    first, more = found[0], len(found) - 1
    also = f" (and {more} more)" if more else ""
    return f"no layers of the model can be rescaled unseen: {first.name}: {first.reason}{also}"
