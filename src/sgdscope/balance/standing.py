r"""Standing: how far each pair of layers is from noise balance, and what the next steps of SGD do about it.

Per layer pair (symmetry), all units together: the two sides of the law of balance, the exact mean change of the charge
in one step, and the ratio of norms at which noise (and weight decay) would no longer move it. Sources: Ziyin, Li & Ueda
2308.06671, Theorem 3.1 and Eq. 3; Ziyin, Wang, Li & Wu 2402.07193; the exact discrete law as in `theory.balance`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sgdscope.balance.law import law_reasons
from sgdscope.balance.training import Training, training_of
from sgdscope.estimate import Estimate
from sgdscope.measure.noise_traces import NoiseTraces, Totals, noise_traces
from sgdscope.measure.symmetries import Symmetry
from sgdscope.risk import Risk
from sgdscope.theory import balance as theory

NAME = "balance"
_FAR = 100.0
"""Logarithm of a ratio of norms beyond which there is no equilibrium to speak of."""
SQUARED, NOISE = "parameter²", "loss² / parameter²"


def standing(
    risk: Risk,
    found: Iterable[Symmetry] | None = None,
    *,
    lr: float,
    batch_size: int,
    weight_decay: float = 0.0,
    replacement: bool = False,
    optimizer: Any = None,
    samples: int = 256,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Noise imbalance (noise_u − noise_w) / (noise_u + noise_w) of each layer pair: in [−1, 1], 0 at noise balance.

    Args:
        risk: the loss at the present weights.
        found: from `measure.symmetries`; looked for if None.
        lr: learning rate.
        batch_size: samples per step.
        weight_decay: as torch's SGD has it (2γ of the theory).
        replacement: whether a batch may hold a sample twice.
        optimizer: the torch optimizer, for ``settings["law"]``: reasons why the law of balance does not apply to it.
        samples: drawn for the traces of noise; at least 8 batches where samples have no gradients of their own.
        generator: of the samples.

    In `beside`, over the same layer pairs (``settings["layers"]``): ``charge`` ‖u‖² − ‖w‖², ``squared_norm_u``,
    ``squared_norm_w``, ``noise_u``, ``noise_w``, ``expected_change`` of the charge per step (exact discrete law: noise,
    mean gradient, weight decay, finite data). Over ``settings["equilibrium"]`` (places in the layers; pairs with noise
    on both sides, or with weight decay against it): ``ratio`` ‖u‖ / ‖w‖, ``equilibrium_ratio`` where noise and weight
    decay would leave it if the whole pair were rescaled by one factor, ``relaxation_steps`` 1 / (lr · rate at which a
    small deviation decays), ``unit_distance`` median over units of |ln(ratio / equilibrium ratio)|.

    Standard errors by jackknife over blocks of samples; 0 where all data were taken.

    Cost: that of `measure.noise_traces`, about 2 gradients of the samples (more where layers are not known).
    Raises ValueError as `measure.noise_traces` does, for a batch size that the data cannot give, lr ≤ 0 or a negative
    weight decay. Estimate ``failed`` if no symmetry holds or none has noise; ``diverged`` if gradients are not finite.
    """
    training = training_of(risk, lr, batch_size, weight_decay, replacement)
    settings: dict[str, Any] = {
        "lr": lr, "batch_size": batch_size, "weight_decay": weight_decay, "replacement": replacement,
        "mode": risk.mode, "of": risk.size, "law": law_reasons(optimizer),
    }  # fmt: skip
    try:
        traces = noise_traces(risk, found, samples=_enough(risk, samples, batch_size), batch_size=batch_size,
                              replacement=replacement, generator=generator)  # fmt: skip
    except FloatingPointError as error:
        return Estimate.failed(NAME, str(error), status="diverged", settings=settings)
    return standing_of(risk, traces, training, settings)


def _enough(risk: Risk, samples: int, batch_size: int) -> int:
    """Samples for 8 batches at least where only batches have gradients."""
    return max(samples, 8 * batch_size) if risk.batch_dependent else samples


