"""Standing: the two sides of the law, its step and its equilibrium, against numbers written down."""

import math

import pytest
import torch
from tests.balance.networks import crossed, linear_pair, reference, squared, two_layer_relu
from torch import nn

from sgdscope import measure
from sgdscope.balance import standing
from sgdscope.estimate import Estimate
from sgdscope.measure.symmetries import Part, Symmetry
from sgdscope.risk import Risk
from sgdscope.theory import balance as theory


def test_the_reference_of_the_law():
    row = standing(reference(), lr=0.1, batch_size=2, replacement=True)
    assert row.value == pytest.approx(((0.641875 - 3.6972) / (0.641875 + 3.6972),))
    assert row.standard_error == (0.0,)
    assert row.beside["noise_u"].value == pytest.approx((0.641875,), rel=1e-12)
    assert row.beside["noise_w"].value == pytest.approx((3.6972,), rel=1e-12)
    assert row.beside["charge"].value == pytest.approx((1.19,))
    assert row.beside["expected_change"].value == pytest.approx((0.1 * -0.40296375,), rel=1e-12)
    assert row.settings["samples"] == 4
    assert row.settings["of"] == 4


def test_batches_without_replacement_are_less_noisy():
    row = standing(reference(), lr=0.1, batch_size=2)
    noise, mean = 0.641875 - 3.6972, 1.45**2 * (0.5**2 - 1.2**2)
    assert row.beside["expected_change"].value == pytest.approx((0.01 * (noise * (2 / 3) / 2 + mean),), rel=1e-12)


@pytest.mark.parametrize("start", [(2.0, 0.5), (0.5, 2.0)])
@pytest.mark.parametrize(("variances", "squared_ratio"), [((1.0, 4.0), 2.5), ((1.0, 1.0), 1.0)])
def test_noise_equilibrium_of_one_hidden_unit(start, variances, squared_ratio):
    """At a minimum |W|² / |U|² is (Tr Σ_x · Σ_ε along U) / (Tr Σ_ε · Σ_x along W), wherever on the orbit one starts."""
    row = standing(crossed(variances, *start), lr=0.01, batch_size=1)
    ratio, equilibrium = row.beside["ratio"].value[0], row.beside["equilibrium_ratio"].value[0]
    assert 1 / equilibrium**2 == pytest.approx(squared_ratio, rel=1e-10)
    assert ratio == pytest.approx(start[0] / start[1])
    assert row.beside["unit_distance"].value[0] == pytest.approx(abs(math.log(ratio / equilibrium)))
    assert (row.value[0] > 0) == (ratio < equilibrium)  # noise moves the norms towards it


def test_at_equilibrium_nothing_is_left_to_do():
    u = 2.5**-0.25
    row = standing(crossed((1.0, 4.0), u, 1 / u), lr=0.01, batch_size=1)
    assert row.value[0] == pytest.approx(0, abs=1e-12)
    assert row.beside["expected_change"].value[0] == pytest.approx(0, abs=1e-14)
    assert row.beside["ratio"].value[0] == pytest.approx(row.beside["equilibrium_ratio"].value[0])


def test_relaxation_is_the_decay_of_a_small_deviation():
    """The rate of the charge falls by its derivative along the orbit, 1 / relaxation per step."""
    at_rest = 2.5**-0.25

    def row_at(factor):
        return standing(crossed((1.0, 4.0), at_rest * factor, 1 / (at_rest * factor)), lr=0.01, batch_size=1)

    near, far = row_at(1.001), row_at(0.999)
    change = near.beside["expected_change"].value[0] - far.beside["expected_change"].value[0]
    charge = near.beside["charge"].value[0] - far.beside["charge"].value[0]
    rest = row_at(1.0).beside["relaxation_steps"].value[0]
    # batches of one from sixteen samples: no replacement to speak of
    assert -change / charge == pytest.approx(1 / rest, rel=1e-4)


def test_weight_decay_as_torch_has_it():
    """γ is half of it: a charge loses (1 − (1 − lr · decay)²) C, and the equilibrium is pulled towards equal norms."""
    risk = crossed((1.0, 4.0), 2.0, 0.5)
    bare = standing(risk, lr=0.01, batch_size=1)
    decayed = standing(risk, lr=0.01, batch_size=1, weight_decay=0.3)
    moved = decayed.beside["expected_change"].value[0] - bare.beside["expected_change"].value[0]
    assert moved == pytest.approx(-(1 - (1 - 0.01 * 0.3) ** 2) * (2.0**2 - 0.5**2), rel=1e-12)
    noise = [bare.beside[side].value[0] for side in ("noise_u", "noise_w")]
    by_hand = theory.rescaling_equilibrium(
        *noise, squared_norm_u=4.0, squared_norm_w=0.25, temperature=0.01, weight_decay=0.15
    )
    assert decayed.beside["equilibrium_ratio"].value[0] == pytest.approx(4.0 * by_hand.scale**2)
    assert bare.beside["equilibrium_ratio"].value[0] < decayed.beside["equilibrium_ratio"].value[0] < 1


def test_sampled_rows_know_their_error():
    risk = two_layer_relu()
    found = measure.symmetries(risk)
    full = standing(risk, found, lr=0.05, batch_size=8, samples=200)
    drawn = [
        standing(risk, found, lr=0.05, batch_size=8, samples=64, generator=torch.Generator().manual_seed(seed))
        for seed in range(60)
    ]

    def off(row, exact):
        return (row.value[0] - exact.value[0]) / row.standard_error[0]

    for pick in (
        lambda row: row,
        lambda row: row.beside["expected_change"],
        lambda row: row.beside["equilibrium_ratio"],
    ):
        z = torch.tensor([off(pick(row), pick(full)) for row in drawn])
        assert 0.6 < float(z.square().mean().sqrt()) < 1.5
        assert pick(full).standard_error == (0.0,)


