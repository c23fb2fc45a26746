"""Gradient noise along a run, and the shape of curvature and noise at its end: what is read, left out, and why."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sgdscope.measure import EigenvalueTracker, leading_eigenvalues
from sgdscope.monitor import Monitor, portion, readings
from sgdscope.monitor.readings import SHAPE
from sgdscope.records import open_run
from sgdscope.risk import Risk

SAMPLES, CLASSES = 96, 4


def loss_fn(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def perceptron(*between):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 10), *between, nn.Tanh(), nn.Linear(10, CLASSES))


def data(samples=SAMPLES):
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(CLASSES, (samples,), generator=generator)
    return torch.randn(samples, 6, generator=generator) + F.one_hot(labels, 6), labels


def watched(folder, model, source=None, *, steps=12, **options):
    source = data() if source is None else source
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    risk = Risk(model, loss_fn, source)
    inputs, labels = data()
    with Monitor(risk, optimizer, out=folder, **{"every": 4, **options}) as monitor:
        for step in range(steps):
            batch = inputs[8 * step % 80 :][:8], labels[8 * step % 80 :][:8]
            optimizer.zero_grad()
            loss = loss_fn(model, batch)
            loss.backward()
            optimizer.step()
            monitor.observe(batch, loss=loss)
    return open_run(folder), monitor


def failed(run, name):
    return [(step, e.reason) for step, _, e in run.rows if e.name == name and e.value is None]


def test_noise_along_the_run_and_its_shape_at_the_end(tmp_path):
    run, _ = watched(tmp_path / "a", perceptron())
    assert run["gradient_noise"].steps.tolist() == [0, 4, 8, 12, 12]
    assert float(run["gradient_noise"].latest.beside["simple_noise_scale"]) > 0
    found, noise = run["spectrum"].latest, run["noise_covariance"].latest
    assert len(found.value) == len(noise.value) == 8
    assert noise.beside["eigenvalues"].value == found.value  # found once for both
    assert found.settings["samples"] == found.settings["of"] == SAMPLES
    assert set(noise.standard_error) == {0.0}  # all data were taken
    assert failed(run, "spectrum") == failed(run, "noise_covariance") == []


def counting(monkeypatch, name):
    """Calls of a function of `readings` from here on."""
    calls, real = [], getattr(readings, name)

    def counted(risk, *arguments, **options):
        calls.append(risk.size)
        return real(risk, *arguments, **options)

    monkeypatch.setattr(readings, name, counted)
    return calls


def test_one_search_serves_all_that_is_read_at_the_end(tmp_path, monkeypatch):
    searches, updates = counting(monkeypatch, "leading_eigenpairs"), []
    update = EigenvalueTracker.update
    monkeypatch.setattr(EigenvalueTracker, "update", lambda *a, **o: updates.append(0) or update(*a, **o))
    run, monitor = watched(tmp_path / "a", perceptron(), k=3)
    assert (searches, len(updates)) == ([SAMPLES], 4 + 1)  # at steps 0, 4, 8 and 12, and the search itself
    found, last = run["lambda_max"].latest, run["spectrum"].latest
    assert found.value == last.value[:3]
    assert found.residual == last.residual[:3]
    alone = leading_eigenvalues(monitor.risk, 3, tolerance=1e-4)  # the weights are those of the end
    for shared, exact, residual in zip(found.value, alone.value, found.residual, strict=True):
        assert abs(shared - exact) <= residual + 1e-4 * alone.value[0]
    monitor.read_carefully()
    assert len(searches) == 2  # nothing is kept for weights that may have changed


@pytest.mark.parametrize("why", ["a part of the data", "left out", "too many wanted"])
def test_where_the_search_does_not_tell_the_largest_they_are_found_apart(tmp_path, monkeypatch, why):
    if why == "a part of the data":
        one = portion.operations(Risk(perceptron(), loss_fn, data()))
        monkeypatch.setattr(portion, "ALLOWED", {"cpu": 70 * readings.BY_HAND.charge * one})
        monkeypatch.setattr(readings, "_FEWEST", 16)
    elif why == "left out":
        monkeypatch.setattr(readings, "_MEMORY", 10)
    run, monitor = watched(tmp_path / "a", perceptron(), k=9 if why == "too many wanted" else 1)
    found = run["lambda_max"].latest
    assert found.settings["samples"] == SAMPLES
    assert "search" not in found.settings
    exact = leading_eigenvalues(monitor.risk, tolerance=1e-4)
    assert abs(float(found) - float(exact)) <= found.residual[0] + 1e-4 * float(exact)


def test_by_budget_the_noise_of_a_small_network_is_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("sgdscope.monitor.agenda._AT_ONCE", 60.0)  # seconds: a busy machine may be slow
    run, monitor = watched(tmp_path / "a", perceptron(), every=None, budget=0.5, batch_size=8)
    assert run["gradient_noise"].steps[0] == 0
    assert monitor.spent["gradient_noise"] > 0


def test_the_shape_depends_on_seed_and_step_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(portion, "ALLOWED", {"cpu": 64.5 * readings.BY_HAND.charge * portion.operations(Risk(
        perceptron(), loss_fn, data()))})  # fmt: skip
    monkeypatch.setattr(readings, "_FEWEST", 16)
    rows = {}
    for name, every, seed in (("a", 4, 0), ("b", 3, 0), ("c", 4, 1)):
        run, _ = watched(tmp_path / name, perceptron(), every=every, seed=seed)
        rows[name] = [run[what].latest.to_row() for what in SHAPE]
    assert rows["a"] == rows["b"]
    assert rows["a"] != rows["c"]


def test_where_all_data_are_dear_a_part_is_read_and_named(tmp_path, monkeypatch):
    one = portion.operations(Risk(perceptron(), loss_fn, data()))
    monkeypatch.setattr(portion, "ALLOWED", {"cpu": 70 * readings.BY_HAND.charge * one})
    monkeypatch.setattr(readings, "_FEWEST", 16)
    run, _ = watched(tmp_path / "a", perceptron())
    found, noise = run["spectrum"].latest, run["noise_covariance"].latest
    assert (found.settings["samples"], found.settings["of"]) == (64, SAMPLES)  # 70, rounded down
    assert noise.beside["eigenvalues"].value != found.value
    assert noise.beside["eigenvalues"].settings["curvatures"] == "on other samples than the directions"
    assert noise.settings["samples"] == SAMPLES  # the noise itself is cheap


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (
            "BY_HAND",
            readings.BY_HAND._replace(charge=1e13),
            "left out: it would take a large share of the time of the whole run",
        ),
        ("_MEMORY", 10, "left out: its vectors would take 0 GiB"),
    ],
)
def test_what_is_too_dear_is_left_out_with_a_word(tmp_path, monkeypatch, name, value, reason):
    monkeypatch.setattr(readings, name, value)
    run, _ = watched(tmp_path / "a", perceptron())
    assert failed(run, "spectrum") == [(12, reason)]
    assert "noise_covariance" not in run
    assert "edge_map" in run  # the others are as ever


def test_where_torch_takes_the_products_the_look_is_coarser(tmp_path):
    run, _ = watched(tmp_path / "a", perceptron(nn.LayerNorm(10)))
    assert len(run["spectrum"].latest.value) == readings.BY_GRAPH.axes
    assert len(run["spectrum"].latest.settings["density"]["nodes"][0]) <= readings.BY_GRAPH.steps + 1


def test_a_long_run_may_take_more():
    risk = Risk(perceptron(), loss_fn, data(4096))
    dear = portion.ALLOWED["cpu"] / portion.operations(risk) / 256
    assert portion.affordable(risk, dear, 0) == 256
    assert portion.affordable(risk, dear, int(20 * 600 * dear)) == 512
    assert portion.affordable(risk, dear, int(20 * 5000 * dear)) == 4096  # all of them


def test_operations_of_layers_and_of_a_function():
    assert portion.operations(Risk(perceptron(), loss_fn, data())) == pytest.approx(6 * (6 * 10 + 10 * 4), rel=0.2)
    convolution = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Flatten(), nn.Linear(75, CLASSES))
    images = torch.zeros(8, 1, 5, 5), torch.zeros(8, dtype=torch.long)
    assert portion.operations(Risk(convolution, loss_fn, images)) == 6 * (25 * 27 + 75 * 4)
    bowl = Risk.of_function(lambda theta: theta[0].square().sum(), [torch.ones(5)])
    assert portion.operations(bowl) == 6 * 5


def test_batchnorm_mixes_samples_and_that_is_said_once(tmp_path):
    run, monitor = watched(tmp_path / "a", perceptron(nn.BatchNorm1d(10)))
    reason = "single samples have no gradients of their own: BatchNorm in train mode"
    assert failed(run, "gradient_noise") == [(0, reason)]
    assert "noise_covariance" not in run
    assert float(run["spectrum"].latest) > 0
    assert monitor.measure_now("gradient_noise") is None
    again = Monitor(monitor.risk, monitor.optimizer)
    again.load_state_dict(monitor.state_dict())
    assert again.measure_now("gradient_noise") is None  # nor after a resume
    assert again.latest == {}


def test_batches_of_different_shapes_have_no_single_samples(tmp_path):
    inputs, labels = data(40)
    ragged = [(inputs[:16], labels[:16]), (inputs[16:], labels[16:], torch.zeros(24))]

    def loss(model, batch):
        return loss_fn(model, batch[:2])

    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(Risk(model, loss, ragged), optimizer, every=2, batch_size=16, out=tmp_path / "a"):
        for batch in ragged:
            optimizer.zero_grad()
            loss(model, batch).backward()
            optimizer.step()
    run = open_run(tmp_path / "a")
    reason = "single samples cannot be drawn: the data come in batches of different shapes"
    assert failed(run, "gradient_noise") == [(0, reason)]
    assert "noise_covariance" not in run
    assert float(run["spectrum"].latest) > 0


def test_where_each_gradient_is_taken_by_itself_few_are(tmp_path, monkeypatch):
    class Twice(nn.Module):  # a layer applied twice has no gradients layer by layer
        def __init__(self):
            super().__init__()
            self.inner, self.outer = nn.Linear(6, 6), nn.Linear(6, CLASSES)

        def forward(self, x):
            return self.outer(torch.sin(self.inner(torch.sin(self.inner(x)))) ** 2)

    monkeypatch.setattr(readings, "_ONE_BY_ONE", 20)
    monkeypatch.setattr(readings, "layers_refusal", lambda risk: "not layer by layer")
    run, _ = watched(tmp_path / "a", Twice())
    assert run["gradient_noise"].latest.count == 20
    assert run["noise_covariance"].latest.settings["samples"] == 20
    monkeypatch.setattr(readings, "_ONE_BY_ONE_BYTES", 100)
    run, _ = watched(tmp_path / "b", Twice())
    reason = "too few single samples, or too many parameters to hold the gradient of each"
    assert failed(run, "gradient_noise") == [(0, reason)]
