"""Ensembles against exact answers: escape times, stationary laws, orders of the schemes."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

from sgdscope.simulate import SGLD, Average, Course, FirstPassage, GaussianSGD, Histogram, Kinetic, Overdamped, ensemble
from sgdscope.theory.escape.first_passage import first_passage
from sgdscope.theory.fokker_planck.line import Line
from sgdscope.theory.potential import Potential

WELL = Potential("x**4/4 - x**2/2")
DOUBLE = Potential("(x**2 - 1)**2/4")
BOWL = Potential("x**2/2")
TO_THE_OTHER_SIDE = FirstPassage(until=1.0)


def close(estimate, expected, *, relative=0.0, errors=3.5):
    """Within so many standard errors, and a relative difference on top."""
    return abs(estimate.value - expected) <= errors * estimate.standard_error + relative * abs(expected)


def stationary_mean(observable, log_density):
    low, high = -6, 6
    mass = quad(lambda x: math.exp(log_density(x)), low, high, points=(-1, 0, 1))[0]
    return quad(lambda x: observable(x) * math.exp(log_density(x)), low, high, points=(-1, 0, 1))[0] / mass


# -- escape --------------------------------------------------------------------------------------------------------


def passage_to_the_top(process, replicas, **settings):
    found = ensemble(WELL, process, replicas=replicas, steps=round(80 / process.step), start=-1.0,
                     record=FirstPassage(until=0.0), **settings)  # fmt: skip
    assert found.passage.arrived == replicas
    return found.passage.mean_time


@pytest.mark.slow
@pytest.mark.parametrize("fast", [False, True])
def test_escape_time_is_within_a_percent_of_quadrature(fast):
    """Euler's own bias is 0.7 % at this step (2 · 10⁶ replicas), Platen's below 0.1 % at four times it."""
    exact = first_passage(lambda x: x**3 - x, lambda x: 0.25 * (1 + x * x / 2), -1.0, 0.0).mean
    assert exact == pytest.approx(4.0670, abs=1e-4)
    euler = passage_to_the_top(Overdamped(0.25, 0.01, "1 + x**2/2"), 800_000, fast=fast)
    assert euler.value == pytest.approx(exact, rel=0.01)
    for step in (0.04, 0.01):
        platen = passage_to_the_top(Overdamped(0.25, step, "1 + x**2/2", scheme="platen"), 100_000, fast=fast)
        assert platen.value == pytest.approx(exact, rel=0.01)
        assert close(platen, exact, relative=0.001)


def test_the_moved_barrier_is_what_makes_it_so():
    """As a recursion the same steps are counted plainly, and are late by about σ √Δt over the barrier."""
    common = {"replicas": 20_000, "steps": 4000, "start": -1.0, "record": FirstPassage(until=0.0)}
    equation = ensemble(WELL, Overdamped(0.25, 0.01), **common).passage.mean_time
    recursion = ensemble(WELL, SGLD(0.01, 0.25), **common).passage.mean_time
    exact = first_passage(lambda x: x**3 - x, 0.25, -1.0, 0.0).mean
    assert close(equation, exact, relative=0.01)
    assert recursion.value > 1.04 * exact


@pytest.mark.slow
@pytest.mark.parametrize(
    ("interpretation", "expected"), [("ito", 90.197), ("stratonovich", 116.188), ("anti-ito", 152.943)]
)
def test_escape_times_of_the_three_interpretations(interpretation, expected):
    process = Overdamped(1 / 16, 0.01, "1 + x**2", interpretation=interpretation)
    found = ensemble(DOUBLE, process, replicas=20_000, steps=300_000, start=-1.0, record=TO_THE_OTHER_SIDE)
    assert close(found.passage.mean_time, expected, relative=0.005)


def gaussian_recursion(lr, q, nodes=1200):
    """Mean time −1 → 1 of SGD with Gaussian noise on DOUBLE, h = 1 + θ², q = 2B/lr: the integral equation
    m(x) = lr + ∫ p(y | x) m(y) dy over y < 1, at Gauss-Legendre nodes."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    x, w = 2 * x - 1, 2 * w  # on (−3, 1)
    batch_size = q * lr / 2

    def kernel(start):
        spread = lr * np.sqrt((1 + start**2) / batch_size)
        z = (x - (start - lr * (start**3 - start))[:, None]) / spread[:, None]
        return np.exp(-z * z / 2) / (spread[:, None] * math.sqrt(2 * math.pi)) * w

    times = np.linalg.solve(np.eye(nodes) - kernel(x), np.full(nodes, lr))
    return lr + float((kernel(np.array([-1.0])) @ times)[0])


