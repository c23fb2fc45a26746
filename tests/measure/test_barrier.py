"""Barriers: known saddles of landscapes, networks that a bent path connects, and what is said where none is found."""

import json

import pytest
import torch
from sklearn.datasets import load_digits
from tests.cases import diagonal
from torch import nn

from sgdscope.measure import Barrier, barrier
from sgdscope.measure.common_losses import common_losses
from sgdscope.measure.highest_along import highest_along
from sgdscope.risk import Risk

# Müller and Brown, Theor. Chim. Acta 53, 75 (1979): minima and passes, polished by Newton's method
REACTANT, MIDDLE, PRODUCT = (-0.5582236346, 1.4417258418), (-0.0500108229, 0.4666941048), (0.6234994049, 0.0280377585)
REACTANT_LOSS, MIDDLE_LOSS, PRODUCT_LOSS = -146.6995172, -80.7678181, -108.1667241
FIRST_PASS, SECOND_PASS = -40.6648435, -72.2489401


def at(*x):
    return [torch.tensor(x, dtype=torch.float64)]


def muller_brown():
    rows = torch.tensor([
        [-200, -1, 0, -10, 1, 0], [-100, -1, 0, -10, 0, 0.5], [-170, -6.5, 11, -6.5, -0.5, 1.5],
        [15, 0.7, 0.6, 0.7, -1, 1],
    ], dtype=torch.float64)  # fmt: skip

    def height(parameters):
        A, a, b, c, x0, y0 = rows.T
        x, y = parameters[0][0] - x0, parameters[0][1] - y0
        return (A * (a * x**2 + b * x * y + c * y**2).exp()).sum()

    return Risk.of_function(height, at(0.0, 0.0))


def double_well(extra=0.0):
    """(x² − 1)² + y² (1 + …): saddle at the origin, height 1."""
    return Risk.of_function(
        lambda p: (p[0][0] ** 2 - 1) ** 2 + 2 * (p[0][1] - extra * (1 - p[0][0] ** 2)) ** 2, at(0, 0)
    )


@pytest.mark.parametrize(
    ("start", "end", "heights", "saddle"),
    [
        (MIDDLE, PRODUCT, (MIDDLE_LOSS, PRODUCT_LOSS), SECOND_PASS),
        (REACTANT, MIDDLE, (REACTANT_LOSS, MIDDLE_LOSS), FIRST_PASS),
    ],
)
def test_the_passes_of_muller_and_brown(start, end, heights, saddle):
    found = barrier(muller_brown(), at(*start), at(*end), images=5, tolerance=2e-3)
    assert found.ends == pytest.approx(heights, abs=1e-6)
    assert found.band.status == "ok"
    assert found.band.beside["highest_loss"].value == pytest.approx(saddle, abs=2e-3)
    assert found.band.value == pytest.approx(saddle - max(heights), abs=2e-3)
    assert abs(found.band.beside["highest_loss"].value - saddle) <= found.band.residual + 1e-5
    assert found.band.beside["above_start"].value == pytest.approx(saddle - heights[0], abs=2e-3)
    assert found.band.beside["above_end"].value == pytest.approx(saddle - heights[1], abs=2e-3)
    assert found.connected == "not connected"
    assert found.height == min(found.band, found.straight, key=float)


@pytest.mark.slow
def test_over_both_passes_the_higher_one_counts():
    found = barrier(muller_brown(), at(*REACTANT), at(*PRODUCT), images=9, tolerance=2e-3, iterations=400)
    assert found.band.beside["highest_loss"].value == pytest.approx(FIRST_PASS, abs=2e-3)
    assert found.straight.value > found.band.value + 50
    assert max(found.band_line[1]) >= FIRST_PASS - 2e-3
    assert found.band_line[0][-1] > 1.2  # a detour, in lengths of the straight line


def test_a_bent_valley_is_found_and_without_climbing_it_is_missed_from_below():
    risk = double_well(extra=0.8)
    found = barrier(risk, at(-1.0, 0.0), at(1.0, 0.0), images=6, tolerance=1e-3, iterations=600)
    assert found.straight.value == pytest.approx(1 + 2 * 0.8**2, rel=1e-4)
    assert found.band.value == pytest.approx(1.0, abs=1e-4)
    assert found.straight.beside["above_mean"].value == pytest.approx(found.straight.value)
    coarse = barrier(risk, at(-1.0, 0.0), at(1.0, 0.0), images=6, tolerance=1e-3, iterations=600, climbing=False)
    assert coarse.band.value < 1 - 1e-3  # an even number of images leaves the saddle between two
    assert coarse.band.value + coarse.band.residual > 1
    assert len(found.images) == 8
    assert found.images[0][0].tolist() == [-1.0, 0.0]


def test_two_points_of_one_basin_are_connected_at_once():
    risk = diagonal([3.0, 1.0])
    found = barrier(risk, at(1.0, -1.0), at(-0.5, 1.0))
    assert (found.straight.value, found.connected, found.band) == (0.0, "connected", None)
    assert found.cost < 10
    assert found.straight.beside["above_mean"].value >= 0  # the higher end


