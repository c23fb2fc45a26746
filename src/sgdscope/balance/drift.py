r"""Drift test: many forks of plain SGD from the same weights, and the mean change of their charges beside the law.

In every step, whatever the learning rate, ``ΔC = lr² ĝᵀAĝ − (1 − (1 − 2 lr γ)²) C`` for the gradient ĝ of the minibatch
(Ziyin, Li & Ueda 2308.06671, from the per-sample identity, Eq. 26; γ is half of torch's weight decay). Its mean is the
exact discrete law; the continuous law (Theorem 3.1) leaves out the mean gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from sgdscope.balance.pair_drift import UNIT, PairDrift, predicted_by, table, verdict_of
from sgdscope.balance.training import Training, training_of
from sgdscope.balance.walk import Walk
from sgdscope.estimate import Estimate, plain
from sgdscope.measure.noise_traces import NoiseTraces, noise_traces
from sgdscope.measure.symmetries import Symmetry, symmetries
from sgdscope.risk import Risk

_CLAIM = "the mean change of the charge of {} per step is that of the exact discrete law of balance"


@dataclass(frozen=True)
class DriftTest:
    """Mean drift of all layer pairs beside the law.

    Attributes:
        pairs: one per symmetry that holds.
        chi_square: of all pairs together, by the covariance of their differences (pairs of one network share their
            batches); None where it has no inverse.
        probability: of one at least as large if the law holds (Hotelling's T², by the F distribution).
        identity_residual: largest difference between ΔC of a step and lr² ĝᵀAĝ with weight decay, over the sum of
            magnitudes of the terms: rounding, where the symmetry is exact.
        settings: learning rate, batch size, …
        cost: gradients over all data.
    """

    pairs: tuple[PairDrift, ...]
    chi_square: float | None
    probability: float | None
    identity_residual: float
    settings: dict[str, Any]
    cost: float

    def __str__(self) -> str:
        lines = table(self.pairs, "measured ΔC per step")
        if self.chi_square is not None:
            lines.append(f"all pairs against the discrete law: χ² = {self.chi_square:.3g} for {len(self.pairs)}, "
                         f"p = {self.probability:.2g}")  # fmt: skip
        lines.append(f"{self.settings['forks']} forks of one step from the same weights; each moves the charges as the "
                     f"identity says within {self.identity_residual:.1g}")  # fmt: skip
        return "\n".join(lines)

    def to_row(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "pairs": [pair.to_row() for pair in self.pairs], "chi_square": self.chi_square,
            "probability": self.probability, "identity_residual": plain(self.identity_residual),
            "settings": plain(self.settings), "cost": self.cost,
        }  # fmt: skip


def drift_test(
    risk: Risk,
    found: Iterable[Symmetry] | None = None,
    *,
    lr: float,
    batch_size: int,
    weight_decay: float = 0.0,
    replacement: bool = False,
    forks: int = 400,
    samples: int = 4096,
    tolerance: float = 0.1,
    generator: torch.Generator | None = None,
) -> DriftTest:
    """Fork plain SGD from the present weights and hold the mean change of each charge against the law of balance.

    Every fork starts at the same weights and really takes one step, with a minibatch of its own, in the parameters'
    precision; the model stays as it is. For longer stretches, over which the noise changes, see `drift_along`.

    Args:
        risk: the loss at the present weights.
        found: from `measure.symmetries`; looked for if None.
        lr: learning rate.
        batch_size: samples per step.
        weight_decay: as torch's SGD has it.
        replacement: whether a batch may hold a sample twice.
        forks: how many; at least 4.
        samples: for the traces of noise that predict; all data where there are fewer, and then without error.
        tolerance: relative difference up to which the verdicts agree.
        generator: of the batches and samples.

    Cost: `forks` gradients of a batch, and that of `measure.noise_traces` with so many samples.
    Raises ValueError as `balance.standing` does, for fewer than 4 forks, and where no symmetry holds;
    FloatingPointError if gradients at the start are not finite.
    """
    training = training_of(risk, lr, batch_size, weight_decay, replacement)
    if forks < 4:
        raise ValueError(f"expected at least 4 forks, got {forks}")
    held = [s for s in (symmetries(risk) if found is None else found) if s.holds]
    if not held:
        raise ValueError("expected a model with symmetries, got one in which none holds\n"
                         "hint: print(measure.symmetries(risk)) says why")  # fmt: skip
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    traces = noise_traces(risk, held, samples=samples, batch_size=batch_size, replacement=replacement,
                          generator=generator)  # fmt: skip
    changes, residual = _forked(Walk(risk, held, training), forks, generator)
    settings = {
        "lr": lr, "batch_size": batch_size, "weight_decay": weight_decay, "replacement": replacement, "forks": forks,
        "samples": traces[0].samples, "mode": risk.mode, "of": risk.size,
    }  # fmt: skip
    predicted = [predicted_by("discrete law", training.expected_change, risk, t) for t in traces]
    continuous = [predicted_by("continuous law", training.continuous_change, risk, t) for t in traces]
    measured = [_mean(changes[:, place]) for place in range(len(held))]
    scope = f"plain SGD, {forks} forks of one step from one point"
    pairs = tuple(
        PairDrift(s.name, m, p, c, verdict_of(_CLAIM.format(s.name), m, p, tolerance, scope))
        for s, m, p, c in zip(held, measured, predicted, continuous, strict=True)
    )
    chi_square, probability = _together(changes, pairs, _covariance(risk, traces, training))
    cost = forks * batch_size / risk.size + traces[0].cost
    return DriftTest(pairs, chi_square, probability, residual, settings, cost)


def _forked(walk: Walk, forks: int, generator: torch.Generator) -> tuple[Tensor, float]:
    """Change of each charge in each fork, ``(forks, symmetries)``, and the largest difference from the identity."""
    lr, decay = walk.training.lr, walk.training.decay
    start = walk.charges()
    decayed = (1 - (1 - 2 * lr * decay) ** 2) * start
    changes, residual = [], 0.0
    for fork in range(forks):
        walk.restart()
        u, w = walk.step(walk.draw(generator), seed=fork)
        changes.append(walk.charges() - start)
        gap = (changes[-1] - lr * lr * (u - w) + decayed).abs() / (lr * lr * (u + w) + decayed.abs()).clamp(min=1e-300)
        residual = max(residual, float(gap.max())) if bool(torch.isfinite(gap).all()) else math.inf
    return torch.stack(changes), residual


def _mean(changes: Tensor) -> Estimate:
    if not bool(torch.isfinite(changes).all()):
        lost = int((~torch.isfinite(changes)).sum())
        return Estimate.failed("mean_charge_change", f"{lost} of {len(changes)} forks diverged", status="diverged")
    error = float(changes.std()) / math.sqrt(len(changes))
    return Estimate("mean_charge_change", float(changes.mean()), error, count=len(changes), unit=UNIT)


def _covariance(risk: Risk, traces: Sequence[NoiseTraces], training: Training) -> Tensor:
    """Covariance of the predictions of different pairs, which come from the same samples."""
    if not traces[0].replicates:
        return torch.zeros(len(traces), len(traces), dtype=torch.float64)
    rows = torch.tensor(
        [[training.expected_change(risk, t, r) for r in t.replicates] for t in traces], dtype=torch.float64
    )
    deviation = rows - rows.mean(1, keepdim=True)
    blocks = rows.shape[1]
    return (blocks - 1) / blocks * (1 - traces[0].fraction) * deviation @ deviation.t()


def _together(
    changes: Tensor, pairs: Sequence[PairDrift], covariance: Tensor
) -> tuple[float, float] | tuple[None, None]:
    """Hotelling's T² of all pairs and its probability; None where the covariance has no inverse."""
    forks, count = changes.shape
    if not bool(torch.isfinite(changes).all()) or forks <= count:
        return None, None
    difference = torch.tensor([float(p.measured) - float(p.predicted) for p in pairs], dtype=torch.float64)
    total = torch.atleast_2d(torch.cov(changes.t())) / forks + covariance
    scale = total.diagonal().sqrt()
    if not bool((scale > 0).all()):
        return None, None
    correlation = total / torch.outer(scale, scale)
    if float(torch.linalg.eigvalsh(correlation)[0]) < 1e-9:
        return None, None
    standardised = difference / scale
    squared = float(standardised @ torch.linalg.solve(correlation, standardised))
    probability = float(stats.f.sf(squared * (forks - count) / (count * (forks - 1)), count, forks - count))
    return squared, probability
