"""Predicted gains: exact on quadratics, within their errors on samples, and right on a network before evaluating."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from tests.cases import CASES
from torch import nn

from sgdscope.measure import batch_line, chord
from sgdscope.measure.checkpoint_gradients import checkpoint_gradients
from sgdscope.measure.common_losses import common_losses
from sgdscope.risk import Risk
from sgdscope.theory.averaging import averages
from sgdscope.trajectory import gain

SPECTRUM = torch.tensor([1.0, 0.2, 0.02], dtype=torch.float64)


def noisy_quadratic(samples=64):
    minima = torch.randn(samples, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(parameters, batch):
        return 0.5 * (SPECTRUM * (parameters[0] - batch).square()).sum(-1).mean()

    return Risk.of_function(loss, [torch.zeros(3, dtype=torch.float64)], minima)


def scattered(count, seed=1, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [[scale * torch.randn(3, generator=generator, dtype=torch.float64)] for _ in range(count)]


class OnDisk(Sequence):
    """Checkpoints that are loaded when asked for, as state dicts."""

    def __init__(self, points):
        self.points, self.reads = points, 0

    def __len__(self):
        return len(self.points)

    def __getitem__(self, index):
        self.reads += 1
        return {"theta0": self.points[index][0].clone()}


def test_on_a_quadratic_every_average_is_predicted_exactly():
    risk, points = noisy_quadratic(), scattered(9)
    found = gain(risk, points, evaluate=True)
    newest = risk.value(at=points[-1])
    for known in found.averages:
        mean = [sum(w * p[0] for w, p in zip(known.average.weights, points, strict=True))]
        assert float(known.loss) == pytest.approx(risk.value(at=mean), rel=1e-12)
        assert float(known.gain) == pytest.approx(newest - risk.value(at=mean), abs=1e-12)
        assert float(known.measured) == pytest.approx(float(known.gain), abs=1e-12)
        assert known.verdict.outcome == "agrees"
        assert known.gain.standard_error == 0
    assert [float(z) for z in found.losses] == pytest.approx([risk.value(at=p) for p in points])
    losses = [float(known.loss) for known in found.averages]
    assert losses == sorted(losses)
    assert found.averages[0].average.name == "best non-negative weights"
    assert found.cost == pytest.approx(9 + len(losses) / 3)
    i, j = 2, 6
    d = points[j][0] - points[i][0]
    assert found.curvatures[i, j] == pytest.approx(float(d @ (SPECTRUM * d)), rel=1e-12)


def test_the_best_pair_beats_equal_weights_and_names_say_what_they_are():
    found = gain(noisy_quadratic(), scattered(5, seed=4))
    by_name = {p.average.name: p for p in found.averages}
    pairs = [float(p.loss) for name, p in by_name.items() if name.startswith("two checkpoints") and "newer" not in name]
    chosen = [float(p.loss) for name, p in by_name.items() if "on the newer" in name]
    assert chosen
    assert chosen[0] <= min(pairs)
    assert {"window of 3", "window of 5", "two checkpoints, 4 apart", "EMA 0.5 per checkpoint"} <= set(by_name)
    with_two = gain(noisy_quadratic(), scattered(2), evaluate=True)
    assert all(len(p.average.weights) == 2 for p in with_two.averages)


def test_a_row_is_plain_json():
    found = gain(noisy_quadratic(), scattered(4), evaluate=2, samples=32)
    row = json.loads(json.dumps(found.to_row()))
    assert [a["name"] for a in row["averages"]] == [p.average.name for p in found.averages]
    assert [a["measured"] is None for a in row["averages"][:3]] == [False, False, True]
    assert row["averages"][0]["gain"]["value"] == float(found.averages[0].gain)
    assert len(row["pairs"]) == 3


def test_checkpoints_may_lie_on_disk_and_blocks_change_nothing():
    risk, points = noisy_quadratic(), scattered(7)
    disk = OnDisk(points)
    given = [averages.window(4), averages.ema(0.5, 6)]
    at_once, in_blocks = gain(risk, points, given, evaluate=1), gain(risk, disk, given, held=2, evaluate=1)
    assert [str(p) for p in at_once.averages] == [str(p) for p in in_blocks.averages]
    assert [p.measured is None for p in at_once.averages] == [False, True]
    assert np.allclose(at_once.curvatures, in_blocks.curvatures, rtol=1e-12)
    assert disk.reads <= 1 + 7 + 4 * 6 + 7


def test_products_are_those_of_plain_gradients_on_a_network():
    risk = next(case for case in CASES if case.name == "mlp relu").risk()
    generator = torch.Generator().manual_seed(2)
    points = [[p.detach() + 0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in risk.parameters]
              for _ in range(3)]  # fmt: skip
    common = common_losses(risk, samples=10)
    found = checkpoint_gradients(common, points)
    assert found.losses.shape == (8, 3)
    for group, batch in enumerate(common.groups):
        for i in range(3):
            loss, g = risk.gradient(batch, at=points[i])
            assert found.losses[group, i] == pytest.approx(loss, rel=1e-12)
            for j in range(3):
                apart = sum(float((x * (a - b)).sum()) for x, a, b in zip(g, points[j], points[2], strict=True))
                assert found.products[group, i, j] == pytest.approx(apart, rel=1e-9, abs=1e-12)


def test_errors_cover_what_all_data_say():
    risk, points = noisy_quadratic(400), scattered(5)
    given = [averages.window(5), averages.two_point(4)]
    truth = {p.average.name: float(p.gain) for p in gain(risk, points, given).averages}
    off, said = [], []
    for seed in range(25):
        part = gain(risk, points, given, samples=80, generator=torch.Generator().manual_seed(seed))
        for p in part.averages:
            off.append(float(p.gain) - truth[p.average.name])
            said.append(p.gain.standard_error)
    spread, claimed = np.sqrt(np.mean(np.square(off))), np.sqrt(np.mean(np.square(said)))
    assert 0.8 < claimed / spread < 1.5  # without replacement a fifth of the data scatters a tenth less
    population = gain(risk, points, given, population=True)
    assert population.averages[0].gain.standard_error > 0
    assert float(population.averages[0].gain) == pytest.approx(truth[population.averages[0].average.name], rel=1e-12)


def test_while_the_loss_still_falls_fast_averaging_hurts_and_that_is_said():
    risk = noisy_quadratic()
    path = [[torch.full((3,), 20.0 * 0.5**t, dtype=torch.float64)] for t in range(6)]
    found = gain(risk, path, [averages.window(6), averages.two_point(5)], evaluate=True)
    assert all(p.effect == "hurts" and float(p.measured) < 0 for p in found.averages)
    assert found.best is None
    assert "keep that one" in str(found)
    assert found.early == (0, 1, 2, 3, 4)
    assert found.warnings[0] == (
        "far above the newest, so that any weight beside it hurts: checkpoints 0 to 4: the run was still making fast "
        "progress"
    )
    window = next(p for p in found.averages if p.average.name == "window 6")
    assert "83 % of its weight is on early checkpoints (checkpoints 0 to 4); without these it would gain" in (
        window.warnings[0])  # fmt: skip
    assert [pair.verdict for pair in found.pairs] == ["hurts"] * 5


def test_points_of_different_basins_are_warned_about():
    risk = Risk.of_function(lambda p: ((p[0] ** 2 - 1) ** 2).sum() + p[0].sum() * 0, [torch.zeros(1).double()])
    points = [[torch.tensor([x], dtype=torch.float64)] for x in (-0.4, 0.3, 0.4)]
    found = gain(risk, points)
    assert any("curve downwards" in warning for warning in found.warnings)
    skewed = Risk.of_function(lambda p: (p[0] ** 2 / 2 + p[0] ** 3).sum(), [torch.zeros(1).double()])
    assert any("not quadratic" in warning for warning in gain(skewed, points).warnings)
    assert not any("not quadratic" in warning for warning in gain(noisy_quadratic(), scattered(4)).warnings)


def test_running_statistics_and_nothing_left_to_average_are_said():
    norm = next(case for case in CASES if case.name == "BatchNorm")
    points = [[p.detach() * s for p in norm.risk().parameters] for s in (0.98, 1.0)]
    assert any("recompute them" in warning for warning in gain(norm.risk(mode="eval"), points).warnings)
    assert not any("recompute them" in warning for warning in gain(norm.risk(), points).warnings)
    close = gain(noisy_quadratic(), scattered(4, scale=1e-3))
    assert any("hardly any noise is left" in warning for warning in close.warnings)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"checkpoints": scattered(1)}, ValueError, "expected at least two checkpoints"),
        ({"checkpoints": [scattered(1)[0], [torch.zeros(2)]]}, ValueError, "expected checkpoint 1 shaped like"),
        ({"checkpoints": scattered(3), "averages": [averages.window(4)]}, ValueError, "run of at least 3 steps"),
        ({"checkpoints": scattered(3), "held": 0}, ValueError, "expected held ≥ 1"),
        ({"checkpoints": scattered(3), "evaluate": -1}, ValueError, "evaluate ≥ 0"),
        ({"checkpoints": scattered(3), "samples": 3}, ValueError, "expected between 8 and 64 samples"),
        ({"checkpoints": [{"weight": torch.zeros(3)}] * 2}, ValueError, "got one without theta0"),
        ({"checkpoints": scattered(2, scale=1e200)}, FloatingPointError, "not finite at checkpoint 0"),
    ],
)
def test_bad_input_is_refused_at_the_door(arguments, error, message):
    with pytest.raises(error, match=message):
        gain(noisy_quadratic(), **arguments)


def digits(label_noise, seed=0):
    """The 64-32-10 tanh network on digits with weight decay, its training and its held-out risk."""
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(y))
    images, labels = torch.from_numpy(x[order] / 16), torch.from_numpy(y[order]).long()
    held_out = (images[1437:], labels[1437:])
    noisy = labels[:1437].clone()
    mixed = torch.from_numpy(rng.random(1437) < label_noise)
    noisy[mixed] = torch.from_numpy(rng.integers(0, 10, int(mixed.sum())))
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)).double()

    def plain(model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def decayed(model, batch):
        return plain(model, batch) + 0.5e-3 * sum(p.square().sum() for p in model.parameters())

    return Risk(model, decayed, (images[:1437], noisy)), Risk(model, plain, held_out)


def iterates(risk, lr, steps, seed, recorded):
    """SGD with batches of 16 drawn with replacement; copies of the last `recorded` iterates."""
    generator = torch.Generator().manual_seed(seed)
    images, labels = risk.source.batch
    kept = []
    for t in range(steps):
        rows = torch.randint(risk.size, (16,), generator=generator)
        gradient = torch.autograd.grad(risk.loss_fn(risk.model, (images[rows], labels[rows])), risk.parameters)
        with torch.no_grad():
            torch._foreach_add_(risk.parameters, list(gradient), alpha=-lr)
        if t >= steps - recorded:
            kept.append([p.detach().clone() for p in risk.parameters])
    return kept


@pytest.mark.slow
@pytest.mark.parametrize(
    ("label_noise", "lr", "train_ratio", "test_ratio"), [(0.2, 0.5, (0.89, 0.025), (0.70, 0.07)),
                                                       (0.0, 0.2, (0.957, 0.01), (0.93, 0.04))],
)  # fmt: skip
def test_on_digits_gains_are_predicted_before_any_average_is_evaluated(label_noise, lr, train_ratio, test_ratio):
    risk, held_out = digits(label_noise)
    path = iterates(risk, lr, 3000, 0, 1000)
    for gap in (10, 100, 500):
        predicted, measured = 0.0, 0.0
        for end in range(549, 1000, 50):
            found = gain(risk, [path[end - gap], path[end]], [averages.two_point(1)], evaluate=True)
            pair = found.averages[0]
            above = 0.5 * (float(found.losses[0]) - float(found.losses[1]))  # mean of the ends above the newer one
            predicted += float(pair.gain) + above
            measured += float(pair.measured) + above
        assert measured == pytest.approx(predicted, rel=0.05)
    window = gain(risk, path[509::10], [averages.window(50)], evaluate=True)  # of 50 with stride 10
    assert window.averages[0].verdict.outcome == "agrees"
    assert abs(window.averages[0].verdict.margin) < 0.15
    mean = [sum(tensors) / 500 for tensors in zip(*path[500:], strict=True)]
    for of, (ratio, tolerance) in ((risk, train_ratio), (held_out, test_ratio)):
        late = np.mean([of.value(at=point) for point in path[500::10]])
        assert of.value(at=mean) / late == pytest.approx(ratio, abs=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(("label_noise", "lr", "largest"), [(0.2, 0.5, 2.0), (0.0, 0.2, 4.0)])
def test_on_digits_a_fixed_batch_is_a_parabola_whose_bottom_is_far_beyond_the_learning_rate(label_noise, lr, largest):
    risk, _ = digits(label_noise)
    path = iterates(risk, lr, 3000, 0, 1000)
    on_line, on_chord, steps, drops, others = [], [], [], [], []
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        line = batch_line(risk, 64, lr=lr, unseen=1, full=False, generator=generator)
        ends = path[499 - 100 * seed], path[999 - 100 * seed]
        along = chord(risk, *ends, 64, unseen=0, full=False, generator=generator)
        on_line.append(line.fits["batch"].r_squared)
        on_chord.append(along.fits["batch"].r_squared)
        steps.append(float(line.beside["best_step"]) / lr)
        drops.append(line.batch[0] - float(line.beside["loss_reached"]))
        others.append(line.fits["unseen"].at(0) - line.fits["unseen"].at(float(line.beside["best_step"])))
    assert np.mean(others) < 0.3 * np.mean(drops)
    assert np.mean(on_line) > 0.99
    assert np.mean(on_chord) > 0.99
    assert np.mean(steps) > largest
