"""Batch sharpness: exact cases, every method on every model, the stop rule, and what its errors claim."""

import math

import pytest
import torch
import torch.nn.functional as F
from tests.cases import CASES, by_case, dense, diagonal, mlp, quadratics, squared
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sgdscope.batches import draw_indices
from sgdscope.hessian import Hessian
from sgdscope.measure import batch_sharpness, gradient_noise_interaction
from sgdscope.measure.batch_sharpness import chain_refusal
from sgdscope.risk import Risk

ROE = "ratio_of_expectations"


def test_two_quadratics_in_one_dimension():
    # eoss.md §8.1: h ∈ {1, 3}, b = 1: the mean of r_B is 2, the ratio of means (1 + 27)/(1 + 9) = 14/5
    found = batch_sharpness(quadratics([1.0, 3.0]), 1, tolerance=1e-9, max_batches=1500)
    roe = found.beside[ROE]
    assert found.value == pytest.approx(2, abs=4 * found.standard_error)
    assert found.standard_error == pytest.approx(1 / math.sqrt(1500), rel=0.01)
    assert roe.value == pytest.approx(14 / 5, abs=4 * roe.standard_error)
    # delta method by hand: sd of (h³ − R h²) over mean h², with both values equally likely
    sd = (abs(27 - 2.8 * 9) + abs(1 - 2.8)) / 2
    assert roe.standard_error == pytest.approx(sd / 5 / math.sqrt(1500), rel=0.1)
    assert found.beside["squared_gradient_norm"].value == pytest.approx(5 * 0.49, rel=0.1)


def test_drawn_without_replacement_all_pairs():
    # h ∈ {1, 3, 5}, b = 2: batch curvatures 2, 3, 4 equally likely
    found = batch_sharpness(quadratics([1.0, 3.0, 5.0]), 2, tolerance=1e-9, max_batches=800)
    assert found.value == pytest.approx(3, abs=4 * found.standard_error)
    assert found.standard_error == pytest.approx(math.sqrt(2 / 3 / 800), rel=0.12)
    assert found.beside[ROE].value == pytest.approx((8 + 27 + 64) / (4 + 9 + 16), rel=0.1)


def test_one_sample_repeated():
    x = torch.tensor([[1.0, 2.0, -1.0]], dtype=torch.float64).repeat(6, 1)
    y = torch.ones(6, 1, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(3, 1)).double()
    found = batch_sharpness(Risk(model, squared, (x, y)), 2)
    # f = w·x + c, loss ½(f − y)²: the Hessian is (x, 1)(x, 1)ᵀ and the gradient lies along (x, 1)
    assert found.value == pytest.approx(7, rel=1e-12)
    assert found.standard_error == pytest.approx(0, abs=1e-12)
    assert (found.status, found.count) == ("ok", found.settings.get("count", found.count))


@pytest.mark.parametrize(**by_case(only=lambda case: case.additive))
def test_of_all_data_everything_is_the_same(case):
    # eoss.md §8.2
    risk = case.risk()
    found = batch_sharpness(risk, 12)
    with torch.random.fork_rng([]):
        g, matrix = dense(risk, case.data())
    truth = float(g @ matrix @ g / (g @ g))
    noise = gradient_noise_interaction(risk, 12, batches=2)
    for estimate in (found, found.beside[ROE], noise, noise.beside["interaction_aware_sharpness"]):
        assert estimate.value == pytest.approx(truth, rel=1e-10, abs=1e-12)
    assert (found.standard_error, found.count, found.status) == (0, 1, "ok")
    assert noise.beside["gradient_signal"].value == pytest.approx(1, rel=1e-10)
    assert noise.standard_error == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize(**by_case())
