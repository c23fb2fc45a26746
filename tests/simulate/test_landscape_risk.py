"""Landscapes as risks: what `measure` finds on a formula is what its exact derivatives say."""

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cases import flat

from sgdscope import measure
from sgdscope.per_sample import per_sample_gradients
from sgdscope.risk import whole
from sgdscope.simulate import batch_noise, landscape_risk
from sgdscope.simulate.data import Quadratics
from sgdscope.simulate.torch_backend.formulas import function
from sgdscope.theory.potential import Potential, double_well, muller_brown, styblinski_tang

LANDSCAPES = {
    "double well": (double_well(), [0.3]),
    "Müller-Brown": (muller_brown(), [-0.2, 0.6]),
    "Styblinski-Tang": (styblinski_tang(4), [0.5, -2.0, 1.0, 0.1]),
    "functions": (
        Potential("exp(sin(x)*y) + sqrt(1 + x**2)/(2 + y**4) + tanh(x)*atan(y) + abs(x - y)**3 + x**2.5", ("x", "y")),
        [0.7, -0.4],
    ),
}

RTOL = {"float32": 1e-5, "float64": 1e-13}


@pytest.fixture(params=LANDSCAPES)
def case(request):
    return LANDSCAPES[request.param]


def hessian_of(potential, at):
    return np.atleast_2d(potential.hessian(at[0] if potential.dimension == 1 else at))


def test_value_and_gradient(case):
    potential, at = case
    value, gradient = landscape_risk(potential, at).gradient()
    point = at[0] if potential.dimension == 1 else at
    assert value == pytest.approx(potential.value(point), rel=1e-12)
    np.testing.assert_allclose(gradient[0].numpy(), np.atleast_1d(potential.gradient(point)), rtol=1e-10, atol=1e-12)


def test_eigenvalues_trace_and_spectrum_are_those_of_the_hessian(case):
    potential, at = case
    risk, exact = landscape_risk(potential, at), np.linalg.eigvalsh(hessian_of(potential, at))
    n, scale = potential.dimension, np.abs(exact).max()
    found = np.atleast_1d(measure.leading_eigenvalues(risk, k=n, tolerance=1e-10).value)
    np.testing.assert_allclose(np.sort(found), exact, rtol=1e-8, atol=1e-8 * scale)
    trace = measure.hessian_trace(risk)
    assert abs(float(trace) - exact.sum()) <= 4 * (trace.standard_error or 0) + 1e-8 * scale


def test_spectrum_of_many_dimensions():
    potential, at = LANDSCAPES["Styblinski-Tang"]
    exact = np.linalg.eigvalsh(hessian_of(potential, at))
    found = measure.spectrum(landscape_risk(potential, at), k=2, tolerance=1e-8, density_steps=4)
    np.testing.assert_allclose(found.value, exact[::-1][:2], rtol=1e-7)
    np.testing.assert_allclose(float(found.beside["smallest_eigenvalue"]), exact[0], rtol=1e-7)


def test_a_plane_is_the_landscape_itself():
    potential, at = LANDSCAPES["Müller-Brown"]
    axes = [[torch.tensor([1.0, 0.0], dtype=torch.float64)], [torch.tensor([0.0, 1.0], dtype=torch.float64)]]
    found = measure.plane(landscape_risk(potential, at), axes, extent=0.3, resolution=5)
    for a, row in zip(found.first, np.array(found.losses).T, strict=True):
        np.testing.assert_allclose(row, [potential.value([at[0] + a, at[1] + b]) for b in found.second], rtol=1e-12)


def test_at_a_critical_point():
    minimum = double_well().minima[1]
    value, gradient = landscape_risk(double_well(), minimum).gradient()
    assert value == pytest.approx(0, abs=1e-15)
    assert float(gradient[0]) == pytest.approx(0, abs=1e-12)
    assert float(measure.leading_eigenvalues(landscape_risk("(x**2 - 1)**2/4", 1.0))) == pytest.approx(2)


