"""Noise traces: against gradients of single samples, one by one, and against the reference of the law of balance."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgdscope import measure
from sgdscope.measure.noise_traces import Totals, noise_traces
from sgdscope.measure.noise_traces import gather as gathering
from sgdscope.measure.noise_traces import sums as summing
from sgdscope.measure.symmetries import Part, Symmetry
from sgdscope.per_sample import per_sample_gradients
from sgdscope.risk import Risk

SAMPLES = 40


def squared(model, batch):
    x, y = batch
    return (model(x) - y).square().sum(-1).mean()


class Attention(nn.Module):
    """Linear layers on several positions, behind an embedding and a LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(7, 6), nn.LayerNorm(6)
        self.wide, self.narrow, self.head = nn.Linear(6, 9), nn.Linear(9, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding((x.flatten(1)[:, :5].abs() * 3).long() % 7)
        return self.head((x + self.narrow(torch.relu(self.wide(self.norm(x))))).mean(1))


class TwoHeads(nn.Module):
    """Goes through no layer of known kind: parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(16, 5) / 4), nn.Parameter(torch.randn(5, 3) / 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x.flatten(1) @ self.first) @ self.second


def by_hand(model):
    """The rescaling symmetry of `TwoHeads`, which has no layers to find it in."""
    return [Symmetry("first → second", "rescaling", 5,
                     (Part("second", (5, 3), (0,), 1.0), Part("first", (16, 5), (1,), -1.0)))]  # fmt: skip


MODELS = {
    "mlp": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)
    ),
    "cnn": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 2, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6, 3),
    ),
    "norms": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3)
    ),
    "positions": Attention,
    "no layers": TwoHeads,
}


def risk_of(name, *, dtype=torch.float64, samples=SAMPLES, seed=0, **settings):
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = MODELS[name]().to(dtype)
        x, y = torch.randn(samples, 1, 4, 4, dtype=dtype), torch.randn(samples, 3, dtype=dtype)
    return Risk(model, squared, (x, y), **settings)


def found_in(risk):
    found = by_hand(risk.model) if isinstance(risk.model, TwoHeads) else measure.symmetries(risk).holding
    assert found
    return found


def exact(risk, symmetry):
    """(noise_u, noise_w, mean gradient charge) by unit from the gradients of all samples."""
    rows = dict(zip(risk.names, per_sample_gradients(risk, risk.source.batch, method="loop"), strict=True))
    noise = {True: torch.zeros(symmetry.units), False: torch.zeros(symmetry.units)}
    mean = torch.zeros(symmetry.units)
    for part in symmetry.parts:
        g = rows[part.name].double()
        noise[part.power > 0] = noise[part.power > 0] + part.sums(g.var(0, unbiased=False)).abs()
        mean = mean + part.sums(g.mean(0).square())
    return noise[True], noise[False], mean


@pytest.mark.parametrize("name", MODELS)
def test_all_data_give_the_traces_of_single_gradients(name):
    risk = risk_of(name)
    for traces in noise_traces(risk, found_in(risk), samples=1000):
        noise_u, noise_w, mean = exact(risk, traces.symmetry)
        scale = float(noise_u.sum() + noise_w.sum())
        for got, expected in ((traces.noise_u, noise_u), (traces.noise_w, noise_w),
                              (traces.mean_gradient_charge, mean)):  # fmt: skip
            assert got.shape == (traces.symmetry.units,)
            torch.testing.assert_close(got, expected.double(), rtol=1e-11, atol=1e-13 * scale)
        assert traces.replicates == ()
        assert traces.error(lambda t: t.noise_u) == 0
        assert traces.fraction == 1
        assert traces.method.startswith("explicit" if name == "no layers" else "layer by layer")


@pytest.mark.parametrize("name", MODELS)
def test_charges_are_those_of_the_symmetry(name):
    risk = risk_of(name)
    found = found_in(risk)
    named = dict(zip(risk.names, risk.parameters, strict=True))
    for traces in noise_traces(risk, found, samples=8):
        charge = sum(p.sums(named[p.name].detach().square()) for p in traces.symmetry.parts)
        torch.testing.assert_close(traces.charge, charge)
        torch.testing.assert_close(traces.squared_norm_u - traces.squared_norm_w, charge)


def test_the_reference_of_the_law_of_balance():
    # ℓ = (u w x − y)² with u = 1.2, w = 0.5 on four samples: Tr Cov_u = 0.641875, Tr Cov_w = 3.6972, mean ψ = 1.45
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Identity(), nn.Linear(1, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.fill_(0.5)
        model[2].weight.fill_(1.2)
    x = torch.tensor([1, 2, -1, 0.5], dtype=torch.float64)[:, None]
    y = torch.tensor([0.5, 1, 1.5, -0.3], dtype=torch.float64)[:, None]
    (traces,) = noise_traces(Risk(model, squared, (x, y)), samples=4)
    assert traces.total.noise_u == pytest.approx(0.641875, rel=1e-12)
    assert traces.total.noise_w == pytest.approx(3.6972, rel=1e-12)
    assert traces.total.mean_gradient_charge == pytest.approx(1.45**2 * (0.5**2 - 1.2**2), rel=1e-12)
    assert float(traces.charge) == pytest.approx(1.19)


@pytest.mark.parametrize("name", ["mlp", "cnn", "no layers"])
def test_samples_are_unbiased_and_know_their_error(name):
    risk = risk_of(name)
    found = found_in(risk)[:1]
    (full,) = noise_traces(risk, found, samples=SAMPLES)
    drawn = [
        noise_traces(risk, found, samples=20, generator=torch.Generator().manual_seed(seed))[0] for seed in range(120)
    ]
    for place, component in enumerate(Totals._fields):
        values = torch.tensor([t.total[place] for t in drawn])
        errors = torch.tensor([t.error(lambda totals: totals[place]) for t in drawn])  # noqa: B023
        spread = float(values.std())
        assert abs(float(values.mean()) - full.total[place]) < 3.5 * spread / math.sqrt(len(drawn)), component
        assert 0.8 < float(errors.square().mean().sqrt()) / spread < 1.6, component


@pytest.mark.parametrize("name", ["mlp", "cnn", "positions", "no layers"])
def test_chunks_and_blocks_change_nothing(name, monkeypatch):
    whole, pieces = risk_of(name), risk_of(name, chunk_size=7)
    found = found_in(whole)
    seed = torch.Generator().manual_seed
    first = noise_traces(whole, found, samples=30, generator=seed(3))
    monkeypatch.setattr(gathering, "_FORMED", 4096)
    monkeypatch.setattr(summing, "GRAM_UP_TO", 0)
    for again in (pieces, whole):
        for one, other in zip(first, noise_traces(again, found, samples=30, generator=seed(3)), strict=True):
            torch.testing.assert_close(one.noise_w, other.noise_w, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(one.mean_gradient_charge, other.mean_gradient_charge, rtol=1e-9, atol=1e-11)
            torch.testing.assert_close(torch.tensor(one.replicates), torch.tensor(other.replicates))


def test_replicates_leave_a_block_out():
    """Each replicate is the estimate from the other samples."""
    risk = risk_of("mlp")
    found = found_in(risk)[:1]
    (traces,) = noise_traces(risk, found, samples=32, generator=torch.Generator().manual_seed(5))
    order = gathering.draw_indices(SAMPLES, 32, torch.Generator().manual_seed(5))
    assert len(traces.replicates) == 16
    kept = order[2:]  # blocks of two
    rows = dict(zip(risk.names, per_sample_gradients(risk, risk.source.take(kept), method="loop"), strict=True))
    noise_u = sum(float(rows[p.name].var(0).sum()) for p in found[0].u) * (SAMPLES - 1) / SAMPLES
    assert traces.replicates[0].noise_u == pytest.approx(noise_u, rel=1e-11)


def test_powers_of_both_signs_in_one_parameter():
    """A symmetry given by hand, with powers element by element, is split into its sides."""
    risk = risk_of("mlp")
    powers = torch.zeros(6, 8, dtype=torch.float64)
    powers[:, 0], powers[:, 1] = 2.0, -1.0
    custom = Symmetry("mine", "custom", 1, (Part("3.weight", (6, 8), (), powers),))
    (traces,) = noise_traces(risk, [custom], samples=SAMPLES)
    (sampled,) = noise_traces(risk, [custom], samples=30)
    rows = dict(zip(risk.names, per_sample_gradients(risk, risk.source.batch), strict=True))
    variance = rows["3.weight"].var(0, unbiased=False)
    assert traces.total.noise_u == pytest.approx(2 * float(variance[:, 0].sum()))
    assert traces.total.noise_w == pytest.approx(float(variance[:, 1].sum()))
    assert len(sampled.replicates) == 16
    mean = sum(r.noise_w for r in sampled.replicates) / 16
    assert mean == pytest.approx(sampled.total.noise_w, rel=1e-2)


@pytest.mark.parametrize("samples", [SAMPLES, 30])
def test_units_that_own_part_of_a_parameter(samples):
    """As in one matrix for queries, keys and values: columns 5 to 7 of the second layer belong to nobody."""
    risk = risk_of("mlp")
    owners = torch.tensor([0, 0, 1, 1, 2, -1, -1, -1])
    parts = (Part("3.weight", (6, 8), (1,), 1.0, owners), Part("1.weight", (8, 16), (0,), -1.0, owners))
    (traces,) = noise_traces(risk, [Symmetry("mine", "rescaling", 3, parts)], samples=samples)
    order = torch.arange(SAMPLES)
    if samples < SAMPLES:
        order = gathering.draw_indices(SAMPLES, samples, torch.Generator().manual_seed(0))
    rows = dict(zip(risk.names, per_sample_gradients(risk, risk.source.take(order)), strict=True))
    variance = rows["3.weight"].var(0) * (SAMPLES - 1) / SAMPLES
    by_unit = [float(variance[:, columns].sum()) for columns in ((0, 1), (2, 3), (4,))]
    assert traces.noise_u.tolist() == pytest.approx(by_unit)
    if samples < SAMPLES:
        left = rows["3.weight"][2:, :, :5].var(0).sum() * (SAMPLES - 1) / SAMPLES  # without the first of 16 blocks
        assert traces.replicates[0].noise_u == pytest.approx(float(left))


def test_scale_invariance_has_one_side():
    risk = risk_of("norms")
    found = [s for s in found_in(risk) if s.kind == "scale invariance"]
    assert found
    for traces in noise_traces(risk, found, samples=30):
        assert traces.total.noise_u > 0
        assert traces.total.noise_w == 0
        assert all(replicate.noise_w == 0 for replicate in traces.replicates)


def test_single_precision_keeps_small_noise_beside_a_large_mean():
    """The mean gradient is subtracted: here its square is two thousand times the noise of a sample."""

    def risk_in(dtype):
        generator = torch.Generator().manual_seed(2)
        x = (1 + 0.02 * torch.randn(64, 1, 4, 4, generator=generator)).to(dtype)
        y = (30 + 0.02 * torch.randn(64, 3, generator=generator)).to(dtype)
        with torch.random.fork_rng([]):
            torch.manual_seed(1)
            return Risk(MODELS["mlp"]().to(dtype), squared, (x, y))

    single, double = risk_in(torch.float32), risk_in(torch.float64)
    for low, high in zip(noise_traces(single, samples=64), noise_traces(double, samples=64), strict=True):
        assert low.total.noise_u == pytest.approx(high.total.noise_u, rel=5e-3)
        assert low.total.noise_w == pytest.approx(high.total.noise_w, rel=5e-3)


def batch_norm_risk(**settings):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 6), nn.ReLU(),
            nn.Linear(6, 3),
        ).double()  # fmt: skip
        x, y = torch.randn(64, 1, 4, 4).double(), torch.randn(64, 3).double()
    return Risk(model, squared, (x, y), **settings)


def test_batch_norm_takes_batches_in_place_of_samples():
    risk = batch_norm_risk()
    found = measure.symmetries(risk).holding
    with pytest.raises(ValueError, match=r"BatchNorm in train mode[^\n]*\n[^\n]*batch_size"):
        noise_traces(risk, found)
    with pytest.raises(ValueError, match="at least 4 batches of 8, got 24"):
        noise_traces(risk, found, samples=24, batch_size=8)
    traces = noise_traces(risk, found, samples=8 * 400, batch_size=8, replacement=True)
    generator = torch.Generator().manual_seed(9)
    gradients = [risk.gradient(risk.draw(8, generator, replacement=True))[1] for _ in range(400)]
    rows = {name: torch.stack([g[i] for g in gradients]) for i, name in enumerate(risk.names)}
    for each in traces:
        noise_w = 8 * sum(float(rows[p.name].var(0).sum()) for p in each.symmetry.w)
        error = each.error(lambda t: t.noise_w)
        assert (each.unit, each.fraction) == (8, 0.0)
        assert "BatchNorm in train mode" in each.method
        assert abs(each.total.noise_w - noise_w) <= 4 * math.sqrt(2) * error
        assert error < 0.2 * noise_w or noise_w == 0


def test_dropout_has_a_mask_for_each_sample():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3)).double()
        data = torch.randn(20, 4).double(), torch.randn(20, 3).double()
    risk = Risk(model, squared, data)
    (traces,) = noise_traces(risk, measure.symmetries(risk), samples=20)
    assert traces.fraction == 0  # masks are without end: all data are not all there is
    assert traces.replicates
    assert traces.error(lambda t: t.noise_u) > 0


def test_undisturbed():
    risk = risk_of("cnn")
    found = found_in(risk)
    before = [p.detach().clone() for p in risk.parameters]
    state = torch.get_rng_state()
    noise_traces(risk, found, samples=20)
    assert all(torch.equal(a, b) for a, b in zip(before, risk.parameters, strict=True))
    assert all(p.grad is None for p in risk.parameters)
    assert torch.equal(state, torch.get_rng_state())


def test_looks_for_symmetries_itself():
    risk = risk_of("mlp")
    assert [t.symmetry.name for t in noise_traces(risk)] == ["1 → 3", "3 → 5"]
    assert noise_traces(Risk(nn.Linear(16, 3), lambda m, b: F.mse_loss(m(b[0]), b[1]),
                             (torch.randn(9, 16), torch.randn(9, 3)))) == ()  # fmt: skip


def test_refusals():
    risk = risk_of("mlp")
    with pytest.raises(ValueError, match="at least 4 samples, got 3"):
        noise_traces(risk, samples=3)
    with pytest.raises(ValueError, match="symmetries of this risk's model, got one of second"):
        noise_traces(risk, by_hand(risk.model))
    ragged = Risk(risk.model, squared, [
        (torch.randn(5, 1, *sides).double(), torch.randn(5, 3).double()) for sides in ((4, 4), (2, 8))
    ])  # fmt: skip
    with pytest.raises(ValueError, match="drawn sample by sample, got a list of batches"):
        noise_traces(ragged, found_in(risk))
    with torch.no_grad():
        risk.parameters[0].fill_(math.inf)
    with pytest.raises(FloatingPointError, match="not finite"):
        noise_traces(risk, found_in(risk_of("mlp")))
