"""Leading eigenvalues: against dense spectra, on flat, degenerate, negative and empty ones, and from bad starts."""

import math

import pytest
import torch
from tests.cases import CASES, by_case, dense, diagonal

from sgdscope.measure import EigenvalueTracker, leading_eigenvalues
from sgdscope.risk import Risk

N = 2000
FLAT = {
    "equal steps": [max(1 - 0.01 * i, 0) for i in range(N)],
    "geometric": [0.99**i for i in range(N)],
    "uniform": [1 - i / N for i in range(N)],
    "semicircle": [math.cos(math.pi * i / N) for i in range(N)],
    "one above a heap": [1.0] + [0.9] * (N - 1),
}


@pytest.mark.parametrize(**by_case(only=lambda case: case.name not in ("mapping", "linear")))
def test_against_a_dense_spectrum(case):
    risk = case.risk()
    with torch.random.fork_rng([]):
        truth = torch.linalg.eigvalsh(dense(risk, case.data())[1]).flip(0)[:3]
    found = leading_eigenvalues(risk, 3, tolerance=1e-6, max_products=200)
    assert found.status == "ok"
    assert found.value == pytest.approx(truth.tolist(), abs=1e-6 * float(truth[0]))
    assert (found.settings["samples"], found.settings["mode"]) == (12, "train")


@pytest.mark.parametrize("tolerance", [0.02, 0.1])
@pytest.mark.parametrize("name", FLAT)
def test_a_flat_spectrum_is_never_called_ok_beyond_its_residual(name, tolerance):
    for seed in range(6):
        found = leading_eigenvalues(diagonal(FLAT[name], seed=seed), tolerance=tolerance)
        if found.status == "ok":
            assert abs(found.value[0] - 1) <= found.residual[0] <= 1.3 * tolerance


@pytest.mark.parametrize("spectrum", [[3, 1], [1, 1], [-1, -2], [0, -1], [0, 0], [2, 0]])
@pytest.mark.parametrize("start", [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.3, 0.7]])
def test_two_parameters_from_any_point(spectrum, start):
    # a gradient along one eigenvector, or none at all, must not hide the other
    point = torch.tensor(start, dtype=torch.float64)
    h = torch.tensor(spectrum, dtype=torch.float64)
    risk = Risk.of_function(lambda p: 0.5 * (h * p[0].square()).sum(), [point])
    for k in (1, 2):
        found = leading_eigenvalues(risk, k)
        assert found.status == "ok"
        assert found.value == pytest.approx(spectrum[:k], abs=1e-12)


def test_a_loss_without_curvature():
    risk = Risk.of_function(lambda p: p[0].sum(), [torch.ones(5)])
    found = leading_eigenvalues(risk, 3)
    assert (found.value, found.status) == ((0.0, 0.0, 0.0), "ok")


def test_k_beyond_the_parameters():
    with pytest.raises(ValueError, match=r"expected k between 1 and 2 \(the number of parameters\), got 3"):
        leading_eigenvalues(diagonal([1.0, 2.0]), 3)


def test_out_of_budget():
    found = leading_eigenvalues(diagonal(FLAT["uniform"]), 2, tolerance=1e-6, max_products=5)
    assert found.status == "not_converged"
    assert "residual" in found.reason
    assert "after 5 products" in found.reason
    assert max(found.residual) > 1e-6


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("samples", [12, 600])
def test_not_finite(bad, samples):
    data = torch.ones(samples, 1)
    risk = Risk.of_function(lambda p, b: (b * p[0].square().sum() * bad).mean(), [torch.ones(3)], data)
    found = leading_eigenvalues(risk)
    assert (found.value, found.status) == (None, "diverged")


@pytest.mark.parametrize("others", [[3 * (1 - i / N) for i in range(N)], [8, 7, 6, 5, 4, 3, 2], [-12.0, -11.0]])
def test_a_start_locked_on_a_neighbour_escapes(others):
    spectrum = [10, 9, *others]
    risk = diagonal(spectrum)
    tracker = EigenvalueTracker()
    neighbour = torch.zeros(len(spectrum), dtype=torch.float64)
    neighbour[1] = 1
    tracker.vectors = [[neighbour]]
    values = [tracker.update(risk).value[0] for _ in range(6)]
    assert values[-1] == pytest.approx(10, rel=0.02)


def test_following_costs_less_than_starting():
    risk = CASES[0].risk()
    tracker = EigenvalueTracker(2)
    first = tracker.update(risk)
    later = [tracker.update(risk) for _ in range(3)]
    assert all(e.status == "ok" for e in later)
    assert max(e.cost for e in later) < first.cost
    for e in later:
        assert e.value == pytest.approx(first.value, rel=0.05)


def test_a_crossing_is_followed():
    # the second eigenvalue grows past the first
    h = torch.tensor([10.0, 8.0, *[1 - i / 50 for i in range(50)]], dtype=torch.float64)
    risk = Risk.of_function(
        lambda p: 0.5 * (h * p[0].square()).sum(), [torch.randn(52, dtype=torch.float64, generator=torch.Generator())]
    )
    tracker = EigenvalueTracker()
    assert tracker.update(risk).value[0] == pytest.approx(10, rel=0.02)
    h[1] = 12
    values = [tracker.update(risk).value[0] for _ in range(4)]
    assert values[-1] == pytest.approx(12, rel=0.02)


def test_large_data_start_on_a_part():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1024, 6, generator=g, dtype=torch.float64) * torch.tensor([3.0, 2, 1, 1, 0.5, 0.1]).double()
    risk = Risk.of_function(lambda p, b: 0.5 * (b @ p[0]).square().mean(), [torch.ones(6, dtype=torch.float64)], x)
    truth = torch.linalg.eigvalsh(x.T @ x / len(x)).flip(0)
    found = leading_eigenvalues(risk, 2, tolerance=1e-4)
    assert found.status == "ok"
    assert found.value == pytest.approx(truth[:2].tolist(), rel=1e-4)
    assert found.settings["samples"] == 1024


def test_on_a_batch_and_the_same_again():
    case = CASES[0]
    risk, data = case.risk(), case.data()
    batch = tuple(t[:4] for t in data)
    first, again = (leading_eigenvalues(risk, batch=batch, tolerance=1e-6) for _ in range(2))
    assert first == again
    with torch.random.fork_rng([]):
        truth = float(torch.linalg.eigvalsh(dense(risk, batch)[1])[-1])
    assert first.value[0] == pytest.approx(truth, rel=1e-5)
    assert first.settings["samples"] == 4


@pytest.mark.parametrize("multiplicity", [2, 3, 5])
def test_equal_eigenvalues_are_found_as_often_as_they_are(multiplicity):
    """From one vector alone Lanczos finds each eigenvalue once; the others would be taken for the next ones."""
    spectrum = [7.0] * multiplicity + [4.0, 3.0, 2.0] + torch.linspace(0, 1, 30).tolist()
    found = leading_eigenvalues(diagonal(spectrum), 4, tolerance=1e-4, max_products=100)
    assert found.value == pytest.approx(sorted(spectrum, reverse=True)[:4], rel=1e-4)