def test_the_top_of_a_line_is_refined():
    def bump(p):
        return torch.exp(-((p[0] - 0.377) ** 2).sum() / 0.005)

    loss = common_losses(Risk.of_function(bump, at(0.0)))
    found = highest_along(loss, [at(0.0), at(1.0)], 12, tolerance=1e-6)
    assert found.at == pytest.approx(0.377, abs=1e-3)
    assert max(found.losses) == pytest.approx(1, abs=1e-4)
    assert len(found.losses) < 13 + 13
    assert sorted(found.coordinates) == list(found.coordinates)
    steep = common_losses(Risk.of_function(lambda p: p[0].sum(), at(0.0)))
    assert highest_along(steep, [at(0.0), at(1.0), at(0.5)], 4, tolerance=1e-6).at == 1.0


def test_a_band_that_had_no_time_says_so():
    found = barrier(muller_brown(), at(*REACTANT), at(*PRODUCT), iterations=2)
    assert (found.band.status, found.connected) == ("not_converged", "undecided")
    assert "after 2 iterations an image still feels" in found.reason
    only = barrier(muller_brown(), at(*REACTANT), at(*PRODUCT), band=False)
    assert (only.connected, only.band, only.images) == ("undecided", None, ())
    assert "a bent path may avoid it" in only.reason


def network(seed, images):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)).double()

    def loss(model, batch):
        decay = 0.5e-3 * sum(p.square().sum() for p in model.parameters())
        return nn.functional.cross_entropy(model(batch[0]), batch[1]) + decay

    risk = Risk(model, loss, images)
    for _ in range(400):
        _, g = risk.gradient()
        with torch.no_grad():
            torch._foreach_add_(risk.parameters, g, alpha=-0.5)
    return risk, [p.detach().clone() for p in risk.parameters]


@pytest.mark.slow
def test_digits_networks_are_connected_by_a_bent_path_and_a_permuted_one_is_not_recognised():
    x, y = load_digits(return_X_y=True)
    images = (torch.from_numpy(x[:400] / 16), torch.from_numpy(y[:400]).long())
    risk, first = network(0, images)
    _, second = network(1, images)
    found = barrier(risk, first, second, images=7, tolerance=0.02)
    assert found.straight.value > 0.1
    assert found.band.value < 0.05 * found.straight.value
    assert found.connected == "connected"
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    same = [first[0][order], first[1][order], first[2][:, order], first[3]]
    permuted = barrier(risk, first, same, band=False)
    assert permuted.ends[0] == pytest.approx(permuted.ends[1], rel=1e-12)  # one function
    assert permuted.straight.value > 0.1
    assert "order or the scale of their hidden units" in permuted.notes[0]
    part = barrier(risk, first, second, band=False, samples=100)
    assert 0 < part.straight.standard_error < 0.2 * part.straight.value
    assert abs(part.straight.value - found.straight.value) < 4 * part.straight.standard_error
    assert part.cost == pytest.approx((len(part.straight_line[1]) + 2) / 3 * 100 / 400)


def test_a_barrier_survives_json_without_its_images():
    found = barrier(double_well(), at(-1.0, 0.0), at(1.0, 0.1), images=3, iterations=20)
    again = Barrier.from_row(json.loads(json.dumps(found.to_row())))
    assert again == found
    assert again.images == ()
    with pytest.raises(ValueError, match="expected the row of a barrier"):
        Barrier.from_row({"connected": "maybe"})


def test_losses_that_are_not_finite_have_a_reason():
    risk = Risk.of_function(lambda p: (1 / p[0]).sum(), at(1.0))
    found = barrier(risk, at(-1.0), at(1.0), resolution=4)
    assert (found.straight.status, found.connected) == ("diverged", "undecided")
    assert "not finite" in found.reason
    assert Barrier.from_row(json.loads(json.dumps(found.to_row()))).straight == found.straight


def test_groups_of_samples_give_the_mean_and_its_error():
    data = torch.arange(40, dtype=torch.float64)
    risk = Risk.of_function(lambda p, batch: (p[0] * batch).mean() + 0 * p[0].sum(), at(2.0), data)
    whole = common_losses(risk)
    assert (whole.groups, whole.error(whole.losses(at(1.0))), whole.share) == ((None,), 0.0, 1.0)
    part = common_losses(risk, samples=19)
    losses = part.losses(at(1.0))
    assert part.samples == 19
    assert part.mean(losses) == pytest.approx(float(torch.cat(list(part.groups)).mean()))
    assert part.error(losses) > 0
    population = common_losses(risk, population=True)
    assert population.mean(population.losses(at(1.0))) == pytest.approx(19.5)
    assert population.error(population.losses(at(1.0))) == pytest.approx(data.std() / 40**0.5, rel=0.5)
    loss, gradient = part.gradient(at(1.0))
    assert loss == pytest.approx(part.mean(losses)) == pytest.approx(float(gradient[0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 0}, "expected images, iterations ≥ 1"),
        ({"tolerance": 0.0}, "expected a tolerance between 0 and 1"),
        ({"stiffness": -1.0}, "expected stiffness > 0"),
        ({"negligible": 0.0}, "expected negligible > 0"),
        ({"samples": 3}, "expected between 8 and"),
        ({"end": at(-1.0, 0.0)}, "expected two different points"),
        ({"end": at(1.0)}, "expected the end shaped like"),
        ({"end": at(float("nan"), 1.0)}, "expected finite numbers in the end"),
    ],
)
def test_bad_input_is_refused_at_the_door(options, message):
    with pytest.raises(ValueError, match=message):
        barrier(double_well(), **{"start": at(-1.0, 0.0), "end": at(1.0, 0.0)} | options)
