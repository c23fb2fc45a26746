"""SGD on diagonal networks against theory: stationary laws, balance, thresholds, and where theory of the SDE ends."""

import numpy as np
import pytest

from sgdscope.simulate import Average, Course, FirstPassage, ensemble
from sgdscope.simulate.data import SGD, DiagonalNetwork, Pairs, ScalarNetwork, Stream
from sgdscope.theory.balance import charge_after_step
from sgdscope.theory.fokker_planck import Line
from sgdscope.theory.stationary import DiagonalDynamics, DiagonalLaw, discrete_critical_temperature

FAST = {"fast": True, "seed": 1}


def distance(law, values):
    """Kolmogorov and Smirnov's, between a law and values drawn."""
    values = np.sort(values.astype(float))
    expected = law.cdf(values)
    ranks = np.arange(len(values) + 1) / len(values)
    return max(np.abs(expected - ranks[1:]).max(), np.abs(expected - ranks[:-1]).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "width", "noise_variance", "lr", "batch_size", "weight_decay", "time", "bar"),
    [
        # within the range in which theory of the SDE should hold
        (0, 1, 1, 0.005, 1, 0.0, 20, 0.015),
        (1, 1, 1, 0.01, 1, 0.0, 40, 0.02),
        (1, 1, 9, 0.01, 1, 0.3, 40, 0.02),
        (1, 3, 9, 0.01, 1, 0.0, 40, 0.02),
        (1, 1, 100, 0.002, 1, 0.0, 60, 0.015),
        (2, 1, 1, 0.01, 1, 0.0, 40, 0.03),
        (2, 3, 9, 0.01, 1, 0.0, 40, 0.03),
        (3, 2, 1, 0.01, 1, 0.0, 40, 0.03),
        (3, 1, 1, 0.01, 1, 0.0, 40, 0.03),
        # close to the critical temperature, steps small: 0.7 of it
        (1, 1, 900, 0.7 / 902, 1, 0.0, 40, 0.02),
    ],
)
def test_sgd_settles_in_the_stationary_law(depth, width, noise_variance, lr, batch_size, weight_decay, time, bar):
    data = Stream.gaussian(1.0, noise_variance)
    network = DiagonalNetwork(depth, data, width, weight_decay)
    law = DiagonalLaw(data.noise, lr / batch_size, depth, width, weight_decay)
    result = ensemble(
        network, SGD(lr, batch_size), steps=int(time / lr), start=network.balanced(0.8), replicas=40_000, **FAST
    )
    assert not result.diverged.any()
    weights = result.positions.reshape(-1, width, depth + 1).prod(2).sum(1)
    assert (weights < 0).mean() < 0.002
    assert distance(law, weights) < bar


@pytest.mark.slow
def test_the_distance_to_the_law_shrinks_with_the_learning_rate():
    found = []
    for lr in (0.05, 0.01):
        net = ScalarNetwork(1, Stream.gaussian(1.0, 1.0))
        result = ensemble(net, SGD(lr), steps=int(40 / lr), start=[0.9, 0.9], replicas=20_000, **FAST)
        found.append(distance(DiagonalLaw(net.data.noise, lr, 1), result.positions[~result.diverged].prod(1)))
    assert found[0] == pytest.approx(0.054, abs=0.01)
    assert found[1] < 0.3 * found[0]


def test_charge_changes_by_its_exact_law_in_every_step():
    network = ScalarNetwork(1, Stream.gaussian(1.0, 1.0), 0.2)
    start = np.array([1.3, 0.4])
    result = ensemble(network, SGD(0.1, 3), steps=1, start=start, replicas=500, precision="float64")
    gradients = (start * (1 - 0.04) - result.positions) / 0.1  # of the batch, without weight decay
    assert np.abs(gradients @ [1.3, -0.4]).max() < 1e-13  # what the symmetry demands of every batch
    charge, before = (u[..., 0] ** 2 - u[..., 1] ** 2 for u in (result.positions, start))
    expected = charge_after_step(before, gradients[:, 0] ** 2 - gradients[:, 1] ** 2, lr=0.1, weight_decay=0.2)
    np.testing.assert_allclose(charge, expected, rtol=1e-12, atol=1e-14)
    assert (np.abs(charge) < np.abs(before)).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "start", "batch_size", "weight_decay"),
    [(1, [2.0, 0.3], 1, 0.0), (1, [2.0, 0.3], 4, 0.0), (1, [2.0, 0.3], 1, 0.05), (2, [1.5, 1.0, 0.7], 1, 0.0)],
)
def test_charges_decay_at_the_rate_of_balance(depth, start, batch_size, weight_decay):
    network = ScalarNetwork(depth, Stream.gaussian(1.0, 1.0), weight_decay)
    v, lr = network.weight, 0.01
    factor = "1" if depth == 1 else "u2**2"  # of v per u0 u1, squared
    noise, slope = f"(2*({v})**2 - 4*({v}) + 3)*{factor}", f"(({v}) - 1)**2*{factor}"
    record = Average(noise, slope)
    result = ensemble(
        network, SGD(lr, batch_size), steps=4000, start=start, replicas=2000, precision="float64", record=record, **FAST
    )
    charge = result.positions[:, 0] ** 2 - result.positions[:, 1] ** 2
    found = np.log(np.abs(charge / (start[0] ** 2 - start[1] ** 2))).mean()
    assert not result.diverged.any()
    g, squared = (result.averages[name].value for name in (noise, slope))
    time, temperature = 4000 * lr, lr / batch_size
    continuous = -4 * time * (temperature * g + weight_decay)
    to_second_order = continuous - 4 * time * lr * squared
    assert found == pytest.approx(continuous, rel=0.08)
    assert found == pytest.approx(to_second_order, rel=0.01)
    assert abs(found - to_second_order) < 0.5 * abs(found - continuous)


