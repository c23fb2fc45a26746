"""Losses of a fixed batch: along a path, along its own gradient, and what a batch gradient is worth on all data."""

import json
import math

import numpy as np
import pytest
import torch
from tests.cases import CASES, dense, diagonal, flat

from sgdscope.measure import LossCurves, batch_line, batch_path, full_loss_step, gradient_alignment
from sgdscope.measure.quadratic_fit import fit_quadratic
from sgdscope.measure.sampling import ratio_with_error, serial_ratio_with_error
from sgdscope.risk import Risk

SPECTRUM = torch.tensor([1.0, 0.2, 0.02], dtype=torch.float64)


def noisy_quadratic(samples=64, seed=0):
    """½ Σ h (θ − c)² with a minimum c per sample: the model in which everything here is exact."""
    minima = torch.randn(samples, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    minima *= torch.tensor([1.0, 2.0, 4.0]).sqrt()
    minima -= minima.mean(0)

    def loss(parameters, batch):
        return 0.5 * (SPECTRUM * (parameters[0] - batch).square()).sum(-1).mean()

    return Risk.of_function(loss, [torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)], minima)


def mlp_risk():
    return next(case for case in CASES if case.name == "mlp tanh").risk()


def perturbed(risk, seed, scale=0.3):
    generator = torch.Generator().manual_seed(seed)
    return [p.detach() + scale * torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in risk.parameters]


@pytest.mark.parametrize("numbers", [(3.0, -2.0, 0.5), (1e6, 1.0, -4.0), (0.0, 0.0, 1e-9)])
def test_a_parabola_is_fitted_exactly(numbers):
    constant, slope, curvature = numbers
    x = np.linspace(-7, 31, 23)
    fit = fit_quadratic(x, constant + slope * x + 0.5 * curvature * x * x)
    assert fit.r_squared == pytest.approx(1, abs=1e-10)
    assert (fit.slope, fit.curvature) == (pytest.approx(slope, rel=1e-6), pytest.approx(curvature, rel=1e-6))
    assert fit.at(4.0) == pytest.approx(constant + 4 * slope + 8 * curvature, rel=1e-9)
    assert fit.lowest == (pytest.approx(-slope / curvature, rel=1e-5) if curvature > 0 else None)


def test_r_squared_is_that_of_a_plain_regression_and_gaps_are_left_out():
    x = np.linspace(0, 2, 9)
    z = np.exp(x)
    fit = fit_quadratic([*x, 3.0], [*z, None])
    plain = np.polyfit(x, z, 2)
    left = z - np.polyval(plain, x)
    assert fit.r_squared == pytest.approx(1 - left.var() / z.var(), rel=1e-12)
    assert fit.curvature == pytest.approx(2 * plain[0])
    assert fit_quadratic([0, 1, 2, 3], [1.0, 2.0, None, 5.0]) is None  # any parabola goes through three points
    assert fit_quadratic([0, 1, 2, 3], [2.5] * 4).r_squared is None


def test_along_a_path_every_loss_is_that_of_its_batch_at_its_point():
    risk = mlp_risk()
    points = [perturbed(risk, seed) for seed in range(5)]
    found = batch_path(risk, 3, points, positions=[0, 10, 20, 50, 100], unseen=2)
    order = torch.randperm(risk.size, generator=torch.Generator().manual_seed(0))[:9]
    rows = [risk.source.take(part) for part in order.split(3)]
    for i, point in enumerate(points):
        assert found.batch[i] == pytest.approx(risk.value(rows[0], at=point), rel=1e-12)
        others = [risk.value(row, at=point) for row in rows[1:]]
        assert [row[i] for row in found.unseen] == pytest.approx(others, rel=1e-12)
        assert found.unseen_mean[i] == pytest.approx(sum(others) / 2)
        assert found.unseen_error[i] == pytest.approx(abs(others[0] - others[1]) / 2)
        assert found.full[i] == pytest.approx(risk.value(at=point), rel=1e-12)
    assert found.coordinates == (0, 10, 20, 50, 100)
    assert set(found.fits) == {"batch", "unseen", "full"}
    assert found.cost == pytest.approx(5 * (1 + 9 / risk.size) / 3)
    assert (found.status, found.settings["samples"]) == ("ok", 3)


def test_a_path_may_be_training_itself():
    risk, again = mlp_risk(), mlp_risk()
    batch = CASES[0].data()

    def training(of):
        for _ in range(6):
            _, g = of.gradient(batch)
            with torch.no_grad():
                torch._foreach_add_(of.parameters, g, alpha=-0.5)
            yield of.parameters

    stored = [[p.detach().clone() for p in point] for point in training(again)]
    live = batch_path(risk, batch, training(risk), unseen=0)
    assert live.batch == batch_path(again, batch, stored, unseen=0).batch
    assert list(live.batch) == sorted(live.batch, reverse=True)