def test_rows_survive_the_records():
    row = standing(two_layer_relu(), lr=0.05, batch_size=8, samples=64)
    again = Estimate.from_row(row.to_row())
    assert again.value == row.value
    assert again.settings["layers"] == ["0 → 2"]
    assert again.settings["units"] == [8]
    assert again.settings["kinds"] == ["rescaling"]
    assert again.settings["law"] == []
    assert again.settings["left_out"] == []
    assert again.settings["equilibrium"] == [0]
    assert set(again.beside) == {
        "charge", "squared_norm_u", "squared_norm_w", "noise_u", "noise_w", "expected_change", "ratio",
        "equilibrium_ratio", "relaxation_steps", "unit_distance",
    }  # fmt: skip


def test_the_law_of_an_optimizer_that_it_does_not_hold_for():
    risk = two_layer_relu()
    row = standing(risk, lr=0.05, batch_size=8, samples=32, optimizer=torch.optim.AdamW(risk.parameters))
    assert row.settings["law"] == ["AdamW"]


def test_scale_invariance_has_no_equilibrium():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(5, 6), nn.LayerNorm(6, eps=0.0), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)
        ).double()
        data = torch.randn(50, 5).double(), torch.randn(50, 2).double()
    row = standing(Risk(model, squared, data), lr=0.1, batch_size=4)
    place = row.settings["kinds"].index("scale invariance")
    assert row.value[place] == 1.0
    assert place not in row.settings["equilibrium"]
    assert row.settings["equilibrium"]
    assert row.beside["expected_change"].value[place] > 0  # ‖θ‖ grows


def test_pairs_without_noise_are_left_out():
    risk = two_layer_relu()
    with torch.no_grad():  # dead: no sample reaches any unit
        risk.model[0].bias.fill_(-1e3)
    pair = Symmetry("0 → 2", "rescaling", 8,
                    (Part("2.weight", (4, 8), (1,), 1.0), Part("0.weight", (8, 10), (0,), -1.0)))  # fmt: skip
    row = standing(risk, [pair], lr=0.1, batch_size=4)
    assert row.status == "failed"
    assert row.reason == "no pair of layers has gradient noise"
    assert row.settings["left_out"] == [{"layers": "0 → 2", "reason": "no noise on either side"}]


def test_full_batches_have_no_temperature():
    row = standing(two_layer_relu(20), lr=0.1, batch_size=20)
    assert row.settings["equilibrium"] == []
    assert "ratio" not in row.beside
    assert row.beside["noise_u"].value[0] > 0
    mean = row.beside["expected_change"].value[0]
    (traces,) = measure.noise_traces(two_layer_relu(20))
    assert mean == pytest.approx(0.01 * traces.total.mean_gradient_charge)


def test_no_symmetry():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    row = standing(Risk(model, squared, (torch.randn(9, 3), torch.randn(9, 2))), lr=0.1, batch_size=4)
    assert (row.status, row.reason) == ("failed", "no symmetry holds")


def test_gradients_that_are_not_finite():
    risk = two_layer_relu()
    found = measure.symmetries(risk)
    with torch.no_grad():
        risk.parameters[0].fill_(math.nan)
    row = standing(risk, found, lr=0.1, batch_size=4)
    assert row.status == "diverged"
    assert "not finite" in row.reason


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lr": 0.0}, "a learning rate > 0, got 0"),
        ({"lr": math.nan}, "a learning rate > 0, got nan"),
        ({"weight_decay": -1.0}, "a weight decay ≥ 0, got -1"),
        ({"batch_size": 201}, "a batch size between 1 and 200"),
        ({"samples": 2}, "at least 4 samples, got 2"),
    ],
)
def test_refusals(options, said):
    with pytest.raises(ValueError, match=said):
        standing(two_layer_relu(), **{"lr": 0.1, "batch_size": 4, **options})


def test_noise_of_a_two_layer_network_in_both_forms():
    """Tr Cov[∇_w ℓ] = uᵀC₁u and Tr Cov[∇_u ℓ] = wᵀC₂w with A = ∂ℓ̃/∂(u wᵀ), biases included, for every neuron."""
    risk = two_layer_relu(60)
    (traces,) = measure.noise_traces(risk, samples=60)
    x, y = risk.source.batch
    first, second = risk.model[0], risk.model[2]
    with torch.no_grad():
        inputs = torch.cat([x, torch.ones(60, 1)], 1)  # the bias is the weight of a constant input
        active = (first(x) > 0).double()
        slope = 2 * (risk.model(x) - y)
        for neuron in range(8):
            w = torch.cat([first.weight[neuron], first.bias[neuron : neuron + 1]]).numpy()
            u = second.weight[:, neuron].numpy()
            A = active[:, neuron, None, None] * inputs[:, :, None] * slope[:, None, :]
            C1, C2 = theory.interaction_covariances(A.numpy())
            assert u @ C1 @ u == pytest.approx(float(traces.noise_w[neuron]), rel=1e-13)
            assert w @ C2 @ w == pytest.approx(float(traces.noise_u[neuron]), rel=1e-13)


def test_a_unit_pair_with_zero_weights_has_no_ratio():
    risk = Risk(linear_pair([0.0], [0.5]), squared, reference().source.batch)
    row = standing(risk, measure.symmetries(reference()), lr=0.1, batch_size=2)
    assert row.settings["equilibrium"] == []
    assert row.beside["noise_u"].value[0] > 0
