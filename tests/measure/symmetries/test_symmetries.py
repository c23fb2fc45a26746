"""Symmetries: every exact one of a table of networks is found, no other is, and looking changes nothing."""

from __future__ import annotations

import pytest
import torch
from tests.measure.hostile import state_of
from tests.measure.symmetries.architectures import ARCHITECTURES
from tests.measure.symmetries.attention import POSITIONS, WIDTH, Block, Separate
from tests.measure.symmetries.networks import NETWORKS, Network
from tests.measure.symmetries.sequences import SEQUENCES
from torch import nn

from sgdscope import measure
from sgdscope.measure.symmetries import Symmetries
from sgdscope.measure.symmetries.verify import rescaled
from sgdscope.risk import Risk

ALL = [*NETWORKS, *SEQUENCES, *ARCHITECTURES]
DTYPES = [torch.float64, torch.float32]


@pytest.mark.parametrize("dtype", DTYPES, ids=["double", "single"])
@pytest.mark.parametrize("network", ALL, ids=lambda n: n.name)
def test_every_symmetry_is_found_and_no_false_one(network: Network, dtype: torch.dtype):
    check(network, measure.symmetries(network.risk(dtype)), dtype)


@pytest.mark.parametrize("network", [n for n in ALL if n.mode is None], ids=lambda n: n.name)
def test_in_eval_mode_too(network: Network):
    check(network, measure.symmetries(network.risk(mode="eval")), torch.float64)


def check(network: Network, found: Symmetries, dtype: torch.dtype) -> None:
    assert {s.name: s.units for s in found.holding} == {**network.exact, **network.up_to_eps}
    assert {s.name for s in found.rejected} == set(network.rejected)
    for s in found.rejected:
        assert network.rejected[s.name] in s.reason
        assert s.residual > 1e-2
    if dtype == torch.float64:
        assert {s.name for s in found if s.status == "up to eps"} == set(network.up_to_eps)
    assert {s.name: s.blocks for s in found if s.group} == network.mixed
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    for s in found.holding:
        assert s.difference is not None
        assert s.difference <= tolerance
        assert s.residual <= tolerance or s.status == "up to eps"


def by_name(name: str) -> Risk:
    return next(n for n in ALL if n.name == name).risk()


@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_units_that_are_not_homogeneous_are_rejected_with_a_large_residual(name):
    assert all(s.residual > 1e-2 for s in measure.symmetries(by_name(name)))


@pytest.mark.parametrize("name", [
    "mlp", "resnet with BatchNorm", "dropout", "looks at values", "weight norm", "encoder layer", "recurrent",
    "experts chosen by tokens, in keywords and dictionaries",
])  # fmt: skip
def test_looking_changes_nothing(name):
    risk = by_name(name)
    for p in risk.parameters:
        p.grad = torch.ones_like(p)
    list(risk.model.modules())[-1].eval()
    before, others = state_of(risk.model)
    random = torch.get_rng_state()
    measure.charges(risk, measure.symmetries(risk))
    assert torch.equal(random, torch.get_rng_state())
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks
    after, others_after = state_of(risk.model)
    assert [key for key, tensor in before.items() if not torch.equal(tensor, after[key])] == []
    assert others == others_after


def test_a_table_for_people():
    text = str(measure.symmetries(by_name("mlp")))
    assert text.startswith("2 symmetries hold, 0 rejected, on 16 samples")
    assert "3.weight[:, i]" in text
    assert "1.weight[i], 1.bias[i]" in text
    assert "rejected: Tanh is not homogeneous" in str(measure.symmetries(by_name("tanh")))
    assert "b.weight[:, i]^2" in str(measure.symmetries(by_name("degree two and constants")))
    risk = Risk(nn.Linear(3, 2).double(), lambda m, b: m(b).square().mean(), torch.ones(4, 3).double())
    assert str(measure.symmetries(risk)) == "no symmetry proposed"


def test_a_table_of_attention():
    text = str(measure.symmetries(by_name("one layer for all three, unbind")))
    assert "2 heads" in text
    assert "qkv.weight[i in 0:8], qkv.bias[i in 0:8]" in text
    assert "exact; general linear, 4 × 4 in each of 2" in text


def test_like_blocks_share_a_line_where_there_are_many():
    blocks = [Block(Separate()) for _ in range(4)]
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        model = nn.Sequential(*blocks).double()
    x = torch.randn(20, POSITIONS, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = measure.symmetries(Risk(model, lambda m, b: m(b).square().mean(), x))
    lines = str(found).splitlines()
    assert len(found.holding) == 4 * 5
    assert len(lines) == 2 + 5
    assert any("0.attention.q · 0.attention.k (and 3 alike)" in line and "2 heads" in line for line in lines)


def test_it_says_what_it_could_not_look_through():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 9), nn.Unfold(1), nn.Linear(81, 2)).double()
    x = torch.randn(20, 1, 9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = measure.symmetries(Risk(model, lambda m, b: m(b).square().mean(), x))
    assert [s.name for s in found.holding] == ["0 → 2"]
    assert found.notes == ("not looked through, and taken to fix the scale: im2col",)
    assert measure.symmetries(by_name("mlp")).notes == ()
    assert "BatchNorm in train mode" in str(measure.symmetries(by_name("BatchNorm after a bias")))


def test_a_loss_that_cannot_be_watched_is_told():
    """Symmetries given by hand are verified all the same."""

    def loss(model, batch):
        if torch.utils._python_dispatch._get_current_dispatch_mode() is not None:
            raise RuntimeError("not here")
        return model(batch).square().sum(-1).mean()

    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2)).double()
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = measure.symmetries(Risk(model, loss, x), custom={"mine": {"0.weight": -1, "2.weight": 1}})
    assert [(s.name, s.status) for s in found] == [("mine", "exact")]
    assert "nothing was looked for: the loss cannot be watched (not here)" in str(found)


