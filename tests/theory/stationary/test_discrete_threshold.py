"""The threshold of real steps: reference values, the expansion, and the growth rate by simulation."""

import numpy as np
import pytest

from sgdscope.theory.stationary import DiagonalNoise, discrete_correction, discrete_critical_temperature
from sgdscope.theory.stationary import discrete_threshold as module


def coins(sigma):
    """x = ±1, y = x ± σ, fair."""
    x = np.array([1.0, 1, -1, -1])
    return x, x + sigma * np.array([1, -1, 1, -1])


@pytest.mark.parametrize(
    ("sigma", "batch_size", "value"),
    [(50, 1, 1.00040016), (50, 16, 0.98208100), (50, 64, 0.91508027), (200, 64, 0.99527630)],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_reference_values(sigma, batch_size, value, sign):
    x, y = coins(sigma)
    assert discrete_critical_temperature(x, sign * y, batch_size).value * sigma**2 == pytest.approx(value, rel=1e-8)


SYMMETRIC, SKEW = [-1, -1, 0, 1, 1], [-1, -1, 2, 0.5, -0.5]


@pytest.mark.parametrize(
    ("shape", "order", "batch_size"),
    [(SYMMETRIC, 2, 1), (SYMMETRIC, 2, 4), (SYMMETRIC, 2, 30), (SKEW, 1, 1), (SKEW, 1, 4)],
)
def test_strong_noise_follows_the_expansion(shape, order, batch_size):
    # xy = 1 + σ c: T_c ~ σ⁻², the relative shift ~ σ⁻² for symmetric c, σ⁻¹ for skew c, and what is left its square
    shifts, errors = [], []
    for sigma in (300, 600):
        data = np.ones(5), 1 + sigma * np.array(shape)
        exact, first = (f(*data, batch_size).value for f in (discrete_critical_temperature, discrete_correction))
        continuous = DiagonalNoise.of_data(*data).critical_temperature()
        shifts.append(abs(exact / continuous - 1))
        errors.append(abs(exact - first) / continuous)
    assert shifts[0] / shifts[1] == pytest.approx(2**order, rel=0.1)
    assert errors[0] / errors[1] == pytest.approx(4**order, rel=0.1)


def test_growth_vanishes_there_by_simulation():
    rng = np.random.default_rng(1)
    x = rng.normal(size=400)
    noise = rng.normal(size=400)
    y = x + 20 * (noise - x * (x @ noise) / (x @ x))
    batch_size = 8
    threshold = discrete_critical_temperature(x, y, batch_size).value
    means = (x * y)[rng.integers(0, 400, size=(400_000, batch_size))].mean(axis=1)

    def growth(temperature):
        return np.log(np.abs(1 + 2 * temperature * batch_size * means))

    at = growth(threshold)
    assert abs(at.mean()) < 4 * at.std() / np.sqrt(at.size)
    # and the other ways to the number are told apart by this much data
    assert growth(DiagonalNoise.of_data(x, y).critical_temperature()).mean() < -4 * at.std() / np.sqrt(at.size)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_the_lattice_agrees_with_listing_all_batches(batch_size, monkeypatch):
    x, y = [1, 2, -1, 0.5, 0.3], [0.5, 1, 1.5, -0.3, 0.2]
    listed = discrete_critical_temperature(x, y, batch_size).value
    monkeypatch.setattr(module, "OUTCOMES", 0)
    assert discrete_critical_temperature(x, y, batch_size).value == pytest.approx(listed, rel=1e-7)


def test_batch_means_are_a_law_with_the_moments_of_the_data():
    values = np.array([1.0, 2.0, 2.0, 7.0])
    for means, masses in (
        module._batch_means(values, 5),
        module._convolved(np.array([1.0, 2, 7]), np.array([1, 2, 1]) / 4, 5),
    ):
        assert masses.sum() == pytest.approx(1)
        assert masses @ means == pytest.approx(values.mean())
        assert masses @ means**2 - values.mean() ** 2 == pytest.approx(values.var() / 5, rel=1e-6)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: discrete_critical_temperature([1, 2], [1, 2], 1), "one sign"),
        (lambda: discrete_critical_temperature([1, -1, 1], [1, 1, 2], 0), "batch size"),
        (lambda: discrete_critical_temperature([1, -1], [1, 1], 1), "nonzero mean"),
        (lambda: discrete_critical_temperature(*coins(3), 64), "smaller batch"),
        (lambda: discrete_correction(*coins(3), 64), "use the exact threshold"),
        (lambda: discrete_correction([1, -1], [1, 1], 1), "nonzero mean"),
    ],
)
def test_bad_input_gets_a_sentence(ask, said):
    with pytest.raises(ValueError, match=said):
        ask()


def test_a_large_shift_is_warned_of():
    assert discrete_correction(*coins(50), 16).valid
    assert not discrete_correction(*coins(20), 64).valid
