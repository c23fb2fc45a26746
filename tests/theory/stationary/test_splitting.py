"""Which of two places that hold a run for good it reaches first."""

import numpy as np
import pytest
from scipy.integrate import cumulative_simpson

from sgdscope.theory.stationary import DiagonalDynamics, probability_of_learning

from .cases import GENERAL, fitted


def test_reference_value():
    noise = fitted(0.5)
    temperature = 1.5 * noise.critical_temperature()  # θ = 1/3
    assert probability_of_learning(noise, temperature, 0.25).value == pytest.approx(0.92779202, rel=1e-8)
    assert probability_of_learning(noise.flipped, temperature, -0.25).value == pytest.approx(0.92779202, rel=1e-8)


@pytest.mark.parametrize("ratio", [1.2, 3.0, 20.0])
@pytest.mark.parametrize("relative_start", [0.1, 0.5, 0.95])
def test_against_the_scale_function_of_the_dynamics(ratio, relative_start):
    noise, k = fitted(0.5), 0.5
    dynamics = DiagonalDynamics(noise, ratio * noise.critical_temperature(), 1)

    # scale function: s' = exp(−∫ 2 drift / diffusion²), on a grid of the logit of v / k that both ends fade out on
    x = np.linspace(-300, 25, 200_001)
    v = k / (1 + np.exp(-x))
    stretch = v / (1 + np.exp(x))
    exponent = cumulative_simpson(
        -2 * dynamics.drift(v) / dynamics.diffusion(v) * (stretch / dynamics.diffusion(v)), x=x, initial=0
    )
    scale = cumulative_simpson(np.exp(exponent - exponent.max()) * stretch, x=x, initial=0)
    expected = np.interp(relative_start * k, v, scale) / scale[-1]
    assert probability_of_learning(noise, dynamics.temperature, relative_start * k).value == pytest.approx(
        expected, rel=1e-5
    )


def test_limits():
    noise = fitted(0.5)
    critical = noise.critical_temperature()
    assert probability_of_learning(noise, 0.9 * critical, 0.01).value == 1
    assert probability_of_learning(noise, critical, 0.01).value == 1
    assert probability_of_learning(noise, critical * (1 + 1e-6), 0.01).value == pytest.approx(1, abs=1e-4)
    assert probability_of_learning(noise, 9 * critical, 0.7).value == 1
    assert probability_of_learning(noise, 9 * critical, -0.1).value == 0
    assert probability_of_learning(noise, 9 * critical, 1e-9).value < 1e-3


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: probability_of_learning(GENERAL, 0.1, 0.1), "interpolating data"),
        (lambda: probability_of_learning(fitted(0.5, 0.1), 0.1, 0.1), "interpolating data"),
        (lambda: probability_of_learning(fitted(0.5), 0, 0.1), "temperature"),
    ],
)
def test_bad_input_gets_a_sentence(ask, said):
    with pytest.raises(ValueError, match=said):
        ask()
