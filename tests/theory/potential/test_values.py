"""Values and derivatives: shapes, agreement with finite differences, errors where the formula is not a number."""

import pickle

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdscope.theory.potential import Potential, double_well, muller_brown, styblinski_tang

FORMULAS = [
    ("x**4/4 - x**2/2", ("x",)),
    ("3*x", ("x",)),
    ("x**2 + y**2", ("x", "y")),
    ("x*y + y", ("x", "y")),
    ("exp(-x**2)*cos(y) + sqrt(1 + (x - y)**2)", ("x", "y")),
    ("x*y*z + tanh(x)**2 + 2**z", ("x", "y", "z")),
]


@pytest.mark.parametrize(("formula", "variables"), FORMULAS)
@pytest.mark.parametrize("leading", [(), (1,), (4,), (2, 3), (0,)])
def test_shapes_follow_the_leading_axes(formula, variables, leading):
    potential, n = Potential(formula, variables), len(variables)
    points = np.random.default_rng(0).normal(size=(*leading, n) if n > 1 else leading)
    axes = () if n == 1 else (n,)
    assert np.shape(potential.value(points)) == leading
    assert np.shape(potential.gradient(points)) == leading + axes
    assert np.shape(potential.hessian(points)) == leading + axes + axes
    assert isinstance(potential.value(np.zeros(n) if n > 1 else 0), float)


@pytest.mark.parametrize(("formula", "variables"), FORMULAS)
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_derivatives_agree_with_differences(formula, variables, seed):
    potential, n = Potential(formula, variables), len(variables)
    point = np.random.default_rng(seed).uniform(-1, 1, n)
    h = 1e-5
    steps = h * np.eye(n)
    at = (lambda p: p[..., 0]) if n == 1 else (lambda p: p)
    slope = (potential.value(at(point + steps)) - potential.value(at(point - steps))) / (2 * h)
    assert np.ravel(potential.gradient(at(point))) == pytest.approx(slope, abs=1e-8)
    bend = (potential.gradient(at(point + steps)) - potential.gradient(at(point - steps))) / (2 * h)
    assert np.ravel(potential.hessian(at(point))) == pytest.approx(np.ravel(bend), abs=1e-8)
    assert np.array_equal(np.transpose(potential.hessian(at(point))), potential.hessian(at(point)))


def test_all_derivatives_in_one_dimension():
    x = np.linspace(-2, 2, 5)
    potential = Potential("x**5")
    for order, expected in enumerate([x**5, 5 * x**4, 20 * x**3, 60 * x**2, 120 * x, 120 + 0 * x, 0 * x]):
        assert potential.derivative(x, order) == pytest.approx(expected)
    with pytest.raises(ValueError, match="expected one dimension and an order ≥ 0, got 2 and 1"):
        muller_brown().derivative((0, 0), 1)
    with pytest.raises(ValueError, match="order ≥ 0, got 1 and -1"):
        potential.derivative(0.0, -1)


def test_a_sympy_expression_is_taken_too():
    a, x = sympy.symbols("a x")
    assert Potential(a * x**2, ("x",), {"a": 3}) == Potential("3*x**2")
    assert Potential(x**2).expression.free_symbols == {sympy.Symbol("x", real=True)}
    with pytest.raises(ValueError, match="expected a formula in 'x', found 'a': name all variables"):
        Potential(a * x**2)
    with pytest.raises(ValueError, match="expected a formula as text or a SymPy expression, got list"):
        Potential(["x"])


@pytest.mark.parametrize(
    ("formula", "at", "said"),
    [
        ("1/x", 0.0, "the potential is not at 0"),
        ("log(x)", [1.0, -2.0], "the potential is not at -2"),
        ("sqrt(x)", -1.0, "the potential is not at -1"),
        ("exp(x**2)", 100.0, "the potential is not at 100"),
        ("x**2", np.nan, "the potential is not at nan"),
    ],
)
def test_no_number_is_an_error(formula, at, said):
    with pytest.raises(ValueError, match=said):
        Potential(formula).value(at)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Potential("x**2 + z"), "unknown name 'z'"),
        (lambda: Potential("3"), "expected a potential that varies with x, got 3"),
        (lambda: Potential("x - x"), "expected a potential that varies"),
        (lambda: Potential("x", box=(1, -1)), "expected a box of 1 pairs"),
        (lambda: Potential("x*y", ("x", "y"), box=(-1, 1)), "expected a box of 2 pairs"),
        (lambda: Potential("x", box=(0, np.inf)), "expected a box of 1 pairs"),
        (lambda: muller_brown().value(1.0), r"expected points of shape \(..., 2\), got \(\)"),
        (lambda: muller_brown().value([1.0, 2.0, 3.0]), r"expected points of shape \(..., 2\), got \(3,\)"),
    ],
)
def test_bad_arguments(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_is_a_value():
    assert double_well() == double_well()
    assert len({double_well(), double_well(), styblinski_tang()}) == 2
    assert Potential("x**2", box=(-1, 1)) != Potential("x**2")
    potential = muller_brown()
    assert potential.minima
    copied = pickle.loads(pickle.dumps(potential))
    assert copied == potential
    assert copied.value((0, 0)) == potential.value((0, 0))
    assert repr(Potential("x**2", box=(-1, 1))) == "Potential('x**2', variables=('x',), box=((-1.0, 1.0),))"


def test_kinks_have_no_curvature():
    potential = Potential("abs(x - 1) + x**2")
    assert potential.hessian([0.0, 1.0, 2.0]) == pytest.approx([2, 2, 2])
    assert potential.gradient([0.0, 2.0]) == pytest.approx([-1, 5])


def test_a_formula_too_long_to_differentiate_is_refused():
    with pytest.raises(ValueError, match="at most 3000 operations up to its derivative of order 1"):
        Potential(sympy.prod([sympy.sin(sympy.Symbol("x") ** k + k) for k in range(1, 60)])).derivative(0.1, 4)
