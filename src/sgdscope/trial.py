"""Trial: an ensemble of SGD on a landscape, run and laid beside what theory predicts for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sgdscope.estimate import Estimate, with_error
from sgdscope.picture import Line as Curve
from sgdscope.picture import Mark, Picture, Points, Role
from sgdscope.predict.answer import Answer, Table, number
from sgdscope.predict.noise import Noise, noise_of
from sgdscope.simulate import SGLD, Ensemble, FirstPassage, GaussianSGD, Kinetic, Overdamped, Paths, ensemble
from sgdscope.simulate.parts import ensemble_in_parts
from sgdscope.simulate.process import Process
from sgdscope.theory import escape as escape_theory
from sgdscope.theory.fokker_planck import Line
from sgdscope.theory.potential import CriticalPoint, Potential
from sgdscope.theory.potential.critical_point import written
from sgdscope.theory.prediction import Prediction
from sgdscope.verdict import compare

Kind = Literal["sgd", "white-noise", "diffusion", "kinetic"]

_ESCAPES = 4.0
"""Mean escape times that a trial of unstated length lasts."""
_SHORTEST, _LONGEST = 1_000, 200_000
"""Steps of a trial of unstated length."""
_TOLERANCE = 0.05
"""Relative difference of simulation and theory that counts as agreement."""
_FAR = 0.02
"""Distance of distributions up to which they count as equal, however many replicas there are."""
_PATHS, _LOOKS, _BINS = 3, 400, 80
_ROLES: tuple[Role, ...] = ("first", "second", "third")
_TITLE = f"Simulated beside predicted, times in learning rate · iterations, agreement within {100 * _TOLERANCE:g} %"
_COLUMNS = ["quantity", "simulated", "predicted", "verdict"]


def trial(
    potential: str, process: Kind = "sgd", lr: float | None = None, batch_size: float = 1.0, variance: str = "1",
    temperature: float | None = None, momentum: float = 0.0, nesterov: bool = False, two_point: bool = False,
    step: float | None = None, start: tuple[float, ...] = (), until: str = "", replicas: int = 20_000,
    steps: int | None = None, seed: int = 0, variables: tuple[str, ...] = ("x",), threads: int | None = None,
    float64: bool = False, fast: bool = False, executor: str = "", backend: Literal["numba", "torch"] = "numba",
    device: str = "cpu", progress: bool | Callable[[float], None] = False,
) -> Answer:  # fmt: skip
    """Run many replicas of SGD on a landscape, and lay what they do beside what theory predicts.

    Args:
        potential: the loss as an expression, e.g. "x**4/4 - x**2/2".
        process: sgd (the recursion, Gaussian noise of the given variance), white-noise (the recursion, noise of a
            temperature), diffusion (the stochastic differential equation of SGD, Itô), kinetic (that of momentum SGD).
        lr: learning rate.
        batch_size: samples per batch.
        variance: of the gradient of one sample, an expression in the coordinates.
        temperature: of white noise, instead of a learning rate and a variance.
        momentum: as PyTorch defines it.
        nesterov: Nesterov's momentum (sgd only).
        two_point: noise of ±1 for each sample instead of Gaussian noise (sgd only; whole batch sizes).
        step: time step of diffusion and kinetic. [the learning rate, or what the curvature allows; √lr]
        start: where all replicas start. [the first minimum]
        until: condition whose first time is taken, e.g. "x > 0.5". [in one variable: the nearest other minimum]
        replicas: how many.
        steps: how many. [four escape times, at most 200,000]
        seed: of the noise; equal seeds give equal noise.
        variables: names of the coordinates.
        threads: of the processor. [all]
        float64: double precision.
        executor: a number of processes, or the address tcp://… of a Dask cluster, to share large ensembles between. The
            numbers are the same. [this process]
        fast: a faster generator of random numbers.
        backend: numba or torch.
        device: of torch.
        progress: a bar, or a function of the share done.
    """
    landscape = Potential(potential, variables)
    noise = noise_of(landscape, lr=lr, batch_size=batch_size, variance=variance, temperature=temperature,
                     any_dimension=True)  # fmt: skip
    moved = _process(landscape, noise, process, variance, momentum, nesterov, two_point, step)
    origin = start or _first_minimum(landscape).position
    if len(origin) != landscape.dimension:
        raise ValueError(f"expected a start of {landscape.dimension} coordinates, got {len(origin)}")
    target = None if until or landscape.dimension > 1 else _next_minimum(landscape, origin[0])
    theory = _Theory.of(landscape, noise, process, momentum, origin, target)
    clock = _clock(noise, moved)
    count = steps if steps is not None else _length(theory, moved, clock)
    goal = f"until {until}"
    if target is not None:
        goal = f"from {written(origin)} to {written(target.position)}"
    record: list[Any] = [Paths(_PATHS, max(1, count // _LOOKS))]
    if until or target is not None:
        record.append(FirstPassage(until=until or (target.x if target is not None else 0.0), absorb=False))
    settings: dict[str, Any] = {
        "steps": count, "start": origin, "replicas": replicas, "seed": seed, "record": record, "fast": fast,
        "precision": "float64" if float64 else "float32", "progress": progress, "backend": backend, "device": device,
    }  # fmt: skip
    if executor:
        found = ensemble_in_parts(landscape, moved, executor=_executor(executor), **settings)
    else:
        found = ensemble(landscape, moved, threads=threads, **settings)
    notes = [f"outside its range: {theory.doubt}"] if theory.doubt else []
    if nesterov:
        notes.append("outside its range: predicted as heavy ball, which Nesterov's momentum is at small steps only")
    if found.interrupted:
        notes.append(f"interrupted after {found.steps:,} of {count:,} steps: everything here is of those")
    if found.diverged.any():
        notes.append(f"{int(found.diverged.sum()):,} of {replicas:,} replicas diverged; they are left out")
    tables = [_facts(landscape, noise, process, found), _comparison(landscape, theory, found, origin, goal, clock)]
    return Answer(tables, notes, lambda: _pictures(landscape, theory, found, origin, clock))


def _executor(text: str) -> int | str:
    """Processes, or the address of a cluster. Raises ValueError for anything else."""
    if text.isdecimal() and int(text) > 0:
        return int(text)
    if not text.startswith(("tcp://", "tls://")):
        raise ValueError(f"expected an executor as a number of processes or an address tcp://…, got {text!r}")
    return text


def _process(
    landscape: Potential, noise: Noise, kind: Kind, variance: str, momentum: float, nesterov: bool, two_point: bool,
    step: float | None,
) -> Process:  # fmt: skip
    """The process that the options mean. Raises ValueError for options that contradict it."""
    if kind not in ("sgd", "diffusion", "kinetic", "white-noise"):
        raise ValueError(f"expected a process among sgd, white-noise, diffusion, kinetic, got {kind!r}")
    if momentum and kind in ("diffusion", "white-noise"):
        raise ValueError(f"expected momentum with process sgd or kinetic, got it with {kind}")
    if (nesterov or two_point) and kind != "sgd":
        raise ValueError(f"expected nesterov and two-point noise with process sgd only, got {kind}")
    if step is not None and kind in ("sgd", "white-noise"):
        raise ValueError(f"expected a step with diffusion and kinetic only; the step of {kind} is its learning rate")
    if kind == "sgd":
        if noise.lr is None or not noise.from_batches:
            raise ValueError("expected a learning rate and a variance with process sgd; a temperature is white-noise's")
        return GaussianSGD(
            noise.lr, noise.batch_size, variance, "two-point" if two_point else "gaussian", momentum, nesterov
        )
    if kind == "white-noise":
        if noise.lr is None or noise.temperature is None:
            raise ValueError("expected a learning rate, and a temperature or a constant variance, with white-noise")
        return SGLD(noise.lr, noise.temperature)
    if kind == "kinetic":
        if noise.lr is None or noise.temperature is None:
            raise ValueError("expected a learning rate and a constant variance with process kinetic")
        made = Kinetic.of_momentum(noise.lr, momentum, 2 * noise.temperature / noise.lr)
        return made if step is None else Kinetic(made.friction, made.temperature, step)
    if noise.temperature is not None:
        heat, shape = noise.temperature, None
    else:
        assert noise.lr is not None
        heat, shape = noise.lr / (2 * noise.batch_size), variance
    return Overdamped(heat, step or noise.lr or _usual_step(landscape), shape)


def _usual_step(landscape: Potential) -> float:
    """A hundredth of the fastest time of the wells."""
    bends = [abs(bend) for point in landscape.minima for bend in point.eigenvalues]
    if not bends:
        raise ValueError("expected a time step: there is no minimum to take one from")
    return float(f"{0.01 / max(bends):.1g}")


def _first_minimum(landscape: Potential) -> CriticalPoint:
    if not landscape.minima:
        raise ValueError("expected a start: there is no minimum of positive curvature to start from")
    return landscape.minima[0]


def _next_minimum(landscape: Potential, start: float) -> CriticalPoint | None:
    """The nearest minimum beyond the well of the start; None if there is no other."""
    minima = sorted(landscape.minima, key=lambda p: abs(p.x - start))
    return minima[1] if len(minima) > 1 else None


@dataclass(frozen=True)
class _Theory:
    """What theory says of the trial, in its own time (learning rate · iterations); in one dimension only.

    Attributes:
        line: the Fokker–Planck equation of the positions; None where there is none.
        escape: mean time to the target, exact for the diffusion; with momentum to leading order.
        leading: whether `escape` is of leading order only.
        doubt: what the prediction leaves out.
    """

    line: Line | None
    escape: float | None
    leading: bool
    doubt: str

    @classmethod
    def of(
        cls, landscape: Potential, noise: Noise, kind: Kind, momentum: float, origin: tuple[float, ...],
        target: CriticalPoint | None,
    ) -> _Theory:  # fmt: skip
        """What cannot be predicted is left out, and `doubt` says why."""
        if landscape.dimension > 1:
            return cls(None, None, False, "")
        inertia = kind == "kinetic" or momentum > 0
        if inertia and noise.variance is not None:
            return cls(None, None, False, "with momentum there is no law for noise that varies")
        line, escape, doubts = None, None, []
        heat = noise.diffusion if noise.temperature is None else noise.temperature / (1 - momentum)
        try:
            line = Line.of_potential(landscape, heat)
        except ValueError as error:
            doubts.append(f"no Fokker-Planck law: {error}")
        if target is not None:
            try:
                if inertia:
                    found = _with_momentum(landscape, noise, momentum, origin[0], target)
                    escape = found.value
                    doubts += found.warnings
                else:
                    escape = escape_theory.first_passage(
                        landscape.gradient, noise.diffusion, origin[0], target.x, value=landscape.value
                    ).mean
            except ValueError as error:
                doubts.append(f"no escape time: {error}")
        return cls(line, escape, inertia, "; ".join(doubts))


def _with_momentum(
    landscape: Potential, noise: Noise, momentum: float, start: float, target: CriticalPoint
) -> Prediction:
    way = landscape.passage(start, target.x)
    bottom = min(landscape.minima, key=lambda p: abs(p.x - start))
    assert noise.temperature is not None
    assert noise.lr is not None
    return escape_theory.momentum_escape_time(
        way.saddle.value - bottom.value, bottom.eigenvalues[0], way.curvature_saddle,
        noise.temperature / (1 - momentum), noise.lr, momentum,
    )  # fmt: skip


def _length(theory: _Theory, process: Process, clock: float) -> int:
    if theory.escape is None:
        return 10 * _SHORTEST
    return int(min(max(_ESCAPES * theory.escape / (clock * process.duration), _SHORTEST), _LONGEST))


def _facts(landscape: Potential, noise: Noise, kind: Kind, found: Ensemble) -> Table:
    rate = found.work / found.seconds if found.seconds else 0.0
    rows = [
        ["process", f"{kind}, {noise.text}"],
        ["replicas", f"{found.replicas:,}"],
        ["steps", f"{found.steps:,} of {number(found.process.duration)} each"],
        ["speed", f"{rate:.2g} replica-steps per second, {found.seconds:.3g} s"],
    ]
    name = ", ".join(landscape.variables)
    return Table(f"Ensemble on L({name}) = {landscape.expression}", ["what", "value"], rows)


def _clock(noise: Noise, process: Process) -> float:
    """Factor from the process's time to learning rate · iterations: √lr for kinetic time, which is √lr · iterations."""
    return math.sqrt(noise.lr) if isinstance(process, Kinetic) and noise.lr is not None else 1.0


