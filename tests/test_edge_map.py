"""Edge map: exact on quadratics, read back from records without torch, honest about what it cannot say."""

import json
import math
import subprocess
import sys

import pytest
import torch

from sgdscope.edge_map import EdgeMap, Passed, readable
from sgdscope.estimate import Estimate
from sgdscope.measure import batch_sharpness
from sgdscope.records import RunWriter, open_run
from sgdscope.summary import summary
from sgdscope.what_if import edge_map, predict_change
from tests.cases import CASES, quadratics

SETTINGS = {
    "batch_sizes": [2, 4, 8, 16], "lr": 0.5, "batch_size": 4, "threshold": "2 / lr", "threshold_times_lr": 2.0,
    "scope": "plain SGD",
}  # fmt: skip


def written(*, edges=(0.2, 0.4, 0.8, 1.6), errors=(0.002, 0.004, 0.008, 0.016), **settings):
    return Estimate("edge_map", edges, errors, settings={**SETTINGS, **settings})


def test_between_points_it_is_read_along_logarithms():
    found = EdgeMap(written())
    assert found.edge_at(8).value == pytest.approx(0.8)
    assert found.edge_at(8).standard_error == pytest.approx(0.008)
    assert found.edge_at(math.sqrt(32)).value == pytest.approx(0.4 * math.sqrt(2))
    outside = found.edge_at(17)
    assert (outside.value, outside.reason) == (None, "the map reaches from batch size 2 to 16")


def test_with_a_fit_it_is_read_along_the_curve():
    # batch sharpness (1 + 6 / b) / (1 + 1 / b)
    edges = tuple(2 * (1 + 1 / b) / (1 + 6 / b) for b in (2, 4, 8, 16))
    found = EdgeMap(written(edges=edges, coefficients=[1.0, 6.0, 0.0, 1.0]))
    assert found.edge_at(4).value == pytest.approx(edges[1])
    assert found.edge_at(5).value == pytest.approx(2 * 1.2 / 2.2)


@pytest.mark.parametrize(
    ("lr", "batch_size", "region"),
    [(0.35, 4, "safe"), (0.395, 4, "near the edge"), (0.45, 4, "near the edge"), (0.5, 4, "unsafe"), (0.5, 2, "unsafe"),
     (0.5, 8, "safe"), (0.5, 32, "off the map"), (None, None, "unsafe")],
)  # fmt: skip
def test_regions(lr, batch_size, region):
    assert EdgeMap(written()).region(lr=lr, batch_size=batch_size) == region


def test_position_and_safe_batch_sizes():
    found = EdgeMap(written())
    assert found.position().value == pytest.approx(1.25)
    assert found.position().standard_error == pytest.approx(0.0125)
    assert found.position(batch_size=64).value is None
    assert found.safe_batch_sizes() == (8, 16)
    assert found.safe_batch_sizes(0.1) == (2, 4, 8, 16)
    assert "4  0.4 ± 0.004  <- lr 0.5: unsafe" in str(found)


def test_on_quadratics_it_is_exact():
    found = edge_map(quadratics([3.0] * 40), lr=0.5, batch_size=4)
    assert found.batch_sizes == (1, 2, 4, 8, 16, 32)
    assert found.edges == pytest.approx([2 / 3] * 6)
    assert found.region() == "safe"
    momentum = edge_map(quadratics([3.0] * 40), lr=0.5, batch_size=4, momentum=0.9)
    assert momentum.edges == pytest.approx([0.2 / 3] * 6)
    assert momentum.region() == "unsafe"
    assert momentum.estimate.settings["threshold"] == "2 (1 − β) / lr"


def test_it_agrees_with_predict_change():
    risk = CASES[0].risk()
    found = edge_map(risk, lr=0.1, batch_size=4, max_cost=300, tolerance=0.02)
    assert found.batch_sizes == (1, 2, 4, 8)
    for lr, size in ((0.1, 4), (0.2, 2), (0.1, 8)):
        predicted = predict_change(risk, lr=lr, batch_size=size, max_batches=4000)
        assert found.position(lr=lr, batch_size=size).value == pytest.approx(predicted.value, rel=0.1)


def test_what_was_just_measured_weighs_in():
    risk = CASES[0].risk()
    known = batch_sharpness(risk, 4, tolerance=0.004, max_batches=5000)
    found = edge_map(risk, lr=0.1, batch_size=4, known=known)
    assert found.edge_at(4).value == pytest.approx(2 / known.value, rel=0.025)
    alone = edge_map(risk, lr=0.1, batch_size=4)
    assert found.edge_at(4).standard_error < alone.edge_at(4).standard_error
    other = Estimate("batch_sharpness", 1e6, 1.0, settings={"batch_size": 5})
    assert edge_map(risk, lr=0.1, batch_size=4, known=other).estimate == alone.estimate


