"""Formulas as kernel code, regions and observables."""

import math

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from sgdscope.simulate import diffusion
from sgdscope.simulate.compiling import kernel
from sgdscope.simulate.formula import Writer, shared
from sgdscope.simulate.observable import Observable
from sgdscope.simulate.process import gradient, symbols
from sgdscope.simulate.region import Region
from sgdscope.theory import expression
from sgdscope.theory.potential import Potential, muller_brown

X, Y = symbols("x", 2)


def evaluated(e, x, y=None):
    """An expression in x0, x1 written by the writer and run as Python, in double precision."""
    writer = Writer("float64")
    text = writer.text(e)
    names = {name: eval(value, {"np": np}) for name, value in writer.constants.items()}
    return float(eval(text, {"math": math, "np": np, **names, "x0_": x, "x1_": y}))


EXPRESSIONS = [
    X - X**3, X**7 / 3 + 2, -(X**2), (X + 1) ** 3 / (1 + X**2) ** 2, X**-2, 1 / (3 * X), X ** sympy.Rational(3, 2),
    sympy.sqrt(1 + X**2), X ** sympy.Rational(-1, 2), X ** sympy.Rational(5, 3), sympy.exp(-X) * sympy.sin(X),
    sympy.log(X) + sympy.cos(X) / sympy.tan(X), sympy.tanh(X) - sympy.sinh(X) / sympy.cosh(X),
    sympy.Abs(-X) * sympy.sign(-X), sympy.atan(X) + sympy.asin(X / 2) - sympy.acos(X / 2),
    sympy.Max(X, Y, 1) - sympy.Min(X, Y), X - Y * (X - Y) / (X + Y), -X / (Y + 1) - (-Y) ** 3,
    sympy.pi * X + sympy.E, sympy.exp(X) ** 2, sympy.Integer(2) ** X, (-X) ** 4 / -Y, sympy.S.Zero,
]  # fmt: skip


@pytest.mark.parametrize("e", EXPRESSIONS, ids=str)
def test_text_means_the_expression(e):
    for x, y in ((0.7, 1.9), (1.3, 0.2)):
        exact = float(sympy.N(e.subs({X: x, Y: y}), 30))
        assert evaluated(e, x, y) == pytest.approx(exact, rel=1e-13, abs=1e-15)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=8), st.floats(-2, 2))
def test_polynomials_in_any_form(coefficients, x):
    e = sum(c * X**i for i, c in enumerate(coefficients))
    parts, (short,) = shared([e], "a")
    short = sympy.sympify(short).subs(list(reversed(parts)))
    exact = sum(c * x**i for i, c in enumerate(coefficients))
    assert evaluated(short, x) == pytest.approx(exact, rel=1e-9, abs=1e-9)


def test_shared_parts_of_a_gradient():
    surface = muller_brown()
    steps, slopes = gradient(surface, "g")
    assert len(steps) > len(slopes)  # four exponentials are computed once
    at = {surface.symbols[0]: -0.3, surface.symbols[1]: 0.8}
    values = dict(at)
    for name, e in steps:
        values[name] = float(e.subs(values))
    np.testing.assert_allclose([values[g] for g in slopes], surface.gradient((-0.3, 0.8)), rtol=1e-12)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_nothing_widens_to_double_precision(precision):
    writer = Writer(precision)
    e = sum(part.subs(Y, X) for part in EXPRESSIONS if part != 0)
    text = writer.text(e)
    lines = ["import math", "import numpy as np"]
    lines += ["from sgdscope.simulate.functions import cos32, exp32, log32, sin32, tanh32"]
    lines += [f"{name} = {value}" for name, value in writer.constants.items()]
    run = kernel("\n".join([*lines, "", "def kernel(x0_):", f"    return {text}", ""]))
    found = run(getattr(np, precision)(0.7))
    assert found == pytest.approx(float(sympy.N(e.subs(X, 0.7))), rel=2e-5)
    assert str(run.nopython_signatures[0].return_type) == precision


