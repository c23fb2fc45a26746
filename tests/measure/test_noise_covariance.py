"""Noise covariance against the Hessian: X11 of the diffusion theory, dense covariances, which model is supported."""

import pytest
import torch
import torch.nn.functional as F
from tests.cases import CASES, by_case, dense
from torch import nn

from sgdscope.measure import leading_eigenpairs, noise_covariance
from sgdscope.per_sample import per_sample_gradients
from sgdscope.risk import Risk


@pytest.mark.parametrize(**by_case(only=lambda case: case.name in ("mlp tanh", "cnn", "attention", "BatchNorm")))
def test_against_dense_matrices(case):
    risk = case.risk(mode="eval")
    with torch.random.fork_rng([]):
        _, matrix = dense(risk, case.data())
    eigenvalues, axes = torch.linalg.eigh(matrix)
    rows = torch.cat([g.flatten(1) for g in per_sample_gradients(risk, case.data(), method="loop")], 1)
    covariance = torch.cov(rows.t())
    top = axes.flip(1)[:, :3]
    along = top.t() @ covariance @ top
    found = noise_covariance(risk, 3, tolerance=1e-6)
    assert found.beside["eigenvalues"].value == pytest.approx(eigenvalues.flip(0)[:3].tolist(), rel=1e-6)
    assert found.value == pytest.approx(along.diagonal().tolist(), rel=1e-4)
    lam = eigenvalues.flip(0)[:3]
    assert found.beside["slope"].value == pytest.approx(float(along.diagonal() @ lam / lam.square().sum()), rel=1e-4)
    pair = torch.corrcoef(torch.stack([along.diagonal(), lam]))
    assert found.beside["correlation"].value == pytest.approx(float(pair[0, 1]), abs=1e-4)
    cosine = float(along.diagonal() @ lam / along.norm() / lam.norm())
    assert found.beside["cosine"].value == pytest.approx(cosine, abs=1e-4)
    assert found.beside["trace_ratio"].value == pytest.approx(float((along.diagonal() / lam).mean()), rel=1e-4)
    share = float(along.trace() / covariance.trace())
    assert found.beside["alignment"].value == pytest.approx(share, rel=1e-4)


def logistic(n, *, well_specified=True, seed=0):
    """Logistic regression with 10 inputs of different scale at its optimum."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 10, generator=g, dtype=torch.float64) * torch.logspace(0, -1, 10, dtype=torch.float64)
    truth = torch.randn(10, generator=g, dtype=torch.float64)
    chance = torch.sigmoid(x @ truth)
    if not well_specified:
        chance = 0.5 + 0.45 * torch.sign(x @ truth) * (torch.rand(n, generator=g) < 0.7)
    y = (torch.rand(n, generator=g, dtype=torch.float64) < chance).double()
    model = nn.Linear(10, 1, bias=False).double()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def loss_fn(m, b):
        return F.binary_cross_entropy_with_logits(m(b[0])[:, 0], b[1])

    def closure():
        optimizer.zero_grad()
        loss = loss_fn(model, (x, y))
        loss.backward()
        return loss

    optimizer.step(closure)
    return Risk(model, loss_fn, (x, y))


@pytest.mark.parametrize(("n", "near"), [(1000, 0.12), (10_000, 0.04)])
def test_a_well_specified_likelihood_has_slope_one(n, near):
    """X11: slope and correlation 0.98 / 0.994 at 10³ samples, 0.999 / 0.9996 at 10⁴."""
    found = noise_covariance(logistic(n), 10, samples=n, tolerance=1e-4)
    assert found.beside["slope"].value == pytest.approx(1, abs=near)
    assert found.beside["correlation"].value > 1 - near
    assert found.beside["trace_ratio"].value == pytest.approx(1, abs=near)
    assert found.beside["alignment"].value == pytest.approx(1, abs=0.2 if n == 1000 else 0.15)  # tr Σ of a part
    assert found.settings["supported"] == "proportional to the Hessian"


@pytest.mark.parametrize("sd", [0.1, 0.5, 1.0])
def test_squared_loss_has_the_mean_squared_residual_as_slope(sd):
    """X11: B C = 2 L H; slopes 0.0101, 0.255, 0.995 for residuals of that deviation."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(10_000, 10, generator=g, dtype=torch.float64) * torch.logspace(0, -1, 10, dtype=torch.float64)
    y = x.sum(1) + sd * torch.randn(10_000, generator=g, dtype=torch.float64)
    model = nn.Linear(10, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(x, y[:, None]).solution.t())
    risk = Risk(model, lambda m, b: 0.5 * (m(b[0])[:, 0] - b[1]).square().mean(), (x, y))
    found = noise_covariance(risk, 10, samples=10_000, tolerance=1e-4)
    assert found.beside["slope"].value == pytest.approx(2 * found.beside["loss"].value, rel=0.05)
    assert found.beside["slope"].value == pytest.approx(sd**2, rel=0.05)
    assert found.beside["correlation"].value > 0.99
    assert found.settings["supported"] == "proportional to the Hessian"


