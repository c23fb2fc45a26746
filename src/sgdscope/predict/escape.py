"""Prediction of escape: how long SGD stays in each valley of a landscape, and what would change that."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from sgdscope.picture import Line, Mark, Picture, Role
from sgdscope.predict.answer import Answer, Table, notes_of, number
from sgdscope.predict.noise import Noise, check_positive, noise_of
from sgdscope.theory import escape as theory
from sgdscope.theory.potential import CriticalPoint, Passage, Potential
from sgdscope.theory.potential.critical_point import written
from sgdscope.theory.prediction import Prediction

_PATH_POINTS = 400
_BATCHES = np.geomspace(0.5, 4, 25)
"""Batch sizes drawn, in units of the one asked for."""
_ROLES: tuple[Role, ...] = ("first", "second", "third")


@dataclass(frozen=True)
class _Way:
    """From one minimum over a pass to the other side."""

    passage: Passage
    side: int

    @property
    def start(self) -> CriticalPoint:
        found = self.passage.minima[self.side]
        assert found is not None
        return found

    @property
    def target(self) -> CriticalPoint | None:
        return self.passage.minima[1 - self.side]

    @property
    def barrier(self) -> float:
        return self.passage.saddle.value - self.start.value

    @property
    def name(self) -> str:
        end = "outside" if self.target is None else written(self.target.position)
        return f"{written(self.start.position)} → {end}"


def escape(
    potential: str, lr: float | None = None, batch_size: float = 1.0, variance: str = "1",
    temperature: float | None = None, momentum: float = 0.0, variables: tuple[str, ...] = ("x",),
) -> Answer:  # fmt: skip
    """How long does SGD stay in each valley of a landscape?

    Args:
        potential: the loss as an expression, e.g. "x**4/4 - x**2/2".
        lr: learning rate.
        batch_size: samples per batch.
        variance: of the gradient of one sample: a number, or in one dimension an expression that is positive between
            the minima, e.g. "1 + x**2".
        temperature: of white noise, instead of a learning rate and a variance.
        momentum: heavy ball, as PyTorch defines it; constant variance only.
        variables: names of the coordinates.
    """
    landscape = Potential(potential, variables)
    noise = noise_of(landscape, lr=lr, batch_size=batch_size, variance=variance, temperature=temperature)
    if momentum and (noise.temperature is None or lr is None):
        raise ValueError("expected a learning rate and a constant variance with momentum: no other law is known")
    ways = _ways(landscape)
    rows, said = [], []
    for way in ways:
        row, predictions = _row(landscape, noise, way, momentum)
        rows.append(row)
        said += predictions
    points = Table("Landscape  " + f"L({', '.join(variables)}) = {landscape.expression}",
                   ["kind", "at", "value", "curvatures"],
                   [[p.kind, written(p.position), number(p.value), ", ".join(map(number, p.eigenvalues))]
                    for p in landscape.critical_points()])  # fmt: skip
    columns = ["way", "barrier", "barrier in noise units", "leading order", "exact", "iterations"]
    times = Table(f"Mean escape times in learning rate · iterations, {noise.text}"
                  + (f", momentum {momentum:g}" if momentum else ""), columns, rows)  # fmt: skip
    notes = [f"critical points: {landscape.completeness()}", *notes_of(said)]
    return Answer([points, times, _changes(landscape, noise, ways, momentum)], notes,
                  lambda: _pictures(landscape, noise, ways, momentum))  # fmt: skip


def _ways(landscape: Potential) -> list[_Way]:
    found = [_Way(passage, side) for passage in landscape.passages() for side in (0, 1)
             if passage.minima[side] is not None]  # fmt: skip
    if not found:
        count = len(landscape.minima)
        raise ValueError(
            f"expected a landscape with a barrier to escape over, {landscape.expression} has "
            f"{count} minim{'um' if count == 1 else 'a'} and no pass"
        )
    return sorted(found, key=lambda way: (way.start.position, way.passage.saddle.position))


def _row(landscape: Potential, noise: Noise, way: _Way, momentum: float) -> tuple[list[str], list[Prediction]]:
    leading = _leading(landscape, noise, way, momentum)
    exact = None if momentum else _exact(landscape, noise, way)
    best = leading if exact is None else exact
    iterations = None
    if noise.lr is not None:
        iterations = theory.in_iterations(best, noise.lr)
    return [
        way.name, number(way.barrier), number(_exponent(landscape, noise, way, momentum)), _time(leading), _time(exact),
        _time(iterations),
    ], [leading]  # fmt: skip


def _leading(
    landscape: Potential, noise: Noise, way: _Way, momentum: float, batch_size: float | None = None
) -> Prediction:
    """Logarithm of the leading-order mean escape time."""
    bottom, top = way.start, way.passage.saddle
    along = bottom.curvature(way.passage.escape_direction)
    if noise.variance is not None:
        assert noise.lr is not None
        return theory.path_escape_time(
            _path(landscape, noise, way), along, way.passage.curvature_saddle, noise.lr,
            noise.batch_size if batch_size is None else batch_size, logarithm=True,
        )  # fmt: skip
    heat = float(noise.diffusion(0.0, batch_size))
    if momentum:
        assert noise.lr is not None
        transverse = top.determinant / way.passage.curvature_saddle / (bottom.determinant / along)
        return theory.momentum_escape_time(
            way.barrier, along, way.passage.curvature_saddle, heat / (1 - momentum), noise.lr, momentum,
            transverse_ratio=transverse, logarithm=True,
        )  # fmt: skip
    return theory.eyring_kramers_escape_time(
        bottom.eigenvalues, top.eigenvalues, way.barrier, heat, lr=noise.lr, logarithm=True
    )


def _path(landscape: Potential, noise: Noise, way: _Way) -> theory.EscapePath:
    """Noise and slope from the minimum up to the pass; a way to the left is mirrored."""
    sign = math.copysign(1.0, way.passage.saddle.x - way.start.x)
    places = sign * np.linspace(way.start.x, way.passage.saddle.x, _PATH_POINTS)
    check_positive(noise, (sign * places).tolist())
    return theory.escape_path(
        places, lambda s: noise.variance(sign * np.asarray(s)),
        slope=lambda s: sign * landscape.gradient(sign * np.asarray(s)),
    )  # fmt: skip


def _exact(landscape: Potential, noise: Noise, way: _Way, batch_size: float | None = None) -> Prediction | None:
    """Mean first-passage time to the other minimum by quadrature, as a logarithm; in one dimension."""
    if landscape.dimension > 1 or way.target is None:
        return None
    try:
        found = theory.first_passage(
            landscape.gradient, lambda x: noise.diffusion(x, batch_size), way.start.x, way.target.x,
            value=landscape.value,
        )  # fmt: skip
    except ValueError:  # beyond 10⁴ units of the noise, where the leading order is as good
        return None
    return Prediction(found.log_mean, "mean first-passage time", "", "", "", f"ln({theory.TIME})", found.error)


def _exponent(landscape: Potential, noise: Noise, way: _Way, momentum: float) -> float:
    """∫ L' / D from the minimum to the pass."""
    if noise.variance is not None:
        assert noise.lr is not None
        return _path(landscape, noise, way).exponent(noise.lr, noise.batch_size)
    return way.barrier * (1 - momentum) / float(noise.diffusion(0.0))


