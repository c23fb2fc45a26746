"""Rescaling: the same function, balanced; what is known of the balanced network by formula; nothing else touched."""

import copy
import math
import threading

import pytest
import torch
from tests.measure.symmetries.networks import CLASSES, NETWORKS, SIDE, Network, depthwise, perceptron, squared
from torch import nn

from sgdscope.balance import rescale
from sgdscope.measure import noise_traces, symmetries
from sgdscope.risk import Risk
from sgdscope.theory import balance as theory

ONE_SIDED = ("weight norm", "norm written out")
"""Scale-invariant weights have no other side to be balanced with."""
MOVABLE = [n for n in NETWORKS if n.exact and n.name not in ONE_SIDED]
BY_NAME = {n.name: n for n in NETWORKS}
BATCH = 4
"""Samples per batch where samples have no gradients of their own."""


FOUND = {}
"""Symmetries by network and precision: the search takes longer than all else."""


def moved(network: Network, dtype=torch.float64, **settings):
    risk = network.risk(dtype)
    key = (network.model, dtype)
    if key not in FOUND:
        FOUND[key] = symmetries(risk)
    mixing = {"batch_size": BATCH, "samples": 4 * BATCH} if risk.batch_dependent else {}
    return risk, rescale(risk, FOUND[key], **(mixing | settings))


def outputs(risk, model=None):
    """Of the model in its mode, dropout and random slopes off."""
    model = copy.deepcopy(risk.model if model is None else model).train(risk.mode == "train")
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.RReLU):
            module.eval()
    with torch.no_grad():
        return model(next(risk.chunks())[0])


@pytest.mark.parametrize("to", ["noise", "norm"])
@pytest.mark.parametrize("network", MOVABLE, ids=lambda n: n.name)
def test_the_function_stays_and_units_are_balanced(network, to):
    risk, found = moved(network, torch.float32, to=to)
    before, after = outputs(risk), outputs(risk, found.there().model)
    assert float((after - before).abs().max()) <= 1e-6 * float(before.abs().max())
    assert found.difference <= 1e-6
    assert found.residual <= 1e-9
    assert found.least[1] < found.least[0]
    for pair in found.after:
        if to == "norm":
            assert pair.norm_imbalance_of_a_unit < 1e-6
        elif not risk.batch_dependent and not risk.random:  # else measured anew on other draws
            assert pair.noise_imbalance_of_a_unit < 1e-5
            assert abs(float(pair.noise_imbalance)) < 1e-5


@pytest.mark.parametrize("to", ["noise", "norm"])
@pytest.mark.parametrize("network", MOVABLE, ids=lambda n: n.name)
def test_powers_of_two_leave_outputs_bit_for_bit(network, to):
    risk, found = moved(network, torch.float32, to=to, exact=True)
    assert torch.equal(outputs(risk), outputs(risk, found.there().model))
    assert found.difference == 0
    free = moved(network, torch.float32, to=to)[1]
    for name, scales in found.scales.items():
        assert torch.equal(scales.log2(), scales.log2().round())
        assert float((scales / free.scales[name]).log2().abs().max()) <= 0.5 + 1e-6


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet", "LayerNorm", "written forward"])
def test_noise_measured_anew_is_balanced_unit_by_unit(name):
    _, found = moved(BY_NAME[name])
    left = {pair.name: found.left_alone.get(pair.name, 0) for pair in found.after}
    for traces in noise_traces(found.there(), symmetries(found.there())):
        if traces.symmetry.name in left:
            off = (traces.noise_u - traces.noise_w).abs() > 1e-8 * (traces.noise_u + traces.noise_w)
            assert int(off.sum()) <= left[traces.symmetry.name]


def test_one_pair_as_the_formula_says():
    risk, found = moved(BY_NAME["summed up"])
    (before,) = noise_traces(risk, symmetries(risk))
    right = theory.rescaling_equilibrium(float(before.noise_u), float(before.noise_w))
    assert float(found.scales["conv → head"]) == pytest.approx(right.scale, rel=1e-8)
    norms = float(before.squared_norm_u), float(before.squared_norm_w)
    by_norm = moved(BY_NAME["summed up"], to="norm")[1]
    assert float(by_norm.scales["conv → head"]) == pytest.approx((norms[1] / norms[0]) ** 0.25, rel=1e-8)