@pytest.mark.slow
@pytest.mark.parametrize(("lr", "expected"), [(1 / 12, 358.763), (1 / 6, 324.496), (1 / 3, 179.512)])
def test_escape_of_the_recursion_with_gaussian_noise(lr, expected):
    """At fixed B/lr the differential equation has 384.38 whatever the learning rate; the recursion has not."""
    assert gaussian_recursion(lr, 24) == pytest.approx(expected, rel=1e-5)
    process = GaussianSGD(lr, 12 * lr, "1 + x**2")
    found = ensemble(DOUBLE, process, replicas=20_000, steps=int(6000 / lr), start=-1.0, record=TO_THE_OTHER_SIDE)
    assert close(found.passage.mean_time, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("batch_size", "expected"), [(1, 487), (2, 438), (4, 256)])
def test_escape_of_the_recursion_with_two_point_noise(batch_size, expected):
    process = GaussianSGD(batch_size / 12, batch_size, "1 + x**2", "two-point")
    steps = int(8000 / process.lr)
    found = ensemble(DOUBLE, process, replicas=20_000, steps=steps, start=-1.0, record=TO_THE_OTHER_SIDE)
    assert close(found.passage.mean_time, expected, relative=0.04)  # reference values are to 2 %


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["recursion", "equation"])
def test_escape_with_momentum(kind):
    """White noise of T = 1/24, lr = 0.01, μ = 0.9: 31150 ± 800 iterations by an independent simulation."""
    variance = 2 * (1 - 0.9) / 24 / 0.01
    process = (
        GaussianSGD(0.01, 1, variance, momentum=0.9)
        if kind == "recursion"
        else Kinetic.of_momentum(0.01, 0.9, variance)
    )
    found = ensemble(DOUBLE, process, replicas=8192, steps=400_000, start=-1.0, record=TO_THE_OTHER_SIDE)
    mean = found.passage.mean_time.scaled(1 / process.duration)
    assert close(mean, 31150, relative=2 * 800 / 31150)


@pytest.mark.slow
def test_escape_in_a_plane_whose_valley_widens():
    """Transverse curvature that changes along the way halves the time of the line, 384.38: 0.538 ± 0.013."""
    plane = Potential("(x**2 - 1)**2/4 + (1 + 2*x**2)*y**2/2", variables=("x", "y"))
    process = Overdamped(1 / 24, 0.02, ("1 + x**2", "1 + 2*x**2"))
    found = ensemble(
        plane, process, replicas=8192, steps=150_000, start=(-1.0, 0.0), record=FirstPassage(until="x > 1")
    )
    assert close(found.passage.mean_time.scaled(1 / 384.383), 0.538, relative=2 * 0.013 / 0.538)


@pytest.mark.slow
def test_exit_from_a_disc():
    """Mean R² / (4D) from its centre; the border is bent, and its distance from a margin of R² − r² is not constant."""
    flat = Potential("(x**2 + y**2)/1000000", variables=("x", "y"))
    record = FirstPassage(leaving="x**2 + y**2 < 1")
    found = ensemble(flat, Overdamped(0.5, 0.005), replicas=50_000, steps=4000, start=(0, 0), record=record)
    assert close(found.passage.mean_time, 0.5, relative=0.005)
    plain = ensemble(flat, SGLD(0.005, 0.5), replicas=50_000, steps=4000, start=(0, 0), record=record)
    assert plain.passage.mean_time.value > 1.05 * 0.5