def test_against_dense_batch_by_batch(case):
    risk, g = case.risk(), torch.Generator().manual_seed(5)
    found = batch_sharpness(risk, 5, tolerance=1e-9, max_batches=4, generator=g)
    assert ("Gram" in found.settings["method"]) == case.chain, chain_refusal(risk)
    g.manual_seed(5)
    ratios, curvatures, norms = [], [], []
    for index in range(4):
        batch = risk.source.take(draw_indices(12, 5, g))
        with torch.random.fork_rng([]):
            gradient, matrix = dense(risk, batch, seed=index + 1)
        curvatures.append(float(gradient @ matrix @ gradient))
        norms.append(float(gradient @ gradient))
        ratios.append(curvatures[-1] / norms[-1])
    assert found.value == pytest.approx(sum(ratios) / 4, rel=1e-9)
    assert found.beside[ROE].value == pytest.approx(sum(curvatures) / sum(norms), rel=1e-9)
    assert found.beside["squared_gradient_norm"].value == pytest.approx(sum(norms) / 4, rel=1e-9)
    spread = math.sqrt(sum((r - found.value) ** 2 for r in ratios) / 3 / 4)
    assert found.standard_error == pytest.approx(spread, rel=1e-6)
    assert (found.status, found.count) == ("few_samples", 4)
    assert "after 4 batches, 1e-07 % was asked for" in found.reason


@pytest.mark.parametrize(**by_case(only=lambda case: case.name not in ("mapping", "dict", "LSTM", "dropout")))
def test_gauss_newton_batch_by_batch(case):
    risk, g = case.risk(), torch.Generator().manual_seed(5)
    found = batch_sharpness(risk, 5, kind="gauss_newton", tolerance=1e-9, max_batches=3, generator=g)
    g.manual_seed(5)
    ratios = []
    for _ in range(3):
        batch = risk.source.take(draw_indices(12, 5, g))
        with Hessian(risk, batch, kind="gauss_newton", method="graph") as matrix:
            ratios.append(matrix.curvature(matrix.gradient) / float(sum(x.square().sum() for x in matrix.gradient)))
    assert found.name == "gauss_newton_batch_sharpness"
    assert found.value == pytest.approx(sum(ratios) / 3, rel=1e-9)
    assert min(ratios) >= 0
    assert ("Gram" in found.settings["method"]) == case.chain


def test_gauss_newton_needs_second_derivatives_of_the_loss():
    with pytest.raises(ValueError, match="expected method 'auto' or 'exact' with kind 'gauss_newton'"):
        batch_sharpness(CASES[0].risk(), 4, kind="gauss_newton", method="loss_change", lr=0.1)
    with pytest.raises(ValueError, match="expected kind 'hessian' or 'gauss_newton', got 'fisher'"):
        batch_sharpness(CASES[0].risk(), 4, kind="fisher")
    with pytest.raises(ValueError, match="of the output of one call of the model"):
        batch_sharpness(quadratics([1.0, 3.0]), 1, kind="gauss_newton")


@pytest.mark.parametrize("statistic", ["expectation_of_ratio", ROE])
def test_the_stop_rule_is_that_of_the_statistic(statistic):
    risk = quadratics([1.0, 3.0])
    found = batch_sharpness(risk, 1, statistic=statistic, tolerance=0.04, max_batches=5000)
    assert found.status == "ok"
    assert 0.02 < found.standard_error / found.value <= 0.04
    # relative sd of one draw: 1/2 for the ratio, 1.8/(5·2.8) for the ratio of means
    needed = ((0.5 if statistic != ROE else 1.8 / 5 / 2.8) / 0.04) ** 2
    assert needed * 0.9 <= found.count <= max(needed * 1.2 + 64, 84)


