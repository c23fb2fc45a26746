"""Noise on both sides of every rescaling symmetry: one pass over a batch, against per-sample gradients by vmap."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

import sgdscope as sg
from benchmarks.harness import Ratio, Row, class_images, cnn, interleaved, mlp, plain_gradient, risk_of
from sgdscope.per_sample import per_sample_gradients

SAMPLES, SOME = 256, 32


def measure(name: str, model: nn.Module, bar: float) -> Row:
    """All layer pairs, unit by unit, with jackknife errors, from a sample of twice as much data; in its gradients."""
    data = class_images(2 * SAMPLES)
    risk = risk_of(model, data)
    batch = data[0][:SAMPLES], data[1][:SAMPLES]
    some = data[0][:SOME], data[1][:SOME]
    found = sg.measure.symmetries(risk)
    times = interleaved({
        "gradient": plain_gradient(model, batch),
        "ours": lambda: sg.measure.noise_traces(risk, found, samples=SAMPLES),
        "some": plain_gradient(model, some),
        "vmap": lambda: per_sample_gradients(risk, some, method="vmap"),
    })  # fmt: skip
    ours = Ratio.of(times["ours"], times["gradient"])
    error = largest_error(sg.Risk(model, risk.loss_fn, some), found)
    return Row(f"noise traces from {SAMPLES} samples, {name}, in gradients", f"{ours}; differ by {error:.0e}",
               f"{Ratio.of(times['vmap'], times['some']).median:.1f} (per-sample gradients by vmap alone)",
               f"≤ {bar:g}", ours.median <= bar and error < 1e-4)  # fmt: skip


def largest_error(risk: sg.Risk, found: sg.measure.Symmetries) -> float:
    """Of the total noise of any side, against gradients of single samples."""
    batch = next(iter(risk.chunks()))
    rows = dict(zip(risk.names, per_sample_gradients(risk, batch, method="loop"), strict=True))
    worst = 0.0
    for traces in sg.measure.noise_traces(risk, found, samples=risk.size):
        for total, parts in ((traces.total.noise_u, traces.symmetry.u), (traces.total.noise_w, traces.symmetry.w)):
            plain = sum(float(rows[part.name].double().var(0, unbiased=False).sum()) for part in parts)
            worst = max(worst, abs(total / plain - 1))
    return worst


def rows() -> Iterator[Row]:
    yield measure("MLP ReLU", mlp("relu"), 2.0)
    yield measure("CNN", cnn(), 3.0)