def test_a_batch_bends_as_its_curvature_says_and_other_batches_gain_nothing():
    risk = noisy_quadratic()
    found = batch_line(risk, 4, unseen=3)
    batch = risk.source.take(torch.randperm(64, generator=torch.Generator().manual_seed(0))[:4])
    value, g = risk.gradient(batch)
    square, along = float(g[0] @ g[0]), float(g[0] @ (SPECTRUM * g[0]))
    beside = {name: float(estimate) for name, estimate in found.beside.items()}
    assert beside["curvature"] == pytest.approx(along / square, rel=1e-12)
    assert beside["fitted_curvature"] == pytest.approx(along / square, rel=1e-9)
    assert beside["newton_step"] == beside["best_step"] == pytest.approx(square / along, rel=1e-9)
    assert beside["newton_loss"] == pytest.approx(beside["loss_reached"], rel=1e-12)
    assert beside["loss_reached"] == pytest.approx(value - 0.5 * square**2 / along, rel=1e-9)
    _, full = risk.gradient()
    assert beside["best_full_step"] == pytest.approx(float(full[0] @ g[0]) / along, rel=1e-9)
    assert all(fit.r_squared == pytest.approx(1, abs=1e-10) for fit in found.fits.values())
    assert found.coordinates[-1] == pytest.approx(2 * square / along)
    assert found.beside["loss_reached"].residual < 1e-12


def test_on_a_network_the_best_step_is_the_lowest_of_a_dense_search():
    risk = mlp_risk()
    batch = risk.source.take(torch.arange(6))
    g, h = dense(risk, batch)
    found = batch_line(risk, batch, unseen=0, full=False, lr=0.3)
    assert found.beside["curvature"].value == pytest.approx(float(g @ h @ g / (g @ g)), rel=1e-9)
    _, direction = risk.gradient(batch)
    best, residual = found.beside["best_step"].value, found.beside["best_step"].residual
    losses = [risk.value(batch, at=risk.displaced(direction, -best * k / 200)) for k in range(401)]
    assert abs(min(range(401), key=losses.__getitem__) / 200 - 1) < residual / best + 1 / 200
    assert found.beside["loss_reached"].value <= min(losses) + found.beside["loss_reached"].residual
    ratios = [alpha / 0.3 for alpha in found.coordinates]
    spacing = ratios[1]
    assert min(spacing, 1 / spacing) == pytest.approx(1 / round(max(spacing, 1 / spacing)))  # lr lies on the grid
    assert found.coordinates[-1] >= 2 * found.beside["newton_step"].value
    assert found.full == ()


def test_step_sizes_of_your_own_and_lines_without_a_lowest_point():
    risk = mlp_risk()
    found = batch_line(risk, 4, steps=[0.2, 0.1, 0.0], unseen=1)
    assert found.coordinates == (0.0, 0.1, 0.2)
    assert found.fits == {}
    down = Risk.of_function(lambda p: -p[0].square().sum(), [torch.ones(2, dtype=torch.float64)])
    failed = batch_line(down, 1, unseen=0)
    assert (failed.status, failed.coordinates) == ("failed", ())
    assert "does not curve upwards" in str(failed)
    assert len(batch_line(down, 1, unseen=0, lr=0.1).batch) == 17
    flat_top = Risk.of_function(lambda p: p[0].square().sum(), [torch.zeros(2, dtype=torch.float64)])
    assert batch_line(flat_top, 1, unseen=0).reason == "the batch's gradient is zero"


def test_the_full_loss_step_from_a_dense_hessian():
    risk = mlp_risk()
    found = full_loss_step(risk, 4, lr=0.4, batches=5)
    generator = torch.Generator().manual_seed(0)
    g, h = dense(risk, CASES[0].data())
    drawn = [risk.gradient(risk.draw(4, generator))[1] for _ in range(5)]
    curvatures = [float(flat(d) @ h @ flat(d)) for d in drawn]
    value, error = ratio_with_error([float(g @ g)] * 5, curvatures)
    assert (found.value, found.standard_error) == (pytest.approx(value, rel=1e-9), pytest.approx(error, rel=1e-6))
    assert found.beside["in_learning_rates"].value == pytest.approx(value / 0.4)
    left = [risk.value(at=risk.displaced(d, -0.4)) - risk.value() + 0.4 * float(g @ flat(d)) - 0.08 * c
            for d, c in zip(drawn, curvatures, strict=True)]  # fmt: skip
    assert found.beside["departure"].value == pytest.approx(sum(left) / (0.08 * sum(curvatures)), rel=1e-6)


