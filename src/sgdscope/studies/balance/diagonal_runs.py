"""Diagonal runs: cells that run ensembles of SGD on products of weights, ``(v x − y)²``, with batches really drawn.

Settings of all: ``slope``, ``noise_variance``, ``input_variance`` of the Gaussian data, ``depth``, ``width``,
``weight_decay``, ``lr``, ``batch_size``, ``start``, ``replicas``, ``steps``, ``seed``. A start of one number is the
weight of the whole network, with balanced layers; else it is of all weights. Times are learning rate · iterations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgdscope.estimate import Estimate
from sgdscope.simulate import Average, Course, Ensemble, FirstPassage, GaussianSGD, ensemble
from sgdscope.simulate.data import SGD, BalancedWeight, DiagonalNetwork, Stream, WeightDiffusion
from sgdscope.simulate.process import Process
from sgdscope.simulate.record import Record
from sgdscope.theory.stationary import DiagonalNoise

Settings = Mapping[str, Any]
Array = NDArray[np.float64]
GROUPS = 16


def network_of(settings: Settings) -> DiagonalNetwork:
    """The network."""
    data = Stream.gaussian(settings["slope"], settings["noise_variance"], settings["input_variance"])
    return DiagonalNetwork(settings["depth"], data, settings["width"], settings["weight_decay"])


def charges(settings: Settings, folder: Path) -> dict[str, Any]:
    """The charge u0² − u1² under ``noise``: "none" (gradient descent), "isotropic" (of ``variance``) or "minibatch".

    Mean of ln |C / C₀| at the end and along the way, and the averages from which the law of balance predicts it:
    of f², v f² and v² f² over replicas and steps, f the product of the other layers.
    """
    network = network_of(settings)
    names, v = network.variables, f"({network.weight})"
    others = "*".join(names[2 : settings["depth"] + 1]) or "1"
    log = f"log(({network.charges[0]})**2)/2"
    process: Process = SGD(settings["lr"], settings["batch_size"])
    if settings["noise"] != "minibatch":
        size = settings["variance"] if settings["noise"] == "isotropic" else 1e-30
        process = GaussianSGD(settings["lr"], settings["batch_size"], variance=f"{size!r}")
    record: list[Record] = []
    landscape: Any = network
    if settings["noise"] != "minibatch":
        landscape = network.potential  # flat along u·w = constant: what wanders off far along it is taken out
        record = [FirstPassage(until="+".join(f"{name}**2" for name in names) + " > 1000000")]
    of = tuple(f"{power}*({others})**2" for power in ("1", v, f"{v}**2"))
    every = max(1, settings["steps"] // settings["looks"])
    square = f"({network.charges[0]})**2"
    record += [Average(*of), Course(log, v, square, every=every)]
    found = _run(settings, landscape, process, settings["start"], record)
    assert found.averages is not None
    assert found.course is not None
    u, w = found.positions[~found.diverged][:, :2].T
    begin = abs(settings["start"][0] ** 2 - settings["start"][1] ** 2)
    first = math.log(begin)
    change = np.log(np.maximum(np.abs(u**2 - w**2), 1e-300)) - first
    averages = found.averages
    return {
        "change": _mean("mean ln |C / C₀|", change), "square": _mean("E[C²] / C₀²", np.square((u**2 - w**2) / begin)),
        "time": found.time, "diverged": float(found.diverged.mean()),
        "factor": averages[of[0]], "first": averages[of[1]], "second": averages[of[2]],
        "course": {"times": found.course.times.tolist(), "log": (found.course.values[:, 0] - first).tolist(),
                   "weight": found.course.values[:, 1].tolist(),
                   "square": (found.course.values[:, 2] / begin**2).tolist()},
    }  # fmt: skip


def opposite(settings: Settings, folder: Path) -> dict[str, Any]:
    """Two subnetworks of opposite sign: change of ln |v₁ v₂|, and averages of v and v² along the way."""
    network = network_of(settings)
    v = network.weight
    found = _run(settings, network, SGD(settings["lr"], settings["batch_size"]), settings["start"],
                 [Average(v, f"({v})**2")])  # fmt: skip
    assert found.averages is not None
    ends = np.abs(found.positions[~found.diverged].astype(np.float64)).prod(axis=1)
    change = np.log(np.maximum(ends, 1e-300) / abs(math.prod(settings["start"])))
    return {"change": _mean("mean change of ln |v₁ v₂|", change), "time": found.time,
            "first": found.averages[v], "second": found.averages[f"({v})**2"]}  # fmt: skip


def weights(settings: Settings, folder: Path) -> dict[str, Any]:
    """Weights v of the whole network at the end: at ``levels`` shares, how many crossed 0, diverged, are near 0."""
    network = network_of(settings)
    start = np.asarray(settings["start"], dtype=np.float64)
    start = network.balanced(float(start[0])) if start.size == 1 else start
    layers = settings["depth"] + 1
    across = -1e-9 if start.reshape(-1, layers).prod(axis=1).sum() > 0 else 1e-9
    sign = "<" if across < 0 else ">"
    crossed = FirstPassage(until=f"{network.weight} {sign} {across!r}", absorb=False)
    found = _run(settings, network, SGD(settings["lr"], settings["batch_size"]), start, [crossed])
    assert found.passage is not None
    kept = ~found.diverged
    positions = found.positions.reshape(len(kept), -1)[kept].astype(np.float64)
    v = positions.reshape(len(positions), -1, layers).prod(axis=2).sum(axis=1)
    n = settings["levels"]
    return {
        "quantiles": np.quantile(v, (np.arange(n) + 0.5) / n).tolist(), "count": len(v),
        "other_side": _share("on the other side of 0", v * np.sign(across) > abs(across)),
        "crossed": _share("has crossed 0", found.passage.steps[kept] >= 0),
        "near_zero": _share("close to 0", np.abs(v) < 0.01), "diverged": float(found.diverged.mean()),
        "time": found.time,
    }  # fmt: skip


def moments(settings: Settings, folder: Path) -> dict[str, Any]:
    """Mean and variance of v over replicas and the steps from half time on; errors from groups of replicas."""
    network = network_of(settings)
    v = network.weight
    after = settings["steps"] // 2
    record = Average(v, f"({v})**2", every=max(1, settings["steps"] // 2000), after=after)
    found = _run(
        settings, network, SGD(settings["lr"], settings["batch_size"]), network.balanced(settings["start"][0]), [record]
    )
    assert found.averages is not None
    sums = found.averages.sums[:, ~found.diverged].astype(np.float64)
    first, second = sums[0] / sums[2], sums[1] / sums[2]
    mean = float(first.mean())
    # each group's spread about the mean of all, so that variances of groups stay unbiased
    spreads = [float((b - 2 * mean * a + mean * mean).mean()) for a, b in
               zip(np.array_split(first, GROUPS), np.array_split(second, GROUPS), strict=True)]  # fmt: skip
    error = float(np.std(spreads, ddof=1)) / math.sqrt(GROUPS)
    return {
        "mean": _mean("E[v]", first),
        "variance": Estimate("Var[v]", float(np.mean(spreads)), error, count=len(first)),
        "diverged": float(found.diverged.mean()),
    }  # fmt: skip


def growth(settings: Settings, folder: Path) -> dict[str, Any]:
    """Growth of ln v from a start close to 0, per time, and 2 · mean / variance of it."""
    network = network_of(settings)
    start = network.balanced(settings["start"][0])
    found = _run(settings, network, SGD(settings["lr"], settings["batch_size"]), start, [])
    v = np.abs(found.positions[~found.diverged].astype(np.float64).prod(axis=1))
    change = np.log(np.maximum(v, 1e-300) / settings["start"][0])
    mean, variance, n = float(change.mean()), float(change.var(ddof=1)), len(change)
    exponent = 2 * mean / variance
    # error to first order in those of mean and variance, which are correlated
    squares = np.square(change - mean) - variance
    influence = 2 * (change - mean) / variance - exponent * squares / variance
    return {
        "rate": _mean("growth of ln v", change / found.time),
        "exponent": Estimate("exponent of P(v < x) near 0", exponent, float(influence.std()) / math.sqrt(n), count=n),
    }  # fmt: skip


def exponents(settings: Settings, folder: Path) -> dict[str, Any]:
    """`growth` at each of the ``temperatures``, for the time ``time`` / E[xy]: exponents of P(v < x) near 0."""
    found = []
    for temperature in settings["temperatures"]:
        lr = temperature * settings["batch_size"]
        steps = math.ceil(settings["time"] / (lr * settings["slope"] * settings["input_variance"]))
        found.append(growth({**settings, "lr": lr, "steps": steps}, folder)["exponent"])
    return {"exponents": found}


def tail(settings: Settings, folder: Path) -> dict[str, Any]:
    """Shares of time that the weight of the differential equation spends beyond each of the ``beyond``, two layers."""
    noise = DiagonalNoise.gaussian(settings["slope"], settings["noise_variance"], settings["input_variance"])
    landscape = BalancedWeight(noise, settings["weight_decay"])
    usual = WeightDiffusion.usual(noise, settings["temperature"])
    # v goes as 1 / q far out: a step in q, 0.4 as is usual, has to be small beside 1 / v there
    process = WeightDiffusion(usual.temperature, usual.step / 60)
    observed = [f"log_v > {math.log(place)!r}" for place in settings["beyond"]]
    record = Average(*observed, every=60, after=settings["steps"] // 4)
    found = _run(settings, landscape, process, landscape.start(settings["start"][0]), [record])
    assert found.averages is not None
    return {"beyond": [found.averages[name] for name in observed]}


def _run(settings: Settings, landscape: Any, process: Process, start: Any, record: list[Record]) -> Ensemble:
    return ensemble(
        landscape, process, steps=settings["steps"], start=np.asarray(start, dtype=np.float64),
        replicas=settings["replicas"], seed=settings["seed"], threads=1, precision="float64", fast=True, record=record,
    )  # fmt: skip


def _mean(name: str, values: Array) -> Estimate:
    if len(values) < 2:
        return Estimate(name, float(values.mean()), 0.0, count=len(values))
    return Estimate(name, float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)), count=len(values))


def _share(name: str, hits: Any) -> Estimate:
    n, found = len(hits), float(np.mean(hits))
    return Estimate(name, found, math.sqrt(max(found * (1 - found), 1 / n) / n), count=n)