# -- stationary laws -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_second_moment_at_a_large_step():
    exact = stationary_mean(lambda x: x * x, lambda x: -(x**4 / 4 - x * x / 2) / 0.25)
    found = {
        scheme: ensemble(
            WELL,
            Overdamped(0.25, 0.1, scheme=scheme),
            replicas=100_000,
            steps=4000,
            start=-1.0,
            record=Average("x**2", every=5, after=100),
        ).averages["x**2"]
        for scheme in ("leimkuhler-matthews", "euler-maruyama")
    }
    assert found["leimkuhler-matthews"].value == pytest.approx(exact, rel=1e-3)
    assert found["euler-maruyama"].value / exact - 1 == pytest.approx(-2.2e-2, abs=3e-3)


@pytest.mark.parametrize(("interpretation", "share"), [("ito", 0.0), ("stratonovich", 0.5), ("anti-ito", 1.0)])
def test_stationary_laws_of_the_three_interpretations(interpretation, share):
    """p ∝ h^(α − 1) exp(−∫ L' / (T h)) with L' = x and h = 1 + x²/2: the integral is ln(h) / T."""
    exact = stationary_mean(lambda x: x * x, lambda x: (share - 1 - 1 / 0.3) * math.log(1 + x * x / 2))
    process = Overdamped(0.3, 0.02, "1 + x**2/2", scheme="platen", interpretation=interpretation)
    record = Average("x**2", every=20, after=200)
    found = ensemble(BOWL, process, replicas=20_000, steps=1200, start=0.0, record=record).averages["x**2"]
    assert close(found, exact, relative=2e-3)


@pytest.mark.slow
def test_populations_and_density_follow_fokker_and_planck():
    """From a point in the shallow well: share in the deep one at all times, its relaxation rate, the law at the end."""
    tilted = Potential("x**4/4 - x**2/2 - x/20")
    line = Line.of_potential(tilted, lambda x: 0.25 * (1 + x * x / 2), (-4.0, 4.0), 2000)
    process = Overdamped(0.25, 0.02, "1 + x**2/2", scheme="platen")
    record = (Course("x > 0", every=100), Histogram(-2, 2, 40, every=50, after=2500))
    found = ensemble(tilted, process, replicas=40_000, steps=4000, start=-1.0, record=record)
    times, shares, errors = found.course.times, found.course.values[:, 0], found.course.errors[:, 0]
    exact = np.array([line.mass_in(mass, (0.0, 4.0)) for mass in line.evolve(line.point(-1.0), times[1:])])
    deviations = (shares[1:] - exact) / errors[1:]
    assert np.abs(deviations).max() < 3.5
    assert np.mean(deviations**2) < 2
    law = line.stationary()
    rate = -np.polyfit(times[2:7], np.log(line.mass_in(law, (0.0, 4.0)) - shares[2:7]), 1)[0]
    assert rate == pytest.approx(line.spectral_gap(), rel=0.03)
    cells = np.array([line.mass_in(law, part) for part in pairwise(found.histogram.edges[0])]) / 0.1
    assert np.all(np.abs(found.histogram.density - cells) < 5 * found.histogram.error + 2e-3)


def test_baoab_is_exact_in_position_on_a_quadratic():
    record = (Average("x**2", every=10, after=100), Histogram(-2, 2, 20, every=10, after=100))
    process = Kinetic(0.7, 0.25, 0.8)
    found = ensemble("2*x**2/2", process, replicas=20_000, steps=1000, start=0.0, record=record)
    assert close(found.averages["x**2"], 0.25 / 2)
    at = found.histogram.edges[0]
    exact = np.diff([math.erf(x / (2 * math.sqrt(0.25 / 4))) / 2 for x in at]) / np.diff(at)  # variance T / k = 1/8
    assert np.all(np.abs(found.histogram.density - exact) < 5 * found.histogram.error + 1e-6)
    # half a kick after the positions the velocities are cooler by the factor 1 − k Δt² / 4
    cooler = 0.25 * (1 - 2 * 0.8**2 / 4)
    assert np.var(found.memory[0]) == pytest.approx(cooler, rel=4 * math.sqrt(2 / 20_000))