def test_on_quadratics_nothing_departs_and_alignment_is_the_share_of_the_signal():
    risk = noisy_quadratic()
    found = full_loss_step(risk, 2, lr=0.3, points=[perturbed(risk, s) for s in range(6)])
    assert found.beside["departure"].value == pytest.approx(0, abs=1e-12)
    assert found.beside["loss_trend"].count == 6
    aligned = gradient_alignment(risk, 64)
    assert (aligned.value, aligned.beside["squared_cosine"].value) == (pytest.approx(1), pytest.approx(1))
    one = gradient_alignment(risk, 1, batches=600, replacement=True)
    _, g = risk.gradient()
    rows = SPECTRUM * (risk.parameters[0].detach() - risk.source.batch)
    assert abs(one.value - float(g[0] @ g[0]) / float(rows.square().sum(-1).mean())) < 4 * one.standard_error
    assert one.beside["between_batches"].value == pytest.approx(one.value, rel=0.2)
    cosine = float((rows @ g[0]).square().mean() / (g[0] @ g[0]) / rows.square().sum(-1).mean())
    assert abs(one.beside["squared_cosine"].value - cosine) < 4 * one.beside["squared_cosine"].standard_error


def test_a_correlated_series_has_a_larger_error():
    generator = np.random.default_rng(0)
    means, said, naive = [], [], []
    for _ in range(200):
        x = [generator.normal()]
        for _ in range(399):
            x.append(0.8 * x[-1] + 0.6 * generator.normal())  # unit variance, autocorrelation time 9
        mean, error = serial_ratio_with_error(x, [1.0] * 400)
        means.append(mean)
        said.append(error)
        naive.append(ratio_with_error(x, [1.0] * 400)[1])
    assert np.sqrt(np.mean(np.square(said))) == pytest.approx(np.std(means), rel=0.2)
    assert np.mean(naive) < 0.5 * np.std(means)


@pytest.mark.slow
def test_sgd_settles_where_half_its_learning_rate_is_best_for_all_data():
    risk, lr = noisy_quadratic(), 0.3
    generator = torch.Generator().manual_seed(1)

    def settled():
        theta = risk.parameters[0]
        for t in range(22000):
            rows = torch.randint(64, (1,), generator=generator)
            with torch.no_grad():
                theta -= lr * SPECTRUM * (theta - risk.source.batch[rows].mean(0))
            if t >= 2000 and t % 40 == 0:
                yield [theta]

    found = full_loss_step(risk, 1, lr=lr, points=settled(), batches=4, replacement=True)
    half = found.beside["in_learning_rates"]
    assert half.standard_error < 0.05
    assert abs(half.value - 0.5) < 3 * half.standard_error


def test_curves_survive_json():
    found = batch_line(mlp_risk(), 4, unseen=2)
    assert LossCurves.from_row(json.loads(json.dumps(found.to_row()))) == found
    with pytest.raises(ValueError, match="expected the row of loss curves"):
        LossCurves.from_row({"name": "chord"})


def test_losses_that_are_not_finite_are_gaps_with_a_reason():
    risk = diagonal([1.0, 2.0])
    far = [torch.full((2,), 1e200, dtype=torch.float64)]
    found = batch_path(risk, 1, [risk.parameters, far, risk.parameters], unseen=0)
    assert (found.batch[1], found.full[1]) == (None, None)
    assert (found.status, found.reason) == ("diverged", "a loss is not finite at 1 of 3 points")
    assert math.isfinite(found.full[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: batch_path(r, 4, []), "expected points of a path, got none"),
        (lambda r: batch_path(r, 4, [r.parameters], positions=[1, 2]), "got 2 for 1 points"),
        (lambda r: batch_path(r, 400, [r.parameters]), "expected a batch size between 1 and 12"),
        (lambda r: batch_path(r, 4, [r.parameters[:1]]), "expected point 0 shaped like"),
        (lambda r: batch_path(r, 4, [r.parameters], unseen=-1), "expected unseen ≥ 0"),
        (lambda r: batch_line(r, 4, lr=0.0), "expected a learning rate > 0"),
        (lambda r: batch_line(r, 4, resolution=2), "expected resolution ≥ 3"),
        (lambda r: batch_line(r, 4, steps=[0.1]), "two different finite step sizes"),
        (lambda r: full_loss_step(r, 4, lr=-1), "expected a learning rate > 0"),
        (lambda r: full_loss_step(r, 4, points=[]), "expected points to measure at"),
        (lambda r: gradient_alignment(r, 4, batches=1), "expected at least 2 batches"),
        (lambda r: gradient_alignment(r, 4, points=[]), "expected points to measure at"),
    ],
)
def test_bad_input_is_refused_at_the_door(call, message):
    with pytest.raises(ValueError, match=message):
        call(mlp_risk())
