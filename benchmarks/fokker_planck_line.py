"""Fokker–Planck on a line of 2000 cells: evolution, stationary law, gap and passage time against bare SciPy solves.

The problem has noise that depends on the state (Itô): dx = −(x³ − x) dt + √(2D) dW, D = (1 + x²/2)/4 on [−3, 3], from a
point in the left well. Costs are in units of the least SciPy work that could give the answer. Errors are in L1 against
masses in closed form, and against the exact passage time. FiPy takes the same 60 implicit steps where it is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.integrate import quad
from scipy.linalg import eigh_tridiagonal, solve_banded

from benchmarks.harness import Ratio, Row, interleaved, optional
from sgdscope.theory.fokker_planck import Line

NEEDS_RIVALS = True
CELLS, INTERVAL, START, TIME = 2000, (-3.0, 3.0), -1.0, 50.0
STEPS = np.geomspace(1e-3, 10, 60)
STEPS *= TIME / STEPS.sum()
PASSAGE = 4.067005333601
"""Mean time −1 → 0, by nested quadrature."""
GAP = 0.26947372521
"""Slowest rate, extrapolated from 8000, 16000 and 32000 cells; both extrapolations agree to 13 digits."""


def drift(x: np.ndarray) -> np.ndarray:
    return x - x**3


def diffusion(x: np.ndarray) -> np.ndarray:
    return (1 + x * x / 2) / 4


def density(x: float) -> float:
    """Stationary, not normalised: exp(∫ a/D) / D."""
    return float(np.exp(-4 * x * x) * (2 + x * x) ** 12 / (1 + x * x / 2))


def exact_masses(line: Line) -> np.ndarray:
    """Integrals of the density over the cells by Gauss quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(6)
    x = line.centres[:, None] + line.volumes[:, None] / 2 * nodes
    masses = np.exp(-4 * x * x) * (2 + x * x) ** 12 / (1 + x * x / 2) @ weights
    total = quad(density, *INTERVAL, points=[-1.0, 0.0, 1.0], epsabs=0, epsrel=1e-12)[0]
    return masses * line.volumes / 2 / total


def bare_steps(line: Line, start: np.ndarray) -> Callable[[], np.ndarray]:
    """The same implicit steps with nothing but `solve_banded`."""
    q = line.matrix
    bands = np.zeros((3, CELLS))
    bands[0, 1:], bands[1], bands[2, :-1] = q.diagonal(1), q.diagonal(), q.diagonal(-1)
    unit = np.zeros_like(bands)
    unit[1] = 1

    def run() -> np.ndarray:
        masses = start
        for step in STEPS:
            masses = solve_banded((1, 1), unit - step * bands, masses, check_finite=False)
        return masses

    return run


def fipy_steps(line: Line, start: np.ndarray) -> Callable[[], np.ndarray] | str:
    """The same steps by FiPy (exponential convection term, LU), or why not."""
    fipy = optional("fipy")
    if isinstance(fipy, str):
        return fipy
    from fipy.solvers import LinearLUSolver

    mesh = fipy.Grid1D(nx=CELLS, dx=float(line.volumes[0])) + ((INTERVAL[0],),)  # noqa: RUF005 - a shift of the mesh
    at_faces = mesh.faceCenters.value[0]
    spread = fipy.FaceVariable(mesh=mesh, value=diffusion(at_faces))
    speed = fipy.FaceVariable(mesh=mesh, rank=1, value=[drift(at_faces) - at_faces / 4])  # a − D'
    equation = fipy.TransientTerm() == fipy.DiffusionTerm(coeff=spread) - fipy.ExponentialConvectionTerm(coeff=speed)
    solver = LinearLUSolver()

    def run() -> np.ndarray:
        p = fipy.CellVariable(mesh=mesh, value=start / line.volumes)
        for step in STEPS:
            equation.solve(var=p, dt=float(step), solver=solver)
        return np.asarray(p.value) * line.volumes

    return run


def evolution(line: Line, exact: np.ndarray) -> Iterator[Row]:
    start = line.point(START)
    bare, fipy = bare_steps(line, start), fipy_steps(line, start)
    ours = lambda: line.implicit_steps(start, STEPS)  # noqa: E731
    accurate = lambda: line.evolve(start, [TIME])  # noqa: E731
    times = interleaved({"bare": bare, "ours": ours, "accurate": accurate}, rounds=9)
    found, cost = ours(), Ratio.of(times["ours"], times["bare"])
    error = np.abs(found - exact).sum()
    sound = error <= 1e-4 and found.min() > 0 and abs(found.sum() - 1) <= 1e-10
    yield Row(
        "Fokker–Planck on a line, 60 growing implicit steps to t = 50, in 60 bare `solve_banded`",
        f"{cost}; L1 {error:.1g}, least mass {found.min():.1g}, sum off by {abs(found.sum() - 1):.1g}",
        "1 (SciPy, no checks)", "≤ 2, L1 ≤ 1e-4, positive, sum to 1e-10", bool(cost.median <= 2 and sound),
    )  # fmt: skip
    right = by_all_modes(line, start)
    missed = np.abs(line.evolve(start, [TIME])[0] - right).sum()
    cost = Ratio.of(times["accurate"], times["bare"])
    yield Row(
        "the same to t = 50 within 1e-8 (contour integral), in 60 bare `solve_banded`",
        f"{cost}; off by {missed:.1g} from the exponential of the matrix",
        f"60 steps are off by {np.abs(bare() - right).sum():.1g}", "≤ 2, off by ≤ 1e-8",
        bool(cost.median <= 2 and missed <= 1e-8),
    )  # fmt: skip
    if isinstance(fipy, str):
        yield Row("FiPy's time for the same 60 steps, in ours", "skipped", fipy, "≥ 50")
        return
    both = interleaved({"fipy": fipy, "ours": ours}, rounds=3)
    slower = Ratio.of(both["fipy"], both["ours"])
    theirs = np.abs(fipy() - exact).sum()
    yield Row(
        "FiPy's time for the same 60 steps, in ours", f"1; L1 {error:.1g}", f"{slower}; L1 {theirs:.1g}", "≥ 50",
        slower.median >= 50,
    )  # fmt: skip


