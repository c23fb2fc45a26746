"""Keskar's and SAM's sharpness: exact on quadratics, no lower than the original's solver, and their known flaw."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize
from tests.cases import CASES, cross_entropy, diagonal, flat, quadratics, squared
from torch import nn

from sgdscope.measure import keskar_sharpness, sam_sharpness
from sgdscope.risk import Risk

SPECTRUM = torch.tensor([5.0, 2.0, 0.3, -1.0, -4.0], dtype=torch.float64)


def trained(name, steps, lr=0.3):
    risk = next(case for case in CASES if case.name == name).risk()
    for _ in range(steps):
        _, g = risk.gradient()
        with torch.no_grad():
            torch._foreach_add_(risk.parameters, g, alpha=-lr)
    return risk


@pytest.mark.parametrize("epsilon", [1e-3, 0.1, 1.0])
def test_box_on_a_quadratic_is_solved_coordinate_by_coordinate(epsilon):
    risk = diagonal(SPECTRUM)
    theta = risk.parameters[0].detach()
    width = epsilon * (theta.abs() + 1)
    top = 0.5 * SPECTRUM * torch.where(
        SPECTRUM > 0, (theta.abs() + width).square(), (theta.abs() - width).clamp(min=0).square()
    )  # fmt: skip
    start = 0.5 * (SPECTRUM * theta.square())
    assert float(1 + start.sum()) > 0
    found = keskar_sharpness(risk, epsilon, steps=200, tolerance=1e-3)
    gain = float((top - start).sum())
    assert found.beside["loss_increase"].value == pytest.approx(gain, rel=2e-3)
    assert found.value == pytest.approx(100 * gain / float(1 + start.sum()), rel=2e-3)
    assert (found.status, found.unit) == ("ok", "%")
    assert "lower bound" in found.reason


def on_the_sphere(spectrum, theta, rho):
    """Largest ½ Σ λ (θ + e)² over ‖e‖ = rho by the secular equation e = λθ / (μ − λ)."""
    g = spectrum * theta
    length = lambda mu: float((g / (mu - spectrum)).norm()) - rho  # noqa: E731
    least = float(spectrum.max())
    mu = brentq(length, least + 1e-9, least + 1e6)
    e = g / (mu - spectrum)
    return float(0.5 * (spectrum * ((theta + e).square() - theta.square())).sum())


@pytest.mark.parametrize("rho", [0.05, 0.5, 3.0])
def test_ball_on_a_quadratic_solves_the_secular_equation(rho):
    risk = diagonal(SPECTRUM)
    theta = risk.parameters[0].detach()
    found = sam_sharpness(risk, rho, steps=300, tolerance=1e-4)
    assert found.value == pytest.approx(on_the_sphere(SPECTRUM, theta, rho), rel=1e-3)
    g = SPECTRUM * theta
    there = theta + rho * g / g.norm()
    one_step = 0.5 * (SPECTRUM * (there.square() - theta.square())).sum()
    assert found.beside["one_step"].value == pytest.approx(float(one_step), rel=1e-12)
    relative = sam_sharpness(risk, rho / 3, adaptive=True, steps=300, tolerance=1e-4)
    scaled = SPECTRUM * theta.square()  # in coordinates u = e / θ the same problem around u = 1
    assert relative.value == pytest.approx(on_the_sphere(scaled, torch.ones_like(theta), rho / 3), rel=1e-3)


def test_at_a_minimum_it_is_half_the_largest_eigenvalue():
    risk = diagonal([5.0, 2.0, 0.3])
    with torch.no_grad():
        risk.parameters[0].zero_()
    found = sam_sharpness(risk, 0.1, steps=50, tolerance=1e-3)
    assert found.value == pytest.approx(0.1**2 * 5 / 2, rel=1e-3)
    assert found.value <= 0.1**2 * 5 / 2 * (1 + 1e-12)
    assert keskar_sharpness(risk, 0.1).value == pytest.approx(100 * 0.1**2 * 7.3 / 2, rel=1e-12)


def test_mean_over_batches_of_one():
    # h ∈ {1, 3} at θ = 0.7: each sample's own maximum is h (θρ + ρ²/2), whatever the others do
    found = sam_sharpness(quadratics([1.0, 3.0]), 0.1, batch_size=1, batches=200)
    unit = 0.7 * 0.1 + 0.1**2 / 2
    assert found.value == pytest.approx(2 * unit, abs=4 * found.standard_error)
    assert found.standard_error == pytest.approx(unit / math.sqrt(200), rel=0.05)
    assert (found.count, found.settings["batch_size"], found.status) == (200, 1, "ok")
    whole = sam_sharpness(quadratics([1.0, 3.0]), 0.1)
    assert whole.value == pytest.approx(2 * unit, rel=1e-9)
    assert (whole.standard_error, whole.count) == (None, 1)
    assert sam_sharpness(quadratics([1.0, 3.0]), 0.1, batch_size=1, batches=1).status == "few_samples"


def lbfgsb(risk, epsilon):
    """The original's solver: ten iterations of L-BFGS-B."""
    shapes, sizes = [p.shape for p in risk.parameters], [p.numel() for p in risk.parameters]
    start = flat(p.detach() for p in risk.parameters)
    value, _ = risk.gradient()

    def downhill(y):
        at = [t.reshape(s) for t, s in zip((start + torch.from_numpy(y)).split(sizes), shapes, strict=True)]
        loss, g = risk.gradient(at=at)
        return -loss, -flat(g).numpy()

    widths = (epsilon * (start.abs() + 1)).tolist()
    found = minimize(downhill, np.zeros(len(start)), jac=True, method="L-BFGS-B",
                     bounds=[(-w, w) for w in widths], options={"maxiter": 10})  # fmt: skip
    return 100 * (-found.fun - value) / (1 + value), found.nfev


