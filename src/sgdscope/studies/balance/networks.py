"""Networks: cells that hold the law of balance against networks in torch: one from real data, others on drawn data.

The small ones are trained on samples drawn afresh for each step, so that label noise is never learned by heart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sgdscope import balance, measure
from sgdscope.config import RunConfig
from sgdscope.estimate import Estimate
from sgdscope.measure.noise_traces import NoiseTraces
from sgdscope.risk import Risk
from sgdscope.train import Training

Settings = Mapping[str, Any]


def drift(settings: Settings, folder: Path) -> dict[str, Any]:
    """Forks of one step of a network of ``config`` after ``warm`` steps: the mean change of charges, and the law's."""
    config = replace(RunConfig.from_json(settings["config"]), threads=1).resolved()
    torch.manual_seed(config.seed)
    training = Training(config)
    for step in range(settings["warm"]):
        training.step(step, training.next_batch())
    assert config.lr is not None
    assert config.batch_size is not None
    found = balance.drift_test(
        training.risk, lr=config.lr, batch_size=config.batch_size, replacement=config.sampling == "replacement",
        forks=settings["forks"], generator=torch.Generator().manual_seed(1 + config.seed),
    )  # fmt: skip
    return {
        "pairs": [{"layers": p.layers, "measured": p.measured, "predicted": p.predicted, "continuous": p.continuous,
                   "z": p.z, "z_continuous": p.z_continuous} for p in found.pairs],
        "chi_square": found.chi_square, "probability": found.probability, "residual": found.identity_residual,
        "loss": training.risk.value(),
    }  # fmt: skip


def traces(settings: Settings, folder: Path) -> dict[str, Any]:
    """A network ``inputs`` → ``width`` → ``inputs`` of ReLUs that learns y = x + ε: noise and norms of both layers.

    ``stretch`` makes the first layer larger and the second smaller at the start, at the same function. Each look has
    ``samples`` fresh ones.
    """
    size, width, stretch = settings["inputs"], settings["width"], settings["stretch"]
    generator = torch.Generator().manual_seed(settings["seed"])
    torch.manual_seed(settings["seed"])
    model = nn.Sequential(nn.Linear(size, width), nn.ReLU(), nn.Linear(width, size)).double()
    with torch.no_grad():
        first, second = model[0], model[2]
        assert isinstance(first, nn.Linear)
        assert isinstance(second, nn.Linear)
        for parameter, factor in ((first.weight, stretch), (first.bias, stretch), (second.weight, 1 / stretch)):
            parameter.mul_(factor)

    def draw(count: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(count, size, generator=generator, dtype=torch.float64)
        return x, x + math.sqrt(settings["noise_variance"]) * torch.randn(x.shape, generator=generator, dtype=x.dtype)

    def look(step: int) -> dict[str, Any]:
        risk = Risk(model, _squared_error, draw(settings["samples"]))
        (found,) = [t for t in measure.noise_traces(risk, samples=settings["samples"] // 2, generator=generator)
                    if t.symmetry.holds]  # fmt: skip
        return {"step": step, "noise_ratio": _log_ratio(found), "loss": risk.value(),
                "norm_ratio": float(found.squared_norm_w.sum() / found.squared_norm_u.sum()),
                "noise_u": found.total.noise_u, "noise_w": found.total.noise_w}  # fmt: skip

    optimizer = torch.optim.SGD(model.parameters(), lr=settings["lr"])
    looks = [look(0)]
    for step in range(1, settings["steps"] + 1):
        optimizer.zero_grad()
        _squared_error(model, draw(settings["batch_size"])).backward()
        optimizer.step()
        if step % max(1, settings["steps"] // settings["looks"]) == 0:
            looks.append(look(step))
    return {"looks": looks}


def unit(settings: Settings, folder: Path) -> dict[str, Any]:
    """One linear hidden unit, f = u (w·x), that learns the first input with noise: ‖w‖² / ‖u‖² in the last third.

    ``replicas`` of it are trained side by side, each on samples of its own; the error is that between them.
    """
    count = settings["replicas"]
    generator = torch.Generator().manual_seed(settings["seed"])
    scale = torch.tensor(settings["input_variance"], dtype=torch.float64).sqrt()
    size = len(scale)
    axis = torch.eye(size, dtype=torch.float64)[0]
    u = (settings["start"][0] * axis).repeat(count, 1).requires_grad_()
    w = (settings["start"][1] * axis).repeat(count, 1).requires_grad_()
    sums, looks = torch.zeros(2, count, dtype=torch.float64), 0
    for step in range(settings["steps"]):
        x = scale * torch.randn(count, size, generator=generator, dtype=torch.float64)
        noise = torch.randn(count, size, generator=generator, dtype=torch.float64)
        residual = (w * x).sum(1, keepdim=True) * u - x * axis - noise
        of_u, of_w = torch.autograd.grad(residual.square().sum(), (u, w))
        with torch.no_grad():
            u -= settings["lr"] * of_u
            w -= settings["lr"] * of_w
            if step >= settings["steps"] * 2 // 3 and step % 10 == 0:
                sums += torch.stack([w.square().sum(1), u.square().sum(1)])
                looks += 1
    w2, u2 = sums / looks
    ratio = float(w2.mean() / u2.mean())
    scatter = (w2 - ratio * u2) / u2.mean()
    error = float(scatter.std()) / math.sqrt(count)
    return {"ratio": Estimate("‖w‖² / ‖u‖²", ratio, error, count=count), "start": settings["start"]}


def _squared_error(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    error: Tensor = (model(x) - y).square().sum(1).mean()
    return error


def _log_ratio(found: NoiseTraces) -> Estimate:
    def log_ratio(totals: Any) -> float:
        return math.log(totals.noise_u / totals.noise_w)

    return Estimate("ln(noise of the second / of the first layer)", log_ratio(found.total), found.error(log_ratio),
                    count=found.samples)  # fmt: skip