def test_found_by_place_and_by_name():
    found = measure.symmetries(by_name("mlp"))
    assert found["3 → 5"] is found[1]
    assert len(found) == 2
    with pytest.raises(KeyError, match="1 → 3"):
        found["nothing"]


def test_without_its_bias_a_rescaling_is_none():
    risk = by_name("mlp")
    custom = {
        "whole layer": {"1.weight": -1, "1.bias": -1, "3.weight": 1},
        "one neuron": {
            "1.weight": -torch.eye(6)[2][:, None], "1.bias": -torch.eye(6)[2], "3.weight": torch.eye(6)[2]
        },
        "bias forgotten": {"1.weight": -1, "3.weight": 1},
    }  # fmt: skip
    found = measure.symmetries(risk, custom=custom)
    assert found["whole layer"].status == found["one neuron"].status == "exact"
    assert found["bias forgotten"].status == "rejected"
    assert found["bias forgotten"].residual > 1e-3
    assert found["whole layer"].charges[0] == pytest.approx(sum(found["1 → 3"].charges), rel=1e-12)
    assert found["one neuron"].charges[0] == pytest.approx(found["1 → 3"].charges[2], rel=1e-12)


def test_powers_other_than_one():
    """A matrix that acts twice divides the output by λ²."""
    risk = by_name("tied back")
    found = measure.symmetries(risk, custom={"twice": {"there.weight": -1, "head.weight": 2}})
    assert found["twice"].status == "exact"
    norms = [p.detach().square().sum() for p in (risk.model.there.weight, risk.model.head.weight)]
    for name in ("twice", "there → head"):
        assert found[name].charges[0] == pytest.approx(float(2 * norms[1] - norms[0]), rel=1e-12)


def test_scale_invariance_given_by_hand():
    risk = by_name("LayerNorm")
    custom = {"before": {"1.weight": 1, "1.bias": 1}, "after": {"2.weight": 1, "2.bias": 1}}
    found = measure.symmetries(risk, custom=custom)
    assert found["before"].status == found["1 → 2"].status == "up to eps"
    assert found["before"].residual == pytest.approx(found["1 → 2"].residual, rel=1e-6)
    assert found["after"].status == "rejected"


@pytest.mark.parametrize("network", [n for n in ALL if n.exact], ids=lambda n: n.name)
def test_any_positive_scales_leave_outputs_alone(network: Network):
    risk = network.risk()
    batch = risk.draw(8, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    found = measure.symmetries(risk)
    for name in network.exact:
        s = found[name]
        scales = torch.empty(s.units, dtype=torch.float64).uniform_(0.3, 3, generator=generator)
        moved = rescaled(risk, s, scales)
        assert risk.value(batch, at=moved) == pytest.approx(risk.value(batch), rel=1e-12)


def test_columns_of_an_embedding():
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        model = nn.Sequential(nn.Embedding(7, 4), nn.ReLU(), nn.Flatten(), nn.Linear(20, 2)).double()
    ids = torch.randint(7, (20, 5), generator=torch.Generator().manual_seed(0))
    risk = Risk(model, lambda m, b: m(b[0]).square().sum(-1).mean(), (ids,))
    found = measure.symmetries(risk)
    assert [(s.name, s.units, s.status) for s in found] == [("0 → 3", 4, "exact")]  # spread by flattening


def test_units_that_no_gradient_reaches_are_no_evidence():
    risk = by_name("mlp")
    with torch.no_grad():
        risk.model[1].bias[:2] = -1e3
    assert measure.symmetries(risk)["1 → 3"].silent == 2
    with torch.no_grad():
        risk.model[1].bias[:] = -1e3
    found = measure.symmetries(risk)["1 → 3"]
    assert found.status == "rejected"
    assert "no evidence" in found.reason


def test_a_function_of_parameters():
    """Written down, not a module: its steps are looked at too."""
    start = [torch.full((3,), 2.0).double(), torch.ones(3).double()]
    risk = Risk.of_function(lambda theta: (theta[0] * theta[1] - 1).square().sum(), start)
    found = measure.symmetries(risk, custom={"product": {"theta0": 1, "theta1": -1}, "one": {"theta0": 1}})
    assert [(s.name, s.units, s.status) for s in found] == [
        ("theta0 · theta1", 3, "exact"), ("product", 1, "exact"), ("one", 1, "rejected")
    ]  # fmt: skip
    assert found["product"].charges == (9.0,)


def test_a_loss_may_forget_what_outputs_show():
    """Outputs change when the last layer is scaled; the loss, which divides by their norm, does not."""
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    x, y = (torch.randn(20, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in (4, 3))
    risk = Risk(model, lambda m, b: -nn.functional.cosine_similarity(m(b[0]), b[1]).mean(), (x, y))
    found = measure.symmetries(risk)
    assert [(s.name, s.kind, s.units) for s in found.holding] == [
        ("0 → 2", "rescaling", 5), ("2", "scale invariance", 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "at least 1 sample"),
        ({"custom": {"a": {"nothing": 1}}}, "got 'nothing' in 'a'"),
        ({"custom": {"a": {"1.weight": torch.ones(7, 7)}}}, "broadcast to"),
        ({"custom": {"a": {"1.weight": float("nan")}}}, "finite powers"),
        ({"custom": {"a": {"1.weight": 0}}}, "scales something"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        measure.symmetries(by_name("mlp"), **options)


def test_low_precision_is_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).bfloat16()
    risk = Risk(model, lambda m, b: m(b[0]).float().square().mean(), (torch.ones(8, 4).bfloat16(),))
    with pytest.raises(ValueError, match="single or double precision"):
        measure.symmetries(risk)
