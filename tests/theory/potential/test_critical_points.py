"""Critical points: all of them, of the right kind, and an error where there is no answer."""

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdscope.theory.potential import Potential
from sgdscope.theory.potential.compiled import Compiled
from sgdscope.theory.potential.degree import count_check, degree


def kinds(potential, **rest):
    return [point.kind for point in potential.critical_points(**rest)]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(-40, 40), min_size=1, max_size=5, unique=True), st.sampled_from([1, 10, 1000]))
def test_a_polynomial_gives_back_the_roots_of_its_slope(roots, scale):
    x = sympy.Symbol("x")
    slope = sympy.prod([x - sympy.Rational(root, scale) for root in roots])
    points = Potential(sympy.integrate(sympy.expand(slope), x)).critical_points()
    assert [point.x for point in points] == pytest.approx(sorted(root / scale for root in roots), abs=1e-9)
    # alternating, the last one a minimum
    assert [point.kind for point in points][::-1] == (["minimum", "maximum"] * 3)[: len(roots)]


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("x**4", ["degenerate"]),
        ("x**3", ["degenerate"]),
        ("x**3*(x - 1)", ["degenerate", "minimum"]),
        ("3*x + 1", []),
        ("(x - 1)**4*(x + 1)**2", ["minimum", "maximum", "degenerate"]),
        ("sqrt(2)*x**2 + pi*x", ["minimum"]),
        ("(cosh(x) - 1)**2", ["degenerate"]),
        ("x - tanh(x)", ["degenerate"]),
    ],
)
def test_kinds_in_one_dimension(formula, expected):
    assert kinds(Potential(formula)) == expected


def test_nearly_equal_roots_are_told_apart():
    gap = 1e-4
    points = Potential("x**4/4 - a*x**3/3 - x**2*b/2", parameters={"a": gap, "b": 0.0}).critical_points()
    assert [point.kind for point in points] == ["degenerate", "minimum"]
    assert points[1].x == pytest.approx(gap)


def test_a_wavy_landscape_is_followed_to_its_last_well():
    potential = Potential("cos(x) + x**2/100")
    found = np.array([point.x for point in potential.critical_points()])
    # sin(x) = x/50, counted on a grid far finer than the one used
    grid = np.linspace(-60.0001, 60, 2_000_001)
    expected = np.count_nonzero(np.diff(np.sign(grid / 50 - np.sin(grid))))
    assert len(found) == expected == 31
    assert np.sin(found) == pytest.approx(found / 50, abs=1e-12)
    assert potential.completeness().status == "count agrees"


def test_two_scales_far_from_the_origin():
    points = Potential("(x - 100)**2*(1 + exp(-x**2))").critical_points()
    assert [point.kind for point in points] == ["minimum", "maximum", "minimum"]
    assert points[2].x == pytest.approx(100)


def test_a_box_bounds_the_search():
    potential = Potential("cos(x)")
    assert [point.x for point in potential.critical_points((-4, 4))] == pytest.approx([-np.pi, 0, np.pi])
    assert potential.completeness((-4, 4)).status == "count agrees"
    assert Potential("x - log(x)").critical_points((0.1, 5))[0].x == pytest.approx(1)
    assert Potential("(x**2 - 1)**2").critical_points((-0.5, 3))[-1].x == 1
    assert len(Potential("(x**2 - 1)**2", box=(-0.5, 3)).minima) == 1
    inside = Potential("x**4 + y**4 - 2*x**2 - y**2 + x*y", ("x", "y")).critical_points(((0, 3), (-3, 0.2)))
    assert {point.kind for point in inside} == {"minimum", "maximum"}


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("cos(x)", "give the box to look at"),
        ("1/x", "1/x needs x to stay off zero, which fails near 0"),
        ("1/(x**2 - 2*x + 1)**2 + x**2", "to stay off zero"),
        ("x - log(x)", r"log\(x\) needs x to stay above zero"),
        ("x**2 + sqrt(x)", r"sqrt\(x\) needs x to not be negative"),
        ("abs(x)", "slope jumping over zero near x = 0"),
        ("abs(x - 1) + x**2/9", "slope jumping over zero near x = 1"),
    ],
)
def test_what_cannot_be_searched_says_why(formula, said):
    with pytest.raises(ValueError, match=said):
        Potential(formula).critical_points()


def test_a_pole_in_the_box_is_named():
    with pytest.raises(ValueError, match=r"tan\(x\) needs cos\(x\) to stay off zero"):
        Potential("tan(x) + x**2").critical_points((-3, 3))
    with pytest.raises(ValueError, match=r"acos\(x/9\) needs 1 - x\*\*2/81 to not be negative"):
        Potential("acos(x/9) + x**2").critical_points((-10, 3))
    with pytest.raises(ValueError, match="to stay off zero"):
        Potential("1/(x**2 + y**2 - 1) + x**2 + y**2", ("x", "y")).critical_points(((-2, 2), (-2, 2)))


