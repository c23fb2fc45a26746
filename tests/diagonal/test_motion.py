"""Growth close to 0, decay of unlike layers, and replicas: small runs beside what they must give."""

import math

import numpy as np
import pytest

from sgdscope.diagonal import GaussianData, Motion, SampledData, Setting, balance_decay, growth, growth_at_zero, run
from sgdscope.diagonal.decay import unlike

STRONG = GaussianData(1.0, 100.0)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("kind", ["sgd", "diffusion"])
def test_growth_is_that_of_theory(kind, sign):
    setting = Setting(GaussianData(sign, 100.0), 0.004)
    found = growth_at_zero(Motion(setting, kind), replicas=20_000)
    predicted = setting.data.growth_rate(0.004, 1, 0.0) / 0.004 if kind == "sgd" else 4 * (1 - 0.004 * 102)
    assert found.rate.value == pytest.approx(predicted, abs=4 * found.rate.standard_error)
    assert found.spread.value == pytest.approx(16 * 0.004 * 102, rel=0.06)
    theta = 0.5 / (0.004 * 102) - 0.5
    assert found.exponent.value == pytest.approx(theta, abs=0.03)
    assert found.rate.standard_error < 0.03


def test_error_of_the_exponent_is_its_spread():
    motion = Motion(Setting(STRONG, 0.004))
    found = [growth_at_zero(motion, replicas=1024, seed=seed).exponent for seed in range(30)]
    spread = np.std([one.value for one in found], ddof=1)
    assert np.mean([one.standard_error for one in found]) == pytest.approx(spread, rel=0.4)


def test_weight_decay_slows_growth():
    setting = Setting(STRONG, 0.002, weight_decay=0.5)
    found = growth_at_zero(Motion(setting))
    assert found.rate.value == pytest.approx(4 * (0.5 - 0.002 * 102), abs=0.1)


def test_unlike_layers():
    setting = Setting(STRONG, 0.01, depth=2, width=2)
    start, at = unlike(setting, setting.weights((0.5,)))
    assert at == 0
    np.testing.assert_allclose(setting.subnetworks(start), [0.25, 0.25])
    given = np.array([1.0, 1.0, 1.0, 1.0, 3.0, 1.5])
    start, at = unlike(setting, given)
    np.testing.assert_array_equal(start, given)
    assert at == 3


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
def test_unlike_layers_decay_at_the_rate_of_balance(weight_decay):
    setting = Setting(GaussianData(1.0, 1.0), 0.01, 1, 1, 1, weight_decay)
    found = balance_decay(setting, np.array([1.5, 0.7]), steps=1000, replicas=256)
    assert found.layers == ("u0", "u1")
    assert found.measured.value == pytest.approx(found.discrete, rel=0.01)
    assert found.measured.value < -0.3


def test_what_cannot_decay():
    with pytest.raises(ValueError, match="depth ≥ 1"):
        balance_decay(Setting(STRONG, 0.01, depth=0), np.array([1.0]))
    with pytest.raises(ValueError, match="other than 0"):
        balance_decay(Setting(STRONG, 0.01), np.zeros(2))


def test_replicas_at_half_time_and_at_the_end():
    setting = Setting(GaussianData(1.0, 1.0), 0.01, width=2)
    found = run(setting, setting.weights((0.3, 0.6)), steps=100, replicas=600, seed=4)
    half = run(setting, setting.weights((0.3, 0.6)), steps=50, replicas=600, seed=4)
    np.testing.assert_array_equal(found.middle, half.end)
    np.testing.assert_allclose(found.v, found.end.sum(1))
    ratio = found.end[:, 1] / found.end[:, 0]
    np.testing.assert_allclose(ratio, 2.0, rtol=1e-3)  # of equal sign: conserved at two layers
    assert (found.diverged, found.crossed, found.interrupted) == (0.0, 0.0, False)
    assert found.time == pytest.approx(1.0)
    assert found.paths.shape == (100, 256)
    np.testing.assert_allclose(found.paths[50], half.v[:256], rtol=1e-5)


def test_crossings_and_divergence_are_shares():
    setting = Setting(GaussianData(1.0, 100.0), 0.02, depth=2)
    found = run(setting, setting.weights(), steps=2000, replicas=512)
    assert 0.3 < found.crossed <= 1
    assert found.diverged > 0.05
    assert len(found.v) == round(512 * (1 - found.diverged))
    backwards = run(setting, setting.weights((-1.0,)), steps=50, replicas=512)
    assert backwards.crossed is not None
    assert run(setting, np.zeros(3), steps=2, replicas=512).crossed is None


def test_runs_that_sink_to_0_do_not_cross_it():
    setting = Setting(STRONG, 0.02)
    found = run(setting, setting.weights(), steps=6000, replicas=512)
    assert (np.abs(found.v) < 1e-30).mean() > 0.9  # to the last bit of single precision
    assert found.crossed == 0


def test_the_diffusion_starts_on_the_side_of_the_optimum():
    motion = Motion(Setting(GaussianData(-1.0, 1.0), 0.05), "diffusion")
    assert motion.weights(motion.start(0.5)[None])[0] == pytest.approx(0.5)
    assert Motion(motion.setting).weights(Motion(motion.setting).start(0.5)[None])[0] == pytest.approx(-0.5)
    assert motion.steps(1.0) == math.ceil(1.0 / motion.process.duration)


def test_small_steps_are_taken_in_double_precision():
    assert Motion(Setting(GaussianData(), 1e-5)).precision == "float64"
    assert Motion(Setting(GaussianData(), 1e-2)).precision == "float32"


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: Motion(Setting(STRONG, 0.01), "flow"), "process sgd or diffusion"),
        (lambda: Motion(Setting(STRONG, 0.01, depth=2), "diffusion"), "depth 1"),
        (lambda: Motion(Setting(GaussianData(1, 0), 0.01), "diffusion"), "vanishes at no weight"),
        (lambda: growth_at_zero(Motion(Setting(STRONG, 0.01, depth=2))), "depth 1"),
        (lambda: growth_at_zero(Motion(Setting(GaussianData(0.0), 0.01))), "nonzero mean"),
        (lambda: growth_at_zero(Motion(Setting(SampledData(np.ones(3), np.ones(3)), 0.01))), "without it there is no"),
        (lambda: run(Setting(STRONG, 0.01), np.ones(2), steps=1, replicas=512), "at least 2 steps"),
    ],
)
def test_bad_input_gets_a_sentence(ask, said):
    with pytest.raises(ValueError, match=said):
        ask()


def test_growth_of_runs_that_diverge_has_failed(monkeypatch):
    monkeypatch.setattr(growth, "_FEWEST", 1.01)  # as if some had
    found = growth_at_zero(Motion(Setting(STRONG, 0.01)), replicas=512)
    assert found.rate.value is found.exponent.value is None
    assert found.rate.status == "diverged"
