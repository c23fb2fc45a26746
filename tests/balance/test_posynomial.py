"""Posynomials: minima found by hand, by scipy, within limits, and where there is none."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from sgdscope.balance.posynomial import least


def chain(layers, width, seed, spread=2.0, missing=0.0):
    """The form that layers of units make: each weight is read by a unit and writes one of the next layer."""
    generator = np.random.default_rng(seed)
    rows = []
    for layer in range(layers + 1):
        readers = width if layer < layers else 2
        for unit in range(width if layer else 3):
            for written in range(readers):
                row = np.zeros(layers * width)
                if layer:
                    row[(layer - 1) * width + unit] = 2
                if layer < layers:
                    row[layer * width + written] = -2
                rows.append(row)
    coefficients = np.exp(spread * generator.standard_normal(len(rows)))
    return csr_matrix(np.array(rows)), coefficients * (generator.random(len(rows)) >= missing)


def test_a_unit_with_two_sides():
    found = least(csr_matrix([[2.0], [-2.0]]), [3.0, 48.0], limit=10)
    assert found.at[0] == pytest.approx(math.log(16) / 4, abs=1e-12)
    assert found.residual < 1e-10
    assert not found.held.any()


def test_far_away():
    found = least(csr_matrix([[2.0], [-2.0]]), [1e-30, 1e30], limit=100)
    assert found.at[0] == pytest.approx(math.log(1e60) / 4, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_as_scipy_finds_it(seed):
    exponents, coefficients = chain(3, 3, seed)
    dense = exponents.toarray()

    def logarithm(s):
        terms = coefficients * np.exp(dense @ s)
        return math.log(terms.sum()), dense.T @ terms / terms.sum()

    right = minimize(logarithm, np.zeros(9), jac=True, method="BFGS", options={"gtol": 1e-10})
    found = least(exponents, coefficients, limit=20)
    np.testing.assert_allclose(found.at, right.x, atol=1e-6)
    assert found.residual < 1e-10


@pytest.mark.parametrize("seed", range(4))
def test_within_a_limit_as_scipy_finds_it(seed):
    exponents, coefficients = chain(2, 3, seed)
    dense = exponents.toarray()

    def value(s):
        return math.log((coefficients * np.exp(dense @ s)).sum())

    right = minimize(value, np.zeros(6), method="L-BFGS-B", bounds=[(-0.3, 0.3)] * 6, options={"ftol": 1e-15})
    found = least(exponents, coefficients, limit=0.3)
    assert value(found.at) <= right.fun + 1e-12
    assert np.abs(found.at).max() <= 0.3
    assert found.at_limit.any()
    assert found.residual < 1e-10


@pytest.mark.parametrize("seed", range(30))
def test_deep_and_shallow_with_holes_converges(seed):
    generator = np.random.default_rng(seed)
    exponents, coefficients = chain(int(generator.integers(1, 9)), int(generator.integers(1, 5)), seed, 4.0, 0.3)
    found = least(exponents, coefficients, limit=float(generator.uniform(0.1, 8)))
    assert found.residual < 1e-10


def test_fifty_layers_take_few_steps():
    exponents, coefficients = chain(50, 4, 0)
    found = least(exponents, coefficients, limit=50)
    assert found.residual < 1e-10
    assert found.iterations < 30


def test_one_side_only_is_held():
    exponents = csr_matrix([[2.0, 0.0, 0.0], [-2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, -2.0, 0.0]])
    found = least(exponents, [1.0, 4.0, 1.0, 0.0], limit=10)
    assert found.held.tolist() == [False, True, True]  # driven one way; without any term
    assert found.at.tolist() == pytest.approx([math.log(4) / 4, 0, 0])


def test_nothing_to_move():
    found = least(csr_matrix([[2.0], [2.0]]), [1.0, 1.0], limit=10)
    assert found.held.all()
    assert found.at.tolist() == [0.0]
    assert found.residual == 0


def test_terms_are_unique_where_scales_are_not():
    # two names for one rescaling: only the sum of the log scales matters
    exponents = csr_matrix([[2.0, 2.0], [-2.0, -2.0]])
    found = least(exponents, [1.0, 16.0], limit=10)
    assert found.at.sum() == pytest.approx(math.log(16) / 4)
    assert found.residual < 1e-10


def test_out_of_steps_is_told_by_the_residual():
    exponents, coefficients = chain(6, 3, 1)
    assert least(exponents, coefficients, limit=50, most=1).residual > 1e-3