def test_correlated_noise_has_its_covariance():
    """On a quadratic with unit Hessian the stationary covariance is D, to the bias 1 / (1 − Δt/2)."""
    plane = Potential("x**2/2 + y**2/2", variables=("x", "y"))
    process = Overdamped(0.5, 0.05, (("2", "0.9"), ("0.9", "1")))
    record = Average("x**2", "y**2", "x*y", every=20, after=200)
    found = ensemble(plane, process, replicas=20_000, steps=800, start=(0, 0), record=record).averages
    for observable, d in (("x**2", 1.0), ("x*y", 0.45), ("y**2", 0.5)):
        assert close(found[observable], d / (1 - 0.05 / 2))


def test_momentum_on_a_quadratic():
    """Variance of heavy ball with white noise: lr C (1 + μ) / ((1 − μ) k (2 (1 + μ) − lr k)); Mandt and others."""
    lr, k, mu, variance = 0.1, 2.0, 0.8, 3.0
    record = Average("x**2", every=20, after=300)
    process = GaussianSGD(lr, 2, variance, momentum=mu)
    found = ensemble(f"{k}*x**2/2", process, replicas=20_000, steps=900, start=0.0, record=record).averages["x**2"]
    exact = lr * variance / 2 * (1 + mu) / ((1 - mu) * k * (2 * (1 + mu) - lr * k))
    assert close(found, exact)


def test_nesterov_on_a_quadratic():
    """Against the stationary covariance of the linear recursion, solved exactly."""
    lr, k, mu, variance = 0.1, 2.0, 0.8, 3.0
    # (x, v) with g = k x + ζ: v⁺ = μ v + g, x⁺ = x − lr (g + μ v⁺)
    step = np.array([[1 - lr * (1 + mu) * k, -lr * mu**2], [k, mu]])
    noise = np.array([-lr * (1 + mu), 1.0])
    covariance = np.linalg.solve(np.eye(4) - np.kron(step, step), (variance * np.outer(noise, noise)).ravel())
    process = GaussianSGD(lr, 1, variance, momentum=mu, nesterov=True)
    record = Average("x**2", every=20, after=300)
    found = ensemble(f"{k}*x**2/2", process, replicas=20_000, steps=900, start=0.0, record=record).averages["x**2"]
    assert close(found, covariance[0])


# -- orders of weak convergence ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "step", "order"), [("euler-maruyama", 0.1, 1), ("platen", 0.2, 2)])
def test_weak_order(scheme, step, order):
    """The bias of the stationary ⟨x²⟩ with diffusion that varies falls by 2^order at half the step."""
    exact = stationary_mean(lambda x: x * x, log_density)
    biases, doubts = [], []
    for size in (step, step / 2):
        process = Overdamped(0.25, size, "1 + x**2/2", scheme=scheme)
        record = Average("x**2", every=max(1, round(0.4 / size)), after=round(8 / size))
        found = ensemble(WELL, process, replicas=200_000, steps=round(40 / size), start=-1.0, record=record)
        assert not found.diverged.any()
        biases.append(found.averages["x**2"].value - exact)
        doubts.append(found.averages["x**2"].standard_error / abs(biases[-1]) / math.log(2))
    assert math.hypot(*doubts) < 0.1
    assert math.log2(biases[0] / biases[1]) == pytest.approx(order, abs=0.35)


def log_density(x):
    """Of dx = −(x³ − x) dt + √(2 T h) dW, T = 1/4, h = 1 + x²/2: −ln h − ∫ L' / (T h), with ∫ = x² − 3 ln(2 + x²)."""
    return -math.log(1 + x * x / 2) - 4 * (x * x - 3 * math.log(2 + x * x))


def test_euler_follows_the_moments_of_its_recursion():
    m = 1.5**2
    for _ in range(4):
        m = (1 - 0.25) ** 2 * m + 0.25 * (1 + m / 2)
    process = Overdamped(0.5, 0.25, "1 + x**2/2")
    squares = ensemble(BOWL, process, replicas=400_000, steps=4, start=-1.5).positions.astype(float) ** 2
    assert abs(squares.mean() - m) < 4 * squares.std() / math.sqrt(400_000)