def test_noise_that_does_not_know_the_curvature():
    """Loss θᵀHθ/2 + ξ·θ with isotropic ξ: exponent 0."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 6, generator=g, dtype=torch.float64)
    curvature = torch.logspace(1, -1, 6, dtype=torch.float64)

    class Point(nn.Module):
        def __init__(self):
            super().__init__()
            self.theta = nn.Parameter(torch.zeros(6, dtype=torch.float64))

        def forward(self, noise):
            return 0.5 * (curvature * self.theta.square()).sum() + noise @ self.theta

    risk = Risk(Point(), lambda m, b: m(b).mean(), x, check=False)
    found = noise_covariance(risk, 6, samples=2000, tolerance=1e-6)
    assert found.beside["exponent"].value == pytest.approx(0, abs=3 * found.beside["exponent"].standard_error)
    assert found.settings["supported"] == "constant"


@pytest.mark.slow
@pytest.mark.parametrize(("size", "samples"), [(4000, 200), (600, 300)])
def test_errors_are_those_of_repeated_draws(size, samples):
    """Of the loss and of the variances; of half of the data they are smaller by the root of two."""
    risk = logistic(size)
    pairs = leading_eigenpairs(risk, 2, tolerance=1e-4)
    truth = noise_covariance(risk, samples=size, eigenpairs=pairs)
    assert truth.beside["loss"].value == pytest.approx(risk.value(), rel=1e-12)
    assert (truth.beside["loss"].standard_error, truth.standard_error) == (0, (0, 0))
    g = torch.Generator().manual_seed(0)
    draws = [noise_covariance(risk, samples=samples, eigenpairs=pairs, generator=g) for _ in range(60)]
    for of in (lambda e: (e.beside["loss"].value, e.beside["loss"].standard_error),
               lambda e: (e.value[0], e.standard_error[0])):  # fmt: skip
        values, errors = torch.tensor([of(e) for e in draws], dtype=torch.float64).T
        assert float(values.std() / errors.square().mean().sqrt()) == pytest.approx(1, abs=0.22)
        assert float((values.mean() - of(truth)[0]) / values.std()) == pytest.approx(0, abs=0.4)


def test_a_loss_of_few_samples_has_an_error_too():
    risk = CASES[0].risk()
    found = noise_covariance(risk, 2, samples=9).beside["loss"]
    losses = torch.tensor([risk.value(risk.source.take(torch.tensor([i]))) for i in range(12)], dtype=torch.float64)
    assert abs(found.value - float(losses.mean())) <= 4 * found.standard_error
    assert found.standard_error == pytest.approx(float(losses.std()) * (1 / 9 - 1 / 12) ** 0.5, rel=0.4)
    assert (found.count, found.unit) == (9, "loss")


def test_bad_input():
    risk = CASES[0].risk()
    with pytest.raises(ValueError, match="expected at least 8 samples, got 7"):
        noise_covariance(risk, 2, samples=7)
    case = next(c for c in CASES if c.name == "BatchNorm")
    with pytest.raises(
        ValueError, match="expected a loss in which each sample stands alone, got BatchNorm in train mode"
    ):
        noise_covariance(case.risk())
