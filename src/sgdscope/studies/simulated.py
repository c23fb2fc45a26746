"""Simulated: cells that run ensembles of SGD, and of the equations that stand for it, on landscapes in formulas.

Settings of all: ``potential`` (a formula in x, or in ``variables``), ``process`` (see `process_of`), ``start``,
``replicas``, ``steps``, ``seed``. Times are learning rate · iterations, of the kinetic process its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sgdscope.estimate import Estimate
from sgdscope.simulate import SGLD, Average, Course, Ensemble, FirstPassage, GaussianSGD, Kinetic, Overdamped, ensemble
from sgdscope.simulate.process import Process
from sgdscope.theory.potential import Potential

Settings = Mapping[str, Any]
_PROCESSES = {"sgd": GaussianSGD, "white-noise": SGLD, "diffusion": Overdamped, "kinetic": Kinetic}


def process_of(settings: Settings) -> Process:
    """The process ``{"kind": "sgd", "lr": …, "batch_size": …, "variance": …}``: keywords of the class of its kind."""
    given = dict(settings)
    made: Process = _PROCESSES[given.pop("kind")](**given)
    return made


def passage(settings: Settings, folder: Path) -> dict[str, Any]:
    """First passage into the region ``until``: mean time, rate, hazard ratio, shares censored and diverged."""
    found = _run(settings, FirstPassage(until=settings["until"]))
    assert found.passage is not None
    times = found.passage.times
    return {
        "mean_time": times.mean_time(), "rate": times.rate(), "hazard_ratio": times.hazard_ratio(),
        "censored": times.censored, "diverged": float(found.diverged.mean()), "duration": found.process.duration,
        "steps": found.steps,
    }  # fmt: skip


def averages(settings: Settings, folder: Path) -> dict[str, Any]:
    """Averages ``of`` observables over replicas and over the steps from ``after`` on, every ``every``."""
    found = _run(settings, Average(*settings["of"], every=settings["every"], after=settings["after"]))
    assert found.averages is not None
    return {"averages": found.averages.estimates(), "diverged": float(found.diverged.mean())}


def at_the_end(settings: Settings, folder: Path) -> dict[str, Any]:
    """Means of x and x² at the last step."""
    found = _run(settings, ())
    x = found.positions[~found.diverged].astype(np.float64)
    means = {}
    for name, values in (("x", x), ("x²", x * x)):
        error = float(values.std(ddof=1) / np.sqrt(len(values)))
        means[name] = Estimate(name, float(values.mean()), error, count=len(values))
    return {"means": means, "time": found.time}


def relaxation(settings: Settings, folder: Path) -> dict[str, Any]:
    """Rate at which the mean ``of`` an observable goes to its ``limit``, fitted between two ``shares`` of the way left.

    The error is that between ``groups`` of replicas with seeds of their own.
    """
    rates = []
    for group in range(settings["groups"]):
        found = _run({**settings, "seed": settings["seed"] + group}, Course(settings["of"], every=settings["every"]))
        assert found.course is not None
        left = np.abs(found.course.values[:, 0] - settings["limit"])
        left, times = left / left[0], found.course.times
        high, low = settings["shares"]
        begin, end = (int(np.argmax(left < share)) for share in (high, low))
        if not left[-1] < low or end - begin < 3:
            raise ValueError(f"expected a relaxation below {low:g} of the start, seen at three times at least; it was "
                             f"followed to {left[-1]:.3g}, {end - begin} times")  # fmt: skip
        rates.append(-np.polyfit(times[begin:end], np.log(left[begin:end]), 1)[0])
    error = float(np.std(rates, ddof=1) / np.sqrt(len(rates)))
    return {"rate": Estimate("relaxation_rate", float(np.mean(rates)), error, count=len(rates))}


def _run(settings: Settings, record: Any) -> Ensemble:
    start: Any = settings["start"]
    replicas = settings["replicas"]
    if settings.get("starts"):  # as many replicas from each
        start = np.resize(np.asarray(settings["starts"], dtype=np.float64), replicas)[:, None]
    landscape = Potential(settings["potential"], settings.get("variables", ("x",)))
    return ensemble(
        landscape, process_of(settings["process"]), steps=settings["steps"], start=start, replicas=replicas,
        seed=settings["seed"], record=record, threads=1,
    )  # fmt: skip