@pytest.mark.parametrize("replacement", [False, True])
def test_one_pair_with_weight_decay_as_the_formula_says(replacement):
    lr, batch_size, decay = 0.1, 6, 0.05
    risk, found = moved(BY_NAME["summed up"], lr=lr, batch_size=batch_size, weight_decay=decay, replacement=replacement)
    (before,) = noise_traces(risk, symmetries(risk))
    share = 1 if replacement else (risk.size - batch_size) / (risk.size - 1)
    right = theory.rescaling_equilibrium(
        float(before.noise_u), float(before.noise_w), squared_norm_u=float(before.squared_norm_u),
        squared_norm_w=float(before.squared_norm_w), temperature=share * lr / batch_size, weight_decay=decay / 2,
    )  # fmt: skip
    assert float(found.scales["conv → head"]) == pytest.approx(right.scale, rel=1e-8)


@pytest.mark.parametrize("name", ["mlp", "resnet"])
def test_with_weight_decay_no_charge_moves(name):
    lr, batch_size, decay = 0.2, 4, 0.02
    risk, found = moved(BY_NAME[name], lr=lr, batch_size=batch_size, weight_decay=decay)
    temperature = lr / batch_size * (risk.size - batch_size) / (risk.size - 1)
    for traces in noise_traces(found.there(), symmetries(found.there())):
        rates = temperature * (traces.noise_u - traces.noise_w) - 2 * decay * traces.charge
        terms = temperature * (traces.noise_u + traces.noise_w) + 2 * decay * (
            traces.squared_norm_u + traces.squared_norm_w)  # fmt: skip
        assert float((rates / terms).abs().max()) < 1e-8


@pytest.mark.parametrize("to", ["noise", "norm"])
@pytest.mark.parametrize("name", ["prelu", "resnet", "GroupNorm"])
def test_every_start_on_the_orbit_ends_at_the_same_weights(name, to):
    risk, found = moved(BY_NAME[name], to=to)
    generator = torch.Generator().manual_seed(3)
    theta = dict(zip(risk.names, risk.parameters, strict=True))
    with torch.no_grad():
        for symmetry in symmetries(risk).holding:
            if symmetry.status != "exact":
                continue
            scales = torch.rand(symmetry.units, generator=generator, dtype=torch.float64) * 3 + 0.3
            for part in symmetry.parts:
                theta[part.name] *= part.factors(scales, theta[part.name])
    again = rescale(risk, to=to)
    for key, weights in again.weights.items():
        torch.testing.assert_close(weights, found.weights[key], rtol=1e-6, atol=1e-9)


def test_noise_balance_has_the_least_noise_and_norm_balance_the_least_norm():
    risk, by_noise = moved(BY_NAME["mlp"])
    by_norm = rescale(risk, to="norm")
    size = {to: sum(float(w.square().sum()) for w in x.weights.values()) for to, x in
            (("noise", by_noise), ("norm", by_norm))}  # fmt: skip
    now = sum(float(p.detach().square().sum()) for p in risk.parameters)
    assert size["norm"] < min(now, size["noise"])

    def noise(of):
        gradients = [torch.cat([g.reshape(-1) for g in of.gradient(of.source.take(torch.tensor([i])))[1]])
                     for i in range(of.size)]  # fmt: skip
        return float(torch.stack(gradients).var(0, correction=0).sum())

    assert noise(by_noise.there()) < min(noise(risk), noise(by_norm.there()))
    # all that is in no rescaling is the bias of the last layer
    assert by_noise.least[0] - by_noise.least[1] == pytest.approx(noise(risk) - noise(by_noise.there()), rel=1e-8)


