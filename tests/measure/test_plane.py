"""Planes: exact on quadratics, invariant where filter normalisation says so, resumable, and nothing hidden."""

import json
import math

import pytest
import torch
from tests.cases import CASES, batch_norm, cross_entropy, diagonal, flat
from torch import nn

from sgdscope.measure import Plane, leading_eigenpairs, plane, plane_through
from sgdscope.measure.plane import filter_normalised
from sgdscope.risk import Risk


def case(name):
    return next(case for case in CASES if case.name == name)


def test_a_quadratic_through_given_directions():
    spectrum = torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64)
    risk = diagonal(spectrum)
    theta = risk.parameters[0].detach()
    directions = [[torch.tensor([1.0, 0.0, 0.0])], [torch.tensor([0.0, 1.0, 1.0])]]
    found = plane(risk, directions, extent=2.0, resolution=5)
    assert found.first == found.second == (-2.0, -1.0, 0.0, 1.0, 2.0)
    for j, b in enumerate(found.second):
        for i, a in enumerate(found.first):
            there = theta + torch.tensor([a, b, b])
            assert found.losses[j][i] == pytest.approx(float(0.5 * (spectrum * there.square()).sum()), rel=1e-12)
    assert (found.status, found.reason, found.seeds) == ("ok", "", None)
    assert found.cost == pytest.approx(25 / 3)
    assert found.settings["lengths"] == [1, pytest.approx(math.sqrt(2))]
    assert found.settings["cosine"] == 0


def test_random_directions_are_normalised_filter_by_filter():
    risk = case("cnn").risk()
    found = plane(risk, resolution=3, extent=0.5, seed=7)
    assert found.seeds == (7, 8)
    parameters = [p.detach() for p in risk.parameters]
    axes = []
    for seed in found.seeds:
        generator = torch.Generator().manual_seed(seed)
        drawn = [torch.randn(p.shape, generator=generator).to(p) for p in parameters]
        for d, p in zip(drawn, parameters, strict=True):
            for index in range(len(p)):  # Li et al.: filter by filter, nothing for biases
                d[index] = 0 if p.ndim <= 1 else d[index] * p[index].norm() / d[index].norm()
        axes.append(drawn)
    for j, b in enumerate(found.second):
        for i, a in enumerate(found.first):
            there = [p + a * u + b * v for p, u, v in zip(parameters, *axes, strict=True)]
            assert found.losses[j][i] == pytest.approx(risk.value(at=there), rel=1e-9)
    assert found.losses[1][1] == pytest.approx(risk.value(), rel=1e-12)


def test_filters_may_include_vectors_and_zeros_stay():
    parameters = [torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([0.0, 2.0])]
    direction = [torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([3.0, 4.0])]
    weight, bias = filter_normalised(direction, parameters, ignore_vectors=False)
    assert weight.tolist() == [[5.0, 0.0], [0.0, 0.0]]
    assert bias.tolist() == pytest.approx([1.2, 1.6])
    assert filter_normalised(direction, parameters, ignore_vectors=True)[1].tolist() == [0, 0]
    assert filter_normalised([torch.zeros(1, 2)], [torch.ones(1, 2)], ignore_vectors=True)[0].tolist() == [[0, 0]]


def test_rescaling_a_relu_network_changes_the_plain_picture_and_not_the_normalised_one():
    # Dinh et al. 1703.04933: first layer ×100, second ÷100, the same function
    torch.manual_seed(0)
    data = CASES[0].data()
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)).double()
    risk = Risk(model, cross_entropy, data)
    plain, normalised = plane(risk, resolution=3, normalise="none"), plane(risk, resolution=3)
    with torch.no_grad():
        model[1].weight.mul_(100)
        model[3].weight.div_(100)
    assert torch.tensor(plane(risk, resolution=3).losses) == pytest.approx(torch.tensor(normalised.losses), rel=1e-9)
    corner = plane(risk, resolution=3, normalise="none").losses[0][0]
    assert corner > 5 * plain.losses[0][0]