@given(x=st.floats(-2, 2), y=st.floats(-2, 2), batch_size=st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_tilts_make_the_covariance_that_they_say(x, y, batch_size):
    """Σ ∇S ∇Sᵀ over S = 2x, x y, y²/2, at every position and divided by the batch size."""
    risk = landscape_risk(Potential("x**4 + y**2", ("x", "y")), [x, y], tilts=["2*x", "x*y", "y**2/2"])
    slopes = np.array([[2, 0], [y, x], [0, y]])
    rows = torch.cat([part.flatten(1) for part in batch_noise(risk, batch_size, replacement=True).root], 1)
    np.testing.assert_allclose((rows.T @ rows).numpy(), slopes.T @ slopes / batch_size, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(flat(risk.gradient()[1]).numpy(), [4 * x**3, 2 * y], rtol=1e-10, atol=1e-10)


def test_curved_tilts_make_hessians_differ():
    risk = landscape_risk("x**2", 0.5, tilts=["x**2/2", "x"])
    assert risk.size == 4
    gradients = per_sample_gradients(risk, whole(risk))[0].flatten()
    root = 2**0.5
    np.testing.assert_allclose(sorted(gradients), sorted([1 + root / 2, 1 - root / 2, 1 + root, 1 - root]))
    curvatures = [float(measure.leading_eigenvalues(risk, batch=risk.source.take(torch.tensor([i])))) for i in range(4)]
    np.testing.assert_allclose(sorted(curvatures), sorted([2 + root, 2 - root, 2, 2]))


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_every_function_that_formulas_know(precision):
    x, y = sympy.symbols("x y", real=True)
    formulas = [
        sympy.exp(x), sympy.log(y), sympy.sin(x), sympy.cos(x), sympy.tan(x), sympy.asin(x / 3), sympy.acos(x / 3),
        sympy.atan(x), sympy.sinh(x), sympy.cosh(x), sympy.tanh(x), sympy.sqrt(y), y ** sympy.Rational(3, 2), x**-3,
        sympy.Abs(x), sympy.sign(x), sympy.Min(x, y, 1), sympy.Max(-x, y), y**x, x * y / (1 + y), sympy.Integer(2),
    ]  # fmt: skip
    at = np.array([-0.7, 0.4, 1.3]), np.array([0.2, 0.9, 2.0])
    found = function([x, y], formulas, precision)(*(torch.tensor(part, dtype=getattr(torch, precision)) for part in at))
    for formula, values in zip(formulas, found, strict=True):
        exact = [float(formula.subs({x: a, y: b})) for a, b in zip(*at, strict=True)]
        np.testing.assert_allclose(
            np.broadcast_to(np.asarray(values), 3), exact, rtol=RTOL[precision], err_msg=str(formula)
        )


def test_bad_input():
    with pytest.raises(ValueError, match="a position of 1 finite numbers"):
        landscape_risk("x**2", [1.0, 2.0])
    with pytest.raises(ValueError, match="a position of 2 finite numbers"):
        landscape_risk(muller_brown(), [1.0, float("nan")])
    with pytest.raises(ValueError, match="the landscape is a finite real number, it is not at"):
        landscape_risk("log(x) + x**2", -1.0)
    with pytest.raises(ValueError, match="expected tilts that vary with x, got '3'"):
        landscape_risk("x**2", 1.0, tilts=["3"])
    with pytest.raises(ValueError, match="'z'"):
        landscape_risk("x**2", 1.0, tilts=["z"])


def test_a_landscape_of_data_keeps_its_samples():
    losses = Quadratics([1.0, 3.0])
    risk = landscape_risk(losses, 0.5)
    assert risk.size == 2
    assert risk.gradient()[0] == pytest.approx(0.25)
    with pytest.raises(ValueError, match="no tilts for Quadratics, which has samples of its own"):
        landscape_risk(losses, 0.5, tilts=["x"])
