"""Other packages on the same networks: products, eigenvalues and traces agree to their tolerances.

None of them is a dependency: each test is skipped where its package is not installed.
"""

import warnings

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import eigsh
from torch import nn

from sgdscope import vectors
from sgdscope.hessian import Hessian
from sgdscope.measure import gauss_newton_trace, hessian_trace, leading_eigenvalues
from sgdscope.risk import Risk

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
LOSS = nn.MSELoss()


def imported(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, exc_type=ImportError)


def networks():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        yield "mlp tanh", nn.Sequential(nn.Flatten(), nn.Linear(48, 24), nn.Tanh(), nn.Linear(24, 5))
        yield (
            "cnn",
            nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 5)),
        )
        yield (
            "with LayerNorm",
            nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 5)),
        )


@pytest.fixture(params=list(networks()), ids=lambda case: case[0])
def risk(request):
    g = torch.Generator().manual_seed(1)
    model = request.param[1]
    data = torch.randn(200, 3, 4, 4, generator=g), torch.randn(200, 5, generator=g)
    return Risk(model, lambda m, b: LOSS(m(b[0]), b[1]), data)


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_products_and_spectrum_of_curvlinops(risk, kind):
    curvlinops = imported("curvlinops")
    if kind == "hessian" and any(isinstance(m, nn.LayerNorm) for m in risk.model.modules()):
        # Its products go forward over reverse, off by 1 to 2 % for LayerNorm in torch 2.13; in double precision
        # differences of gradients side with ours, to 1e-7.
        pytest.skip("torch's forward derivative of LayerNorm's backward is wrong")
    operator = {"hessian": curvlinops.HessianLinearOperator, "gauss_newton": curvlinops.GGNLinearOperator}[kind]
    data = [risk.source.batch]
    theirs = operator(risk.model, LOSS, list(risk.model.parameters()), data, check_deterministic=False).to_scipy()
    v = np.random.default_rng(0).standard_normal(risk.parameter_count).astype(np.float32)
    with Hessian(risk, kind=kind) as hessian:
        ours = hessian.linear_operator() @ v
    assert np.linalg.norm(ours - theirs @ v) < 1e-4 * np.linalg.norm(ours)
    top = sorted(eigsh(theirs, k=5, which="LA", tol=1e-6, return_eigenvectors=False), reverse=True)
    found = leading_eigenvalues(risk, 5, tolerance=1e-3, max_products=200, kind=kind)
    assert found.value == pytest.approx(top, rel=2e-3)


def test_traces_of_curvlinops(risk):
    curvlinops = imported("curvlinops")
    torch.manual_seed(0)
    parameters, data = list(risk.model.parameters()), [risk.source.batch]
    for operator, ours in (
        (curvlinops.HessianLinearOperator, hessian_trace(risk, tolerance=0.005, max_probes=400)),
        (curvlinops.GGNLinearOperator, gauss_newton_trace(risk)),
    ):
        theirs = operator(risk.model, LOSS, parameters, data, check_deterministic=False)
        estimates = [float(curvlinops.hutchinson_trace(theirs, 30)) for _ in range(8)]
        mean, error = np.mean(estimates), np.std(estimates, ddof=1) / np.sqrt(8)
        assert abs(ours.value - mean) <= 4 * np.hypot(error, ours.standard_error)


def test_largest_eigenvalue_and_trace_of_pyhessian(risk):
    pyhessian = imported("pyhessian")
    torch.manual_seed(0)
    made = pyhessian.hessian(risk.model.eval(), LOSS, data=risk.source.batch, cuda=False)
    values, _ = made.eigenvalues(maxIter=1000, tol=1e-5, top_n=1)
    assert leading_eigenvalues(risk, tolerance=1e-3).value[0] == pytest.approx(float(values[0]), rel=0.01)
    estimates = made.trace(maxIter=300, tol=0)
    error = np.std(estimates, ddof=1) / np.sqrt(len(estimates))
    ours = hessian_trace(risk, tolerance=0.005, max_probes=400)
    assert abs(ours.value - np.mean(estimates)) <= 4 * np.hypot(error, ours.standard_error)


def test_largest_eigenvalue_of_hessian_eigenthings(risk):
    """Only the largest: its Lanczos does not orthogonalise, and gives copies of it for the next ones."""
    eigenthings = imported("hessian_eigenthings")
    made = eigenthings.HessianOperator(risk.model, [risk.source.batch], lambda m, b: LOSS(m(b[0]), b[1]))
    result = eigenthings.lanczos(made, k=1, max_iter=60, seed=0)
    assert leading_eigenvalues(risk, tolerance=1e-3).value[0] == pytest.approx(float(result.eigenvalues[0]), rel=2e-3)


def test_layer_norm_against_differences_of_gradients():
    risk = next(r for r in (Risk(m.double(), lambda m, b: LOSS(m(b[0]), b[1]), (
        torch.randn(50, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
        torch.randn(50, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64),
    )) for name, m in networks() if name == "with LayerNorm"))  # fmt: skip
    v = vectors.random_like([p.detach() for p in risk.parameters], torch.Generator().manual_seed(0))
    with Hessian(risk) as hessian:
        image = hessian.product(v)
    ahead, behind = (risk.gradient(at=risk.displaced(v, e))[1] for e in (1e-5, -1e-5))
    difference = vectors.scaled(vectors.plus(ahead, behind, -1.0), 1 / 2e-5)
    assert vectors.norm(vectors.plus(image, difference, -1.0)) < 1e-6 * vectors.norm(image)
