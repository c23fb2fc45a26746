"""The general generator against dense linear algebra, closed forms and the line."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.linalg import expm

from sgdscope.theory.fokker_planck import Generator, Line
from sgdscope.theory.fokker_planck.bernoulli import bernoulli
from sgdscope.theory.fokker_planck.evolution import GAMMA, step_weights
from sgdscope.theory.fokker_planck.markov import balanced_weights, checked
from tests.theory.fokker_planck.potentials import Quartic


def dense(seed: int, size: int, density: float = 1.0) -> np.ndarray:
    """A random generator; a cycle keeps it in one piece where entries are left out."""
    random = np.random.default_rng(seed)
    rates = random.exponential(size=(size, size)) * (random.random((size, size)) < density)
    rates += np.roll(np.eye(size), 1, axis=0)
    np.fill_diagonal(rates, 0)
    return rates - np.diag(rates.sum(axis=0))


def of(rates: np.ndarray, **settings: object) -> Generator:
    return Generator(rates, np.arange(float(len(rates))), **settings)


def two_states(there: float, back: float) -> Generator:
    return of(np.array([[-there, back], [there, -back]]))


seeds = st.integers(0, 10_000)
sizes = st.integers(3, 30)


@given(seeds, sizes, st.floats(0.1, 1))
@settings(max_examples=30, deadline=None)
def test_stationary_masses_are_the_null_vector(seed, size, density):
    rates = dense(seed, size, density)
    masses = of(rates).stationary()
    assert masses.sum() == pytest.approx(1, abs=1e-13)
    assert masses.min() > 0
    assert np.abs(rates @ masses).max() < 1e-12 * np.abs(rates).max()


@given(seeds, sizes)
@settings(max_examples=20, deadline=None)
def test_gap_and_modes_are_those_of_the_dense_matrix(seed, size):
    rates = dense(seed, size)
    generator = of(rates)
    expected = np.sort(-np.linalg.eigvals(rates).real)
    assert generator.spectral_gap() == pytest.approx(expected[1], rel=1e-9)
    found, functions = generator.slow_modes(1)
    assert np.allclose(rates.T @ functions[0], -found[0] * functions[0], atol=1e-9 * np.abs(rates).max())
    assert (generator.stationary() * np.abs(functions[0]) ** 2).sum() == pytest.approx(1)


@given(seeds, st.integers(3, 20), st.floats(0.01, 20))
@settings(max_examples=20, deadline=None)
def test_evolution_is_the_matrix_exponential_within_its_tolerance(seed, size, time):
    rates = dense(seed, size, 0.5)
    generator = of(rates)
    start = generator.point(0.0)
    for tolerance in (1e-3, 1e-8):
        found = generator.evolve(start, [0.0, time / 3, time], tolerance=tolerance)
        assert np.array_equal(found[0], start)
        for share, state in ((1 / 3, found[1]), (1, found[2])):
            assert np.abs(state - expm(share * time * rates) @ start).sum() < tolerance
        assert found.min() >= 0
        assert np.abs(found.sum(axis=1) - 1).max() < 1e-13


@given(seeds, sizes)
@settings(max_examples=20, deadline=None)
def test_passage_times_committors_and_survivors_against_dense_solves(seed, size):
    rates = dense(seed, size)
    generator = of(rates)
    target = np.zeros(size, dtype=bool)
    target[0] = True
    kept = rates[1:, 1:]
    mean = np.linalg.solve(-kept.T, np.ones(size - 1))
    second = np.linalg.solve(-kept.T, 2 * mean)
    assert np.allclose(generator.mean_first_passage_time(target)[1:], mean, rtol=1e-10)
    assert np.allclose(generator.passage_time_variance(target)[1:], second - mean**2, rtol=1e-8)
    assert generator.mean_first_passage_time(target)[0] == 0

    law, rate = generator.quasi_stationary(lambda x: x < 0.5)
    slowest = np.linalg.eigvals(kept).real.max()
    assert rate == pytest.approx(-slowest, rel=1e-9)
    assert law[0] == 0
    assert np.allclose(kept @ law[1:], -rate * law[1:], atol=1e-9)
    assert generator.mean_first_passage_time(target, law) == pytest.approx(1 / rate, rel=1e-9)
    assert generator.passage_time_variance(target, law) == pytest.approx(1 / rate**2, rel=1e-8)

    source = np.zeros(size, dtype=bool)
    source[-1] = True
    chance = generator.committor(source, target)
    assert np.allclose(chance + generator.committor(target, source), 1, atol=1e-12)
    assert np.abs((rates.T @ chance)[1:-1]).max(initial=0) < 1e-10
    assert (chance[0], chance[-1]) == (1, 0)


def test_two_states_in_closed_form():
    generator = two_states(3.0, 1.0)
    assert np.allclose(generator.stationary(), [0.25, 0.75])
    assert generator.mean_first_passage_time(lambda x: x > 0.5, 0.0) == pytest.approx(1 / 3)
    assert generator.passage_time_variance(lambda x: x > 0.5, 0.0) == pytest.approx(1 / 9)
    later = generator.evolve([1.0, 0.0], [0.7], tolerance=1e-9)[0]
    assert later[1] == pytest.approx(0.75 * (1 - math.exp(-4 * 0.7)), abs=1e-9)


def test_the_same_answers_as_on_a_line():
    # two independent ways: sparse factorisations here, sums of positive terms there
    line = Line.of_potential(Quartic, 0.125, (-2.5, 2.5), cells=400)
    general = Generator(line.matrix, line.centres, line.volumes)
    assert np.allclose(general.stationary(), line.stationary(), rtol=1e-9, atol=0)
    assert general.spectral_gap() == pytest.approx(line.spectral_gap(), rel=1e-9)
    assert general.spectral_gap() == pytest.approx(0.0568182, rel=1e-3)
    ours, theirs = general.slow_modes(3), line.slow_modes(3)
    assert np.allclose(ours[0], theirs[0], rtol=1e-9)
    overlap = np.abs((ours[1] * theirs[1]) @ line.stationary())
    assert np.allclose(overlap, 1, atol=1e-9)
    start = line.point(-1.0)
    times = [0.05, 3.0, 200.0]
    assert np.abs(general.evolve(start, times, tolerance=1e-8) - line.evolve(start, times)).sum(axis=1).max() < 2e-8


def test_masses_are_exact_in_detailed_balance_however_rare_the_exchange():
    # two wells behind a cell of weight e^-300: rates that no factorisation could weigh
    levels = np.array([0.0, 2.0, 300.0, 5.0, 1.0])
    rates = np.zeros((5, 5))
    for i in range(4):
        rise = levels[i + 1] - levels[i]
        rates[i + 1, i], rates[i, i + 1] = bernoulli(rise), bernoulli(-rise)
    np.fill_diagonal(rates, -rates.sum(axis=0))
    assert np.allclose(np.diff(balanced_weights(checked(rates))), -np.diff(levels), rtol=1e-13)
    expected = np.exp(-levels)
    assert np.allclose(of(rates).stationary(), expected / expected.sum(), rtol=1e-12, atol=0)
    assert balanced_weights(checked(dense(0, 5))) is None


@given(st.floats(-800, 800))
def test_bernoulli_function(z):
    assert bernoulli(z) >= 0
    assert float(bernoulli(-z) - bernoulli(z)) == pytest.approx(z, rel=1e-12, abs=1e-12)


def test_steps_have_the_order_they_claim():
    def errors(share: float, z: np.ndarray) -> np.ndarray:
        powers = (1 / (1 - GAMMA * z)) ** np.arange(6)[:, None]
        return np.abs(step_weights(share) @ powers - np.exp(share * z))

    z = np.array([-0.1, -0.05])
    for share, orders in ((1.0, (6, 4, 5)), (0.5, (5, 4, 5))):
        measured = np.log2(errors(share, z)[:, 0] / errors(share, z)[:, 1])
        assert np.allclose(measured, orders, atol=0.15)
    assert errors(1.0, np.array([-1e9]))[:2].max() < 1e-6  # stiff modes are damped
    turning = (1 / (1 - GAMMA * 1j * np.linspace(0, 100, 2001))) ** np.arange(6)[:, None]
    assert np.abs(step_weights()[0] @ turning).max() <= 1 + 1e-12  # and turning ones never grow


def test_steps_are_few_for_long_times():
    generator = two_states(1.0, 2.0)
    assert np.allclose(generator.evolve([1.0, 0.0], [1e12])[0], generator.stationary(), atol=1e-10)
    at_rest = generator.evolve(generator.stationary(), [1.0, 5.0])
    assert np.allclose(at_rest, generator.stationary(), atol=1e-14)
    backwards = generator.evolve([1.0, 0.0], [2.0, 1.0])
    assert np.allclose(backwards[::-1], generator.evolve([1.0, 0.0], [1.0, 2.0]), atol=1e-15)
    assert generator.evolve([1.0, 0.0], []).shape == (0, 2)


def test_a_circling_process_needs_its_frequency():
    # jumps along a ring: rates 1 − cos k ± i sin k, of which the slowest also turn
    size = 300
    ring = sparse.eye_array(size) * -100.0 + sparse.csr_array(np.roll(np.eye(size), 1, axis=0)) * 100.0
    generator = Generator(ring, np.arange(300.0))
    k = 2 * np.pi / size
    rates, functions = generator.slow_modes(2, 100 * np.sin(k))
    assert rates[0].real == pytest.approx(100 * (1 - np.cos(k)), rel=1e-8)
    assert abs(rates[0].imag) == pytest.approx(100 * np.sin(k), rel=1e-8)
    assert np.allclose(np.abs(functions[0]), 1, atol=1e-6)


def test_point_is_the_nearest_cell():
    generator = Generator(dense(1, 4), [[0, 0], [0, 1], [1, 0], [1, 1]], [1.0, 2.0, 1.0, 1.0])
    assert np.array_equal(generator.point((0.2, 0.7)), [0, 1, 0, 0])
    assert np.array_equal(generator.density(generator.point((0.2, 0.7))), [0, 0.5, 0, 0])
    with pytest.raises(ValueError, match="expected a position of 2 coordinates"):
        generator.point(0.0)


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (np.zeros((2, 3)), "expected a square rate matrix"),
        (np.array([[-1.0, 0.5], [1.0, 0.5]]), "columns that sum to zero"),
        (np.array([[1.0, -0.5], [-1.0, 0.5]]), r"expected rates ≥ 0 off the diagonal, got -1 from cell 0 to cell 1"),
        (np.array([[np.nan, 1.0], [0.0, -1.0]]), "finite rates"),
        (dense(0, 4).T, "transpose the matrix if its rows sum to zero"),
    ],
)
def test_a_matrix_that_is_no_generator_is_refused(matrix, said):
    with pytest.raises(ValueError, match=said):
        of(matrix) if matrix.shape[0] == matrix.shape[1] else Generator(matrix, np.arange(2.0))


def test_several_closed_classes_are_named():
    pair = np.array([[-1.0, 2.0], [1.0, -2.0]])
    apart = of(np.kron(np.eye(2), pair))
    with pytest.raises(ValueError, match="2 closed classes"):
        apart.stationary()
    with pytest.raises(ValueError, match="2 closed classes"):
        apart.spectral_gap()
    with pytest.raises(ValueError, match="from 2 cells the target is never reached"):
        apart.mean_first_passage_time(lambda x: x < 0.5)
    leaking = np.array([[-1.0, 0.0, 0.0], [1.0, -1.0, 1.0], [0.0, 1.0, -1.0]])  # cell 0 is only left: one closed class
    assert np.allclose(of(leaking).stationary(), [0, 0.5, 0.5], atol=1e-12)


def test_input_is_checked():
    generator = of(dense(3, 5))
    with pytest.raises(ValueError, match="expected 5 centres and volumes"):
        Generator(dense(3, 5), np.arange(4.0))
    with pytest.raises(ValueError, match="expected volumes > 0"):
        of(dense(3, 5), volumes=np.zeros(5))
    with pytest.raises(ValueError, match="mask of 5 booleans"):
        generator.mean_first_passage_time(np.arange(5))
    with pytest.raises(ValueError, match="holds no cell"):
        generator.mean_first_passage_time(lambda x: x > 9)
    with pytest.raises(ValueError, match="holds every cell"):
        generator.quasi_stationary(lambda x: x < 9)
    with pytest.raises(ValueError, match="source and target apart"):
        generator.committor(lambda x: x < 3, lambda x: x > 1)
    with pytest.raises(ValueError, match="finite times ≥ 0"):
        generator.evolve(generator.point(0.0), [-1.0])
    with pytest.raises(ValueError, match="masses ≥ 0"):
        generator.evolve([1, -1, 0, 0, 0], [1.0])
    with pytest.raises(ValueError, match="expected a tolerance"):
        generator.evolve(generator.point(0.0), [1.0], tolerance=0)
    with pytest.raises(ValueError, match="between 1 and 4 modes"):
        generator.slow_modes(5)
    chain = Line.of_potential(Quartic, 0.125, (-2.5, 2.5), cells=100)
    with pytest.raises(ValueError, match="2 parts, each with a law of its own"):
        Generator(chain.matrix, chain.centres).quasi_stationary(lambda x: abs(x) < 0.1)
