"""The summary: a few plain lines that say where a run stands, from hand-written records."""

import pytest

from sgdscope.estimate import Estimate
from sgdscope.records import RunWriter, open_run
from sgdscope.summary import SPIKE, summary
from sgdscope.what_if import SPIKE as SPIKE_THERE
from tests.balance_rows import Pair, record


def recorded(path, *, method="sgd", changes=(), share=None, sharpness=2.0, edge_ratio=None):
    """A run at lr = 1 (threshold 2) with a flat plateau."""
    with RunWriter.create(path, {"optimizer": {"method": method, "momentum": 0.0}}) as writer:
        writer.append(0, Estimate("learning_rate", 1.0))
        for step in range(0, 101, 5):
            if sharpness is not None:
                writer.append(step, Estimate("batch_sharpness", sharpness, 0.02))
                writer.append(step, Estimate("lambda_max", (1.4,), residual=(0.01,)))
            if edge_ratio is not None:
                writer.append(step, Estimate("edge_ratio", edge_ratio, 0.05))
        for estimate in changes:
            writer.append(100, estimate)
        if share is not None:
            writer.append(100, share)
    return open_run(path)


def line(text, name):
    """What stands after a name, in the one line that begins with it."""
    (found,) = [row.strip() for row in text.splitlines()[1:] if row.strip().startswith(name)]
    return found.removeprefix(name).strip()


def test_headline_first_then_the_gauges(tmp_path):
    run = recorded(tmp_path / "a")
    text = summary(run)
    assert text.splitlines()[0] == run.standing().headline
    assert line(text, "batch sharpness").startswith("1.0")
    assert line(text, "batch sharpness").endswith("of 2 / lr")
    assert line(text, "λ_max, full loss") == "0.700 of 2 / lr (residual 0.005)"


@pytest.mark.parametrize(
    ("position", "error", "said"),
    [
        (1.5, 0.01, "expect a spike or divergence"),
        (1.21, 0.01, "near the edge, a spike is possible"),
        (1.1, 0.0, "near the edge, a spike is possible"),
        (0.99, 0.01, "near the edge, a spike is possible"),
        (0.9, 0.01, "no spike expected"),
        (0.9, None, "no spike expected"),
    ],
)
def test_a_change_is_announced_with_its_doubt(tmp_path, position, error, said):
    change = Estimate("predicted_edge", position, error, settings={"change": "halve the batch"})
    found = line(summary(recorded(tmp_path / "a", changes=[change])), "halve the batch")
    assert found.endswith(f" of the new threshold: {said}")


def test_a_change_that_could_not_be_predicted_says_why(tmp_path):
    change = Estimate.failed("predicted_edge", "no kernel", settings={"change": "halve the batch"})
    assert line(summary(recorded(tmp_path / "a", changes=[change])), "halve the batch") == "not predicted: no kernel"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ({"final readings": 1.23}, "4.2 % of the time, and 1.2 s of readings at the end"),
        ({"final readings": 0.01}, "4.2 % of the time"),
        ({}, "4.2 % of the time"),
    ],
)
def test_the_cost_of_watching(tmp_path, seconds, said):
    share = Estimate("monitor_share", 0.042, settings={"seconds": seconds})
    assert line(summary(recorded(tmp_path / "a", share=share)), "watching") == said


def test_where_no_theory_applies_the_edge_ratio_stands_alone(tmp_path):
    text = summary(recorded(tmp_path / "a", method="AdamW", edge_ratio=1.0))
    assert line(text, "edge ratio").startswith("0.50")
    assert "2 / lr" not in text
    assert "λ_max" not in "\n".join(text.splitlines()[1:])


def noted(path, *, scale_error=20.0, critical=None, supported="undecided"):
    """A run at batch size 8 with its readings of noise and curvature at the end."""
    scale = Estimate("simple_noise_scale", 420.0, scale_error, unit="samples")
    share = Estimate("negative_share", 0.018, 0.003)
    measured = [
        Estimate("gradient_noise", 1.0, beside={scale.name: scale}),
        Estimate("noise_covariance", (1.0,), (0.1,), settings={"supported": supported}),
        Estimate("spectrum", (1.0,), residual=(0.1,), beside={share.name: share}),
    ]
    if critical is not None:
        measured.append(Estimate("gradient_noise_interaction", 1.0, beside={critical.name: critical}))
    with RunWriter.create(path, {"batch_size": 8}) as writer:
        for estimate in measured:
            writer.append(100, estimate)
    return summary(open_run(path))


@pytest.mark.parametrize(
    ("supported", "said"),
    [
        ("constant", "scale 420 ± 20 samples (batch 8); as strong in flat directions as in sharp ones"),
        ("proportional to the Hessian", "scale 420 ± 20 samples (batch 8); proportional to the curvature"),
        ("neither", "scale 420 ± 20 samples (batch 8); neither constant nor proportional to the curvature"),
        ("undecided", "scale 420 ± 20 samples (batch 8)"),
    ],
)
def test_noise_in_one_line_and_negative_curvature_in_another(tmp_path, supported, said):
    text = noted(tmp_path / "a", supported=supported)
    assert line(text, "gradient noise") == said
    assert line(text, "negative curvature") == "1.8 ± 0.3 % of the directions"
    assert "critical batch size" not in text


def test_a_noise_scale_without_error_is_that_of_all_data(tmp_path):
    assert (
        line(noted(tmp_path / "a", scale_error=0.0), "gradient noise") == "scale 420 samples, from all data (batch 8)"
    )
    assert line(noted(tmp_path / "b", scale_error=None), "gradient noise") == "scale 420 samples (batch 8)"