def standing_of(risk: Risk, traces: Sequence[NoiseTraces], training: Training, settings: dict[str, Any]) -> Estimate:
    """The row out of the traces; see `standing`."""
    noisy = [t for t in traces if t.total.noise_u + t.total.noise_w > 0]
    silent = [t for t in traces if t not in noisy]
    settings = settings | {
        "layers": [t.symmetry.name for t in noisy], "kinds": [t.symmetry.kind for t in noisy],
        "units": [t.symmetry.units for t in noisy],
        "left_out": [{"layers": t.symmetry.name, "reason": "no noise on either side"} for t in silent],
    }  # fmt: skip
    if not noisy:
        reason = "no symmetry holds" if not traces else "no pair of layers has gradient noise"
        return Estimate.failed(NAME, reason, settings=settings, cost=traces[0].cost if traces else 0.0)
    rests = [_rest(risk, t, training) for t in noisy]
    count = noisy[0].samples
    settings |= {
        "samples": count, "method": noisy[0].method,
        "equilibrium": [place for place, rest in enumerate(rests) if rest is not None],
    }  # fmt: skip

    def row(name: str, of: Callable[[NoiseTraces], float], unit: str) -> Estimate:
        return Estimate(name, tuple(of(t) for t in noisy), unit=unit)

    def sampled(name: str, of: Callable[[NoiseTraces, Totals], float], unit: str = "") -> Estimate:
        values = tuple(of(t, t.total) for t in noisy)
        errors = tuple(t.error(lambda totals, t=t: of(t, totals)) for t in noisy)  # type: ignore[misc]
        return Estimate(name, values, errors, count=count, unit=unit)

    beside = {
        "charge": row("charge", lambda t: float(t.charge.sum()), SQUARED),
        "squared_norm_u": row("squared_norm_u", lambda t: float(t.squared_norm_u.sum()), SQUARED),
        "squared_norm_w": row("squared_norm_w", lambda t: float(t.squared_norm_w.sum()), SQUARED),
        "noise_u": sampled("noise_u", lambda _, totals: totals.noise_u, NOISE),
        "noise_w": sampled("noise_w", lambda _, totals: totals.noise_w, NOISE),
        "expected_change": sampled(
            "expected_change", lambda t, totals: training.expected_change(risk, t, totals), SQUARED),
    }  # fmt: skip
    resting = [rest for rest in rests if rest is not None]
    if resting:
        beside |= {
            "ratio": Estimate("ratio", tuple(r.ratio for r in resting)),
            "equilibrium_ratio": Estimate("equilibrium_ratio", tuple(r.equilibrium_ratio for r in resting),
                                          tuple(r.error for r in resting), count=count),
            "relaxation_steps": Estimate("relaxation_steps", tuple(r.relaxation_steps for r in resting), unit="steps"),
            "unit_distance": Estimate("unit_distance", tuple(r.unit_distance for r in resting)),
        }  # fmt: skip
    main = sampled(NAME, lambda _, totals: _imbalance(totals))
    return Estimate(NAME, main.value, main.standard_error, cost=noisy[0].cost, settings=settings,
                    beside=beside)  # fmt: skip


def _imbalance(totals: Totals) -> float:
    both = totals.noise_u + totals.noise_w
    return (totals.noise_u - totals.noise_w) / both if both > 0 else 0.0


@dataclass(frozen=True)
class _Rest:
    """Noise equilibrium of one layer pair."""

    ratio: float
    equilibrium_ratio: float
    error: float
    relaxation_steps: float
    unit_distance: float


def _rest(risk: Risk, traces: NoiseTraces, training: Training) -> _Rest | None:
    """Where the pair would come to rest; None if nowhere, or if u or w is not there."""
    power = _one_power(traces.symmetry)
    temperature = training.temperature(risk, traces)
    norms = float(traces.squared_norm_u.sum()), float(traces.squared_norm_w.sum())
    if power is None or temperature == 0 or min(norms) == 0:
        return None

    def log_ratio(totals: Totals) -> float:
        return float(training.log_ratio_to_equilibrium(temperature, totals.noise_u, totals.noise_w, *norms))

    to_go = log_ratio(traces.total)
    of_units = training.log_ratio_to_equilibrium(
        temperature, traces.noise_u, traces.noise_w, traces.squared_norm_u, traces.squared_norm_w
    )
    heard = np.isfinite(of_units) & (traces.noise_u + traces.noise_w > 0).numpy()
    error = traces.error(log_ratio)
    if not (abs(to_go) < _FAR and math.isfinite(error) and heard.any()):
        return None
    ratio = math.sqrt(norms[0] / norms[1])
    rest = theory.equilibrium(
        [power, -power], [traces.total.noise_u / power, traces.total.noise_w / power],
        [norms[0] / power, norms[1] / power], temperature=temperature, weight_decay=training.decay,
    )  # fmt: skip
    assert rest.relaxation_rate is not None
    at_rest = ratio * math.exp(to_go)
    error = at_rest * traces.error(log_ratio)
    return _Rest(
        ratio, at_rest, error, 1 / (training.lr * rest.relaxation_rate), float(np.median(abs(of_units[heard])))
    )


def _one_power(symmetry: Symmetry) -> float | None:
    """The size of all powers that are not zero, where they have one."""
    sizes = {
        abs(value)
        for part in symmetry.parts
        for value in (part.power.unique().tolist() if isinstance(part.power, Tensor) else [part.power])
        if value
    }
    return sizes.pop() if len(sizes) == 1 else None
