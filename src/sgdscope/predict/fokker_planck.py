"""Prediction by the Fokker–Planck equation: where SGD ends up on a landscape, how fast, and what batch size changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sgdscope.picture import Line as Curve
from sgdscope.picture import Mark, Picture, Role
from sgdscope.predict.answer import Answer, Table, notes_of, number
from sgdscope.predict.noise import Noise, noise_of
from sgdscope.theory.fokker_planck import HeavyBall, Landscape, Line, relaxation_rates
from sgdscope.theory.fokker_planck.kinetic import Kinetic
from sgdscope.theory.fokker_planck.plane import Plane
from sgdscope.theory.potential import Potential
from sgdscope.theory.potential.critical_point import written
from sgdscope.theory.prediction import Prediction

_DEPTH = 30.0
"""Noise units above all passes at which a plane is cut off."""
_SHADES: tuple[Role, ...] = ("soft", "third", "second", "first")


def fokker_planck(
    potential: str, lr: float | None = None, batch_size: float = 1.0, variance: str = "1",
    temperature: float | None = None, momentum: float = 0.0, start: tuple[float, ...] = (),
    times: tuple[float, ...] = (), cells: int | None = None, variables: tuple[str, ...] = ("x",),
) -> Answer:  # fmt: skip
    """Where does SGD end up on a landscape, and how fast does it forget its start?

    Args:
        potential: the loss as an expression in one or two variables, e.g. "x**4/4 - x**2/2".
        lr: learning rate.
        batch_size: samples per batch.
        variance: of the gradient of one sample: a number, or in one variable a positive expression.
        temperature: of white noise, instead of a learning rate and a variance.
        momentum: heavy ball, as PyTorch defines it; one variable and constant variance only.
        start: position from which the law is followed in time.
        times: at which, in learning rate · iterations. [up to where the law is stationary]
        cells: of the grid, along each axis. [2000 in one variable, 160 in two, 200 with momentum]
        variables: names of the coordinates.
    """
    landscape = Potential(potential, variables)
    if landscape.dimension > 2:
        raise ValueError(f"expected one or two variables, got {landscape.dimension}")
    landscape.require_confining()
    noise = noise_of(landscape, lr=lr, batch_size=batch_size, variance=variance, temperature=temperature)
    if start and len(start) != landscape.dimension:
        raise ValueError(f"expected a start of {landscape.dimension} coordinates, got {len(start)}")
    if times and not start:
        raise ValueError("expected a start as well: without one the law is stationary at all times")
    if momentum:
        return _with_momentum(landscape, noise, momentum, cells)
    line = landscape.dimension == 1
    grid: Any = _line(landscape, noise, cells or 2000) if line else _plane(landscape, noise, cells or 160)
    wells = _Wells.of(landscape, grid)
    law = grid.stationary()
    tables = [_stationary(landscape, wells, law, noise)]
    rates, said = _rates(landscape, noise, grid, len(wells.names))
    tables.append(rates)
    followed: list[tuple[float, Any]] = []
    if start:
        at = times or _usual_times(grid.spectral_gap())
        began = grid.point(start[0] if line else start)
        followed = list(zip(at, grid.evolve(began, at), strict=True))
        tables.append(_evolution(wells, grid, followed))
    notes = [f"critical points: {landscape.completeness()}", *notes_of(said)]
    return Answer(tables, notes, lambda: _pictures(landscape, grid, law, followed))


@dataclass(frozen=True)
class _Wells:
    """Which cells belong to which minimum: where steepest descent ends, in one dimension between the maxima."""

    names: list[str]
    of_cell: np.ndarray[Any, Any]

    @classmethod
    def of(cls, landscape: Potential, grid: Any) -> _Wells:
        minima = landscape.minima
        if not minima:
            raise ValueError(f"expected a minimum of positive curvature, {landscape.expression} has none")
        if landscape.dimension == 1:
            tops = sorted(p.x for p in landscape.critical_points() if p.kind == "maximum")
            inner = [top for top in tops if minima[0].x < top < minima[-1].x]
            return cls([written(p.position) for p in minima], np.searchsorted(inner, grid.centres))
        places = np.array([p.position for p in minima])
        return cls([written(p.position) for p in minima], _descended(landscape, np.array(grid.centres), places))

    def masses(self, law: Any) -> np.ndarray[Any, Any]:
        return np.bincount(self.of_cell, weights=law, minlength=len(self.names))


def _descended(landscape: Potential, points: np.ndarray[Any, Any], minima: np.ndarray[Any, Any]) -> Any:
    """Index of the minimum that steepest descent from each point ends nearest to."""
    at = points.copy()
    for _ in range(400):
        slope, bend = landscape.gradient(at), landscape.hessian(at)
        step = 0.3 / (np.abs(bend).sum(axis=(-1, -2)) + 1e-12)
        at -= step[:, None] * slope
    return np.argmin(((at[:, None] - minima) ** 2).sum(-1), axis=1)


def _line(landscape: Potential, noise: Noise, cells: int) -> Line:
    heat = noise.temperature if noise.variance is None else noise.diffusion
    assert heat is not None
    return Line.of_potential(landscape, heat, cells=cells)


def _plane(landscape: Potential, noise: Noise, cells: int) -> Plane:
    """As much of the plane as the law needs: to 30 noise units above every pass."""
    assert noise.temperature is not None
    points = landscape.critical_points()
    low, high = (f(np.array([p.position for p in points]), axis=0) for f in (np.min, np.max))
    level = max(p.value for p in points if p.kind != "maximum") + _DEPTH * noise.temperature
    bends = [abs(bend) for p in points for bend in p.eigenvalues if bend]
    reach = np.maximum(high - low, 2 * np.sqrt(noise.temperature / min(bends)))
    sides = np.array([low - 0.1 * reach, high + 0.1 * reach])
    share = np.linspace(0, 1, 101)
    for _ in range(200):
        grew = False
        for end in (0, 1):
            for axis in (0, 1):
                along = sides[0, 1 - axis] + share * (sides[1, 1 - axis] - sides[0, 1 - axis])
                edge = np.full_like(along, sides[end, axis])
                border = np.stack([edge, along] if axis == 0 else [along, edge], axis=-1)
                if landscape.value(border).min() < level:
                    sides[end, axis] += (1 if end else -1) * 0.1 * (sides[1, axis] - sides[0, axis])
                    grew = True
        if not grew:
            break
    return Plane(
        noise.temperature, ((sides[0, 0], sides[1, 0]), (sides[0, 1], sides[1, 1])), (cells, cells),
        potential=lambda x, y: landscape.value(np.stack([x, y], axis=-1)),
    )  # fmt: skip


def _stationary(landscape: Potential, wells: _Wells, law: Any, noise: Noise) -> Table:
    """Share of each well, beside what the curvature of its bottom alone says where the noise is the same everywhere."""
    masses = wells.masses(law)
    rows = [[name, number(p.value), ", ".join(map(number, p.eigenvalues)), number(float(mass))]
            for name, p, mass in zip(wells.names, landscape.minima, masses, strict=True)]  # fmt: skip
    columns = ["well", "loss", "curvatures", "share of time"]
    if noise.variance is None:
        assert noise.temperature is not None
        depths = np.array([p.value for p in landscape.minima])
        sizes = np.array([p.determinant for p in landscape.minima]) ** -0.5
        formula = sizes * np.exp(-(depths - depths.min()) / noise.temperature)
        columns.append("by depth and determinant")
        for row, share in zip(rows, formula / formula.sum(), strict=True):
            row.append(number(float(share)))
    return Table(f"Stationary law, {noise.text}", columns, rows)


def _rates(landscape: Potential, noise: Noise, grid: Any, wells: int) -> tuple[Table, list[Prediction]]:
    """Slow rates with their meaning."""
    title = "Rates per learning rate · iterations"
    columns = ["rate", "value", "time", "iterations"]
    said: list[Prediction] = []
    if landscape.dimension == 1 and noise.variance is None:
        assert noise.temperature is not None
        found = relaxation_rates(landscape, noise.temperature, grid)
        named = [("between wells", p) for p in found.between_wells]
        named += [("between wells, Kramers' formula", p) for p in found.kramers]
        named.append(("inside a well", found.in_well))
        said = [prediction for _, prediction in named]
        values = [(name, prediction.value) for name, prediction in named]
    else:
        rates = np.real(grid.slow_modes(wells)[0])
        values = [("between wells" if i < wells - 1 else "inside a well", float(rate)) for i, rate in enumerate(rates)]
    rows = [[name, number(rate), number(1 / rate), number(None if noise.lr is None else 1 / rate / noise.lr)]
            for name, rate in values]  # fmt: skip
    return Table(title, columns, rows), said


def _usual_times(gap: float) -> tuple[float, ...]:
    """From a thousandth of the slowest time to five of them."""
    return tuple(float(f"{t / gap:.3g}") for t in (0.001, 0.01, 0.1, 1, 5))


def _evolution(wells: _Wells, grid: Any, followed: Sequence[tuple[float, Any]]) -> Table:
    columns = ["time", *(f"share of {name}" for name in wells.names)]
    rows = [[number(t), *(number(float(m)) for m in wells.masses(law))] for t, law in followed]
    if np.ndim(grid.centres) == 1:
        columns += ["mean", "standard deviation"]
        for row, (_, law) in zip(rows, followed, strict=True):
            mean = float(law @ grid.centres)
            row += [number(mean), number(float(np.sqrt(law @ (grid.centres - mean) ** 2)))]
    return Table("From the start", columns, rows)


def _with_momentum(landscape: Potential, noise: Noise, momentum: float, cells: int | None) -> Answer:
    if noise.lr is None or noise.temperature is None or not noise.from_batches or landscape.dimension > 1:
        raise ValueError("expected a learning rate, a constant variance and one variable with momentum")
    per_sample = 2 * noise.temperature * noise.batch_size / noise.lr
    ball = HeavyBall(noise.lr, momentum, noise.batch_size, noise_variance=per_sample)
    line = Line.of_potential(landscape, ball.temperature)
    kinetic = Kinetic(
        ball.temperature, ball.friction, (float(line.faces[0]), float(line.faces[-1])), (cells or 200, 200),
        potential=landscape.value,
    )  # fmt: skip
    wells = _Wells.of(landscape, line)
    gap = kinetic.spectral_gap()
    shape = Landscape.of(landscape, line)
    rows = [("slowest, kinetic equation", gap)]
    said = [ball.in_well_rate(min(shape.curvatures))]
    if len(shape.saddles) == 1:
        between = ball.between_wells_rate(
            shape.curvatures, shape.saddle_curvatures[0], [shape.saddle_losses[0] - loss for loss in shape.losses]
        )
        rows.append(("between wells, Kramers' formula", between.value))
        said.append(between)
    rows.append(("inside a well, quadratic", said[0].value))
    table = Table(
        f"Rates with momentum {momentum:g}: friction {ball.friction:.4g}, temperature {ball.temperature:.4g}",
        ["rate", "per √lr · iterations", "per iteration", "iterations"],
        [
            [name, number(rate), number(ball.per_iteration(rate)), number(1 / ball.per_iteration(rate))]
            for name, rate in rows
        ],
    )
    law = line.stationary()
    heat = Noise(ball.temperature, None, noise.lr, 0, f"temperature {ball.temperature:.4g} of the positions")
    return Answer([_stationary(landscape, wells, law, heat), table], notes_of(said),
                  lambda: _pictures(landscape, line, law, []))  # fmt: skip


def _pictures(landscape: Potential, grid: Any, law: Any, followed: Sequence[tuple[float, Any]]) -> list[Picture]:
    """The stationary density over the landscape's line, with those on the way there."""
    if landscape.dimension > 1:
        return []
    shapes: list[Curve | Mark] = [Curve(grid.centres, grid.density(law), "stationary", "ink")]
    shown = followed[-len(_SHADES) :]
    for (time, masses), role in zip(shown, _SHADES[-len(shown) :] if shown else (), strict=True):
        shapes.append(Curve(grid.centres, grid.density(masses), f"time {time:g}", role, dashed=True))
    shapes += [Mark(p.x, "") for p in landscape.minima]
    inside = np.flatnonzero(np.cumsum(law) > 1e-4)[0], np.flatnonzero(np.cumsum(law) < 1 - 1e-4)[-1]
    width = grid.centres[inside[1]] - grid.centres[inside[0]]
    top = 1.15 * float(grid.density(law).max())
    return [Picture(
        f"Density on L({landscape.variables[0]}) = {landscape.expression}", landscape.variables[0], "density", shapes,
        span_across=(grid.centres[inside[0]] - 0.1 * width, grid.centres[inside[1]] + 0.1 * width), span_up=(0, top),
    )]  # fmt: skip
