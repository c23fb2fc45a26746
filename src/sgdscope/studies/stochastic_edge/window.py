"""Window: what a run settled at. Neighbouring readings are alike, so that errors are those of blocks of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from sgdscope.edge_units import trend, window_mean
from sgdscope.estimate import Estimate
from sgdscope.records import Run
from sgdscope.series import Series

BLOCKS = 5
"""Parts of a window whose scatter gives the error of its mean."""
_MOST = 80
"""Points of a curve that are kept."""

QUANTITIES = (
    "batch_sharpness", "ratio_of_expectations", "lambda_max", "gradient_noise_interaction",
    "interaction_aware_sharpness", "gradient_signal", "edge_ratio", "loss",
)  # fmt: skip
"""What is read of a run: batch sharpness as the expectation of the ratio, and the ratio of expectations on the same
batches; λ_max; and so on. The last three are in units of their own, the others in loss / parameter²."""


def series_of(run: Run) -> dict[str, Series]:
    """The quantities along a run."""
    found = {name: run.get(name) for name in QUANTITIES}
    found["ratio_of_expectations"] = found["batch_sharpness"].component("ratio_of_expectations")
    for name in ("interaction_aware_sharpness", "gradient_signal"):
        found[name] = found["gradient_noise_interaction"].component(name)
    return found


def settled(run: Run, first: int) -> dict[str, Estimate]:
    """Mean of each quantity from step `first` on, and `trend`, the change of batch sharpness meanwhile.

    Of a run that diverged none has a value.
    """
    if run.status == "diverged":
        why = f"the run diverged at step {run.last_step:,}"
        return {name: Estimate.failed(name, why, status="diverged") for name in (*QUANTITIES, "trend")}
    along = series_of(run)
    found = {name: mean_of_blocks(series, first, run.last_step) for name, series in along.items()}
    return {**found, "trend": trend(along["batch_sharpness"], first, run.last_step)}


def mean_of_blocks(series: Series, first: int, last: int) -> Estimate:
    """Mean over a window; its error is the larger of that of the readings and that of `BLOCKS` blocks of them."""
    whole = window_mean(series, first, last)
    if whole.value is None or whole.count < 2 * BLOCKS:
        return whole
    values = series.values[(series.steps >= first) & (series.steps <= last)]
    bounds = [round(len(values) * k / BLOCKS) for k in range(BLOCKS + 1)]
    blocks = [float(values[a:b].mean()) for a, b in pairwise(bounds)]
    scatter = statistics.stdev(blocks) / math.sqrt(BLOCKS)
    assert isinstance(whole.standard_error, float)
    return replace(whole, standard_error=max(whole.standard_error, scatter))


def over_runs(name: str, found: list[Estimate]) -> Estimate:
    """Mean over runs that differ in their seed; the error is that of their scatter, of one run its own.

    Runs without a value are left out, and counted in the reason; without any the estimate has none either.
    """
    kept = [e for e in found if e.value is not None]
    if not kept:
        return found[0] if found else Estimate.failed(name, "there is no run")
    if len(kept) == 1:
        return kept[0]
    values = [float(e) for e in kept]
    within = math.sqrt(sum(_error(e) ** 2 for e in kept)) / len(kept)
    error = max(statistics.stdev(values) / math.sqrt(len(values)), within)
    return Estimate(name, statistics.fmean(values), error, count=len(kept))


def curves(run: Run) -> Mapping[str, Mapping[str, list[float]]]:
    """Steps and values of each quantity along the run, thinned to what a figure shows."""
    found = {}
    for name, series in series_of(run).items():
        every = max(1, math.ceil(len(series) / _MOST))
        points = list(zip(series.steps.tolist(), series.values.tolist(), strict=True))[::-1][::every][::-1]
        found[name] = {"steps": [s for s, _ in points], "values": [float(f"{v:.5g}") for _, v in points]}
    return found


def _error(estimate: Estimate) -> float:
    return estimate.standard_error if isinstance(estimate.standard_error, float) else 0.0