@pytest.mark.parametrize("name", ["mlp tanh", "mlp relu", "cnn", "attention", "BatchNorm"])
@pytest.mark.parametrize(("steps", "epsilon"), [(0, 1e-3), (100, 1e-3), (100, 0.05)])
def test_no_lower_than_ten_steps_of_the_originals_solver(name, steps, epsilon):
    risk = trained(name, steps)
    found, (original, calls) = keskar_sharpness(risk, epsilon), lbfgsb(risk, epsilon)
    assert found.value > 0.97 * original
    assert keskar_sharpness(risk, epsilon, starts=1).cost <= max(2 * calls, 21)


def test_several_starts_escape_the_hollow_that_the_gradient_leads_into():
    risk = trained("BatchNorm", 200)
    one, three = sam_sharpness(risk, 0.5, starts=1), sam_sharpness(risk, 0.5)
    assert one.status == "ok"  # nothing at that point says so: a lower bound
    assert three.value > 20 * one.value


def rescaled(model, factor):
    """The same function: the first layer times the factor, the second divided by it."""
    with torch.no_grad():
        model[1].weight.mul_(factor)
        model[1].bias.mul_(factor)
        model[3].weight.div_(factor)
    return model


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_known_flaw_rescaling_a_relu_network_changes_the_number_but_not_the_function(factor):
    # Dinh et al. 1703.04933
    torch.manual_seed(0)
    data = CASES[0].data()
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)).double()
    risk = Risk(model, cross_entropy, data)
    for _ in range(100):
        _, g = risk.gradient()
        with torch.no_grad():
            torch._foreach_add_(risk.parameters, g, alpha=-0.3)
    outputs = model(data[0])
    plain = [lambda: sam_sharpness(risk), lambda: keskar_sharpness(risk), lambda: keskar_sharpness(risk, subspace=8)]
    relative = [
        lambda: sam_sharpness(risk, 0.5, adaptive=True),
        lambda: sam_sharpness(risk, 0.5, adaptive=True, batch_size=4, batches=3),
        lambda: keskar_sharpness(risk, 0.05, offset=0),
    ]
    before = [measured().value for measured in plain], [measured().value for measured in relative]
    rescaled(model, factor)
    assert torch.allclose(model(data[0]), outputs, rtol=1e-12)
    assert risk.value() == pytest.approx(cross_entropy(model, data).item(), rel=1e-12)
    for number, measured in zip(before[0], plain, strict=True):
        assert measured().value > 8 * number
    for number, measured in zip(before[1], relative, strict=True):
        assert measured().value == pytest.approx(number, rel=1e-9)


