"""Valleys: logistic regression on a table, its minimum, and how long real minibatches take to leave it each way."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from sgdscope import data
from sgdscope.simulate import SGD, FirstPassage, LogisticRegression, ensemble

Floats = NDArray[np.float64]
Settings = Mapping[str, Any]
WEIGHT_DECAY = 0.005
"""In the loss as γ‖w‖²: tables that a plane separates have no minimum without."""


class Valley(NamedTuple):
    """A minimum: the landscape, where it is, curvatures, their directions, and the noise of single samples there."""

    landscape: LogisticRegression
    at: Floats
    curvatures: Floats
    directions: Floats
    covariance: Floats


@lru_cache(maxsize=4)
def valley(table: str, data_dir: str | None, features: int) -> Valley:
    """Of the leading `features` principal components of a table (standardised), first class against the others."""
    x, y = _table(table, data_dir)
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-9)
    _, _, axes = np.linalg.svd(x - x.mean(0), full_matrices=False)
    x = x @ axes[:features].T
    x = np.column_stack([x / x.std(0), np.ones(len(x))])
    landscape = LogisticRegression(x, y, WEIGHT_DECAY)
    found = minimize(landscape.value, np.zeros(x.shape[1]), jac=landscape.gradient, method="BFGS",
                     options={"gtol": 1e-10, "maxiter": 2000})  # fmt: skip
    at = found.x
    if np.linalg.norm(landscape.gradient(at)) > 1e-6:
        raise ValueError(f"no minimum was found for {table}: {found.message}")
    p = expit(x @ at)
    hessian = (x * (p * (1 - p))[:, None]).T @ x / len(x) + 2 * WEIGHT_DECAY * np.eye(x.shape[1])
    gradients = (p - y)[:, None] * x
    covariance = np.cov(gradients.T, bias=True)
    curvatures, directions = np.linalg.eigh(hessian)
    return Valley(landscape, at, curvatures[::-1].copy(), directions[:, ::-1].copy(), covariance)


def _table(table: str, data_dir: str | None) -> tuple[Floats, Floats]:
    if data_dir is None:
        from sklearn import datasets  # type: ignore[import-untyped]

        loaded = {"breast-cancer": datasets.load_breast_cancer, "wine": datasets.load_wine,
                  "digits": datasets.load_digits}[table](return_X_y=True)  # fmt: skip
        return np.asarray(loaded[0], dtype=np.float64), (np.asarray(loaded[1]) == 0).astype(np.float64)
    file, target, ignored = FILES[table]
    found = data.load("table", data_dir=Path(data_dir) / file, target=target, task="classification", ignore=ignored)
    return found.inputs.double().numpy(), (found.labels == 0).double().numpy()


FILES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "avila": ("uci/avila-train.csv", "class", ()), "banknote": ("uci/banknote.csv", "class", ()),
    "cardiotocography": ("uci/cardiotocography.csv", "NSP", ("CLASS",)),
    "sensorless": ("uci/sensorless-subset-2200.csv", "class", ()),
}  # fmt: skip
"""Where each table lies in the folder of data sets, its target, and columns to leave out."""


def leaving(settings: Settings, folder: Path) -> dict[str, Any]:
    """Mean time until the loss along one eigenvector of the Hessian has risen by a barrier, and what theory needs.

    Settings: ``table``, ``data_dir``, ``features``, ``direction`` (number of the eigenvector), ``heights`` (of the
    barrier in units of the noise of a batch of ``middle`` samples), ``batch_size``, ``replicas``, ``seed``. The rise is
    that of the minimum's quadratic, ½ λ (v · (w − w*))²; the learning rate is 0.1 / λ.
    """
    found = valley(settings["table"], settings["data_dir"], settings["features"])
    j = settings["direction"]
    curvature, v = float(found.curvatures[j]), found.directions[:, j]
    noise = float(v @ found.covariance @ v)
    lr = 0.1 / curvature
    temperature = lr * noise / (2 * settings["middle"])
    barrier = settings["heights"] * temperature
    reach = float(np.sqrt(2 * barrier / curvature))
    way = "+".join(f"({c:.12g})*({name}-({at:.12g}))"
                   for c, name, at in zip(v, found.landscape.variables, found.at, strict=True))  # fmt: skip
    height = settings["heights"] * settings["batch_size"] / settings["middle"]
    time = float(np.exp(height) * np.sqrt(np.pi / height) / 2) / curvature
    run = ensemble(
        found.landscape, SGD(lr, settings["batch_size"]), steps=int(8 * time / lr), start=found.at,
        replicas=settings["replicas"], seed=settings["seed"], threads=1,
        record=FirstPassage(leaving=f"{-reach:.12g} < {way} < {reach:.12g}"),
    )  # fmt: skip
    assert run.passage is not None
    times = run.passage.times
    return {
        "mean_time": times.mean_time(), "rate": times.rate(), "hazard_ratio": times.hazard_ratio(),
        "curvature": curvature, "noise": noise, "reach": reach, "lr": lr, "barrier": barrier,
    }  # fmt: skip