def test_nothing_is_touched():
    risk = BY_NAME["resnet with BatchNorm"].risk(torch.float32)
    for p in risk.parameters:
        p.grad = torch.ones_like(p)
    before = copy.deepcopy(risk.model.state_dict())
    random, modes = torch.get_rng_state(), [m.training for m in risk.model.modules()]
    rescale(risk, symmetries(risk, samples=2), batch_size=BATCH, samples=16)
    assert all(torch.equal(v, before[k]) for k, v in risk.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert [m.training for m in risk.model.modules()] == modes
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in risk.parameters)


def test_apply_writes_the_weights_once():
    risk, found = moved(BY_NAME["cnn"], torch.float32)
    before = outputs(risk)
    places = [p.data_ptr() for p in risk.parameters]
    found.apply()
    assert [p.data_ptr() for p in risk.parameters] == places
    assert all(torch.equal(p, found.weights[n]) for n, p in zip(risk.names, risk.parameters, strict=True))
    torch.testing.assert_close(outputs(risk), before, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="has moved since"):
        found.apply()


def test_apply_refuses_weights_that_have_moved():
    risk, found = moved(BY_NAME["mlp"])
    with torch.no_grad():
        risk.parameters[0][0, 0] += 1e-6
    kept = [p.detach().clone() for p in risk.parameters]
    with pytest.raises(ValueError, match="call rescale again"):
        found.apply()
    assert all(torch.equal(p, k) for p, k in zip(risk.parameters, kept, strict=True))


OPTIMIZERS = [
    lambda p: torch.optim.SGD(p, lr=0.0, momentum=0.9),
    lambda p: torch.optim.SGD(p, lr=0.0, momentum=0.9, nesterov=True),
    lambda p: torch.optim.Adam(p, lr=0.0, amsgrad=True),
    lambda p: torch.optim.AdamW(p, lr=0.0, weight_decay=0.1),
    lambda p: torch.optim.NAdam(p, lr=0.0),
    lambda p: torch.optim.RAdam(p, lr=0.0),
    lambda p: torch.optim.RMSprop(p, lr=0.0, momentum=0.9, centered=True, eps=0.0),
    lambda p: torch.optim.Adagrad(p, lr=0.0),
]


@pytest.mark.parametrize("made", OPTIMIZERS, ids=lambda made: type(made([torch.zeros(1)])).__name__)
def test_the_state_is_that_of_gradients_at_the_rescaled_weights(made):
    def stepped(risk):
        optimizer = made(risk.parameters)
        for start in (0, 8, 16):  # lr 0: all gradients are taken at the same weights
            optimizer.zero_grad()
            risk.loss_fn(risk.model, risk.source.take(torch.arange(start, start + 8))).backward()
            optimizer.step()
        return optimizer

    risk, found = moved(BY_NAME["prelu"])
    right = stepped(found.there())
    optimizer = stepped(risk)
    found.apply(optimizer)
    for state, wanted in zip(optimizer.state.values(), right.state.values(), strict=True):
        assert state.keys() == wanted.keys()
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(value, wanted[key], rtol=1e-9, atol=1e-15)


def test_the_state_of_a_strange_optimizer_is_refused_before_anything_moves():
    risk, found = moved(BY_NAME["mlp"])
    optimizer = torch.optim.Adadelta(risk.parameters)
    risk.loss_fn(risk.model, next(risk.chunks())).backward()
    optimizer.state[risk.parameters[0]]["square_avg"] = torch.ones(1)
    kept = [p.detach().clone() for p in risk.parameters]
    with pytest.raises(ValueError, match="got Adadelta"):
        found.apply(optimizer)
    assert all(torch.equal(p, k) for p, k in zip(risk.parameters, kept, strict=True))
    found.apply(torch.optim.Adadelta(risk.parameters))  # without state there is nothing to go along


