"""Agenda: which heavier readings are due, what they are expected to take, and taking them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sgdscope.estimate import Estimate
from sgdscope.monitor.account import Account
from sgdscope.monitor.readings import NAMES, Readings
from sgdscope.monitor.recorder import Recorder
from sgdscope.monitor.schedule import AGAIN, READINGS, Every, WithinBudget

_AT_ONCE = 0.5
"""Seconds that a reading of the initial weights may be expected to take; a longer one waits for its budget."""
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
            dear = name == "gradient_noise_interaction" or self._expected_steps(name, batch_size) * seconds > _AT_ONCE
            if isinstance(schedule, WithinBudget) and dear:
                schedule.first_at_once = False
            elif batch_size is not None or name == "lambda_max":
                self.take(name, step, batch_size)

    def look(self, step: int, batch_size: int | None, step_seconds: float) -> None:
        """Take what is due after `step` steps; `step_seconds` is what one of them takes."""
        for name, schedule in self._schedules.items():
            if isinstance(schedule, WithinBudget) and schedule.last_step < 0 and not schedule.expected:
                schedule.expected = self._expected_steps(name, batch_size) * step_seconds
            unknown = batch_size is None and name != "lambda_max" and step <= _PATIENCE
            if not unknown and schedule.due(step, self._purse(step)):
                self.take(name, step, batch_size)

    def take(self, name: str, step: int, batch_size: int | None) -> Estimate | None:
        """One reading, recorded; None if it raised, which is recorded too."""
        start = time.perf_counter()
        estimate = self._recorder.attempt(
            name, step, lambda: self._readings.take(name, step, batch_size, careful=self._careful)
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
        finally:
            self._careful, self.spent = False, spent

    def _map(self, step: int, batch_size: int | None) -> None:
        known = self._recorder.latest.get("batch_sharpness")
        found = self._recorder.attempt("edge_map", step, lambda: self._readings.edge_map(step, batch_size, known))
        if found is not None:
            self._recorder.record(step, found)

    def _purse(self, step: int) -> float:
        """Seconds that the budget leaves the readings so far, those already taken included, first ones excepted."""
        taken = sum(schedule.total for schedule in self._schedules.values() if isinstance(schedule, WithinBudget))
        measuring = self._account.measuring(step)
        return (1 - _RESERVE) * self._account.budget * (self._account.seconds - measuring) - measuring + taken

    def _expected_steps(self, name: str, batch_size: int | None) -> float:
        """About how many training steps' time a first reading takes; later ones are timed."""
        epoch = self._readings.risk.size / (batch_size or 32)  # in steps; large batches do a sample in half the time
        if name == "batch_sharpness":
            return 100.0
        return 8 * epoch if name == "lambda_max" else epoch + 16 * 8

    def state_dict(self) -> dict[str, float]:
        """What each reading has taken out of the purse."""
        return {name: s.total for name, s in self._schedules.items() if isinstance(s, WithinBudget)}

    def load_state_dict(self, taken: Mapping[str, Any], step: int) -> None:
        """Continue from `state_dict` at a step."""
        for name, schedule in self._schedules.items():
            if isinstance(schedule, WithinBudget):
                schedule.total = float(taken.get(name, 0.0))
                schedule.last_step = step
