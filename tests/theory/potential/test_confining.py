"""Confining: proved for polynomials, numerical for the rest, and said which."""

import pytest

from sgdscope.theory.potential import Potential, muller_brown

PLANE = ("x", "y")


@pytest.mark.parametrize(
    ("formula", "variables", "confining", "exact"),
    [
        ("x**4 - 100*x**3", ("x",), True, True),
        ("x**3 + x**2", ("x",), False, True),
        ("-x**4 + x**2", ("x",), False, True),
        ("x", ("x",), False, True),
        ("x**4 + y**2", PLANE, True, True),
        ("x**4 - y**2", PLANE, False, True),
        ("x**2", PLANE, False, True),
        ("x**4 + y**4 + x**3*y - 50*x*y", PLANE, True, True),
        ("x**4 + y**4 - 2.001*x**2*y**2 + x", PLANE, False, True),
        ("x**4 + y**4 - 1.999*x**2*y**2 + x", PLANE, True, True),
        ("x**3*y + x**2", PLANE, False, True),
        ("x**2*y + x**4*y", PLANE, False, True),
        ("x*y*z + x**2 + y**2 + z**2", ("x", "y", "z"), False, True),
        # zero along a direction in the highest terms: decided by the numbers
        ("(x**2 - 1)**2/4 + (1 + 2*x**2)*y**2/2", PLANE, True, False),
        ("x**2*y**2 - y**2 + x**2", PLANE, False, False),
        ("(x - y)**4 + (x + y)**2 + x", PLANE, True, False),
        ("(x - y)**4 - (x + y)**2", PLANE, False, False),
        ("x**4 + y**4 + z**4 + x*y*z**2/9", ("x", "y", "z"), True, False),
        ("cosh(x)", ("x",), True, False),
        ("sqrt(1 + x**2)", ("x",), True, False),
        ("log(1 + x**2)**2", ("x",), True, False),
        ("exp(x)", ("x",), False, False),
        ("-exp(-x**2)", ("x",), False, False),
        ("exp(x**2) - x", ("x",), True, False),
        ("x**2 + sin(5*x)", ("x",), True, False),
        ("sqrt(1 + x**2) + sqrt(1 + y**2)", PLANE, True, False),
        ("sqrt(1 + x**2) - x", ("x",), False, False),
    ],
)
def test_decides(formula, variables, confining, exact):
    found = Potential(formula, variables).confining()
    assert (bool(found), found.exact) == (confining, exact), str(found)
    assert ("seen numerically" in str(found)) is not exact


def test_a_logarithm_is_not_enough():
    # exp(-L/D) = (1 + x²)^(-1/D) has a finite integral for D < 2 only
    assert "like a logarithm" in Potential("log(1 + x**2)").confining().reason


def test_surface_of_muller_and_brown():
    assert muller_brown().confining()


def test_where_it_is_required():
    Potential("x**2").require_confining()
    with pytest.raises(ValueError, match=r"expected a potential that keeps θ in, L = x\*\*3 is not confining"):
        Potential("x**3").require_confining()


def test_not_real_everywhere():
    with pytest.raises(ValueError, match=r"log\(x\) needs x to stay above zero, which fails near -8"):
        Potential("x - log(x)").confining()