def test_through_three_checkpoints():
    risk = case("mlp tanh").risk()
    torch.manual_seed(5)
    points = [{n: p.detach() + 0.3 * torch.randn_like(p) for n, p in zip(risk.names, risk.parameters, strict=True)}
              for _ in range(3)]  # fmt: skip
    found = plane_through(risk, points, resolution=7, margin=0.0)
    (_, x1, y1), (_, x2, y2), (_, x3, y3) = found.marks
    assert (x1, y1, y2) == (0, 0, 0)
    flats = [flat(p.values()) for p in points]
    assert x2 == pytest.approx(float((flats[1] - flats[0]).norm()))
    assert math.hypot(x3, y3) == pytest.approx(float((flats[2] - flats[0]).norm()))
    assert math.hypot(x3 - x2, y3) == pytest.approx(float((flats[2] - flats[1]).norm()))
    assert (found.first[0], found.first[-1], found.second[0]) == pytest.approx((min(0, x3), max(x2, x3), 0))
    assert found.second[-1] == pytest.approx(y3)
    losses = [risk.value(at=list(p.values())) for p in points]
    wide = plane_through(risk, points, resolution=3, margin=0.0)
    if 0 < x3 < x2:
        assert [wide.losses[0][0], wide.losses[0][-1]] == pytest.approx(losses[:2])
    assert plane_through(risk, points, resolution=3, margin=0.5).first[0] == pytest.approx(
        found.first[0] - 0.5 * (found.first[-1] - found.first[0])
    )


def test_through_points_meets_each_of_them():
    risk = diagonal([3.0, 1.0, 0.5])
    points = [[torch.tensor(p)] for p in ([0.0, 0.0, 1.0], [2.0, 0.0, 1.0], [0.0, 1.0, 1.0])]
    found = plane_through(risk, points, resolution=3, margin=0.0)
    assert found.losses[0] == pytest.approx((0.25, 1.5 + 0.25, 6.25))
    assert found.losses[2][0] == pytest.approx(0.75)


def test_along_eigenvectors_the_curvature_is_theirs():
    risk = case("mlp tanh").risk()
    found, top = leading_eigenpairs(risk, 2, tolerance=1e-4)
    h = 1e-3
    picture = plane(risk, top, extent=h, resolution=3)
    (_, down, _), (left, middle, right), (_, up, _) = picture.losses
    assert (left + right - 2 * middle) / h**2 == pytest.approx(found.value[0], rel=1e-3)
    assert (up + down - 2 * middle) / h**2 == pytest.approx(found.value[1], rel=1e-3)


def test_resumes_after_a_crash_with_the_same_result_and_no_point_twice():
    risk = case("mlp relu").risk()
    whole = plane(risk, resolution=5)
    saved = []

    def save(so_far):
        saved.append(json.dumps(so_far.to_row()))
        if len(so_far.losses) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plane(risk, resolution=5, progress=save)
    unfinished = Plane.from_row(json.loads(saved[-1]))
    assert (unfinished.complete, unfinished.status, unfinished.reason) == (False, "not_converged", "2 of 5 rows")
    resumed = plane(risk, resolution=5, resume=unfinished)
    assert resumed.losses == whole.losses
    assert resumed.cost == pytest.approx(whole.cost + 1 / 3)  # one pass to check that nothing moved
    assert Plane.from_row(resumed.to_row()).losses == whole.losses
    assert plane(risk, resolution=5, resume=whole).losses == whole.losses
    with pytest.raises(ValueError, match="expected a plane of the same seeds to resume"):
        plane(risk, resolution=5, resume=unfinished, seed=3)
    with pytest.raises(ValueError, match="expected a plane of the same first to resume"):
        plane(risk, resolution=7, resume=unfinished)
    with torch.no_grad():
        risk.parameters[0][0, 0] += 0.1
    with pytest.raises(ValueError, match="expected a plane of the same settings to resume"):
        plane(risk, resolution=5, resume=unfinished)  # the directions' lengths follow the weights
    given = [[torch.ones_like(p) for p in risk.parameters], [p.detach().sign() for p in risk.parameters]]
    begun = plane(risk, given, resolution=3)
    with torch.no_grad():
        risk.parameters[-1][0] += 0.1
    with pytest.raises(ValueError, match="the plane was begun with, where its first loss was"):
        plane(risk, given, resolution=3, resume=begun)