def test_units_that_are_dead_or_one_sided_are_left_alone():
    risk = Network("", lambda: perceptron("relu")).risk()
    first, second = risk.model[1], risk.model[3]
    with torch.no_grad():
        first.bias[0] = -1e6  # never active: no gradient on either side
        second.weight[:, 1] = 0  # nothing reads it
    noise, norm = rescale(risk), rescale(risk, to="norm")
    assert noise.left_alone["1 → 3"] >= 2
    assert noise.scales["1 → 3"][:2].tolist() == [1, 1]
    assert norm.scales["1 → 3"][1] == 1  # no norm on one side; the dead unit has one
    assert norm.left_alone == {"1 → 3": 1}
    assert "left alone" in str(norm)
    assert noise.residual < 1e-9


def test_scales_stop_at_the_limit():
    _, found = moved(BY_NAME["summed up"], limit=1.5)
    assert float(found.scales["conv → head"]) == pytest.approx(1.5)
    assert found.at_limit == {"conv → head": 1}
    assert "stopped at the limit, a factor of 1.5" in str(found)
    assert found.difference < 1e-12


def test_chosen_symmetries_only():
    risk = BY_NAME["mlp"].risk()
    found = rescale(risk, [symmetries(risk)["3 → 5"]], to="norm")
    assert list(found.scales) == ["3 → 5"]
    assert torch.equal(found.weights["1.weight"], risk.parameters[0])


def test_custom_generators_too():
    risk = BY_NAME["mlp"].risk()
    powers = {"1.weight": -2.0, "1.bias": -2.0, "3.weight": 2.0}
    with torch.no_grad():
        risk.model[3].weight *= 5
    named = symmetries(risk, custom={"mine": powers})
    found = rescale(risk, [named["mine"]], to="norm")
    u, w = (float(sum(found.weights[k].square().sum() for k in keys)) for keys in
            (["3.weight"], ["1.weight", "1.bias"]))  # fmt: skip
    assert u == pytest.approx(w, rel=1e-8)
    assert found.difference < 1e-12


def test_generators_of_several_powers_in_one_parameter():
    risk = BY_NAME["mlp"].risk()
    first, second = torch.ones(6, 1, dtype=torch.float64), torch.ones(5, 6, dtype=torch.float64)
    first[1], second[:, 1] = -2, 2  # unit 1 at twice the rate, unit 0 not at all, the others once and the other way
    first[0], second[:, 0] = 0, 0
    second[:, 2:] *= -1
    named = symmetries(risk, custom={"mine": {"1.weight": first, "1.bias": first[:, 0], "3.weight": second}})
    assert named["mine"].holds
    found = rescale(risk, [named["mine"]], to="norm")
    moved = {key: found.weights[key].square() for key in ("1.weight", "1.bias", "3.weight")}
    charge = sum((powers * moved[key]).sum() for key, powers in
                 (("1.weight", first), ("1.bias", first[:, 0]), ("3.weight", second)))  # fmt: skip
    assert abs(float(charge)) < 1e-8
    assert float(found.scales["mine"]) != 1
    assert torch.equal(found.weights["1.weight"][0], risk.parameters[0][0])
    assert found.difference < 1e-12


def test_what_holds_up_to_eps_is_moved_when_asked_for_and_needs_decay():
    network = BY_NAME["BatchNorm after a bias"]
    settings = {"lr": 0.1, "batch_size": BATCH, "weight_decay": 0.01}
    risk, plain = moved(network, **settings)
    assert set(plain.scales) == {"1 → 5"}
    both = rescale(risk, up_to_eps=True, **settings)
    assert set(both.scales) == {"1 → 5", "0 → 1"}
    assert not both.left_alone
    assert both.difference < 1e-2  # eps is seen
    without = rescale(risk, up_to_eps=True, batch_size=BATCH)
    assert without.left_alone == {"0 → 1": 4}


