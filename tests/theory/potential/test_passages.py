"""Passages and barriers, tables and text."""

import json

import numpy as np
import pytest
import sympy
from scipy.ndimage import label

from sgdscope.theory.potential import Potential, double_well, muller_brown, quartic, styblinski_tang

THREE_WELLS = Potential("x**2*(x**2 - 1)**2*(x - 2)**2 + x/50")


def test_one_dimension_joins_neighbours():
    passages = THREE_WELLS.passages()
    assert len(THREE_WELLS.minima) == 4
    assert len(passages) == 3
    assert [passage.saddle.value for passage in passages] == sorted(passage.saddle.value for passage in passages)
    for passage in passages:
        left, right = passage.minima
        assert left.x < passage.saddle.x < right.x
        assert passage.barriers == pytest.approx(
            (passage.saddle.value - left.value, passage.saddle.value - right.value)
        )
        assert passage.curvature_saddle == passage.determinant_saddle < 0
        assert passage.determinants_minima == passage.curvatures_minima == (left.eigenvalues[0], right.eigenvalues[0])


def test_the_lowest_way_over_several_passes():
    a, b, c, d = THREE_WELLS.minima
    between = sorted(THREE_WELLS.saddles, key=lambda point: point.x)
    highest = max(point.value for point in between)
    assert THREE_WELLS.barrier(a, d) == pytest.approx(highest - a.value)
    assert THREE_WELLS.barrier(d, a) == pytest.approx(highest - d.value)
    assert THREE_WELLS.barrier(a, b) == pytest.approx(between[0].value - a.value)
    assert THREE_WELLS.barrier(0.05, 1.03) == THREE_WELLS.barrier(b, c)
    assert THREE_WELLS.passage(a, d).saddle.value == highest


def test_an_inflection_on_the_way_down_is_walked_over():
    # slope x (x - 1)² (x + 1) (x - 2): an inflection at 1, between the maximum and the minimum
    x = sympy.Symbol("x")
    potential = Potential(sympy.integrate(sympy.expand(-x * (x - 1) ** 2 * (x + 1) * (2 - x)), x))
    assert [point.kind for point in potential.critical_points()] == ["minimum", "maximum", "degenerate", "minimum"]
    (passage,) = potential.passages()
    assert [end.x for end in passage.minima] == pytest.approx([-1, 2])


def test_a_pass_may_lead_out_of_the_box():
    potential = Potential("x**2/2 - x**4/4")
    left, right = potential.passages()
    assert left.minima[0] is None
    assert left.minima[1].x == 0
    assert right.minima[1] is None
    assert right.barriers == (0.25, None)
    assert right.curvatures_minima == (1.0, None)
    assert right.determinants_minima == (1.0, None)
    cut = Potential("(x**2 - 1)**2 + x*y/10 + y**2", ("x", "y"), box=((-0.5, 2), (-1, 1)))
    (passage,) = cut.passages()
    assert passage.minima[0] is None
    assert passage.minima[1].kind == "minimum"


def test_descent_in_the_plane_ends_where_an_optimiser_ends():
    potential = Potential("(x**2 + y - 11)**2 + (x + y**2 - 7)**2", ("x", "y"))
    assert len(potential.passages()) == 4
    for passage in potential.passages():
        for side, end in zip((-1, 1), passage.minima, strict=True):
            beside = np.array(passage.saddle.position) + side * 0.05 * np.array(passage.escape_direction)
            # small steps of gradient descent are Euler's method for the same path
            for _ in range(3000):
                beside = beside - 5e-4 * potential.gradient(beside)
            assert beside == pytest.approx(end.position, abs=1e-3)
        hessian = potential.hessian(passage.saddle.position)
        direction = np.array(passage.escape_direction)
        assert direction @ hessian @ direction == pytest.approx(passage.curvature_saddle)
        ends = [direction @ potential.hessian(end.position) @ direction for end in passage.minima]
        assert passage.curvatures_minima == pytest.approx(ends)
        assert passage.determinants_minima == pytest.approx([end.determinant for end in passage.minima])