def test_a_flat_stretch_is_refused():
    with pytest.raises(ValueError, match="found a flat stretch"):
        Potential("(x + abs(x))**3 + (abs(x + 1) - x - 1)**3").critical_points((-3, 3))


def test_critical_points_along_a_curve_are_refused():
    with pytest.raises(ValueError, match="found a whole curve of them"):
        Potential("(x**2 + y**2 - 1)**2", ("x", "y")).critical_points()


def exact(formula):
    """Real critical points of a polynomial in the plane by a Gröbner basis, an independent way."""
    x, y = sympy.symbols("x y")
    value = sympy.sympify(formula)
    basis = sympy.groebner([value.diff(x), value.diff(y)], x, y, order="lex")
    last = sympy.Poly(basis.exprs[-1], y)
    found = set()
    for root in last.nroots(n=30, maxsteps=200):
        if abs(sympy.im(root)) > 1e-12:
            continue
        parts = [sympy.Poly(e.subs(y, sympy.re(root)), x) for e in basis.exprs]
        parts = [part for part in parts if part.degree() > 0]
        for candidate in min(parts, key=lambda part: part.degree()).nroots(n=30, maxsteps=200):
            if abs(sympy.im(candidate)) < 1e-12:
                at = {x: sympy.re(candidate), y: sympy.re(root)}
                if max(abs(value.diff(s).subs(at)) for s in (x, y)) < 1e-9:
                    found.add((round(float(at[x]), 6) + 0.0, round(float(at[y]), 6) + 0.0))
    return sorted(found)


@pytest.mark.parametrize(
    "formula",
    [
        "(x**2 + y - 11)**2 + (x + y**2 - 7)**2",  # Himmelblau
        "x**4 + y**4 + 4*x*y - x**2*y",
        "(1 - x)**2 + 100*(y - x**2)**2",  # Rosenbrock
        "(x**2 - 1)**2/4 + (1 + 2*x**2)*y**2/2",
        "x**4 - 3*x**2*y + 2*y**2 + x*y + y**4",
        "(x**2 - y)**2 + (x*y - 1)**2 + x**2/3",
    ],
)
def test_the_plane_agrees_with_a_groebner_basis(formula):
    potential = Potential(formula, ("x", "y"))
    found = sorted((round(p.position[0], 6) + 0.0, round(p.position[1], 6) + 0.0) for p in potential.critical_points())
    expected = exact(formula)
    assert len(found) == len(expected)
    assert np.array(found) == pytest.approx(np.array(expected), abs=3e-6)
    assert potential.completeness().status == "count agrees"


def test_three_dimensions():
    # independent wells coupled weakly: all 27 points survive, and the signed count is 1
    potential = Potential(
        "(x**2 - 1)**2 + (y**2 - 1)**2 + (z**2 - 1)**2 + 0.1*(x*y + y*z)", ("x", "y", "z"), box=((-2, 2),) * 3
    )
    points = potential.critical_points()
    assert [sum(point.index == index for point in points) for index in range(4)] == [8, 12, 6, 1]
    assert potential.completeness().status == "undecided"


def test_hessian_at_a_point():
    (point,) = Potential("x**2 + 3*y**2 + x*y", ("x", "y")).critical_points()
    hessian = np.array([[2, 1], [1, 6]])
    assert point.eigenvalues == pytest.approx(np.linalg.eigvalsh(hessian))
    assert hessian @ point.eigenvectors[0] == pytest.approx(np.multiply(point.eigenvalues[0], point.eigenvectors[0]))
    assert point.determinant == pytest.approx(11)
    assert point.curvature((1.0, 0.0)) == pytest.approx(2)
    assert point.index == 0
    with pytest.raises(ValueError, match="expected a point in one dimension"):
        _ = point.x


def test_the_count_on_the_border_of_a_box():
    potential = Potential("x**4 + y**4 - 2*x**2 - y**2 + x*y/5", ("x", "y"))  # nine points
    for box in [((-2, 2), (-2, 2)), ((0.5, 2), (-2, 2)), ((0.5, 2), (-2, 0.4)), ((3, 4), (3, 4))]:
        inside = potential.critical_points(box)
        assert degree(Compiled(potential.expression, potential.symbols), box) == sum((-1) ** p.index for p in inside)
        assert potential.completeness(box).status == "count agrees"


def test_a_miscount_is_said():
    points = Potential("(x**2 - 1)**2").critical_points()
    assert count_check(points, 1).status == "count agrees"
    assert count_check(points[:2], 1).status == "count fails"
    assert count_check(points, None).status == "undecided"
    assert count_check(Potential("x**4").critical_points(), 1).status == "undecided"
    # the sides of this box run through critical points
    assert Potential("cos(x)*cos(y)", ("x", "y")).completeness(((0, 4), (0, 4))).status == "undecided"


def test_a_valley_without_end_is_not_called_complete():
    # rises along almost every ray but falls along the curve y = -x**3
    potential = Potential("4*x*y + x**4", ("x", "y"))
    assert potential.completeness().status != "count fails"
    assert [point.index for point in potential.critical_points()] == [1]
