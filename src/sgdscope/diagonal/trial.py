"""Trial: replicas of SGD on a diagonal network beside the stationary law, and what they do that the law leaves open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sgdscope.diagonal.comparison import (
    LEAST,
    NEAR,
    Row,
    beside_law,
    beside_places,
    chance_distance,
    distance_of_samples,
    portion,
)
from sgdscope.diagonal.decay import BalanceDecay, balance_decay, unlike
from sgdscope.diagonal.growth import Growth, growth_at_zero
from sgdscope.diagonal.motion import Motion
from sgdscope.diagonal.replicas import Progress, Replicas, run
from sgdscope.diagonal.setting import Setting
from sgdscope.estimate import Estimate
from sgdscope.theory.stationary import DiagonalLaw
from sgdscope.verdict import compare

Array = NDArray[np.float64]

WORK = 1_000_000_000
"""Samples drawn at most in a trial of unstated length: a few seconds."""
LIVING = 0.01
"""Share of the largest subnetwork below which one counts as dead."""
_ENOUGH = 0.8
"""Of the steps wanted, which are an order of magnitude."""
_MIRRORED = 2_000
"""Replicas from the mirrored start."""
_GROWTH = 0.02
"""Difference of growth rates that counts as agreement, in units of the pull and the noise that they are made of."""
_DECAY = 0.05


@dataclass(frozen=True)
class Observation:
    """Something the law leaves open, as measured.

    Attributes:
        measured: its number, by name.
        said: what theory says of it, in words.
    """

    measured: Estimate
    said: str


@dataclass(frozen=True)
class Trial:
    """Runs of one setting, and the law they should settle in.

    Attributes:
        setting: what was run.
        law: predicted, for the start of the runs.
        replicas: the runs.
        mirrored: runs that began at minus the same weight; None for a start at 0, and as all below if interrupted.
        growth: close to 0; None but at depth 1.
        decay: of unlike layers; None at depth 0, and where nothing makes them alike.
        wanted: steps after which the runs should have settled, by theory.
    """

    setting: Setting
    law: DiagonalLaw
    replicas: Replicas
    mirrored: Replicas | None
    growth: Growth | None
    decay: BalanceDecay | None
    wanted: int

    @property
    def held(self) -> Array:
        """Weights at the end that are compared: all, or beside a metastable law those that have not collapsed."""
        v = self.replicas.v
        if not self.law.metastable:
            return v
        low, high = self.law.support
        kept: Array = v[(v > low) & (v < high)]
        return kept

    @property
    def rows(self) -> list[Row]:
        """Simulated beside predicted, with verdicts."""
        beside = beside_places if self.law.collapsed else beside_law
        rows = (
            beside(self.held, self.law, self.setting.unit * (self.setting.noise.sign or 1))
            if len(self.held) > 1
            else []
        )
        if self.growth is not None:
            rows.append(self._growth_row(self.growth))
        if self.decay is not None:
            rows += _decay_rows(self.decay)
        return rows

    def _growth_row(self, growth: Growth) -> Row:
        setting, noise = self.setting, self.setting.noise
        predicted = setting.data.growth_rate(setting.lr, setting.batch_size, setting.weight_decay) / setting.lr
        scale = 4 * (abs(noise.product_mean) + noise.product_variance * setting.temperature)
        tolerance = _GROWTH * scale / max(abs(predicted), 1e-300)
        claim = "growth close to 0 is that of products of steps"
        return Row(compare(growth.rate, predicted, claim=claim, tolerance=tolerance), predicted)

    @property
    def observations(self) -> list[Observation]:
        """What theory leaves to the start, or takes for granted."""
        setting, replicas, mirrored = self.setting, self.replicas, self.mirrored
        near, n, ergodic = NEAR * setting.unit, len(replicas.v), setting.depth == 0
        found = []
        if n:
            found.append(
                Observation(portion("at 0 from this start", np.abs(replicas.v) < near), _at_zero(self.law, near))
            )
        if mirrored is not None and len(mirrored.v) and n:
            held = np.abs(mirrored.v) < near
            said = "the start is forgotten" if ergodic else "1: 0 is never left, the wrong sign never learned"
            found.append(Observation(portion("at 0 from minus this start", held), "–" if ergodic else said))
            apart = distance_of_samples(replicas.v, mirrored.v)
            chance = chance_distance(n, len(mirrored.v))
            words = f"0 (by chance up to {chance:.3f}): {said}" if ergodic else "1: memory of the sign"
            if self.law.collapsed and self.law.places == (0.0,):
                words = "–"
            found.append(Observation(Estimate("distance of the ends from both starts", apart, count=n), words))
        if replicas.crossed is not None and n:
            words = "open" if ergodic else "0: only steps of finite size cross it"
            found.append(Observation(portion("has crossed 0", replicas.crossed, n), words))
        if setting.width > 1 and n:
            found.append(Observation(self._living(), str(setting.living(replicas.start))))
        if self.law.metastable and n:
            collapsed = portion("has collapsed", 1 - len(self.held) / n, n)
            found.append(Observation(collapsed, "1 in the end: the state is metastable"))
        lost = portion("diverged", replicas.diverged, replicas.count)
        found.append(Observation(lost, "0: only steps of finite size diverge"))
        if n > 1 and not self.law.collapsed:
            halves = Estimate(
                "distance of half time and end", distance_of_samples(replicas.earlier, replicas.v), count=n
            )
            words = f"0 where settled (by chance up to {chance_distance(n, n):.3f})"
            found.append(Observation(halves, words))
        return found

    def _living(self) -> Estimate:
        """Mean over the networks that are not at 0."""
        size = np.abs(self.replicas.end)
        size = size[size.max(axis=1) > LEAST]
        if not len(size):
            return Estimate("live subnetworks", 0.0, count=len(self.replicas.v))
        living = (size > LIVING * size.max(axis=1, keepdims=True)).sum(axis=1)
        return Estimate("live subnetworks", float(living.mean()), float(living.std()) / len(living) ** 0.5,
                        count=len(living))  # fmt: skip

    @property
    def warnings(self) -> list[str]:
        """What speaks against taking the numbers at face value, in words."""
        replicas, found = self.replicas, list(self.law.warnings)
        if replicas.interrupted:
            found.append(f"interrupted after {replicas.steps:,} steps: everything here is of those")
        elif replicas.steps < _ENOUGH * self.wanted:
            found.append(
                f"the runs may not have settled: by theory it takes {self.wanted:,} steps, done {replicas.steps:,}"
            )
        if len(replicas.v) > 1 and not self.law.collapsed:
            apart = distance_of_samples(replicas.earlier, replicas.v)
            if apart > 1.5 * chance_distance(len(replicas.v), len(replicas.v)):
                found.append(
                    f"not settled: the weights at half time differ from those at the end (distance {apart:.3f})"
                )
        if replicas.diverged:
            found.append(f"{100 * replicas.diverged:.3g} % of the replicas diverged; they are left out")
        return found


def run_trial(
    setting: Setting, start: Sequence[float] = (), *, steps: int | None = None, replicas: int = 20_000, seed: int = 0,
    threads: int | None = None, progress: Progress = False,
) -> Trial:  # fmt: skip
    """Run a setting and lay it beside theory.

    Args:
        setting: network, data and SGD.
        start: see `Setting.weights`.
        steps: how many. [as many as theory says it takes to settle, as far as a few seconds allow]
        replicas: how many.
        seed: of the noise; equal seeds give equal noise.
        threads: of the processor. [all]
        progress: a bar, or a function of the share done.

    Raises ValueError for a start that does not fit, and where theory has no law.
    """
    if replicas < 100:
        raise ValueError(f"expected at least 100 replicas to compare with a law, got {replicas}")
    weights = setting.weights(start)
    law = setting.law(weights)
    wanted = setting.settling_steps(law) + _balancing(setting, weights)
    most = max(WORK // (replicas * setting.batch_size), 100)
    count = min(max(wanted, 100), most) if steps is None else steps
    shared = {"seed": seed, "threads": threads}
    found = run(setting, weights, steps=count, replicas=replicas, progress=progress, **shared)  # type: ignore[arg-type]
    if found.interrupted:
        return Trial(setting, law, found, None, None, None, wanted)
    mirrored = growth = decay = None
    if np.any(weights):
        layers = weights.reshape(setting.width, -1) * np.where(np.arange(setting.depth + 1) == 0, -1.0, 1.0)
        mirrored = run(setting, layers.ravel(), steps=count, replicas=min(replicas, _MIRRORED), **shared)  # type: ignore[arg-type]
        if setting.depth and (setting.noise.g(setting.noise.optimum) > 0 or setting.weight_decay):
            decay = balance_decay(setting, weights, **shared)  # type: ignore[arg-type]
    if setting.depth == 1 and setting.noise.sign and setting.noise.product_variance:
        growth = growth_at_zero(Motion(setting), **shared)  # type: ignore[arg-type]
    return Trial(setting, law, found, mirrored, growth, decay, wanted)


def _balancing(setting: Setting, weights: Array) -> int:
    """Steps in which noise makes unlike layers alike; 0 if they are."""
    if setting.depth == 0 or not np.any(weights):
        return 0
    start, _ = unlike(setting, weights)
    if not np.array_equal(start, weights):  # they were alike
        return 0
    smallest = float(np.sort(np.abs(weights.reshape(setting.width, -1)), axis=1)[:, :-2].prod(axis=1).min()) ** 2
    rate = 4 * (setting.temperature * float(setting.noise.g(setting.noise.optimum)) * smallest + setting.weight_decay)
    return int(min(6 / (rate * setting.lr), 1e9)) if rate > 0 else 0


def _at_zero(law: DiagonalLaw, near: float) -> str:
    if law.collapsed:
        return f"{sum(mass for place, mass in zip(law.places, law.masses, strict=True) if place == 0):.3g} in the end"
    return f"{float(law.cdf(near) - law.cdf(-near)):.2g}"


def _decay_rows(decay: BalanceDecay) -> list[Row]:
    """The decay beside the law of balance, and beside that of steps of finite size if it is another."""
    if not decay.continuous:
        return []
    rows = [Row(compare(decay.measured, decay.continuous, claim="layers become alike as the law of balance says",
                        tolerance=_DECAY), decay.continuous)]  # fmt: skip
    if abs(decay.discrete - decay.continuous) > 0.01 * abs(decay.continuous):
        claim = "layers become alike as the law of balance says with steps of finite size"
        rows.append(Row(compare(decay.measured, decay.discrete, claim=claim, tolerance=_DECAY), decay.discrete))
    return rows
