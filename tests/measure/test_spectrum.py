"""Spectrum and spectral density: against dense eigenvalues."""

import math

import pytest
import torch
from tests.cases import CASES, by_case, dense, diagonal, mlp, squared
from torch import nn

from sgdscope.measure import spectral_density, spectrum
from sgdscope.risk import Risk


@pytest.mark.parametrize(**by_case(only=lambda case: case.name != "dropout"))
def test_against_dense_eigenvalues(case):
    risk = case.risk(mode="eval")
    with torch.random.fork_rng([]):
        _, matrix = dense(risk, case.data())
    eigenvalues, axes = torch.linalg.eigh(matrix)
    found = spectrum(risk, 3, tolerance=1e-5, density_steps=25, density_probes=6)
    top = eigenvalues.flip(0)[:3]
    assert found.value == pytest.approx(top.tolist(), rel=1e-5)
    assert found.beside["log_determinant"].value == pytest.approx(float(top.log().sum()), abs=1e-4)
    sizes = [p.numel() for p in risk.parameters]
    for j in range(3):
        shares = [float(x.square().sum()) for x in axes[:, -1 - j].split(sizes)]
        assert found.settings["shares"][j] == pytest.approx(shares, abs=1e-3)
        assert found.beside["participation"].value[j] == pytest.approx(1 / sum(p**2 for p in shares), rel=1e-2)
    trace, norm = found.beside["hessian_trace"], found.beside["frobenius_norm"]
    assert abs(trace.value - float(matrix.trace())) <= 5 * trace.standard_error
    assert abs(norm.value - float(matrix.norm())) <= 5 * norm.standard_error
    smallest = found.beside["smallest_eigenvalue"]
    assert float(eigenvalues[0]) - 1e-9 <= smallest.value <= float(eigenvalues[0]) + smallest.residual


def test_density_of_a_known_spectrum():
    """Half of the eigenvalues at 1, a quarter at -2, a quarter spread over (0, 4): weights, moments, resolution."""
    values = torch.cat([torch.ones(100), -2 * torch.ones(50), torch.linspace(0.01, 4, 50)]).double()
    found = spectral_density(diagonal(values), steps=40, probes=20)
    assert found.parameters == 200
    assert found.smallest == pytest.approx(-2, abs=1e-6)
    assert found.largest == pytest.approx(4, abs=1e-2)
    assert abs(found.trace.value - float(values.sum())) <= 4 * found.trace.standard_error
    assert abs(found.squared_norm.value - float(values.square().sum())) <= 4 * found.squared_norm.standard_error
    assert abs(found.negative.value - 0.25) <= 4 * found.negative.standard_error
    shares = found.histogram([-2.5, -1.5, 0.99, 1.01, 4.5])
    exact = [
        sum(a <= float(v) < b for v in values) / 200 for a, b in [(-2.5, -1.5), (-1.5, 0.99), (0.99, 1.01), (1.01, 4.5)]
    ]
    assert shares == pytest.approx(exact, abs=0.05)
    mean, error = found.mean_of(math.exp)
    assert abs(mean - float(values.exp().mean())) <= 4 * error
    assert all(sum(w) == pytest.approx(1) for w in found.weights)


def test_a_space_closed_early():
    """Three different eigenvalues are found exactly, in three steps."""
    found = spectral_density(diagonal([5.0] * 4 + [1.0] * 3 + [-1.0]), steps=8, probes=1)
    assert sorted(found.nodes[0]) == pytest.approx([-1, 1, 5], abs=1e-6)
    assert found.trace.standard_error is None


def test_zeros_of_wide_inputs_are_counted():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(30, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        data = torch.randn(5, 30).double(), torch.randn(5, 3).double()
    risk = Risk(model, squared, data)
    with torch.random.fork_rng([]):
        _, matrix = dense(risk, data)
    found = spectral_density(risk, steps=40, probes=30)
    assert abs(found.trace.value - float(matrix.trace())) <= 4 * found.trace.standard_error
    assert found.histogram([-1e-9, 1e-9])[0] >= 25 * 6 / risk.parameter_count - 1e-9


def test_bad_input():
    with pytest.raises(ValueError, match="expected steps ≥ 2 and probes ≥ 1, got 1 and 2"):
        spectral_density(CASES[0].risk(), steps=1)
    x, y = CASES[0].data()
    risk = Risk(mlp("relu").double(), squared, (x * math.inf, y), check=False)
    assert spectrum(risk, 2).status == "diverged"
