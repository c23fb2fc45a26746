"""Agenda: which heavier readings are due, what they are expected to take, and taking them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sgdscope.estimate import Estimate
from sgdscope.monitor.account import Account
from sgdscope.monitor.readings import ANY_BATCH, NAMES, SHAPE, Readings
from sgdscope.monitor.recorder import Recorder
from sgdscope.monitor.schedule import AGAIN, READINGS, Every, WithinBudget

_AT_ONCE = 0.5
"""Seconds that a reading of the initial weights may be expected to take; a longer one waits for its budget."""
_SHARE_AT_ONCE = {"gradient_noise_interaction": 0.0, "gradient_noise": 0.25}
"""Of those, for readings that the initial weights can rather do without."""
_PATIENCE = 20
"""Steps within which the first call of `observe` is waited for, where it has to tell the batch size."""
_RESERVE = 0.05
"""Of the budget, for readings that take longer than the one before and for what no clock of ours sees."""


class Agenda:
    """The heavier readings of one run, every so many steps or as the budget allows.

    Attributes:
        spent: seconds that each took so far, the final ones excepted.
    """

    def __init__(self, readings: Readings, account: Account, recorder: Recorder, *, every: int | None) -> None:
        self.spent: dict[str, float] = dict.fromkeys(READINGS, 0.0)
        self._readings = readings
        self._account = account
        self._recorder = recorder
        self._budgeted = every is None
        self._careful = False
        self._stated: set[str] = set()
        self._schedules: dict[str, Every | WithinBudget] = {
            name: Every(every) if every is not None else WithinBudget(share, pause=20, again=AGAIN[name])
            for name, share in READINGS.items()
        }

    def begin(self, step: int, batch_size: int | None) -> None:
        """Readings of the initial weights, where they are cheap against the run."""
        source = self._readings.risk.source
        lengths = source.batch_lengths  # the batch size may not be known yet: a usual one will do
        usual = batch_size or (lengths[0] if lengths else min(32, self._readings.risk.size))
        start = time.perf_counter()
        if self._budgeted:
            self._recorder.attempt("edge_ratio", step, lambda: self._readings.one_gradient(usual))
        seconds = time.perf_counter() - start
        for name, schedule in self._schedules.items():
            allowed = _SHARE_AT_ONCE.get(name, 1.0) * _AT_ONCE
            dear = self._expected_steps(name, batch_size) * seconds > allowed
            if isinstance(schedule, WithinBudget) and dear:
                schedule.first_at_once = False
            elif batch_size is not None or name in ANY_BATCH:
                self.take(name, step, batch_size)

    def look(self, step: int, batch_size: int | None, step_seconds: float) -> None:
        """Take what is due after `step` steps; `step_seconds` is what one of them takes."""
        for name, schedule in self._schedules.items():
            if isinstance(schedule, WithinBudget) and schedule.last_step < 0 and not schedule.expected:
                schedule.expected = self._expected_steps(name, batch_size) * step_seconds
            unknown = batch_size is None and name not in ANY_BATCH and step <= _PATIENCE
            if not unknown and schedule.due(step, self._purse(step)):
                self.take(name, step, batch_size)

    def take(self, name: str, step: int, batch_size: int | None) -> Estimate | None:
        """One reading, recorded; None if it raised, which is recorded too, or was said before to be impossible."""
        if name in self._stated:
            return None
        start = time.perf_counter()
        estimate = self._recorder.attempt(
            name,
            step,
            lambda: self._possible(name) or self._readings.take(name, step, batch_size, careful=self._careful),
        )
        took = time.perf_counter() - start
        self.spent[name] += took
        self._schedules[name].spent(step, took, failed=estimate is None or estimate.value is None)
        if isinstance(estimate, Estimate):
            self._recorder.record(step, estimate)
            return estimate
        return None

    def finish(self, step: int, batch_size: int | None) -> None:
        """One careful reading of everything; its time is in nobody's budget."""
        spent = dict(self.spent)
        self._careful = True
        try:
            for name in NAMES:
                self._account.timed(self.take, name, step, batch_size)
            self._account.timed(self._map, step, batch_size)
            self._account.timed(self._shape, step, batch_size)
        finally:
            self._careful, self.spent = False, spent
            self._readings.forget()

    def _map(self, step: int, batch_size: int | None) -> None:
        known = self._recorder.latest.get("batch_sharpness")
        found = self._recorder.attempt("edge_map", step, lambda: self._readings.edge_map(step, batch_size, known))
        if found is not None:
            self._recorder.record(step, found)

    def _shape(self, step: int, batch_size: int | None) -> None:
        """The readings of the spectrum, and of the noise along it."""
        found = self._readings.shape(step, batch_size)
        for name in SHAPE:
            estimate = self._recorder.attempt(name, step, lambda: next(found, None))
            if estimate is None:
                return
            self._recorder.record(step, estimate)

    def _possible(self, name: str) -> Estimate | None:
        """None; or, for a reading that this risk can never have, the row that says so once."""
        reason = self._readings.refusal(name)
        if not reason:
            return None
        self._stated.add(name)
        return Estimate.failed(name, reason)

    def _purse(self, step: int) -> float:
        """Seconds that the budget leaves the readings so far, those already taken included, first ones excepted."""
        taken = sum(schedule.total for schedule in self._schedules.values() if isinstance(schedule, WithinBudget))
        measuring = self._account.measuring(step)
        return (1 - _RESERVE) * self._account.budget * (self._account.seconds - measuring) - measuring + taken

    def _expected_steps(self, name: str, batch_size: int | None) -> float:
        """About how many training steps' time a first reading takes; later ones are timed."""
        size = self._readings.risk.size
        epoch = size / (batch_size or 32)  # in steps; large batches do a sample in half the time
        if name == "gradient_noise":  # of more data than that no full gradient is taken
            return 16 + (min(size, 64 * 256) + 256) / (batch_size or 32) / 2
        if name == "batch_sharpness":
            return 100.0
        return 8 * epoch if name == "lambda_max" else epoch + 16 * 8

    def state_dict(self) -> dict[str, Any]:
        """What each reading has taken out of the purse, and which were said to be impossible."""
        taken = {name: s.total for name, s in self._schedules.items() if isinstance(s, WithinBudget)}
        return {"readings": taken, "impossible": sorted(self._stated)}

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Continue from `state_dict` at a step."""
        taken = state.get("readings", state["spent"])
        self._stated = set(state.get("impossible", ()))
        for name, schedule in self._schedules.items():
            if isinstance(schedule, WithinBudget):
                schedule.total = float(taken.get(name, 0.0))
                schedule.last_step = step