def test_a_subspace_of_one_dimension_is_a_line():
    risk = trained("mlp tanh", 30)
    found = keskar_sharpness(risk, 0.3, subspace=1, generator=torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    column = [torch.randn(p.shape, generator=generator).to(p) for p in risk.parameters]
    theta, a = flat(p.detach() for p in risk.parameters), flat(column)
    width = 0.3 * (abs(float(theta @ a / (a @ a))) + 1)
    value = risk.value()
    scanned = max(risk.value(at=risk.displaced(column, t)) for t in torch.linspace(-width, width, 201).tolist())
    assert found.value == pytest.approx(100 * (scanned - value) / (1 + value), rel=0.02)


def test_of_more_dimensions_each_has_its_own_side_of_the_box():
    # at θ with A⁺θ known: A = the generator's normals; every corner of the box is tried
    risk = diagonal([3.0, 1.0, 0.5, 0.2])
    theta = risk.parameters[0].detach()
    generator = torch.Generator().manual_seed(1)
    columns = torch.stack([torch.randn(4, generator=generator).double() for _ in range(2)], 1)
    widths = 0.1 * ((torch.linalg.pinv(columns) @ theta).abs() + 1)
    signs = torch.tensor([[a, b] for a in (-1.0, 1.0) for b in (-1.0, 1.0)], dtype=torch.float64)
    value = risk.value()
    highest = max(risk.value(at=[theta + columns @ (widths * s)]) for s in signs)
    found = keskar_sharpness(risk, 0.1, subspace=2, generator=torch.Generator().manual_seed(1))
    assert found.value == pytest.approx(100 * (highest - value) / (1 + value), rel=1e-6)


def test_out_of_steps_says_what_is_left_to_gain():
    risk = trained("mlp relu", 0)
    found = sam_sharpness(risk, 0.5, steps=1, starts=1)
    assert found.status == "not_converged"
    assert found.residual > 0.01 * found.value
    assert "1 steps did not suffice: a linear loss would still gain" in found.reason
    more = sam_sharpness(risk, 0.5, steps=50, starts=1)
    assert more.value > found.value
    drawn = sam_sharpness(risk, 0.5, steps=1, starts=1, batch_size=4, batches=3)
    assert "in 3 of 3 batches" in drawn.reason
    assert "% of it" in keskar_sharpness(risk, 0.5, steps=1, starts=1).reason


def test_what_cannot_be_measured_says_why():
    wall = Risk.of_function(lambda p: -torch.log(p[0]).sum(), [torch.full((2,), 0.01, dtype=torch.float64)])
    for found in (sam_sharpness(wall), keskar_sharpness(wall, 0.1)):
        assert found.status == "diverged"
        assert "not finite everywhere in the" in found.reason
    broken = quadratics([1.0, math.nan])
    assert sam_sharpness(broken).status == keskar_sharpness(broken).status == "diverged"
    deep = Risk.of_function(lambda p: p[0].square().sum() - 3, [torch.ones(2, dtype=torch.float64)])
    assert "1 + L = 0 is not positive" in keskar_sharpness(deep).reason
    flat_risk = Risk.of_function(lambda p: (0 * p[0]).sum() + 2.0, [torch.ones(2)])
    for found in (sam_sharpness(flat_risk), keskar_sharpness(flat_risk)):
        assert (found.value, found.status) == (0, "not_converged")
        assert "for rounding of the loss" in found.reason


def test_in_low_precision_rounding_is_part_of_the_doubt():
    exact = trained("mlp tanh", 20)
    half = Risk(trained("mlp tanh", 20).model.bfloat16(), lambda m, b: squared(m, b).float(),
                tuple(t.bfloat16() for t in CASES[0].data()))  # fmt: skip
    for measured in (keskar_sharpness, sam_sharpness):
        fine, coarse = measured(exact), measured(half)
        assert coarse.status == "not_converged"
        assert "rounding of the loss" in coarse.reason
        assert abs(coarse.value - fine.value) <= coarse.residual


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_generator_gives_the_same_number(seed):
    numbers = [
        sam_sharpness(trained("dropout", 5), batch_size=4, batches=3, generator=torch.Generator().manual_seed(seed))
        for _ in range(2)
    ]
    assert numbers[0] == numbers[1]


def test_messages():
    risk = diagonal([1.0, 2.0])
    with pytest.raises(ValueError, match="expected epsilon > 0, got 0"):
        keskar_sharpness(risk, 0)
    with pytest.raises(ValueError, match="expected offset ≥ 0, got -1"):
        keskar_sharpness(risk, offset=-1)
    with pytest.raises(ValueError, match="expected subspace between 1 and 2"):
        keskar_sharpness(risk, subspace=3)
    with pytest.raises(ValueError, match="expected rho > 0, got nan"):
        sam_sharpness(risk, math.nan)
    with pytest.raises(ValueError, match="expected batches ≥ 1, got 0"):
        sam_sharpness(risk, batches=0)
    with pytest.raises(ValueError, match=r"expected steps, starts ≥ 1 and tolerance > 0, got 0, 3, 0.01"):
        sam_sharpness(risk, steps=0)
    with pytest.raises(ValueError, match="expected a batch size between 1 and 1"):
        sam_sharpness(risk, batch_size=2)