@pytest.mark.slow
@pytest.mark.parametrize(("spread", "batch_size", "steps"), [(50, 16, 60), (50, 64, 60), (200, 64, 60)])
def test_the_critical_temperature_is_the_discrete_one(spread, batch_size, steps):
    x = np.array([1.0, 1.0, -1.0, -1.0])
    y = x + spread * np.array([1.0, -1.0, 1.0, -1.0])
    network = ScalarNetwork(1, Pairs(x, y))
    stated = discrete_critical_temperature(x, y, batch_size).value

    def growth(temperature):
        """Of log v per step, near v = 0, and its standard error."""
        process = SGD(temperature * batch_size, batch_size)
        result = ensemble(network, process, steps=steps, start=network.balanced(1e-12), replicas=40_000, **FAST)
        logs = np.log(np.abs(result.positions.astype(float)).prod(1) / 1e-12)
        return logs.mean() / steps, logs.std() / steps / 200

    below, at, above = (growth(stated * factor) for factor in (0.9, 1.0, 1.1))
    assert abs(at[0]) < 4 * at[1]
    slope = (above[0] - below[0]) / (0.2 * stated)
    assert stated - at[0] / slope == pytest.approx(stated, rel=0.03)
    assert below[0] > 4 * below[1]
    assert above[0] < -4 * above[1]
    if stated * network.data.noise.product_variance < 0.95:  # there the SDE's own threshold is refuted
        value, error = growth(1 / network.data.noise.product_variance)
        assert value < -10 * error


@pytest.mark.slow
def test_sign_crossings_of_three_layers_are_counted():
    def share(noise_variance, lr):
        network = ScalarNetwork(2, Stream.gaussian(1.0, noise_variance))
        crossing = FirstPassage(until=f"{network.weight} < 0", absorb=False)
        half = ensemble(network, SGD(lr), steps=int(80 / lr), start=[0.9] * 3, replicas=5000, record=crossing, **FAST)
        whole = ensemble(network, SGD(lr), steps=int(80 / lr), start=half, record=crossing)
        return half.passage.arrived / 5000, whole.passage.arrived / 5000, whole.diverged.mean()

    assert share(1.0, 0.01) == (0, 0, 0)  # T α₃ / β₂ = 0.03
    early, late, diverged = share(9.0, 0.01)  # 0.11
    assert early == pytest.approx(0.064, abs=0.02)
    assert late == pytest.approx(0.125, abs=0.03)
    assert diverged < 0.002
    early, late, diverged = share(100.0, 0.005)  # 0.51
    assert 0.6 < early < late
    assert late > 0.85
    assert 0.01 < diverged < 0.1


@pytest.mark.slow
def test_weight_decay_makes_the_trained_state_of_three_layers_metastable():
    def collapsed(weight_decay, steps=78_001):
        network = ScalarNetwork(2, Stream.gaussian(1.0, 4.0), weight_decay)
        record = Course(f"{network.weight} < 0.01", f"{network.weight} < 0", every=1000)
        result = ensemble(network, SGD(0.005), steps=steps, start=[0.85] * 3, replicas=5000, record=record, **FAST)
        assert (result.course.values[:, 1] == 0).all()
        return result.course.values[:, 0]

    assert (collapsed(0.0, 40_001) == 0).all()
    share = collapsed(0.36)
    assert share[78] == pytest.approx(0.19, abs=0.025)
    hazards = np.log((1 - share[[10, 30, 50]]) / (1 - share[[30, 50, 70]])) / (20_000 * 0.005)
    assert np.ptp(hazards) < 5 * np.sqrt(2 / (hazards.mean() * 100 * 4500)) * hazards.mean()  # one rate throughout
    # The SDE collapses as well, but 1.7 times as fast: rare runs of samples are no Gaussian noise, however small lr is.
    # (The same recursion with Gaussian noise of the same covariance agrees with the SDE to 1 %.)
    dynamics = DiagonalDynamics(Stream.gaussian(1.0, 4.0).noise, 0.005, 2, 1.0, 0.36)
    line = Line(
        dynamics.drift, lambda v: np.square(dynamics.diffusion(v)) / 2, (0.01, 20.0), np.geomspace(0.01, 20, 2001),
        ("absorbing", "reflecting"),
    )  # fmt: skip
    ratio = 1 / hazards.mean() / line.mean_first_passage_time(start=0.85**3)
    assert 1.4 < ratio < 2.3