def test_with_replacement_the_map_reaches_to_all_data():
    found = edge_map(quadratics([3.0] * 8), lr=0.5, batch_size=8, replacement=True)
    assert found.batch_sizes == (1, 2, 4, 8)


def test_where_it_has_no_meaning_it_says_why():
    whole = edge_map(quadratics([3.0] * 8), lr=0.5, batch_size=8)
    assert whole.estimate.value is None
    assert "λ_max decides there" in str(whole)
    downhill = edge_map(quadratics([-3.0] * 8), lr=0.5, batch_size=2)
    assert "not positive at batch size" in downhill.estimate.reason
    lost = edge_map(quadratics([math.nan] * 8), lr=0.5, batch_size=2)
    assert (lost.estimate.value, lost.estimate.status) == (None, "diverged")
    with pytest.raises(ValueError, match="a map that was measured"):
        _ = lost.edges
    for wrong, words in (({"lr": 0.0}, "learning rate > 0"), ({"batch_size": 9}, "expected a batch size"),
                         ({"momentum": 1.0}, "expected momentum")):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            edge_map(quadratics([3.0] * 8), **{"lr": 0.5, "batch_size": 2, **wrong})


@pytest.fixture
def run(tmp_path):
    """A run whose learning rate was halved, with two readings of batch sharpness, and its map."""
    with RunWriter.create(tmp_path / "a", {"optimizer": {"method": "sgd", "momentum": 0.0}}) as writer:
        for step, lr in ((0, 1.0), (50, 0.5)):
            writer.append(step, Estimate("learning_rate", lr))
            writer.append(step + 10, Estimate("batch_sharpness", 2.0 + step / 10, 0.1, settings={"batch_size": 4}))
        writer.append(100, edge_map(quadratics([5.0] * 40), lr=0.5, batch_size=4).estimate)
        writer.append(101, Estimate.failed("edge_map", "out of memory"))
    return open_run(tmp_path / "a")


def test_from_the_records_with_the_way_of_the_run(run):
    found = EdgeMap.of(run)
    assert found.path == (Passed(10, 1.0, 4, 1.0), Passed(60, 0.5, 4, 2 / 7))
    assert found.edges == pytest.approx([0.4] * 6)
    assert found.edge_at(5).value == pytest.approx(0.4)
    row = json.loads(json.dumps(found.to_row()))
    assert row["path"][1] == {"step": 60, "lr": 0.5, "batch_size": 4, "edge": pytest.approx(2 / 7)}
    assert EdgeMap(Estimate.from_row(row)).edges == found.edges
    shown = "0.400 ± 0.004 at batch 1, 0.400 ± 0.002 at batch 4, 0.400 ± 0.002 at batch 16 (now 0.5 at 4)"
    assert f"edge learning rate  {shown}" in summary(run)


def test_no_torch_is_needed_to_read_it(run):
    code = ("import sys; from sgdscope.records import open_run; from sgdscope.edge_map import EdgeMap\n"
            f"print(EdgeMap.of(open_run({str(run.path)!r})).region(), 'torch' in sys.modules)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[0] == "unsafe False", done.stderr


@pytest.mark.parametrize(
    "bad",
    [{"batch_sizes": [1, 2]}, {"batch_sizes": [4, 2, 8, 16]}, {"batch_sizes": "abcd"}, {"batch_sizes": [0, 1, 2, 3]},
     {"lr": None}, {"lr": "x"}, {"batch_size": -1}, {"threshold_times_lr": True}, {"threshold": 3},
     {"coefficients": [1.0]}, {"coefficients": [-1.0, 0, 0, 0]}, {"coefficients": ["a", 0, 0, 0]},
     {"coefficients": {"a": 1}}],
    ids=str,
)  # fmt: skip
def test_rows_of_another_shape_are_no_map(bad, tmp_path):
    estimate = written(**bad)
    assert not readable(estimate)
    with RunWriter.create(tmp_path / "a") as writer:
        writer.append(0, estimate)
    assert EdgeMap.of(open_run(tmp_path / "a")) is None
    assert not readable(Estimate("edge_map", 1.0, 0.1, settings=SETTINGS))
    assert not readable(Estimate("edge_map", (1.0,) * 4, settings=SETTINGS))
    assert readable(written())


def test_a_monitor_ends_with_a_map():
    from sgdscope.monitor import Monitor

    risk = CASES[0].risk()
    optimizer = torch.optim.SGD(risk.parameters, lr=0.1)
    with Monitor(risk, optimizer, batch_size=4) as monitor:
        for _ in range(3):
            optimizer.zero_grad()
            risk.loss_fn(risk.model, CASES[0].data()).backward()
            optimizer.step()
    found = EdgeMap(monitor.latest["edge_map"])
    assert (found.lr, found.batch_size) == (0.1, 4)
    assert 0 <= monitor.share < 1
    adam = torch.optim.AdamW(risk.parameters)
    with Monitor(risk, adam, batch_size=4) as monitor:
        adam.step()
    assert "edge_map" not in monitor.latest
