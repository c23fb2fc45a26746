"""Covariance: the noise of gradients held against the Hessian, in logistic and linear regression and in networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import nn
from torch.nn import functional as F

from sgdscope import measure, train
from sgdscope.config import RunConfig
from sgdscope.estimate import Estimate
from sgdscope.risk import Risk
from sgdscope.simulate import LogisticRegression, landscape_risk
from sgdscope.studies.trained import finished
from sgdscope.vectors import dot

Settings = Mapping[str, Any]
DRAWS = 400
"""Batches whose gradients are looked at along the leading eigenvector, at each of two sizes."""


def logistic(settings: Settings, folder: Path) -> dict[str, Any]:
    """At the optimum of logistic regression, whose model is right or (labels by a threshold with noise) is not."""
    generator = np.random.default_rng(settings["seed"])
    n, p = settings["samples"], settings["features"]
    x = generator.normal(size=(n, p))
    score = x @ (generator.normal(size=p) / np.sqrt(p)) * 2
    right = settings["kind"] == "well specified"
    chance = 1 / (1 + np.exp(-score)) if right else np.where(score > 0, 0.85, 0.15)
    landscape = LogisticRegression(x, (generator.random(n) < chance).astype(np.float64))
    found = minimize(landscape.value, np.zeros(p), jac=landscape.gradient, method="BFGS", options={"gtol": 1e-9})
    return _agreement(landscape_risk(landscape, found.x), p, n)


def linear(settings: Settings, folder: Path) -> dict[str, Any]:
    """At the optimum of least squares, ½ (w · x − y)², with targets that scatter by ``deviation``."""
    generator = torch.Generator().manual_seed(settings["seed"])
    n, p = settings["samples"], settings["features"]
    x = torch.randn(n, p, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(p, 1, generator=generator, dtype=torch.float64)
    y += settings["deviation"] * torch.randn(n, 1, generator=generator, dtype=torch.float64)
    model = nn.Linear(p, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(x, y).solution.T)
    risk = Risk(model, lambda f, batch: 0.5 * F.mse_loss(f(batch[0]), batch[1]), (x, y))
    return _agreement(risk, p, n) | {"loss": risk.value()}


def network(settings: Settings, folder: Path) -> dict[str, Any]:
    """Of a network, ``trained`` or not: agreement along leading eigenvectors, and how noise falls with the batch."""
    config = RunConfig.from_json(settings["config"])
    if settings["when"] == "trained":
        run = finished(config, folder / "run")
        training, _, _ = train.restored(run, RunConfig.from_json(run.config).resolved())
    else:
        training = train.Training(config.resolved())
    with train.threads(training.config):
        found = _agreement(training.risk, 8, 4096) | {"loss": training.risk.value()}
        return found | {"batch_scaling": _scaling(training.risk)}


def _agreement(risk: Risk, count: int, samples: int) -> dict[str, Any]:
    found = measure.noise_covariance(
        risk, count, samples=min(risk.size, samples), generator=torch.Generator().manual_seed(2)
    )
    if found.value is None:
        raise ValueError(found.reason)
    beside = {name: found.beside[name] for name in ("slope", "correlation", "trace_ratio", "exponent", "eigenvalues")
              if name in found.beside}  # fmt: skip
    return {"variances": found, **beside}


def _scaling(risk: Risk) -> Estimate:
    """Variance of batch gradients along the leading eigenvector at 8 samples over that at 32."""
    generator = torch.Generator().manual_seed(3)
    _, (leading, *_) = measure.leading_eigenpairs(risk, 1, generator=generator)
    variances = []
    for size in (8, 32):
        along = [float(dot(risk.gradient(risk.draw(size, generator, replacement=True))[1], leading))
                 for _ in range(DRAWS)]  # fmt: skip
        variances.append(float(np.var(along, ddof=1)))
    ratio = variances[0] / variances[1]
    return Estimate("variance at batch 8 / at batch 32", ratio, 2 * ratio / DRAWS**0.5, count=DRAWS)