def test_barrier_of_a_lattice_of_wells():
    potential = styblinski_tang(2, 1 / 40)
    one = styblinski_tang(1, 1 / 40).passages()[0]
    low, high = one.minima
    # corner to corner over an edge each: the second pass is the higher one from the deepest well
    first = one.saddle.value - low.value
    raised = first + (high.value - low.value)
    assert potential.barrier((low.x, low.x), (low.x, high.x)) == pytest.approx(first)
    assert potential.barrier((low.x, low.x), (high.x, high.x)) == pytest.approx(raised)
    assert len(potential.passages()) == 4


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (
            lambda: Potential("x**2").barrier(0, 1),
            "expected two minima with a barrier between them, found: minimum at 0",
        ),
        (lambda: quartic().barrier(0, 1), "expected two minima .* found: degenerate at 0"),
        (lambda: double_well().barrier(-1, -0.9), "expected two different minima, .*: the minima are at -1, 1"),
        (lambda: double_well().barrier((-1, 0), 1), "expected a minimum or 1 finite coordinates"),
        (lambda: double_well().barrier(np.nan, 1), "expected a minimum or 1 finite coordinates"),
        (lambda: Potential("x**4*(x - 1)**2").passages(), "expected minima with positive curvature .* degenerate at 0"),
    ],
)
def test_no_barrier_says_why(ask, said):
    with pytest.raises(ValueError, match=said):
        ask()


def test_no_chain_in_the_box():
    # the way bends: the pass at (0, 2) is outside
    potential = Potential("(x**2 - 1)**2 + (y - 2*(1 - x**2))**2", ("x", "y"))
    assert potential.barrier((-1, 0), (1, 0)) == pytest.approx(1)
    with pytest.raises(ValueError, match=r"expected a chain of passes from the minimum at .* found none in the box"):
        potential.barrier((-1, 0), (1, 0), box=((-2, 2), (-1, 1)))


def test_rows_are_plain():
    rows = double_well().table()
    assert json.loads(json.dumps(rows)) == rows
    assert rows[0] == {
        "kind": "minimum",
        "index": 0,
        "position": [-1.0],
        "value": 0.0,
        "curvatures": [2.0],
        "barriers": [{"to": [1.0], "over": [0.0], "height": 0.25}],
    }
    assert [row["barriers"] for row in Potential("x**2/2 - x**4/4").table()[1:2]] == [
        [{"to": None, "over": [-1.0], "height": 0.25}, {"to": None, "over": [1.0], "height": 0.25}]
    ]


def test_reads_well():
    assert str(double_well()) == (
        "L(x) = (x**2 - 1)**2/4\n"
        "confining (its highest power of each variable is even with a positive factor)\n"
        "kind     position  value  curvatures  barriers\n"
        "minimum  -1        0      2           0.25 to 1\n"
        "maximum  0         0.25   -1\n"
        "minimum  1         0      2           0.25 to -1\n"
        "critical points: complete: the roots of a polynomial were isolated exactly"
    )
    assert "0.25 out of the box" in str(Potential("x**2/2 - x**4/4"))
    assert str(Potential("cos(x)")).endswith("or ((-5, 5), (-5, 5)) for two")
    assert "saddle   (-0.822002, 0.624313)" in muller_brown().describe()


def test_no_path_on_a_grid_does_better():
    # the lower of two ways around a hill: below the barrier the two wells are apart, above it they are joined
    potential = Potential("(x**2 - 1)**2 + 0.6*(y**2 - 1)**2 + 0.3*x*y + 0.1*y", ("x", "y"))
    low, *others = sorted(potential.minima, key=lambda point: point.value)
    assert len(others) == 3
    grid = np.linspace(-2, 2, 401)
    values = potential.value(np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1)) - low.value
    for other in others:
        cells = [tuple(np.abs(grid - c).argmin() for c in point.position) for point in (low, other)]
        for excess, joined in [(-0.01, False), (0.01, True)]:
            parts, _ = label(values < potential.barrier(low, other) + excess)
            assert (parts[cells[0]] == parts[cells[1]]) == joined


def test_a_descent_without_end_is_given_up():
    # the even power hides the pole from the check of the domain
    potential = Potential("log((3 + x)**4) + sin(x*y) + x**4", ("x", "y"), box=((-4, 3), (-3, 3)))
    with pytest.raises(ValueError, match="is there a pole or a flat valley"):
        potential.passages()
