"""Eigenvector error: bounds held against vectors turned by known angles, and against exact eigenvectors."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cases import CASES, dense, diagonal, flat

from sgdscope.measure import leading_eigenpairs, spectrum
from sgdscope.measure.eigenvector_error import angle_sines, participation, share_bounds

SPLIT = (1, 2, 5, 4)
"""Sizes of the parts of a vector of twelve numbers."""


def shares(v):
    return [float(part.square().sum()) for part in v.split(SPLIT)]


def unit(generator, *, among=1.0):
    v = torch.randn(sum(SPLIT), generator=generator, dtype=torch.float64)
    v *= torch.rand(sum(SPLIT), generator=generator, dtype=torch.float64) < among
    return v / v.norm() if float(v.norm()) > 0 else unit(generator)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, math.pi / 2), st.sampled_from([0.15, 0.4, 1.0]))
def test_turned_by_a_known_angle(seed, angle, among):
    generator = torch.Generator().manual_seed(seed)
    found, other = unit(generator, among=among), unit(generator, among=among)
    other = other - (other @ found) * found
    if float(other.norm()) < 1e-6:
        return
    true = math.cos(angle) * found + math.sin(angle) * other / other.norm()
    sine = math.sin(angle)
    for p, q in zip(shares(found), shares(true), strict=True):
        low, high = share_bounds(p, sine)
        assert low - 1e-9 <= q <= high + 1e-9
        assert p - sine - 1e-9 <= low <= p + 1e-9
        assert p - 1e-9 <= high <= p + sine + 1e-9
    value, residual = participation(shares(found), sine)
    truth = 1 / sum(q * q for q in shares(true))
    assert value == pytest.approx(1 / sum(p * p for p in shares(found)))
    assert abs(truth - value) <= residual + 1e-9


@pytest.mark.parametrize("angle", [0.01, 0.1, 0.4])
def test_the_bound_of_a_share_is_reached(angle):
    """Turned straight towards or away from the subspace."""
    found = torch.tensor([0.8, 0.6], dtype=torch.float64)
    low, high = share_bounds(0.64, math.sin(angle))
    for sign, bound in ((1, high), (-1, low)):
        true = math.cos(angle) * found + sign * math.sin(angle) * torch.tensor([0.6, -0.8], dtype=torch.float64)
        assert float(true[0] ** 2) == pytest.approx(bound, rel=1e-12)


def test_small_angles_give_small_residuals():
    near, nearer = (participation([0.5, 0.3, 0.2], sine)[1] for sine in (1e-2, 1e-4))
    assert 50 < near / nearer < 200
    assert near < 0.2
    assert participation([0.5, 0.3, 0.2], 0.0)[1] == pytest.approx(0, abs=1e-12)
    assert participation([1.0], None) == (1.0, 0.0)  # one tensor: there is nothing to be unsure of
    value, residual = participation([0.5, 0.5, 0.0], None)
    assert (value, residual) == (pytest.approx(2), pytest.approx(1))  # one to three tensors
    assert participation([0.5, 0.5], 1.0) == (pytest.approx(2), pytest.approx(1))


def test_what_has_a_bound():
    assert angle_sines([5.0], [0.1]) == [None]  # the gap below is not known
    assert angle_sines([5.0], [0.1], complete=True) == [0.0]  # one direction only
    assert angle_sines([5.0, 3.0], [0.1, 0.2]) == [pytest.approx(0.1 / 1.8), None]
    assert angle_sines([5.0, 3.0], [0.1, 0.2], complete=True)[1] == pytest.approx(0.2 / 1.9)
    # the middle two may be one eigenvalue found twice as far as their residuals tell; the first is far from both
    sines = angle_sines([9.0, 3.0, 2.9, 1.0], [0.3, 0.1, 0.1, 0.1])
    assert sines == [pytest.approx(0.3 / (6 - math.hypot(0.1, 0.1))), None, None, None]
    # joined, the lower two reach the one above
    chained = angle_sines([3.0, 2.75, 2.6], [0.1, 0.12, 0.12])
    assert chained == [None, None, None]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.floats(1e-4, 0.3), st.integers(2, 6))
def test_against_the_eigenvectors_of_a_random_matrix(seed, noise, k):
    """Ritz pairs of the leading eigenvectors' span, disturbed."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    matrix = matrix + matrix.T
    _, axes = torch.linalg.eigh(matrix)
    disturbed = axes.flip(1)[:, :k] + noise * torch.randn(12, k, generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(disturbed)[0]
    theta, y = torch.linalg.eigh(basis.T @ matrix @ basis)
    theta, ritz = theta.flip(0), (basis @ y).flip(1)
    residuals = (matrix @ ritz - ritz * theta).norm(dim=0)
    for j, sine in enumerate(angle_sines(theta.tolist(), residuals.tolist())):
        if sine is not None:
            true = math.sqrt(max(1 - float(axes[:, -1 - j] @ ritz[:, j]) ** 2, 0))
            assert true <= sine + 1e-7


@pytest.mark.parametrize("tolerance", [0.05, 0.01, 1e-3])
def test_of_a_network(tolerance):
    """Shares and participation of exact eigenvectors of the whole Hessian lie within what is stated."""
    risk, k = CASES[0].risk(), 6
    _, axes = torch.linalg.eigh(dense(risk, CASES[0].data())[1])
    pairs = leading_eigenpairs(risk, k, tolerance=tolerance)
    found = spectrum(risk, eigenpairs=pairs, density_probes=0)
    sizes = [p.numel() for p in risk.parameters]
    sines, spread = found.settings["angle_sines"], found.beside["participation"]
    assert sines[-1] is None
    assert sum(sine is not None for sine in sines) >= (1 if tolerance > 0.01 else 4)
    for j, sine in enumerate(sines):
        truth = [float(x.square().sum()) for x in axes[:, -1 - j].split(sizes)]
        if sine is not None:
            ritz = flat(pairs[1][j])
            across = ritz - (axes[:, -1 - j] @ ritz) * axes[:, -1 - j]
            assert float(across.norm()) <= sine + 1e-9
            assert max(abs(p - q) for p, q in zip(truth, found.settings["shares"][j], strict=True)) <= sine + 1e-9
            assert spread.residual[j] < 2.9 * len(sizes) ** 1.5 * sine + 1e-3  # 2 √2 / ‖p‖³
        assert abs(1 / sum(p**2 for p in truth) - spread.value[j]) <= spread.residual[j] + 1e-9
    assert spread.status == "not_converged"
    assert "no bound for eigenvector" in spread.reason


def test_all_eigenvectors_have_a_bound():
    found = spectrum(diagonal([4.0, 2.0, 1.0]), 3, tolerance=1e-6, density_probes=0)
    assert max(found.settings["angle_sines"]) < 1e-4
    assert found.beside["participation"].status == "ok"