def _changes(landscape: Potential, noise: Noise, ways: list[_Way], momentum: float) -> Table:
    """By what factor each change multiplies the escape time, to leading order."""
    columns = ["change", *(way.name for way in ways)]
    exponents = [_exponent(landscape, noise, way, momentum) for way in ways]
    rows = []
    if noise.from_batches:
        rows.append(["batch size doubled", *(_factor(phi) for phi in exponents)])
        rows.append(["learning rate doubled", *(_factor(_faster(landscape, noise, way, momentum)) for way in ways)])
    else:
        rows.append(["temperature doubled", *(_factor(-phi / 2) for phi in exponents)])
    title = "What would change the time, to leading order"
    if noise.from_batches:
        title += " (iterations halve when the learning rate doubles)"
    if momentum:  # the prefactor then depends on friction against curvature: no one factor for the rest
        return Table(title, columns, rows)
    if noise.variance is not None:
        name = "curvature and variance doubled, same barrier"
        rows.append([name, *(_factor(-phi / 2 - math.log(2)) for phi in exponents)])
    else:
        rows.append(["curvature doubled, same barrier", *("× 0.5" for _ in ways)])
    rows.append(["barrier doubled, same shape", *(_factor(phi - math.log(2)) for phi in exponents)])
    return Table(title, columns, rows)


def _faster(landscape: Potential, noise: Noise, way: _Way, momentum: float) -> float:
    """Change of the logarithm of the time when the learning rate doubles, noise and friction following."""
    assert noise.lr is not None
    heat = None if noise.temperature is None else 2 * noise.temperature
    doubled = replace(noise, lr=2 * noise.lr, temperature=heat)
    return _leading(landscape, doubled, way, momentum).value - _leading(landscape, noise, way, momentum).value


def _time(found: Prediction | None) -> str:
    """A time from its logarithm, as a number where floating point has one."""
    if found is None:
        return "–"
    return number(math.exp(found.value)) if abs(found.value) < 690 else f"e^{found.value:.6g}"


def _factor(log_factor: float) -> str:
    return f"× {math.exp(log_factor):.3g}" if abs(log_factor) < 690 else f"× e^{log_factor:.4g}"


def _pictures(landscape: Potential, noise: Noise, ways: list[_Way], momentum: float) -> list[Picture]:
    """The landscape (one dimension), and the times against the batch size."""
    pictures = []
    if landscape.dimension == 1:
        places = [point.x for point in landscape.critical_points()]
        margin = 0.35 * (max(places) - min(places))
        x = np.linspace(min(places) - margin, max(places) + margin, 401)
        top = max(point.value for point in landscape.critical_points())
        low = min(point.value for point in landscape.critical_points())
        named = [Mark(p.x, p.kind) for p in landscape.critical_points()]
        pictures.append(Picture(f"L({landscape.variables[0]}) = {landscape.expression}", landscape.variables[0], "loss",
                                [Line(x, landscape.value(x)), *named],
                                span_up=(low - 0.15 * (top - low), top + 0.8 * (top - low))))  # fmt: skip
    if noise.from_batches:
        batches = noise.batch_size * _BATCHES
        shapes: list[Line | Mark] = []
        for index, way in enumerate(ways[: len(_ROLES)]):
            role = _ROLES[index]
            leading = np.array([_leading(landscape, noise, way, momentum, float(b)).value for b in batches])
            times = np.exp(np.clip(leading, None, 690))
            shapes.append(Line(batches, times, f"{way.name}, leading order", role, dashed=True))
            if not momentum and landscape.dimension == 1 and way.target is not None:
                exact = [(b, _exact(landscape, noise, way, float(b))) for b in batches]
                known = [(b, found.value) for b, found in exact if found is not None and found.value < 690]
                shapes.append(Line([b for b, _ in known], [math.exp(v) for _, v in known], f"{way.name}, exact", role))
        pictures.append(Picture("Escape times grow exponentially with the batch size", "batch size",
                                "mean escape time, lr · iterations",
                                [*shapes, Mark(noise.batch_size, "now")], log_up=True))  # fmt: skip
    return pictures
