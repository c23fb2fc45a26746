"""Line: what it refuses, in which words."""

import numpy as np
import pytest

from sgdscope.theory.fokker_planck.line import Line
from tests.theory.fokker_planck.potentials import Quadratic, Quartic


def quartic(**changes):
    return Line(**({"drift": lambda x: x - x**3, "diffusion": 0.1, "interval": (-2, 2), "cells": 200} | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interval": (2, -2)}, r"expected an interval \(left, right\) with left < right"),
        ({"interval": (-np.inf, 2)}, "both finite"),
        ({"cells": 2}, "expected at least 3 cells, got 2"),
        ({"cells": 200.5}, "expected at least 3 cells, got 200.5"),
        ({"cells": [-2.0, 0.0, -1.0, 2.0]}, "expected faces that rise"),
        ({"cells": np.linspace(-1, 1, 50)}, "from the left to the right end of the interval"),
        ({"diffusion": 0.0}, "expected a diffusion > 0, or a function of position, got 0.0"),
        ({"diffusion": lambda x: 1 - x * x}, r"expected a diffusion that is positive and finite, got -\d"),
        ({"drift": lambda x: np.log(x)}, "expected a drift that is finite, got nan at x = -1.99"),
        ({"drift": lambda x: x[:3]}, "expected a drift that maps an array of shape"),
        ({"boundaries": "periodic"}, 'expected boundaries "reflecting" or "absorbing"'),
        ({"interpretation": "backward"}, "expected an interpretation among ito, stratonovich, anti-ito"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        quartic(**changes)


def test_refuses_a_coarse_grid_and_says_which_would_do():
    with pytest.raises(ValueError, match="the grid is too coarse: 20 cells") as caught:
        quartic(cells=20, diffusion=0.001)
    needed = int(str(caught.value).split("at least ")[1].split()[0])
    fine = quartic(cells=needed, diffusion=0.001)
    finer = quartic(cells=8 * needed, diffusion=0.001)
    assert fine.spectral_gap() == pytest.approx(finer.spectral_gap(), rel=0.02)
    # a law pressed against a wall counts too
    with pytest.raises(ValueError, match="too coarse"):
        Line(lambda x: np.full_like(x, -10.0), 0.1, (0, 1), 50)


def test_refuses_a_potential_that_does_not_confine():
    class Slope:
        value = staticmethod(lambda x: x)
        gradient = staticmethod(np.ones_like)

    class Hill(Quadratic):
        pass

    for potential in (Slope, Hill(-1.0)):
        with pytest.raises(ValueError, match=r"the potential does not confine.*interval=\(left, right\)"):
            Line.of_potential(potential, 0.1)
    assert Line.of_potential(Slope, 0.1, interval=(0, 1)).stationary()[0] > 0.001


def test_refuses_regions_that_make_no_sense():
    line = quartic()
    for target, message in [
        ((3, 4), r"lies outside the line from -2 to 2"),
        ((1, 0), r"expected as target a point, or an interval"),
        ((-np.inf, np.inf), "the target holds every cell"),
        (lambda x: x > 5, "the target holds no cell"),
        (lambda x: x, "expected as target an interval, a point, a condition or a mask of 200 booleans"),
        (np.ones(3, dtype=bool), "a mask of 200 booleans, got bool of shape"),
        (None, "expected a target, got None on a line whose boundaries reflect"),
    ]:
        with pytest.raises(ValueError, match=message):
            line.mean_first_passage_time(target)
    with pytest.raises(ValueError, match="expected source and target apart"):
        line.committor((-2, 0.5), (0, 2))
    with pytest.raises(ValueError, match="leaves the rest in one piece, got 2 pieces"):
        line.quasi_stationary((-0.1, 0.1))


def test_refuses_starts_and_times_that_make_no_sense():
    line = quartic()
    with pytest.raises(ValueError, match=r"expected a position in \(-2, 2\), got 7"):
        line.mean_first_passage_time(1.0, 7.0)
    with pytest.raises(ValueError, match="expected masses ≥ 0 of 200 cells"):
        line.evolve([1.0], [1.0])
    with pytest.raises(ValueError, match="expected masses ≥ 0"):
        line.mean_first_passage_time(1.0, -line.stationary())
    for times in ([-1.0], [np.inf], 3.0):
        with pytest.raises(ValueError, match="expected a list of finite times ≥ 0"):
            line.evolve(line.stationary(), times)
    with pytest.raises(ValueError, match="expected a tolerance between"):
        line.evolve(line.stationary(), [1.0], tolerance=0)
    with pytest.raises(ValueError, match="expected finite steps ≥ 0"):
        line.implicit_steps(line.stationary(), [-1.0])
    with pytest.raises(ValueError, match=r"expected an interval \(left, right\) with left ≤ right"):
        line.mass_in(line.stationary(), (1, 0))


def test_refuses_modes_and_rates_it_cannot_give():
    line = quartic()
    with pytest.raises(ValueError, match="expected between 1 and 199 rates of 200 cells, got 200"):
        line.slow_modes(200)
    with pytest.raises(ValueError, match="over 600 noise units"):
        Line.of_potential(Quartic, 0.25 / 900, cells=4000).spectral_gap()
    with pytest.raises(ValueError, match="exceeds 1e308: barriers of over 700 noise units"):
        Line.of_potential(Quartic, 0.25 / 900, cells=4000).mean_first_passage_time(1.0)
    with pytest.raises(ValueError, match="no mass stays where a boundary absorbs"):
        quartic(boundaries="absorbing").stationary()
