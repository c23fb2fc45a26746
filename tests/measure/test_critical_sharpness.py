"""Critical sharpness: exact on quadratics, within ten forward passes, for any optimizer, by losses alone."""

import math

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from tests.cases import Block, by_case, cross_entropy, diagonal, mlp, squared
from torch import nn

from sgdscope.measure import batch_sharpness, critical_sharpness
from sgdscope.risk import Risk

SPECTRUM = [1.0, 3.0, 10.0]


def counted(risk):
    """How often the loss is called from now on, as a list that grows."""
    assert risk.chunk_size  # chosen from one pass, once
    calls, loss = [], risk.loss_fn
    risk.loss_fn = lambda model, batch: (calls.append(torch.is_grad_enabled()), loss(model, batch))[1]
    return calls


def descending(risk, steps, lr=0.3):
    for _ in range(steps):
        _, g = risk.gradient()
        with torch.no_grad():
            torch._foreach_add_(risk.parameters, g, alpha=-lr)
    return risk


def test_along_the_gradient_of_a_quadratic_it_is_the_directional_curvature():
    risk = diagonal(SPECTRUM)
    g = torch.tensor(SPECTRUM, dtype=torch.float64) * risk.parameters[0].detach()
    truth = float((torch.tensor(SPECTRUM, dtype=torch.float64) * g * g).sum() / (g @ g))
    for lr in (None, 1e-3, 0.2, 50.0):
        found = critical_sharpness(risk, lr=lr)
        assert found.value == pytest.approx(truth, rel=1e-9)
        assert found.residual < 0.02 * truth
        assert found.beside["critical_learning_rate"].value == pytest.approx(2 / truth, rel=1e-9)
        assert (found.status, found.unit) == ("ok", "1 / learning rate")


@pytest.mark.parametrize("lr", [1e-2, 0.05, 0.5, 10.0])
def test_along_any_step_of_a_quadratic(lr):
    # d = sign(g): λ_c = Σ λ / Σ |g|, known by hand; four to six passes, none of them with a graph
    risk = diagonal(SPECTRUM)
    g = torch.tensor(SPECTRUM, dtype=torch.float64) * risk.parameters[0].detach()
    calls = counted(risk)
    found = critical_sharpness(risk, [-lr * g.sign()], lr=lr)
    assert found.value == pytest.approx(sum(SPECTRUM) / float(g.abs().sum()), rel=1e-9)
    assert 4 <= len(calls) <= 6
    assert found.settings["passes"] == len(calls)
    assert not any(calls)
    assert found.cost == pytest.approx(len(calls) / 3)


def test_residual_covers_what_a_denser_search_finds():
    risk = descending(Risk(mlp("tanh").double(), cross_entropy, by_case()["argvalues"][0].data()), 20)
    value, g = risk.gradient()
    found = critical_sharpness(risk)
    eta = found.beside["critical_learning_rate"]
    assert 0 < eta.residual < 0.02 * eta.value
    fine = next(i for i in range(1, 2000) if risk.value(at=risk.displaced(g, -i / 500 * eta.value)) >= value) / 500
    assert fine == pytest.approx(1, abs=2 * eta.residual / eta.value + 1 / 500)
    assert found.settings["passes"] < 10


def test_on_a_smooth_network_it_is_the_curvature_along_the_gradient():
    # where a step of 2 / λ_c is short on the scale on which the Hessian changes, after some training
    risk = descending(Risk(mlp("tanh").double(), squared, by_case()["argvalues"][0].data()), 300)
    found, curvature = critical_sharpness(risk), batch_sharpness(risk, risk.size)
    assert found.value == pytest.approx(curvature.value, rel=0.05)
    assert found.cost < 1 + 10 / 3


@pytest.mark.parametrize("make", [
    lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    lambda p: torch.optim.RMSprop(p, lr=0.01),
], ids=["AdamW", "momentum", "RMSprop"])  # fmt: skip
def test_the_steps_that_optimizers_really_make(make):
    case = by_case()["argvalues"][0]
    risk = case.risk()
    optimizer = make(risk.parameters)
    for _ in range(5):
        before = [p.detach().clone() for p in risk.parameters]
        optimizer.zero_grad()
        risk.loss_fn(risk.model, case.data()).backward()
        optimizer.step()
    step = [p.detach() - b for p, b in zip(risk.parameters, before, strict=True)]
    found = critical_sharpness(risk, step, lr=0.01, at=before)
    eta = found.beside["critical_learning_rate"]

    def change(factor):
        there = [b + factor * eta.value / 0.01 * s for b, s in zip(before, step, strict=True)]
        return risk.value(at=there) - risk.value(at=before)

    assert found.status == "ok"
    assert change(0.96) < 0 < change(1.04)
    names = risk.model.state_dict()
    there = {**names, **dict(zip(risk.names, before, strict=True))}
    assert critical_sharpness(risk, step, lr=0.01, at=there).value == found.value


