"""Gradient noise: against dense covariances, unbiased over all possible draws, errors that cover, bad input."""

from itertools import combinations

import pytest
import torch
from tests.cases import CASES, by_case, diagonal, mlp, squared

from sgdscope.measure import gradient_noise
from sgdscope.measure import gradient_noise as measured
from sgdscope.per_sample import per_sample_gradients
from sgdscope.risk import Risk


def rows_of(risk, batch):
    return torch.cat([g.flatten(1) for g in per_sample_gradients(risk, batch, method="loop")], 1)


@pytest.mark.parametrize(**by_case(only=lambda case: case.name != "dropout"))
def test_all_data_against_a_dense_covariance(case):
    risk = case.risk(mode="eval")
    rows = rows_of(risk, case.data())
    covariance = torch.cov(rows.t())
    g = rows.mean(0)
    found = gradient_noise(risk)
    trace, rank = float(covariance.trace()), float(covariance.trace() ** 2 / covariance.square().sum())
    assert found.value == pytest.approx(trace, rel=1e-9)
    assert found.standard_error == 0
    assert found.beside["squared_gradient_norm"].value == pytest.approx(float(g @ g), rel=1e-9)
    assert found.beside["simple_noise_scale"].value == pytest.approx(trace / float(g @ g), rel=1e-9)
    assert found.beside["effective_rank"].value == pytest.approx(rank, rel=1e-8)
    assert len(found.beside["signal_to_noise"].value) == len(found.settings["layers"])


def test_unbiased_over_all_draws():
    """Every statistic's mean over all subsets of a population is its value on the population."""
    from sgdscope.measure.gradient_noise import _signal, _squared_covariance, _trace

    rows = torch.randn(8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.3
    gram = rows @ rows.t()
    for statistic in (_trace, _signal, _squared_covariance):
        draws = [statistic(gram[list(s)][:, list(s)]) for s in combinations(range(8), 5)]
        assert sum(draws) / len(draws) == pytest.approx(statistic(gram), rel=1e-10)
    assert _trace(gram) == pytest.approx(float(torch.cov(rows.t()).trace()), rel=1e-10)


def test_squared_covariance_of_known_noise():
    """tr Σ² of Gaussian rows with a large mean: 4² + 1 = 17, where the naive estimate is far off."""
    from sgdscope.measure.gradient_noise import _squared_covariance

    g = torch.Generator().manual_seed(1)
    values = []
    for _ in range(400):
        rows = torch.randn(20, 2, generator=g, dtype=torch.float64) * torch.tensor([2.0, 1.0]) + 10
        values.append(_squared_covariance(rows @ rows.t()))
    values = torch.tensor(values)
    assert float(values.mean()) == pytest.approx(17, abs=3 * float(values.std()) / 20)


def test_errors_cover():
    """Over many draws the truth lies within two standard errors 19 times of 20 (measured: 93 %; here 89 % at least)."""
    g = torch.Generator().manual_seed(2)
    data = torch.randn(4000, 1, 4, 4, generator=g, dtype=torch.float64), torch.randn(4000, 3, generator=g).double()
    risk = Risk(mlp("tanh").double(), squared, data)
    truth = gradient_noise(risk, samples=4000)
    inside, scales = 0, 0
    for seed in range(150):
        found = gradient_noise(risk, samples=64, generator=torch.Generator().manual_seed(seed))
        inside += abs(found.value - truth.value) <= 2 * found.standard_error
        scale = found.beside["simple_noise_scale"]
        scales += abs(scale.value - truth.beside["simple_noise_scale"].value) <= 2 * scale.standard_error
        assert found.beside["squared_gradient_norm"].standard_error == 0  # exact over all data
    assert inside >= 133
    assert scales >= 133


def test_a_gradient_that_cannot_be_told_from_zero():
    g = torch.Generator().manual_seed(3)
    data = torch.randn(300, 3, generator=g, dtype=torch.float64)
    data -= data.mean(0)
    risk = Risk.of_function(lambda p, x: (p[0] * x).sum(1).mean(), [torch.zeros(3).double()], data)
    found = gradient_noise(risk, samples=40, exact_gradient=False)
    assert found.value == pytest.approx(float(torch.cov(data.t()).trace()), rel=0.5)
    scale = found.beside["simple_noise_scale"]
    assert scale.value is None
    assert "the gradient cannot be told from zero" in scale.reason


def test_the_same_seed_gives_the_same():
    risk = CASES[0].risk()
    first, again, other = (
        gradient_noise(risk, samples=6, generator=torch.Generator().manual_seed(s)).value for s in (1, 1, 2)
    )
    assert first == again != other


def test_bad_input():
    risk = CASES[0].risk()
    with pytest.raises(ValueError, match="expected at least 4 samples, got 3"):
        measured(risk, samples=3)
    with pytest.raises(ValueError, match="expected data of at least 4 samples, got 1"):
        measured(diagonal([1.0, 2.0]))
    x, y = CASES[0].data()
    batches = [(x[:6], y[:6]), (x[6:].flatten(2), y[6:])]  # of different shapes
    listed = Risk(risk.model, squared, batches)
    with pytest.raises(
        ValueError, match="expected data that can be drawn sample by sample, got a list of batches\nhint:"
    ):
        measured(listed)


def test_not_finite():
    x, y = CASES[0].data()
    x = x.clone()
    x[3] = float("inf")
    found = gradient_noise(Risk(mlp("relu").double(), squared, (x, y), check=False))
    assert found.status == "diverged"
    assert found.value is None
