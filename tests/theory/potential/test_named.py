"""Landscapes of the literature, against numbers known from elsewhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from sgdscope.theory.potential import (
    Potential,
    asymmetric_double_well,
    double_well,
    muller_brown,
    quartic,
    skewed_double_well,
    styblinski_tang,
)


@pytest.mark.parametrize(
    ("potential", "minima", "saddle", "curvatures", "curvature_saddle", "barriers"),
    [
        (double_well(), (-1, 1), 0, (2, 2), -1, (0.25, 0.25)),
        (skewed_double_well(), (-1, 1), 0.122894, (1.25, 3.25), -1.083005, (0.257865, 0.257865)),
        (styblinski_tang(1, 1 / 40), (-2.903534, 2.746803), 0.156731, (0.864576, 0.731739), -0.396315, None),
    ],
)
def test_reference_values_in_one_dimension(potential, minima, saddle, curvatures, curvature_saddle, barriers):
    (passage,) = potential.passages()
    left, right = passage.minima
    assert (left.x, right.x) == pytest.approx(minima, abs=1e-6)
    assert passage.saddle.x == pytest.approx(saddle, abs=1e-6)
    assert passage.curvatures_minima == pytest.approx(curvatures, abs=1e-6)
    assert passage.curvature_saddle == pytest.approx(curvature_saddle, abs=1e-6)
    if barriers:
        assert passage.barriers == pytest.approx(barriers, abs=1e-6)
    assert potential.completeness().status == "complete"
    assert potential.confining()
    assert potential.confining().exact


def test_barriers_of_styblinski_tang_are_those_of_the_escape_experiments():
    # ΔL/D = 6 at D = 0.105104 from the right and 0.164007 from the left
    passage = styblinski_tang(1, 1 / 40).passages()[0]
    assert passage.barriers == pytest.approx((6 * 0.164007, 6 * 0.105104), rel=1e-5)


def test_fourth_derivative_of_the_double_well_is_six():
    assert double_well().derivative(-1.0, 4) == pytest.approx(6)
    assert double_well().derivative(-1.0, 3) == pytest.approx(-6)


def test_muller_brown():
    # published to three decimals wherever this surface is used as a test
    potential = muller_brown()
    minima = {point.position: point.value for point in potential.minima}
    saddles = {point.position: point.value for point in potential.saddles}
    assert sorted(minima) == [pytest.approx(p, abs=1e-3) for p in [(-0.558, 1.442), (-0.05, 0.467), (0.623, 0.028)]]
    assert [minima[p] for p in sorted(minima)] == pytest.approx([-146.70, -80.77, -108.17], abs=0.01)
    assert sorted(saddles) == [pytest.approx(p, abs=1e-3) for p in [(-0.822, 0.624), (0.212, 0.293)]]
    assert [saddles[p] for p in sorted(saddles)] == pytest.approx([-40.66, -72.25], abs=0.01)
    assert potential.completeness().status == "count agrees"
    assert potential.confining()
    # from the deepest minimum to the right one the way leads over both passes, and the upper one counts
    assert potential.barrier((-0.56, 1.44), (0.62, 0.03)) == pytest.approx(146.70 - 40.66, abs=0.02)
    assert potential.barrier((0.62, 0.03), (-0.56, 1.44)) == pytest.approx(108.17 - 40.66, abs=0.02)
    assert potential.barrier((0.62, 0.03), (-0.05, 0.47)) == pytest.approx(108.17 - 72.25, abs=0.02)


def test_quartic_has_a_flat_minimum():
    (point,) = quartic(3.0).critical_points()
    assert (point.kind, point.position, point.eigenvalues) == ("degenerate", (0.0,), (0.0,))
    assert quartic(3.0).value(2.0) == 12
    assert quartic().confining()


@settings(max_examples=6, deadline=None)
@given(st.floats(0.01, 50), st.floats(1 / 50, 50), st.floats(0.01, 10))
def test_double_well_to_measure(curvature, ratio, barrier):
    potential = asymmetric_double_well(curvature, curvature * ratio, barrier)
    assert [point.kind for point in potential.critical_points()] == ["minimum", "maximum", "minimum"]
    (passage,) = potential.passages()
    assert passage.curvatures_minima == pytest.approx((curvature, curvature * ratio), rel=1e-6)
    assert passage.barriers == pytest.approx((barrier, barrier), rel=1e-9)
    assert passage.minima[0].x == pytest.approx(-passage.minima[1].x)
    assert potential.confining()


def test_equal_curvatures_give_the_plain_double_well():
    x = np.linspace(-2, 2, 9)
    assert asymmetric_double_well(2, 2, 0.25).value(x) == pytest.approx(double_well().value(x), abs=1e-12)


def test_styblinski_tang_in_three_dimensions():
    potential = styblinski_tang(3)
    points = potential.critical_points()
    assert len(points) == 27
    assert sum((-1) ** point.index for point in points) == 1
    deepest = min(points, key=lambda point: point.value)
    found = minimize(potential.value, np.full(3, -2.5), jac=potential.gradient)
    assert deepest.value == pytest.approx(found.fun)
    assert deepest.position == pytest.approx(found.x, abs=1e-4)
    assert deepest.value == pytest.approx(-39.16617 * 3, abs=1e-3)  # the known minimum of the sum


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: asymmetric_double_well(1, 0, 1), "expected curvatures and barrier > 0"),
        (lambda: asymmetric_double_well(1, 1, -1), "expected curvatures and barrier > 0"),
        (lambda: asymmetric_double_well(1, 60, 1), "a factor of at most 50"),
        (lambda: styblinski_tang(0), "expected a dimension from 1 to 9"),
        (lambda: styblinski_tang(1, -1.0), "and a scale > 0"),
        (lambda: quartic(0.0), "expected a strength > 0"),
    ],
)
def test_bad_arguments(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@given(st.floats(0.01, 100))
@settings(max_examples=6, deadline=None)
def test_rescaling_keeps_barriers_and_multiplies_curvatures(k):
    plain, scaled = styblinski_tang(1, 1 / 40), styblinski_tang(1, 1 / 40).rescaled(k)
    (before,), (after,) = plain.passages(), scaled.passages()
    assert after.barriers == pytest.approx(before.barriers, rel=1e-9)
    assert after.curvature_saddle == pytest.approx(k * before.curvature_saddle, rel=1e-8)
    assert after.curvatures_minima == pytest.approx(np.multiply(k, before.curvatures_minima), rel=1e-8)
    assert scaled.value(0.3) == pytest.approx(plain.value(0.3 * np.sqrt(k)))


def test_rescaling_of_many_dimensions_and_of_boxes():
    potential = Potential("x**2 + y**4", variables=("x", "y"), box=((-2, 2), (-4, 4))).rescaled(4)
    assert potential.value((1, 1)) == 4 + 16
    assert potential.box == ((-1, 1), (-2, 2))
    with pytest.raises(ValueError, match="expected a factor k > 0"):
        double_well().rescaled(0)
