"""Solve: the null space by merging and elimination is the null space by singular values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import null_space

from sgdscope.measure.symmetries.exponents import Rows
from sgdscope.measure.symmetries.solve import solve


def dense(unknowns: int, rows: list[Rows]) -> np.ndarray:
    matrix = [np.eye(unknowns)[0]]  # the first unknown is zero
    for r in rows:
        for ids in r.unknowns:
            line = np.zeros(unknowns)
            np.add.at(line, ids, r.coefficients)
            matrix.append(line)
    return np.array(matrix)


@pytest.mark.parametrize("seed", range(40))
def test_random_equations(seed):
    rng = np.random.default_rng(seed)
    unknowns = int(rng.integers(3, 25))
    rows = []
    for terms in rng.integers(1, 5, size=int(rng.integers(1, 6))):
        coefficients = rng.choice([-2.0, -1.0, -0.5, 1.0, 2.0], size=terms)
        if terms == 2 and rng.random() < 0.7:
            coefficients = np.array([1.0, -1.0])
        rows.append(Rows(coefficients, rng.integers(0, unknowns, size=(int(rng.integers(1, 4)), terms))))
    basis = solve(unknowns, rows).toarray()
    matrix = dense(unknowns, rows)
    assert np.abs(matrix @ basis).max(initial=0.0) < 1e-9
    assert basis.shape[1] == np.linalg.matrix_rank(basis) == null_space(matrix).shape[1]


def test_queries_against_keys():
    """q + k = 0 leaves one unknown, in which both are."""
    basis = solve(3, [Rows(np.array([1.0, 1.0]), np.array([[1, 2]]))]).toarray()
    assert basis[:, 0].tolist() == [0, -1, 1]