@pytest.mark.parametrize(
    ("critical", "said"),
    [
        (Estimate("critical_batch_size", 5.89, 0.83),
         "5.9 ± 0.8 samples (batch 8): there noise halves the gain of the best step"),
        (Estimate("critical_batch_size", -5.89, 0.83),
         "-5.9 ± 0.8 samples (batch 8): along the noise the loss curves downward"),
        (Estimate.failed("critical_batch_size", "gᵀHg cannot be told from zero"),
         "not measured: gᵀHg cannot be told from zero"),
    ],
)  # fmt: skip
def test_the_critical_batch_size_has_a_line(tmp_path, critical, said):
    assert line(noted(tmp_path / "a", critical=critical), "critical batch size") == said


def test_edge_learning_rates_carry_their_errors(tmp_path):
    settings = {"batch_sizes": [2, 8, 32], "lr": 7e-4, "batch_size": 8, "threshold": "2 / lr", "scope": "plain SGD",
                "threshold_times_lr": 2.0}  # fmt: skip
    measured = Estimate("edge_map", (3.217e-4, 7.293e-4, 0.9), (3.8e-6, 9.8e-6, 0.01), settings=settings)
    found = line(summary(recorded(tmp_path / "a", changes=[measured])), "edge learning rate")
    edges = ("0.000322 ± 0.000004 at batch 2", "0.00073 ± 0.00001 at batch 8", "0.90 ± 0.01 at batch 32")
    assert found == ", ".join(edges) + " (now 0.0007 at 8)"


@pytest.mark.parametrize(
    ("best", "momentum", "said"),
    [
        (2.63, 0.0, "0.49 ± 0.02 of the learning rate for the full loss (½ in the mean where settled); "
                    "one batch itself goes on falling for 2.6 learning rates"),
        (0.3017, 0.0, "0.49 ± 0.02 of the learning rate for the full loss (½ in the mean where settled); "
                      "one batch itself is lowest at 0.30"),
        (None, 0.9, "0.49 ± 0.02 of the learning rate for the full loss (about 5 in the mean where settled)"),
    ],
)  # fmt: skip
def test_the_best_step_along_a_batch(tmp_path, best, momentum, said):
    settings = {"lr": 0.1, "batch_size": 8, "expected": 0.5 / (1 - momentum)}
    rows = [Estimate("full_loss_step", 0.4873, 0.0213, settings=settings)]
    if best is not None:
        curves = {name: [1.0, 0.5, 2.0] for name in ("batch", "unseen", "full")} | {"steps": [0.0, 1.0, 2.0]}
        rows.append(Estimate("batch_line", best, settings={"lr": 0.1, "curves": curves}))
    assert line(summary(recorded(tmp_path / "a", changes=rows)), "best step along a batch") == said


@pytest.mark.parametrize(
    ("pairs", "law", "said"),
    [
        ([Pair("1 → 3", ratio=1.01, error=0.003)], (),
         "layers 1 → 3 are within 4 % of noise balance (ratio 1.01, predicted 1.040 ± 0.003); "
         "the charge moves as predicted"),
        ([Pair("1 → 3", ratio=4.2, real=-1.0)], (),
         "layers 1 → 3 are 4.04 ± 0.04 times off noise balance (ratio 4.2, predicted 1.04 ± 0.01); "
         "the charge does not move as predicted"),
        ([Pair("0 → 2", ratio=1.03), Pair("2 → 4", ratio=0.4), Pair("n → m", kind="scale invariance")], (),
         "1 of 2 layer pairs within 10 % of noise balance; farthest 2 → 4, 2.60 ± 0.03 times off; "
         "all 3 charges move as predicted"),
        ([Pair("n → m", kind="scale invariance")], (),
         "scale-free weights only, which noise makes grow; the charge moves as predicted"),
        ([Pair("1 → 3", ratio=1.01)], ("momentum 0.9", "weight decay apart from the loss"),
         "layers 1 → 3 are within 5 % of noise balance (ratio 1.01, predicted 1.04 ± 0.01); "
         "no claim about this run (momentum 0.9, weight decay apart from the loss)"),
    ],
)  # fmt: skip
def test_the_balance_of_layers_has_a_line(tmp_path, pairs, law, said):
    with RunWriter.create(tmp_path / "a", {"optimizer": {"method": "sgd"}}) as writer:
        record(writer, pairs, law=law)
    assert line(summary(open_run(tmp_path / "a")), "balance of layers") == said


def test_without_symmetries_there_is_no_line_on_balance(tmp_path):
    text = summary(recorded(tmp_path / "a", changes=[Estimate.failed("balance", "no symmetry holds")]))
    assert "balance" not in text


def test_no_negative_curvature(tmp_path):
    share = Estimate("negative_share", 0.0, 0.0)
    with RunWriter.create(tmp_path / "a", {}) as writer:
        writer.append(1, Estimate("spectrum", (1.0,), residual=(0.1,), beside={share.name: share}))
    assert line(summary(open_run(tmp_path / "a")), "negative curvature") == "none to be seen"


def test_an_empty_run_has_a_headline_too(tmp_path):
    with RunWriter.create(tmp_path / "a", {}):
        pass
    assert len(summary(open_run(tmp_path / "a")).splitlines()) == 1


def test_the_border_of_a_spike_is_one_number():
    assert SPIKE == SPIKE_THERE
