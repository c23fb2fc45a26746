"""Agenda: which heavier readings are due, what they are expected to take, and taking them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sgdscope.estimate import Estimate
from sgdscope.monitor.account import Account
from sgdscope.monitor.along_gradient import FEW, LINE, step_charge
from sgdscope.monitor.readings import ANY_BATCH, NAMES, ON_DEMAND, SHAPE, Readings
from sgdscope.monitor.recorder import Recorder
from sgdscope.monitor.schedule import AGAIN, ASKED, READINGS, Cadence, Every, WithinBudget

_AT_ONCE, _USUAL = 0.5, 0.05
"""Seconds that readings of the initial weights may be expected to take at this budget; with a smaller one, of which
hooks and stream leave still less, by its square. One that would take longer waits for its budget."""
_SHARE_AT_ONCE = {
    "gradient_noise_interaction": 0.0, "gradient_noise": 0.25, "balance": 0.25
} | dict.fromkeys(ON_DEMAND, 0.0)  # fmt: skip
"""Of those, for readings that the initial weights can rather do without."""
_QUICK, _LARGE = 5e-3, 256
"""Seconds below which a gradient is mostly overhead, which larger batches spread over more samples: that is then timed
with so many."""
_PATIENCE = 20
"""Steps within which the first call of `observe` is waited for, where it has to tell the batch size."""
_RESERVE = 0.1
"""Of the budget, for readings that take longer than the one before and for what no clock of ours sees."""
_SPECTRUM = 130
"""Gradients of all data that a spectrum takes, the noise covariance included, once λ_max has told what one takes."""
_PAUSE = 20
"""Steps between two readings at least."""


class Agenda:
    """The heavier readings of one run, every so many steps or as the budget allows; some at a cadence of their own.

    Attributes:
        spent: seconds that each took so far, the final ones excepted.
    """

    def __init__(
        self, readings: Readings, account: Account, recorder: Recorder, *, every: int | None,
        cadence: Mapping[str, int],
    ) -> None:  # fmt: skip
        self._readings = readings
        self._account = account
        self._recorder = recorder
        self._budgeted = every is None
        self._careful = False
        self._slope: float | None = None  # seconds per sample of large batches
        self._gradient_seconds = 0.0  # of all data, as λ_max took them
        self._stated: set[str] = set()
        self._schedules = _schedules(every, cadence)
        self.spent: dict[str, float] = dict.fromkeys(self._schedules, 0.0)

    def begin(self, step: int, batch_size: int | None) -> None:
        """Readings of the initial weights, where they are cheap against the run."""
        source = self._readings.risk.source
        lengths = source.batch_lengths  # the batch size may not be known yet: a usual one will do
        usual = batch_size or (lengths[0] if lengths else min(32, self._readings.risk.size))
        seconds = self._time_gradients(step, usual) if self._budgeted else 0.0
        allowed = at_once(self._account.budget)
        start = time.perf_counter()
        for name, schedule in self._schedules.items():
            expected = time.perf_counter() - start + self._expected(name, batch_size, seconds)
            dear = expected > _SHARE_AT_ONCE.get(name, 1.0) * allowed
            if isinstance(schedule, WithinBudget) and dear:
                schedule.first_at_once = False
            elif batch_size is not None or name in ANY_BATCH:
                self.take(name, step, batch_size)
        self._readings.forget()

    def look(self, step: int, batch_size: int | None, step_seconds: float) -> None:
        """Take what is due after `step` steps; `step_seconds` is what one of them takes."""
        for name, schedule in self._schedules.items():
            if isinstance(schedule, WithinBudget) and schedule.last_step < 0:
                schedule.expected = self._expected(name, batch_size, step_seconds)
            unknown = batch_size is None and name not in ANY_BATCH and step <= _PATIENCE
            if not unknown and schedule.due(step, self._purse(step)):
                self.take(name, step, batch_size)
        self._readings.forget()

    def asked_at(self, step: int) -> int | None:
        """The next step after this one at which a cadence wants something; None without any."""
        steps = [s.steps for s in self._schedules.values() if isinstance(s, Cadence)]
        return min(((step // n + 1) * n for n in steps), default=None)

    def take(self, name: str, step: int, batch_size: int | None) -> Estimate | None:
        """One reading, recorded; its first row.

        None if it raised, which is recorded too, was said before to be impossible, or has no meaning here.
        """
        if name in self._stated:
            return None
        start = time.perf_counter()
        rows = self._readings.rows(name, step, batch_size, careful=self._careful)
        first: Estimate | None = None
        for label in SHAPE if name == "spectrum" else (name,):
            estimate = self._recorder.attempt(label, step, lambda: self._possible(name) or next(rows, None))
            if estimate is None:
                break
            self._recorder.record(step, estimate)
            first = first or estimate
        took = time.perf_counter() - start
        if name == "lambda_max" and first is not None and first.cost > 0:
            self._gradient_seconds = took / first.cost
        self.spent[name] = self.spent.get(name, 0.0) + took
        if name in self._schedules:
            self._schedules[name].spent(step, took, failed=first is None or first.value is None)
        return first

    def measure(self, name: str, step: int, batch_size: int | None) -> Estimate | None:
        """One reading by itself, shared with no other."""
        try:
            return self.take(name, step, batch_size)
        finally:
            self._readings.forget()

    def finish(self, step: int, batch_size: int | None) -> None:
        """One careful reading of everything; its time is in nobody's budget."""
        spent = dict(self.spent)
        self._careful = True
        try:
            for name in (*NAMES, *ON_DEMAND):
                self._account.timed(self.take, name, step, batch_size)
        finally:
            self._careful, self.spent = False, spent
            self._readings.forget()

    def _possible(self, name: str) -> Estimate | None:
        """None; or, for a reading that this risk can never have, the row that says so once."""
        reason = self._readings.refusal(name)
        if not reason:
            return None
        self._state(name)
        return Estimate.failed(name, reason)

    def _state(self, name: str) -> None:
        """Note that a reading is impossible; its share goes to the others that are taken by default."""
        self._stated.add(name)
        others = [self._schedules[other] for other in READINGS if other not in self._stated]
        shares = [schedule for schedule in others if isinstance(schedule, WithinBudget)]
        gone, kept = self._schedules.get(name), sum(schedule.share for schedule in shares)
        if name in READINGS and isinstance(gone, WithinBudget) and kept:
            for schedule in shares:
                schedule.share *= 1 + gone.share / kept
            gone.share = 0.0

    def _purse(self, step: int) -> float:
        """Seconds that the budget leaves the readings so far, those already taken included, first ones excepted."""
        taken = sum(schedule.total for schedule in self._schedules.values() if isinstance(schedule, WithinBudget))
        measuring = self._account.measuring(step)
        return (1 - _RESERVE) * self._account.budget * (self._account.seconds - measuring) - measuring + taken

    def _time_gradients(self, step: int, batch_size: int) -> float:
        """Seconds of a gradient of a batch; and how they grow with the batch, where that costs next to nothing."""

        def took(samples: int) -> float:
            start = time.perf_counter()
            self._recorder.attempt("edge_ratio", step, lambda: self._readings.one_gradient(samples))
            return time.perf_counter() - start

        seconds = took(batch_size)
        large = min(_LARGE, self._readings.risk.size)
        if seconds < _QUICK and large > batch_size and self._readings.risk.source.batch_lengths is None:
            seconds = min(seconds, took(batch_size))  # the first one may find nothing in the caches
            self._slope = max(0.0, (took(large) - seconds) / (large - batch_size))
        return seconds

    def _expected(self, name: str, batch_size: int | None, step_seconds: float) -> float:
        """About how many seconds a first reading takes, where a step takes `step_seconds`; later ones are timed."""
        size, of_batch = self._readings.risk.size, batch_size or 32

        def gradient(samples: int) -> float:  # unless it is known better, large batches do a sample in half the time
            slope = step_seconds / (2 * of_batch) if self._slope is None else self._slope
            return step_seconds / 2 + slope * samples

        if name == "gradient_noise":  # of more data than that no full gradient is taken
            return 16 * step_seconds + 4 * (gradient(min(size, 64 * 256)) + gradient(256))
        if name == "balance":
            return self._readings.discovery.expected + self._readings.balance_cost * gradient(256)
        if name == "batch_sharpness":
            return 100 * step_seconds
        if name == "lambda_max":
            return 16 * gradient(size)
        if name == "edge_map":  # batches of up to eight times the size
            return 4 * self._readings.map_cost * step_seconds
        if name == "spectrum":
            one = self._gradient_seconds or gradient(size)
            return (_SPECTRUM if self._gradient_seconds else self._readings.depth.charge) * one
        if name == "batch_line":
            return LINE * gradient(size) + 60 * step_seconds
        if name == "full_loss_step":
            return step_charge(FEW, self._readings.product) * gradient(size)
        return 16 * 8 * step_seconds + 2 * gradient(size)

    def state_dict(self) -> dict[str, Any]:
        """What each reading has taken out of the purse and took last, and which were said to be impossible."""
        taken = {name: s for name, s in self._schedules.items() if isinstance(s, WithinBudget) and s.last_step >= 0}
        totals, last = ({name: getattr(s, what) for name, s in taken.items()} for what in ("total", "last"))
        return {"readings": totals, "last": last, "impossible": sorted(self._stated)}

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Continue from `state_dict` at a step."""
        taken, last = state.get("readings", state["spent"]), state.get("last", {})
        for name in state.get("impossible", ()):
            self._state(name)
        for name, schedule in self._schedules.items():
            if isinstance(schedule, WithinBudget):
                schedule.total = float(taken.get(name, 0.0))
                schedule.last = float(last.get(name, 0.0))
                schedule.first_at_once = False
                if name in taken or name not in ON_DEMAND:
                    schedule.last_step = step


def at_once(budget: float) -> float:
    """Seconds that readings of the initial weights may be expected to take."""
    return _AT_ONCE * min(1.0, budget / _USUAL) ** 2


def check_pace(every: int | None, cadence: Mapping[str, int] | None, budget: float) -> dict[str, int]:
    """The cadence by name. Raises ValueError for less than one step, an unknown name, or a budget that is no share."""
    if every is not None and every < 1:
        raise ValueError(f"expected every ≥ 1, got {every}")
    for name, steps in (cadence or {}).items():
        known = (*NAMES, *ON_DEMAND, "charges")
        if name not in known or steps < 1:
            raise ValueError(f"expected a cadence of at least 1 step for any of {', '.join(known)}, "
                             f"got {steps!r} for {name!r}")  # fmt: skip
    if not 0 < budget <= 1:
        raise ValueError(f"expected a budget in (0, 1], the share of time for measuring, got {budget}")
    return dict(cadence or {})


def _schedules(every: int | None, cadence: Mapping[str, int]) -> dict[str, Every | WithinBudget]:
    """Of each reading that is taken along the way, in the order in which those due at the same step are taken."""
    asked = [name for name in ON_DEMAND if name in cadence]
    if every is not None:  # the spectrum first: its search gives λ_max too
        order = sorted([*READINGS, *asked], key=lambda name: (name != "spectrum", name in ON_DEMAND))
        return {name: Every(cadence.get(name, every)) for name in order}
    rest = 1 - sum(ASKED[name] for name in asked)
    shares = {name: rest * share for name, share in READINGS.items()} | {name: ASKED[name] for name in asked}
    return {
        name: Cadence(share, pause=_PAUSE, again=AGAIN.get(name, 1.0), steps=cadence[name]) if name in cadence
        else WithinBudget(share, pause=_PAUSE, again=AGAIN[name])
        for name, share in shares.items()
    }  # fmt: skip