class Block(nn.Module):
    """A transformer block on rows of the picture, whose hidden layer is of ReLUs."""

    def __init__(self):
        super().__init__()
        self.first_norm, self.second_norm = nn.LayerNorm(SIDE), nn.LayerNorm(SIDE)
        self.qkv, self.out = nn.Linear(SIDE, 3 * SIDE), nn.Linear(SIDE, SIDE)
        self.hidden = nn.Sequential(nn.Linear(SIDE, 16), nn.ReLU(), nn.Linear(16, SIDE))
        self.head = nn.Linear(SIDE, CLASSES)

    def forward(self, x):
        x = x.reshape(-1, SIDE, SIDE)
        q, k, v = self.qkv(self.first_norm(x)).chunk(3, -1)
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True))
        x = x + self.hidden(self.second_norm(x))
        return self.head(x.mean(1))


@pytest.mark.parametrize("to", ["noise", "norm"])
def test_a_transformer_block(to):
    _, found = moved(Network("", Block), torch.float32, to=to)
    assert len(found.scales["hidden.0 → hidden.2"]) == 16
    assert found.difference <= 1e-6
    assert found.residual <= 1e-9
    assert found.least[1] < found.least[0]


def test_norms_alone_need_no_gradient():
    risk = BY_NAME["mlp"].risk()
    found = rescale(risk, symmetries(risk), to="norm", samples=0)
    assert found.cost == 0
    assert found.after[0].noise_imbalance.reason == "not looked at"
    assert "–" in str(found)


def test_data_in_batches_are_taken_for_norms():
    x = [torch.randn(3, 1, n, n, generator=torch.Generator().manual_seed(n)) for n in (8, 9)]
    risk = Risk(depthwise(), squared, [(b, torch.zeros(len(b), CLASSES)) for b in x])
    assert rescale(risk, to="norm", samples=0).difference < 1e-6
    with pytest.raises(ValueError, match="list of batches"):
        rescale(risk)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"to": "both"}, "to='noise' or to='norm'"),
        ({"limit": 1.0}, "limit > 1"),
        ({"samples": 0}, "samples to measure noise on"),
        ({"weight_decay": 0.1}, "learning rate and the batch size with weight decay"),
        ({"weight_decay": -0.1, "lr": 0.1, "batch_size": 2}, "weight decay ≥ 0"),
        ({"weight_decay": 0.1, "lr": 0.1, "batch_size": 2, "to": "norm"}, "no weight decay towards norm balance"),
    ],
)
def test_wrong_settings_are_told(settings, said):
    with pytest.raises(ValueError, match=said):
        rescale(BY_NAME["mlp"].risk(), **settings)


def test_no_symmetry_is_told():
    with pytest.raises(ValueError, match="none that holds exactly among 2 proposed"):
        rescale(BY_NAME["tanh"].risk())


def test_symmetries_of_another_model_are_told():
    with pytest.raises(ValueError, match=r"got one of (conv|head)\.weight, which it does not train"):
        rescale(BY_NAME["mlp"].risk(), symmetries(BY_NAME["summed up"].risk()), to="norm", samples=0)


def test_weights_that_are_not_finite_are_told():
    risk = BY_NAME["mlp"].risk()
    found = symmetries(risk)
    with torch.no_grad():
        risk.parameters[0][0, 0] = math.inf
    with pytest.raises(ValueError, match="finite weights"):
        rescale(risk, found, to="norm")


def test_a_model_that_cannot_be_copied_is_told():
    risk = BY_NAME["mlp"].risk()
    risk.model.lock = threading.Lock()
    with pytest.raises(ValueError, match="can be copied"):
        rescale(risk, to="norm")


def test_the_same_generator_gives_the_same_scales():
    risk = BY_NAME["mlp"].risk()
    one, two, other = (rescale(risk, samples=12, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one.scales["1 → 3"], two.scales["1 → 3"])
    assert not torch.equal(one.scales["1 → 3"], other.scales["1 → 3"])


def test_samples_drawn_anew_say_how_far_off_the_balance_may_be():
    risk = BY_NAME["linear layers"].risk()
    found = rescale(risk, samples=12)
    errors = [pair.noise_imbalance.standard_error for pair in found.after]
    assert min(errors) > 0
    assert all(abs(float(p.noise_imbalance)) < 5 * e for p, e in zip(found.after, errors, strict=True))