def _comparison(
    landscape: Potential, theory: _Theory, found: Ensemble, origin: tuple[float, ...], goal: str, clock: float
) -> Table:
    rows: list[list[str]] = []
    if found.passage is not None:
        measured = found.passage.mean_time
        if measured.value is not None:
            measured = measured.scaled(clock)
        name = f"mean time {goal}" + (" (predicted to leading order)" if theory.leading else "")
        rows.append(_row(name, measured, theory.escape))
        rows.append(["share that has not arrived", number(found.passage.times.censored), "–", "–"])
    kept = ~found.diverged & np.isfinite(found.positions).reshape(found.replicas, -1).all(axis=1)
    places = found.positions[kept].reshape(int(kept.sum()), -1)
    if len(places) < 2:
        return Table(_TITLE, _COLUMNS, rows)
    law = _law(theory, found, origin, clock)
    for axis, variable in enumerate(landscape.variables):
        x = places[:, axis].astype(np.float64)
        for name, values, power in ((f"mean {variable} at the end", x, 1), (f"mean {variable}² at the end", x * x, 2)):
            error = float(values.std(ddof=1)) / math.sqrt(len(values))
            predicted = None if law is None or theory.line is None else float(law @ theory.line.centres**power)
            rows.append(_row(name, Estimate("value", float(values.mean()), error, count=len(values)), predicted))
    if law is not None and theory.line is not None:
        rows.append(_distance(places[:, 0], theory.line, law))
    return Table(_TITLE, _COLUMNS, rows)