def test_the_same_seed_gives_the_same():
    risk = CASES[0].risk()
    one, two, other = (
        batch_sharpness(risk, 3, max_batches=25, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert one == two
    assert one.value != other.value


def test_batches_without_gradient():
    # a quarter of the samples has h = 0: no ratio, but they count in both means
    found = batch_sharpness(quadratics([0.0, 1.0, 3.0, 3.0]), 1, tolerance=1e-9, max_batches=600)
    assert found.value == pytest.approx(7 / 3, rel=0.05)
    assert found.beside[ROE].value == pytest.approx(55 / 19, rel=0.02)
    assert found.beside["squared_gradient_norm"].value == pytest.approx(19 / 4 * 0.49, rel=0.15)
    assert found.settings["batches_without_gradient"] == pytest.approx(150, abs=45)
    nothing = batch_sharpness(quadratics([0.0, 0.0]), 1, max_batches=30)
    assert (nothing.value, nothing.status) == (None, "failed")
    assert nothing.reason == "the gradient of all 30 batches is zero"


def test_one_batch_only_has_no_error():
    found = batch_sharpness(quadratics([1.0, 3.0]), 1, max_batches=1)
    assert (found.standard_error, found.status, found.reason) == (None, "few_samples", "one batch only")


@pytest.mark.parametrize("method", ["auto", "gradient_difference", "central_difference", "loss_change"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite(bad, method):
    network = CASES[0].risk()
    with torch.no_grad():
        network.parameters[-1].fill_(bad)  # the last bias: no tanh can hide it
    for risk in (quadratics([1.0, bad]), network):
        found = batch_sharpness(risk, 2, method=method, lr=0.1)
        assert (found.value, found.status) == (None, "diverged")
        assert "not finite" in found.reason


def test_a_diverged_model_does_not_decide_about_the_gram_form():
    risk = CASES[0].risk()
    before = risk.parameters[0].detach().clone()
    with torch.no_grad():
        risk.parameters[0].fill_(math.nan)
    assert "nothing to compare" in chain_refusal(risk)
    with torch.no_grad():
        risk.parameters[0].copy_(before)
    assert chain_refusal(risk) == ""


def penalty(model, batch):
    return squared(model, batch) + 1e-9 * sum(p.square().sum() for p in model.parameters())


def contrastive(model, batch):
    f = model(batch[0])
    return F.cross_entropy(f @ f.T, torch.arange(len(f)))


def root(model, batch):
    return squared(model, batch).sqrt()


def weighted(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1].argmax(-1), weight=torch.tensor([1.0, 2.0, 9.0]).double())


def two_calls(model, batch):
    return squared(model, batch) + 0.1 * model(0 * batch[0]).square().mean()


def noisy(model, batch):
    return squared(lambda x: F.dropout(model(x), 0.3), batch)


def total(model, batch):
    return 12 * squared(model, batch) * len(batch[0])


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (penalty, "the loss reaches the parameters past the model's output"),
        (two_calls, "the loss calls the model more than once"),
        *((loss, "self-check: ") for loss in (contrastive, root, weighted, noisy, total)),
    ],
)
def test_the_gram_form_is_refused(loss, why):
    data = CASES[0].data()
    risk = Risk(mlp("tanh").double(), loss, data, check=False)
    assert chain_refusal(risk).startswith(why)
    found = batch_sharpness(risk, 4, max_batches=3, generator=torch.Generator().manual_seed(0))
    assert found.settings["method"] == "exact, Hessian product"


def test_classes_in_order_do_not_hide_their_weights():
    x, y = CASES[0].data()
    order = y.argmax(-1).argsort()
    data = (x[order].repeat_interleave(20, 0), y[order].repeat_interleave(20, 0))
    assert chain_refusal(Risk(mlp("tanh").double(), weighted, data)).startswith("self-check: ")


@pytest.mark.parametrize("name", ["dropout", "tied", "frozen"])
def test_what_is_no_chain(name):
    case = next(c for c in CASES if c.name == name)
    assert chain_refusal(case.risk()) != ""


class Fused(nn.Module):
    """Insists on a kernel without second derivatives."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(16, 48)

    def forward(self, x):
        q, k, v = self.qkv(x.reshape(len(x), 1, 4, 16)).chunk(3, -1)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return F.scaled_dot_product_attention(q, k, v).mean((1, 2, 3), keepdim=False)[:, None]


def test_a_kernel_without_second_derivatives():
    x = torch.randn(8, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    risk = Risk(Fused().double(), squared, (x, torch.ones(8, 1, dtype=torch.float64)))
    found = batch_sharpness(risk, 4, max_batches=3, lr=1e-3)
    assert found.settings["method"] == "gradient difference"
    with pytest.raises(RuntimeError, match="derivative"):
        batch_sharpness(risk, 4, method="exact")
    plain = batch_sharpness(risk, 4, max_batches=3, method="gradient_difference", lr=1e-3)
    assert found.value == pytest.approx(plain.value, rel=1e-9)


def test_gradient_growth_inequality():
    # eoss.md §8.6, on quadratics: E‖g_B(θ⁺)‖²/‖g_B‖² ≥ (1 − η·EoR)², over all batches
    h, lr = torch.tensor([1.0, 3.0, 7.0]), 0.6
    risk = quadratics(h.tolist())
    growth = ((1 - lr * h) ** 2).mean()
    found = batch_sharpness(risk, 1, tolerance=1e-3, max_batches=400)
    assert float(growth) >= (1 - lr * (found.value - 4 * found.standard_error)) ** 2
    ratios = []
    for x in h:
        batch = x.double().reshape(1)
        _, g = risk.gradient(batch)
        _, moved = risk.gradient(batch, at=risk.displaced(g, -lr))
        ratios.append(float(moved[0] / g[0]) ** 2)
    assert sum(ratios) / 3 == pytest.approx(float(growth), rel=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch_size": 13}, "expected a batch size between 1 and 12 (the number of samples), got 13\nhint: draw a"),
        ({"batch_size": 0}, "expected a batch size between 1 and 12 (the number of samples), got 0"),
        ({"batch_size": 0, "replacement": True}, "expected a batch size between 1 and 12"),
        ({"statistic": "mean"}, "expected statistic 'expectation_of_ratio' or 'ratio_of_expectations', got 'mean'"),
        ({"method": "guess"}, "expected method 'auto', 'exact', 'gradient_difference', 'central_difference' or"),
        ({"method": "loss_change"}, "expected lr with method 'loss_change': the probe is one step of SGD, of size lr"),
        ({"tolerance": math.nan}, "expected tolerance, min_batches and max_batches > 0, got nan, 20, 500"),
        ({"max_batches": 0}, "expected tolerance, min_batches and max_batches > 0, got 0.01, 20, 0"),
        ({"lr": 0.0}, "expected a learning rate > 0, got 0.0"),
    ],
)
def test_messages(change, said):
    with pytest.raises(ValueError) as error:
        batch_sharpness(CASES[0].risk(), **{"batch_size": 4, **change})
    assert str(error.value).startswith(said)


def test_more_than_the_data_with_replacement():
    found = batch_sharpness(quadratics([1.0, 3.0]), 50, replacement=True, max_batches=200)
    assert found.value == pytest.approx(2, rel=0.12)


def test_on_float32_as_on_float64():
    risk = CASES[0].risk()
    small = Risk(CASES[0].model(), squared, tuple(t.float() for t in CASES[0].data()))
    with torch.no_grad():
        for p, q in zip(small.parameters, risk.parameters, strict=True):
            p.copy_(q)
    found = [batch_sharpness(r, 4, max_batches=30) for r in (risk, small)]
    assert found[0].settings["method"] == found[1].settings["method"] == "exact, Gram form"
    assert found[1].value == pytest.approx(found[0].value, rel=1e-5)


def test_hidden_scale_of_the_self_check():
    # a curvature far below the squared gradient must still be compared to its own accuracy
    risk = diagonal([1.0, 2.0])
    with Hessian(risk) as hessian:
        assert hessian.curvature(hessian.gradient) > 0
    x, y = CASES[0].data()

    def steep(model, batch):
        f = model(batch[0])
        return 1e6 * f.mean() + 1e-3 * (f.square().mean() + 0.5 * f.mean() ** 2)

    assert chain_refusal(Risk(mlp("identity", 0).double(), steep, (x, y))).startswith("self-check: ")