def test_batch_norm_says_whose_statistics():
    data = CASES[0].data()
    model = batch_norm().double()
    buffers = {k: v.clone() for k, v in model.state_dict().items()}
    train, running = (plane(Risk(model, cross_entropy, data, mode=m), resolution=3) for m in ("train", "eval"))
    assert train.notes == ("BatchNorm normalises each chunk by its own statistics",)
    assert "fit the present weights only" in running.notes[0]
    assert all(torch.equal(v, buffers[k]) for k, v in model.state_dict().items())
    assert plane(case("mlp tanh").risk(), resolution=3).notes == ()


def test_losses_that_are_not_finite_are_none():
    wall = Risk.of_function(lambda p: -torch.log(p[0]).sum(), [torch.ones(2, dtype=torch.float64)])
    found = plane(wall, [[torch.tensor([1.0, 0.0])], [torch.tensor([0.0, 1.0])]], resolution=3, extent=2.0)
    assert found.losses[0] == (None, None, None)
    assert found.losses[2][2] == pytest.approx(-2 * math.log(3))
    assert (found.status, found.reason) == ("ok", "the loss is not finite at 5 points")
    broken = Risk.of_function(lambda p: p[0].sum() * math.nan, [torch.ones(2)])
    assert plane(broken, [[torch.ones(2)], [torch.ones(2)]], resolution=3).status == "diverged"


def test_of_a_batch():
    risk = case("mlp tanh").risk()
    batch = tuple(t[:4] for t in case("mlp tanh").data())
    found = plane(risk, resolution=3, batch=batch)
    assert found.losses[1][1] == risk.value(batch)
    assert found.settings["samples"] == 4


def test_messages():
    risk = diagonal([1.0, 2.0])
    ones = [torch.ones(2)]
    with pytest.raises(ValueError, match="expected an odd resolution ≥ 3, got 4"):
        plane(risk, resolution=4)
    with pytest.raises(ValueError, match="expected extent > 0, got 0"):
        plane(risk, extent=0)
    with pytest.raises(ValueError, match="expected normalise 'filter' or 'none', got 'layer'"):
        plane(risk, normalise="layer")
    with pytest.raises(ValueError, match="expected two directions, got 1"):
        plane(risk, [ones])
    with pytest.raises(ValueError, match="expected a direction shaped like the 1 trainable"):
        plane(risk, [ones, [torch.ones(3)]])
    with pytest.raises(ValueError, match="expected directions that move the parameters, got zero"):
        plane(risk)  # a vector has no filters
    with pytest.raises(ValueError, match="expected three points, got 2"):
        plane_through(risk, [ones, ones])
    with pytest.raises(ValueError, match="expected three different points"):
        plane_through(risk, [ones, ones, [torch.zeros(2)]])
    with pytest.raises(ValueError, match="got three on one line"):
        plane_through(risk, [[torch.full((2,), float(i))] for i in range(3)])
    with pytest.raises(ValueError, match="expected margin ≥ 0, got -1"):
        plane_through(risk, [ones] * 3, margin=-1)
    with pytest.raises(ValueError, match="expected a resolution ≥ 3, got 2"):
        plane_through(risk, [ones] * 3, resolution=2)
    with pytest.raises(ValueError, match="expected the row of a plane"):
        Plane.from_row({"first": [1]})
