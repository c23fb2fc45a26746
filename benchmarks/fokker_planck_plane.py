"""Fokker–Planck of two coordinates and of momentum on 200 × 200 cells, against bare SciPy factorisations.

Costs are in units of one sparse LU and solve, as SciPy does it by default, of the matrix that the answer needs: the
least a general solver could spend. The momentum problem is x⁴/4 − x²/2 at temperature ¼. Errors are against the Gibbs
law, the Lyapunov equation and a gap of 400 positions and 129 velocity modes. No Python package of those looked at
offers a gap with momentum, or a full 2 × 2 diffusion.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import solve_continuous_lyapunov
from scipy.sparse.linalg import eigs, splu

from benchmarks.harness import Ratio, Row, interleaved
from sgdscope.theory.fokker_planck import Generator, Kinetic, Plane

CELLS, TEMPERATURE, INTERVAL = (200, 200), 0.25, (-2.5, 2.5)
PULL = np.array([[1.0, 0.4], [0.2, 1.5]])
NOISE = np.array([[1.0, 0.9], [0.9, 1.0]])


def well(x: np.ndarray) -> np.ndarray:
    return x**4 / 4 - x**2 / 2


def kinetic(friction: float, cells: tuple[int, int] = CELLS) -> Kinetic:
    return Kinetic(TEMPERATURE, friction, INTERVAL, cells, potential=well)


def pinned(matrix: Any) -> Callable[[], np.ndarray]:
    """The null vector with nothing but SciPy: one cell held at 1, one LU, one solve."""
    rest = np.arange(matrix.shape[0]) != matrix.shape[0] // 2
    inner = sparse.csc_matrix(matrix[:, rest].tocsr()[rest])
    into = matrix[:, ~rest].toarray()[rest, 0]
    return lambda: splu(inner).solve(-into)


def stationary() -> Iterator[Row]:
    problem = kinetic(1.0)
    matrix, gibbs = problem.matrix, problem.stationary()
    times = interleaved({
        "ours": lambda: Generator(matrix, problem.centres).stationary(), "bare": pinned(matrix),
    }, rounds=3)  # fmt: skip
    cost = Ratio.of(times["ours"], times["bare"])
    error = np.abs(Generator(matrix, problem.centres).stationary() - gibbs).sum()
    yield Row("stationary law with momentum, 200 × 200 cells, from the rates alone, in bare LU solves",
              f"{cost}; L1 error {error:.0e}", "bare LU 1", "≤ 1.5, error ≤ 1e-12",
              cost.median <= 1.5 and error <= 1e-12)  # fmt: skip


def gap(friction: float) -> Iterator[Row]:
    problem = kinetic(friction)
    matrix = problem.matrix
    exact = kinetic(friction, (400, 64)).hermite.gap(1e-5).rate

    def grid_gap() -> float:
        found = eigs(matrix, k=3, sigma=1e-6, return_eigenvectors=False)
        return float(np.sort(-found.real)[1])

    times = interleaved({
        "ours": lambda: kinetic(friction).spectral_gap(1e-3), "bare": pinned(matrix), "grid": grid_gap,
    }, rounds=3)  # fmt: skip
    cost, grid = Ratio.of(times["ours"], times["bare"]), Ratio.of(times["grid"], times["bare"])
    error = abs(problem.spectral_gap(1e-3) / exact - 1)
    yield Row(f"gap with momentum, friction {friction:g}, 200 positions, in bare LU solves of 200 × 200 cells",
              f"{cost}; error {error:.0e}",
              f"SciPy eigs on the cells {grid.median:.1f}, {100 * (grid_gap() / exact - 1):+.1f} %",
              "≤ 0.4, error ≤ 1e-3", cost.median <= 0.4 and error <= 1e-3)  # fmt: skip


def plane() -> Plane:
    covariance = solve_continuous_lyapunov(PULL, 2 * NOISE)
    a, b = 6 * np.sqrt(np.diag(covariance))
    return Plane(NOISE, ((-a, a), (-b, b)), CELLS, drift=lambda x, y: tuple(-(row[0] * x + row[1] * y) for row in PULL))


def correlated() -> Iterator[Row]:
    problem = plane()
    matrix = problem.matrix
    inside = np.abs(problem.centres[:, 0]) < 1
    inner = sparse.csc_matrix(matrix[:, inside].tocsr()[inside].T)
    times = interleaved({
        "build": plane, "stationary": lambda: Generator(matrix, problem.centres).stationary(),
        "passage": lambda: problem.mean_first_passage_time(lambda x, y: np.abs(x) >= 1), "bare": pinned(matrix),
        "bare passage": lambda: splu(inner).solve(np.ones(inside.sum())),
    }, rounds=3)  # fmt: skip
    masses = problem.stationary()
    found = np.einsum("n,ni,nj->ij", masses, problem.centres, problem.centres)
    error = np.abs(found / solve_continuous_lyapunov(PULL, 2 * NOISE) - 1).max()
    cost = Ratio.of(times["stationary"], times["bare"])
    yield Row("stationary law under correlated noise (0.9), 200 × 200 cells, in bare LU solves",
              f"{cost}, building the rates {Ratio.of(times['build'], times['bare']).median:.2f}; least mass "
              f"{masses.min():.0e}, covariance off by {100 * error:.2f} %", "bare LU 1",
              "≤ 1.5, positive, error ≤ 0.5 %",
              cost.median <= 1.5 and masses.min() >= 0 and error <= 0.005)  # fmt: skip
    cost = Ratio.of(times["passage"], times["bare passage"])
    yield Row("mean first-passage times under correlated noise, 200 × 200 cells, in bare LU solves", str(cost),
              "bare LU 1", "≤ 2", cost.median <= 2)  # fmt: skip


def evolution() -> Iterator[Row]:
    problem = kinetic(1.0, (100, 100))
    matrix, start, time = problem.matrix, problem.point((-1.0, 0.0)), 10.0
    step = sparse.csc_matrix(sparse.eye_array(len(start)) - time / 400 * matrix)

    def implicit() -> np.ndarray:
        solver, masses = splu(step), start
        for _ in range(400):
            masses = solver.solve(masses)
        return masses

    times = interleaved({
        "ours": lambda: problem.evolve(start, [time], tolerance=1e-3), "bare": implicit,
    }, rounds=3)  # fmt: skip
    fine = problem.evolve(start, [time], tolerance=1e-8)[0]
    ours, theirs = (
        np.abs(masses - fine).sum() for masses in (problem.evolve(start, [time], tolerance=1e-3)[0], implicit())
    )
    cost = Ratio.of(times["ours"], times["bare"])
    yield Row("law with momentum at t = 10 from a point, 100 × 100 cells, in 400 bare implicit Euler steps",
              f"{cost}; L1 error in time {ours:.0e}", f"1, error {theirs:.0e}", "≤ 3, error ≤ 1e-3",
              cost.median <= 3 and ours <= 1e-3)  # fmt: skip


def rows() -> Iterator[Row]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy: eigs and splu would rather have another sparse format
        yield from stationary()
        yield from gap(1.0)
        yield from gap(0.1)
        yield from correlated()
        yield from evolution()