@pytest.mark.parametrize("bad", [sympy.gamma(X), sympy.I * X, sympy.zoo * X, sympy.Function("f")(X)], ids=str)
def test_what_cannot_be_written_is_refused(bad):
    with pytest.raises(ValueError, match="expected"):
        Writer("float32").text(bad)


# -- regions and observables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "inside", "outside"),
    [
        ("x0 > 1", (1.5, 0), (0.5, 0)), ("x0 < 1", (0.5, 0), (1.5, 0)), ("-1 < x0 <= 1", (0, 0), (2, 0)),
        ("1 >= x0 > -1 and x1 > x0", (0, 1), (0, -1)), ("x0**2 + x1**2 < 4", (1, 1), (2, 2)),
    ],
)  # fmt: skip
def test_regions(conditions, inside, outside):
    region = Region.read(conditions, (X, Y))
    np.testing.assert_array_equal(region.holds(np.array([inside, outside], float).T, (X, Y)), [True, False])


def test_a_pair_is_an_interval():
    region = Region.read((-1.0, 0.5), (X,))
    np.testing.assert_array_equal(region.holds(np.array([[-2.0, 0.0, 1.0]]), (X,)), [False, True, False])


@pytest.mark.parametrize("bad", ["x0", "x0 > 1 and", "1 > 0", "x0 = 1", "z > 1", "", (1.0, 0.0), (1.0, 2.0, 3.0)])
def test_conditions_that_are_none(bad):
    with pytest.raises(ValueError, match=r"expected|unknown"):
        Region.read(bad, (X,))


def test_observables():
    assert Observable.read("x0 > 1", (X,)).condition
    assert Observable.read("x0**2", (X,)).expressions == (X**2,)


# -- diffusion -----------------------------------------------------------------------------------------------------

PLANE = Potential("x0**4 + x1**2", variables=("x0", "x1"))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (None, [[1, 0], [0, 1]]), ("1 + x0**2", [[1 + X**2, 0], [0, 1 + X**2]]), (2.0, [[2, 0], [0, 2]]),
        (("x1**2", 3), [[Y**2, 0], [0, 3]]), ((("2", "x0"), ("x0", "3")), [[2, X], [X, 3]]),
        ("hessian", [[12 * X**2, 0], [0, 2]]),
    ],
)  # fmt: skip
def test_shapes_of_diffusion(shape, expected):
    found = diffusion.matrix(shape, PLANE)
    assert sympy.simplify(found - sympy.Matrix(expected)) == sympy.zeros(2)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (("1",), "one formula, 2, or 2 × 2"), ((("1", "2"), ("3", "4")), "symmetric"),
        ((("1", "2"), ("3",)), "other lengths"), ("x9", "unknown name"),
    ],
)  # fmt: skip
def test_bad_diffusion(shape, message):
    with pytest.raises(ValueError, match=message):
        diffusion.matrix(shape, PLANE)


def test_the_hessian_has_to_be_diagonal():
    with pytest.raises(ValueError, match="give the matrix of diffusion"):
        diffusion.matrix("hessian", Potential("x**2*y**2 + x**2 + y**2", variables=("x", "y")))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_roots_of_diffusion(size):
    factor = np.random.default_rng(size).normal(size=(size, size))
    matrix = sympy.Matrix(factor @ factor.T) + X**2 * sympy.eye(size)
    steps, root = diffusion.root(matrix, "r")
    values = {X: sympy.Float(0.7)}
    for name, e in steps:
        values[name] = e.subs(values)
    found = np.array(root.subs(values), dtype=float)
    np.testing.assert_allclose(found @ found.T, np.array(matrix.subs(X, 0.7), dtype=float), rtol=1e-10)
    assert np.all(np.triu(found, 1) == 0)


def test_isotropic_diffusion_takes_one_root():
    steps, root = diffusion.root((1 + X**2) * sympy.eye(3), "r")
    assert len(steps) == 1
    assert root == steps[0][0] * sympy.eye(3)


def test_parse_takes_real_symbols():
    assert expression.parse("x0", ("x0",)) == X