def _law(theory: _Theory, found: Ensemble, origin: tuple[float, ...], clock: float) -> Any | None:
    """Predicted law at the end of the trial; with momentum the stationary one, once the trial has been long enough."""
    if theory.line is None:
        return None
    process = found.process
    if isinstance(process, Kinetic) or (isinstance(process, GaussianSGD) and process.momentum):
        settled = theory.escape is None or found.time * clock > 3 * theory.escape
        return theory.line.stationary() if settled else None
    return theory.line.evolve(theory.line.point(origin[0]), (found.time,))[0]


def _row(name: str, measured: Estimate, predicted: float | None) -> list[str]:
    if measured.value is None:
        return [name, measured.reason, number(predicted), "–"]
    error = measured.standard_error
    shown = with_error(float(measured), error if isinstance(error, float) else None)
    if predicted is None:
        return [name, shown, "–", "–"]
    if abs(predicted) < 1e-9 * (error if isinstance(error, float) else 1.0):
        predicted = 0.0  # by symmetry
    if predicted == 0 or (isinstance(error, float) and abs(predicted) < 3 * error):
        near = isinstance(error, float) and abs(float(measured) - predicted) < 3 * error
        return [name, shown, number(predicted), "agrees within errors" if near else "disagrees"]
    verdict = compare(measured, predicted, claim=name, tolerance=_TOLERANCE)
    return [name, shown, number(predicted), f"{verdict.outcome} ({100 * (verdict.margin or 0.0):+.1f} %)"]


