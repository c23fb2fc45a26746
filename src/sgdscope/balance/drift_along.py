"""Drift along: the charges of a run of plain SGD beside what the law of balance adds up to along its path.

What the law says is a mean: the charges of one run fluctuate around its sum along the path. The steps are independent
given where they start, so the fluctuation is known from the steps themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sgdscope.balance.pair_drift import UNIT, PairDrift, predicted_by, table, verdict_of
from sgdscope.balance.training import Training, training_of
from sgdscope.balance.walk import Walk
from sgdscope.estimate import Estimate, plain
from sgdscope.measure.noise_traces import NoiseTraces, noise_traces
from sgdscope.measure.symmetries import Symmetry, symmetries
from sgdscope.risk import Risk

_CLAIM = "the change of the charge of {} over the run is the sum of the exact discrete law of balance along its path"


@dataclass(frozen=True)
class DriftAlong:
    """Charges along a run.

    Attributes:
        pairs: one per symmetry that holds: change from the first step to the last. The standard error of ``measured``
            is the fluctuation of one run around the law, from its steps.
        steps: at which the run was looked at, from 0 on.
        charges: of each pair at those steps, shape (pairs, looks).
        predicted: the same by the discrete law, from the charge at the start.
        settings: learning rate, batch size, …
        cost: gradients over all data.
    """

    pairs: tuple[PairDrift, ...]
    steps: tuple[int, ...]
    charges: tuple[tuple[float, ...], ...]
    predicted: tuple[tuple[float, ...], ...]
    settings: dict[str, Any]
    cost: float

    def __str__(self) -> str:
        lines = table(self.pairs, f"ΔC over {self.steps[-1]} steps")
        return "\n".join([*lines, f"noise measured at {len(self.steps)} places along the run"])

    def to_row(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "pairs": [pair.to_row() for pair in self.pairs], "steps": list(self.steps),
            "charges": plain(self.charges), "predicted": plain(self.predicted), "settings": plain(self.settings),
            "cost": self.cost,
        }  # fmt: skip


def drift_along(
    risk: Risk,
    found: Iterable[Symmetry] | None = None,
    *,
    lr: float,
    batch_size: int,
    weight_decay: float = 0.0,
    replacement: bool = False,
    steps: int = 300,
    every: int = 10,
    samples: int = 256,
    tolerance: float = 0.1,
    generator: torch.Generator | None = None,
) -> DriftAlong:
    """Run plain SGD on from the present weights, in a copy, and hold its charges against the law along its path.

    The law is evaluated every few steps and taken as linear in between; each batch is drawn anew. What it says jumps
    from step to step, above all with the mean gradient: the error of the sum is what its scatter from look to look
    leaves, or what sampling the noise leaves if that is larger.

    Args:
        risk: the loss at the present weights; the model stays as it is.
        found: from `measure.symmetries`; looked for if None.
        lr: learning rate.
        batch_size: samples per step.
        weight_decay: as torch's SGD has it.
        replacement: whether a batch may hold a sample twice.
        steps: length of the run; rounded up to a multiple of `every`.
        every: steps between two looks at the noise.
        samples: for each look, drawn anew; all data where there are fewer.
        tolerance: relative difference up to which the verdicts agree.
        generator: of batches and samples.

    Cost: `steps` gradients of a batch and, `steps` / `every` + 1 times, that of `measure.noise_traces`.
    Raises ValueError as `balance.drift_test` does; FloatingPointError if the run diverges.
    """
    training = training_of(risk, lr, batch_size, weight_decay, replacement)
    if every < 1 or steps < 2:
        raise ValueError(f"expected at least 2 steps and a look at least every step, got {steps} and {every}")
    held = [s for s in (symmetries(risk) if found is None else found) if s.holds]
    if not held:
        raise ValueError("expected a model with symmetries, got one in which none holds\n"
                         "hint: print(measure.symmetries(risk)) says why")  # fmt: skip
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    walk = Walk(risk, held, training)

    def look() -> _Look:
        traces = noise_traces(walk.risk, held, samples=samples, batch_size=batch_size, replacement=replacement,
                              generator=generator)  # fmt: skip
        return _Look.of(walk.risk, traces, training)

    every = min(every, steps)
    looks, charges = [look()], [walk.charges()]
    changes: list[Tensor] = []
    while len(changes) < steps:
        before = charges[-1]
        for _ in range(every):
            walk.step(walk.draw(generator), seed=len(changes))
            after = walk.charges()
            changes.append(after - before)
            before = after
        charges.append(before)
        looks.append(look())
    return _told(held, looks, torch.stack(charges, 1), torch.stack(changes, 1), every, training, tolerance, risk)


@dataclass(frozen=True)
class _Look:
    """What both laws say of the next step at one place, with errors, by pair."""

    discrete: Tensor
    discrete_error: Tensor
    continuous: Tensor
    continuous_error: Tensor
    samples: int
    cost: float

    @classmethod
    def of(cls, risk: Risk, traces: tuple[NoiseTraces, ...], training: Training) -> _Look:
        discrete, continuous = (
            [predicted_by("", law, risk, t) for t in traces]
            for law in (training.expected_change, training.continuous_change)
        )
        return cls(*_numbers(discrete), *_numbers(continuous), traces[0].samples, traces[0].cost)


def _numbers(estimates: list[Estimate]) -> tuple[Tensor, Tensor]:
    values, errors = ([getattr(e, name) for e in estimates] for name in ("value", "standard_error"))
    return torch.tensor(values, dtype=torch.float64), torch.tensor(errors, dtype=torch.float64)


def _told(
    held: list[Symmetry], looks: list[_Look], charges: Tensor, changes: Tensor, every: int, training: Training,
    tolerance: float, risk: Risk,
) -> DriftAlong:  # fmt: skip
    steps = changes.shape[1]
    inside = (torch.arange(steps) % every + 0.5) / every
    rates = torch.stack([each.discrete for each in looks], 1)
    rate = torch.lerp(rates[:, :-1].repeat_interleave(every, 1), rates[:, 1:].repeat_interleave(every, 1),
                      inside.double().repeat(len(held), 1))  # fmt: skip
    fluctuation = (changes - rate).square().sum(1).sqrt()
    weights = torch.full((len(looks),), float(every), dtype=torch.float64)
    weights[[0, -1]] /= 2
    path = charges[:, :1] + torch.cumsum(every * (rates[:, :-1] + rates[:, 1:]) / 2, 1)
    scope = f"one run of plain SGD of {steps} steps, noise measured every {every}"
    pairs = []
    for place, symmetry in enumerate(held):

        def summed(name: str, place: int = place) -> Estimate:
            values = torch.stack([getattr(each, name)[place] for each in looks])
            errors = torch.stack([getattr(each, f"{name}_error")[place] for each in looks])
            sampled = float((weights * errors).norm())
            between = float(weights.norm()) * _scatter(values) * math.sqrt(1 - 1 / every)
            return Estimate(f"{name} law", float(weights @ values), max(sampled, between),
                            count=looks[0].samples * len(looks), unit=UNIT)  # fmt: skip

        measured = Estimate("charge_change", float(charges[place, -1] - charges[place, 0]), float(fluctuation[place]),
                            count=steps, unit=UNIT)  # fmt: skip
        predicted = summed("discrete")
        verdict = verdict_of(_CLAIM.format(symmetry.name), measured, predicted, tolerance, scope)
        pairs.append(PairDrift(symmetry.name, measured, predicted, summed("continuous"), verdict))
    settings = {
        "lr": training.lr, "batch_size": training.batch_size, "weight_decay": training.weight_decay,
        "replacement": training.replacement, "every": every, "samples": looks[0].samples, "mode": risk.mode,
        "of": risk.size,
    }  # fmt: skip
    cost = steps * training.batch_size / risk.size + math.fsum(each.cost for each in looks)
    predicted_path = torch.cat([charges[:, :1], path], 1)
    return DriftAlong(
        tuple(pairs), tuple(range(0, steps + 1, every)), _tuples(charges), _tuples(predicted_path), settings, cost
    )


def _scatter(values: Tensor) -> float:
    """Standard deviation around a smooth course, from second differences; 0 for fewer than three values."""
    if len(values) < 3:
        return 0.0
    second = values[2:] - 2 * values[1:-1] + values[:-2]
    return math.sqrt(float(second.square().mean()) / 6)


def _tuples(rows: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in rows.tolist())