class OnceOnly(torch.autograd.Function):
    """A kernel with no second derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        return slope * (1 - ctx.saved_tensors[0].tanh().square())


class Once(nn.Module):
    def forward(self, x):
        return OnceOnly.apply(x)


def test_kernels_without_second_derivative_and_compiled_models():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    once = nn.Sequential(nn.Flatten(), plain[1], Once(), plain[3])
    data = by_case()["argvalues"][0].data()
    truth = critical_sharpness(Risk(plain, squared, data)).value
    assert critical_sharpness(Risk(once, squared, data)).value == truth
    assert critical_sharpness(Risk(torch.compile(plain), squared, data)).value == truth


def test_fused_attention_in_bfloat16():
    torch.manual_seed(0)
    model, (x, y) = Block().double(), by_case()["argvalues"][0].data()
    exact = critical_sharpness(Risk(model, cross_entropy, (x, y)))

    def loss(model, batch):  # as in mixed precision: the sum over classes in float32
        return F.cross_entropy(model(batch[0]).float(), batch[1].argmax(-1))

    half = critical_sharpness(Risk(model.bfloat16(), loss, (x.bfloat16(), y)))
    assert half.value == pytest.approx(exact.value, rel=0.25)
    assert half.residual > 0.005 * half.value  # rounding of eight bits is part of the doubt


def test_no_crossing_gives_the_bound_and_other_failures_their_reason():
    slope = Risk.of_function(lambda p: -p[0].sum(), [torch.zeros(3, dtype=torch.float64)])
    found = critical_sharpness(slope, lr=0.1)
    assert found.status == "failed"
    assert "no crossing up to the learning rate" in found.reason
    bound = float(found.reason.rsplit(" ", 1)[1])
    assert bound == pytest.approx(2 / found.settings["reached"], rel=0.01)
    bowl = diagonal(SPECTRUM)
    uphill = critical_sharpness(bowl, [bowl.parameters[0].detach().clone()], lr=0.1)
    assert "rises along the step from its start" in uphill.reason
    flat = Risk.of_function(lambda p: 1 + 1e-25 * p[0].square().sum(), [torch.ones(2, dtype=torch.float64)])
    assert "by rounding only" in critical_sharpness(flat, [-torch.ones(2)], lr=1.0).reason
    still = Risk.of_function(lambda p: p[0].square().sum(), [torch.zeros(2)])
    assert critical_sharpness(still).reason == "the gradient is zero"
    broken = Risk.of_function(lambda p: (p[0] * math.nan).sum(), [torch.ones(2)])
    assert critical_sharpness(broken).status == "diverged"
    assert critical_sharpness(broken, [torch.ones(2)], lr=1.0).status == "diverged"


def test_a_wall_of_infinite_loss_counts_as_a_crossing():
    # −log(1 − x) + …: finite up to x = 1 only, the loss is back at its start before that
    risk = Risk.of_function(lambda p: -torch.log1p(-p[0]).sum() - 2 * p[0].sum(), [torch.zeros(1, dtype=torch.float64)])
    found = critical_sharpness(risk, [torch.ones(1)], lr=1.0)
    eta = found.beside["critical_learning_rate"].value
    assert -math.log1p(-eta) - 2 * eta == pytest.approx(0, abs=0.02)


def test_out_of_passes_says_how_well_it_is_known():
    risk = Risk.of_function(lambda p: p[0].square().square().sum(), [torch.ones(1, dtype=torch.float64)])
    found = critical_sharpness(risk, [torch.tensor([-0.7])], lr=0.7, tolerance=1e-9, max_passes=4)
    assert found.status == "not_converged"
    assert "after 4 passes" in found.reason
    assert abs(found.value - 1) <= found.residual  # θ = 1 → −1: η_c = 2


@pytest.mark.slow
def test_at_the_edge_of_full_batch_descent_it_is_two_over_the_learning_rate():
    images, labels = load_digits(return_X_y=True)
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:256]
    x = (torch.from_numpy(images - images.mean(0))[chosen] / 8).float()
    y = F.one_hot(torch.from_numpy(labels)[chosen], 10).float()
    torch.manual_seed(0)
    model, lr = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)), 0.5
    risk = Risk(model, squared, (x, y))
    early, late, passes = [], [], []
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for k in range(4000):
        optimizer.zero_grad()
        squared(model, (x, y)).backward()
        before = [p.detach().clone() for p in risk.parameters]
        optimizer.step()
        if k == 50 or (k > 3000 and k % 50 == 0):
            step = [p.detach() - b for p, b in zip(risk.parameters, before, strict=True)]
            found = critical_sharpness(risk, step, lr=lr, at=before)
            (early if k == 50 else late).append(found.value * lr / 2)
            passes.append(found.settings["passes"])
    assert early[0] < 0.5
    assert sum(late) / len(late) == pytest.approx(1, abs=0.02)
    assert max(late) < 1.05
    assert max(passes) <= 9


def test_messages():
    risk = diagonal(SPECTRUM)
    step = [-torch.ones(3)]
    with pytest.raises(ValueError, match="expected lr with a step"):
        critical_sharpness(risk, step)
    with pytest.raises(ValueError, match="expected a learning rate > 0, got -1"):
        critical_sharpness(risk, lr=-1)
    with pytest.raises(ValueError, match="expected a tolerance between 0 and 1, got 0"):
        critical_sharpness(risk, tolerance=0)
    with pytest.raises(ValueError, match="expected max_passes ≥ 4"):
        critical_sharpness(risk, max_passes=3)
    with pytest.raises(ValueError, match=r"a step shaped like the 1 trainable parameters \(\(3,\)\), got 2 ten"):
        critical_sharpness(risk, step * 2, lr=1.0)
    with pytest.raises(ValueError, match="expected finite numbers in a step"):
        critical_sharpness(risk, [torch.full((3,), math.nan)], lr=1.0)
    with pytest.raises(ValueError, match="expected a step that moves the parameters, got zero"):
        critical_sharpness(risk, [torch.zeros(3)], lr=1.0)
    with pytest.raises(ValueError, match="got one without theta0"):
        critical_sharpness(risk, step, lr=1.0, at={"other": torch.ones(3)})