def by_all_modes(line: Line, start: np.ndarray) -> np.ndarray:
    """The exponential of the matrix from all of its eigenvectors."""
    q, root = line.matrix, np.sqrt(line.stationary())
    values, vectors = eigh_tridiagonal(q.diagonal(), np.sqrt(q.diagonal(1) * q.diagonal(-1)))
    return root * (vectors @ (np.exp(values * TIME) * (vectors.T @ (start / root))))


def stationary(line: Line, exact: np.ndarray) -> Row:
    q = line.matrix
    bands = np.zeros((3, CELLS))
    bands[0, 1:], bands[1], bands[2, :-1] = q.diagonal(1), q.diagonal() - 1, q.diagonal(-1)
    start = line.point(START)
    times = interleaved({
        "bare": lambda: solve_banded((1, 1), bands, start, check_finite=False), "ours": line.stationary,
        "build": lambda: Line(drift, diffusion, INTERVAL, CELLS),
    }, rounds=9)  # fmt: skip
    cost, build = (Ratio.of(times[name], times["bare"]) for name in ("ours", "build"))
    error = np.abs(line.stationary() - exact).sum()
    return Row(
        "stationary law of 2000 cells, in one bare `solve_banded`",
        f"{cost}, after building the line: {build.median:.0f}; L1 {error:.1g}", "1 (SciPy)", "≤ 2, L1 ≤ 3e-6",
        bool(cost.median <= 2 and error <= 3e-6),
    )  # fmt: skip


def gap(line: Line) -> Row:
    q = line.matrix
    diagonal, beside = -q.diagonal(), -np.sqrt(q.diagonal(1) * q.diagonal(-1))

    def bare() -> np.ndarray:
        return eigh_tridiagonal(diagonal, beside, select="i", select_range=(0, 3), lapack_driver="stebz")[0]

    times = interleaved({"bare": bare, "ours": line.spectral_gap}, rounds=9)
    cost = Ratio.of(times["ours"], times["bare"])
    error = abs(line.spectral_gap() / GAP - 1)
    rare = Line(drift, 0.002, (-2.0, 2.0), CELLS).spectral_gap()
    kramers = np.sqrt(2) / np.pi * np.exp(-125) * (1 - 1.5 * 0.002)
    return Row(
        "spectral gap of 2000 cells, in SciPy's four slowest modes (eigh_tridiagonal)",
        f"{cost}; off by {error:.1g}; a gap of {rare:.2g} off by {abs(rare / kramers - 1):.1g} from Kramers' law",
        "1 (SciPy; no digit of gaps below 1e-11)", "≤ 1.5, off by ≤ 1e-6", bool(cost.median <= 1.5 and error <= 1e-6),
    )  # fmt: skip


def passage(line: Line) -> Row:
    inside = CELLS // 2
    backward = line.matrix[:inside, :inside].T.tocsr()
    bands = np.zeros((3, inside))
    bands[0, 1:], bands[1], bands[2, :-1] = backward.diagonal(1), backward.diagonal(), backward.diagonal(-1)
    sources = -np.ones(inside)
    target = (0.0, np.inf)
    times = interleaved({
        "bare": lambda: solve_banded((1, 1), bands, sources, check_finite=False),
        "ours": lambda: line.mean_first_passage_time(target, START),
    }, rounds=9)  # fmt: skip
    cost = Ratio.of(times["ours"], times["bare"])
    error = abs(line.mean_first_passage_time(target, START) / PASSAGE - 1)
    rare = Line(drift, 0.002, (-2.0, 2.0), CELLS).mean_first_passage_time(1.0, -1.0)
    kramers = 2 * np.pi / np.sqrt(2) * np.exp(125) * (1 + 1.5 * 0.002)
    return Row(
        "mean passage −1 → 0 on 2000 cells, in one bare `solve_banded`",
        f"{cost}; off by {error:.1g}; a time of {rare:.2g} off by {abs(rare / kramers - 1):.1g} from Kramers' law",
        "1 (SciPy)", "≤ 10, off by ≤ 2e-6", bool(cost.median <= 10 and error <= 2e-6),
    )  # fmt: skip


def rows() -> Iterator[Row]:
    line = Line(drift, diffusion, INTERVAL, CELLS)
    exact = exact_masses(line)
    yield from evolution(line, exact)
    yield stationary(line, exact)
    yield gap(line)
    yield passage(line)
