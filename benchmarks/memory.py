"""Peak memory of each measurement against that of one training step at the same chunk size.

Bytes of tensors made above what was there before, from the allocator's own record (torch.profiler), so the figure is
exact and the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import sgdscope as sg
from benchmarks.harness import Row, class_images, cnn, mlp, risk_of, squared_error

BAR = 3.0
_CHUNK, _CHUNKS = 250, 4


def peak_bytes(action: Callable[[], object]) -> int:
    """Largest sum of bytes held at once by tensors that `action` makes."""
    action()  # lazily made things are not its cost
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        kept = action()
    held = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    del kept
    return peak


def measure(name: str, make: Callable[[], nn.Module]) -> list[Row]:
    """One row per measurement, on data of four chunks and (kept graph) of one."""
    model = make()
    data = class_images(_CHUNK * _CHUNKS)
    chunked = risk_of(model, data, chunk_size=_CHUNK)
    single = risk_of(model, (data[0][:_CHUNK], data[1][:_CHUNK]), chunk_size=_CHUNK)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def step() -> None:
        optimizer.zero_grad()
        squared_error(model, (data[0][:_CHUNK], data[1][:_CHUNK])).backward()
        optimizer.step()

    training = peak_bytes(step)
    optimizer.zero_grad()
    weights = sum(4 * p.numel() for p in model.parameters())
    copies = 2 * (14 + 2 * (1 + 3))  # of the parameters, as documented: two per basis vector
    generator = torch.Generator().manual_seed(0)

    def batch_sharpness() -> object:
        return sg.measure.batch_sharpness(chunked, 32, max_batches=40, tolerance=1e-9, generator=generator)

    def large_batches() -> object:
        return sg.measure.batch_sharpness(chunked, _CHUNK, max_batches=4, tolerance=1e-9, generator=generator)

    measurements: list[tuple[str, Callable[[], object], bool]] = [
        ("gradient over 4 chunks", chunked.gradient, False),
        ("batch sharpness b = 32", batch_sharpness, False),
        (f"batch sharpness b = {_CHUNK}", large_batches, False),
        ("gradient-noise interaction", lambda: sg.measure.gradient_noise_interaction(
            chunked, 32, batches=8, curvature_samples=_CHUNK), False),
        ("edge ratio", lambda: sg.measure.edge_ratio(chunked, 32, 0.1, batches=8), False),
        ("λ_max, one chunk", lambda: sg.measure.leading_eigenvalues(single), True),
        ("λ_max, 4 chunks", lambda: sg.measure.leading_eigenvalues(chunked), True),
    ]  # fmt: skip
    found = []
    for what, action, vectors in measurements:
        peak = peak_bytes(action)
        ratio = peak / training
        text = f"{ratio:.2f}"
        if vectors:
            text += f" ({peak / weights:.0f} copies of the parameters; documented: at most {copies})"
        bar = f"≤ {BAR:g}, eigenvectors apart" if vectors else f"≤ {BAR:g}"
        allowed = BAR * training + (copies * weights if vectors else 0)
        found.append(Row(f"peak memory, {what}, {name}, in training steps at b = {_CHUNK}", text, "-", bar,
                         peak <= allowed))  # fmt: skip
    return found


def rows() -> list[Row]:
    return measure("MLP tanh", lambda: mlp("tanh")) + measure("CNN", cnn)
