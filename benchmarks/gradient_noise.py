"""Gradient noise over a batch: tr Σ by inner products layer by layer, against per-sample gradients by vmap."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

import sgdscope as sg
from benchmarks.harness import Ratio, Row, class_images, cnn, interleaved, mlp, plain_gradient, risk_of
from sgdscope.per_sample import per_sample_gradients

SAMPLES, BAR = 256, 1.6


def measure(name: str, model: nn.Module, *, rival: bool) -> Row:
    """The trace, noise scale and the rest of `gradient_noise` from one batch, in gradients of it."""
    data = class_images(SAMPLES)
    risk = risk_of(model, data)
    actions = {
        "gradient": plain_gradient(model, data),
        "ours": lambda: sg.measure.gradient_noise(risk, samples=SAMPLES, exact_gradient=False),
    }
    if rival:
        actions["vmap"] = lambda: per_sample_gradients(risk, data, method="vmap")
    times = interleaved(actions)
    ours = Ratio.of(times["ours"], times["gradient"])
    rows = [g.flatten(1).double() for g in per_sample_gradients(risk, (data[0][:32], data[1][:32]), method="loop")]
    plain = sum(float(torch.var(g, 0).sum()) for g in rows)
    part = sg.Risk(model, risk.loss_fn, (data[0][:32], data[1][:32]))
    error = abs(sg.measure.gradient_noise(part, samples=32).value / plain - 1)
    against = (
        f"{Ratio.of(times['vmap'], times['gradient']).median:.1f} (per-sample gradients by vmap)" if rival else "-"
    )
    return Row(f"tr Σ over a batch of {SAMPLES}, {name}, in gradients", f"{ours}; differs by {error:.0e}", against,
               f"≤ {BAR}", ours.median <= BAR and error < 1e-4)  # fmt: skip


def rows() -> Iterator[Row]:
    yield measure("MLP tanh", mlp("tanh"), rival=False)  # two gigabytes of explicit gradients
    yield measure("CNN", cnn(), rival=True)