def _distance(places: Any, line: Line, law: Any) -> list[str]:
    """Largest difference of the distribution functions, beside what chance makes of it."""
    ordered = np.sort(places)
    share = np.interp(ordered, line.faces, np.append(0.0, np.cumsum(law)))
    steps = np.arange(len(ordered) + 1) / len(ordered)
    distance = float(max((steps[1:] - share).max(), (share - steps[:-1]).max()))
    chance = 1.36 / math.sqrt(len(ordered))
    verdict = "agrees" if distance < max(chance, _FAR) else "disagrees"
    shown = f"0 (by chance up to {chance:.4f})"
    return ["distance of distributions at the end", f"{distance:.4f}", shown, f"{verdict} (within {_FAR})"]


def _pictures(
    landscape: Potential, theory: _Theory, found: Ensemble, origin: tuple[float, ...], clock: float
) -> list[Picture]:
    """Paths, the law at the end, and the survival curve; in one dimension."""
    if landscape.dimension > 1 or found.paths is None:
        return []
    time, paths = found.paths.times * clock, found.paths.positions[:, 0]
    pictures = [Picture(
        f"A few of {found.replicas:,} paths", "learning rate · iterations", landscape.variables[0],
        [Curve(time, path, role=_ROLES[i % len(_ROLES)]) for i, path in enumerate(paths.T)],
    )]  # fmt: skip
    kept = found.positions[~found.diverged]
    density, edges = np.histogram(kept[np.isfinite(kept)], bins=_BINS, density=True)
    shapes: list[Any] = [Points((edges[1:] + edges[:-1]) / 2, density, label="simulated")]
    law = _law(theory, found, origin, clock)
    if law is not None and theory.line is not None:
        shown = (theory.line.centres > edges[0]) & (theory.line.centres < edges[-1])
        predicted = theory.line.density(law)[shown]
        shapes.append(Curve(theory.line.centres[shown], predicted, "predicted, Fokker-Planck", "second"))
    pictures.append(Picture(f"Law of {landscape.variables[0]} at the end", landscape.variables[0], "density", shapes,
                            span_up=(0, 1.2 * float(density.max()))))  # fmt: skip
    if found.passage is not None and found.passage.arrived:
        curve = found.passage.times.survival()
        thin = slice(None, None, max(1, len(curve.times) // 500))
        survival: list[Any] = [Curve(curve.times[thin] * clock, curve.share[thin], "simulated")]
        if theory.escape is not None:
            t = np.linspace(0, float(curve.times[-1]) * clock, 200)
            name = "exponential law of the predicted time"
            survival.append(Curve(t, np.exp(-t / theory.escape), name, "second", dashed=True))
            survival.append(Mark(theory.escape, "predicted mean"))
        low = max(float(curve.share[-1]), 1e-4)
        pictures.append(Picture("Share of replicas that have not arrived", "learning rate · iterations", "share",
                                survival, log_up=True, span_up=(0.8 * low, 1.2)))  # fmt: skip
    return pictures
