"""The reference loop: every combination steps, and a run that was stopped by anything goes on bit for bit."""

import errno
import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sgdscope import checkpoint, models, report, train
from sgdscope.config import ConfigError, RunConfig
from sgdscope.data import DataError
from sgdscope.records import RecordsError, RunWriter, open_run
from tests.quick_readings import quick_readings

SMALL = RunConfig(subset=48, width=6, batch_size=8, steps=24, every=8, checkpoint_every=8, lr=0.2)


few_batches = pytest.fixture(autouse=True)(quick_readings)


def weights(run):
    """Everything in the last checkpoint: weights, optimizer, order of data, random state."""
    _, folder = checkpoint.steps(run)[-1]
    return load_file(folder / "tensors.safetensors")


def same(one, other):
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])] == []


def values(run, name, last):
    """Step and value of a quantity up to a step."""
    return [(step, e.value) for step, _, e in run.rows if e.name == name and step <= last]


# -- it runs --------------------------------------------------------------------------------------------------------


def test_a_run_says_where_it_stands(tmp_path):
    seen = []
    run = train.train(SMALL, tmp_path / "a", progress=lambda *now: seen.append(now[:2]), command=["sgdscope"])
    assert run.status == "finished"
    assert seen == [(step, 24) for step in range(1, 25)]
    assert run.manifest["command"] == ["sgdscope"]
    assert RunConfig.from_json(run.config) == SMALL.resolved()
    assert [e.settings["change"] for e in run.standing().changes] == ["double the learning rate", "halve the batch"]
    assert [step for step, _ in checkpoint.steps(run.path)] == [16, 24]


COMBINATIONS = [
    dict(zip(("loss", "optimizer", "schedule", "precision", "sampling"), choice, strict=True))
    for choice in [
        ("half-squared-error", "sgd", "constant", "float32", "reshuffle"),
        ("squared-error", "momentum", "cosine", "float64", "replacement"),
        ("cross-entropy", "nesterov", "linear", "bfloat16", "reshuffle"),
        ("cross-entropy", "adamw", "step", "float64", "replacement"),
        ("half-squared-error", "adamw", "cosine", "bfloat16", "reshuffle"),
        ("squared-error", "nesterov", "constant", "bfloat16", "replacement"),
    ]
]


@pytest.mark.parametrize("settings", COMBINATIONS, ids=lambda s: "-".join(s.values()))
@pytest.mark.parametrize("model", ["mlp", "cnn", "resnet"])
def test_every_setting_trains(tmp_path, model, settings, monkeypatch):
    monkeypatch.setattr(train.Monitor, "read_carefully", lambda self: None)  # costly on a resnet, and not the point
    monkeypatch.setattr(train, "usual_changes", lambda *_, **__: [])
    norm = "batch" if model == "resnet" and settings["optimizer"] != "sgd" else "none"
    size = {"mlp": 6, "cnn": 4, "resnet": 2}[model]
    config = replace(SMALL, model=model, width=size, norm=norm, lr=0.01, warmup=1, steps=3, depth=1, every=50,
                     subset=24, **settings)  # fmt: skip
    run = train.train(config, tmp_path / "a")
    assert run.status == "finished"
    assert [e.reason for _, _, e in run.rows if "Error" in e.reason] == []
    last = weights(run.path)
    assert all(tensor.isfinite().all() for name, tensor in last.items() if name.startswith("model/"))
    assert last["model/" + next(iter(train.Training(config.resolved()).model.state_dict()))].dtype == (
        torch.float64 if settings["precision"] == "float64" else torch.float32
    )


NORMED = [("cnn", "batch"), ("cnn", "group"), ("cnn", "layer"), ("resnet", "group"), ("resnet", "layer")]


@pytest.mark.parametrize(("model", "norm"), NORMED, ids="-".join)
def test_every_norm_trains(tmp_path, model, norm, monkeypatch):
    monkeypatch.setattr(train, "usual_changes", lambda *_, **__: [])
    run = train.train(replace(SMALL, model=model, norm=norm, width=4, depth=1, steps=3, subset=24), tmp_path / "a")
    assert run.status == "finished"
    assert [e.reason for _, _, e in run.rows if "Error" in e.reason] == []
    assert run.manifest["risk"]["batch_dependent"] == (norm == "batch")


TABLE = "x,kind,y,z\n" + "".join(f"{i % 7},{'abc'[i % 3]},{i % 5},{i * 37 % 100 / 7}\n" for i in range(60))


@pytest.fixture
def other_data(tmp_path):
    """Settings of a small run on a text, on a table with classes and on one with numbers to predict."""
    (tmp_path / "t.csv").write_text(TABLE)
    (tmp_path / "t.txt").write_text("in the beginning there was a word and then another\n" * 20)
    table = replace(SMALL, data="table", data_file=tmp_path / "t.csv")
    return {
        "text": replace(SMALL, data="text", data_file=tmp_path / "t.txt", width=8, depth=1, context_length=6),
        "classes": replace(table, target="y", ignore_columns=("z",)),
        "numbers": replace(table, target="z"),
    }


@pytest.mark.parametrize("kind", ["text", "classes", "numbers"])
@pytest.mark.parametrize("settings", [{"precision": "float64"}, {"precision": "bfloat16"}, {"optimizer": "adamw"}],
                         ids=lambda s: next(iter(s.values())))  # fmt: skip
def test_text_and_tables_train(tmp_path, other_data, kind, settings):
    run = train.train(replace(other_data[kind], lr=0.01, **settings), tmp_path / "a")
    assert run.status == "finished"
    assert [e.reason for _, _, e in run.rows if "Error" in e.reason] == []
    assert {"batch_sharpness", "lambda_max", "edge_ratio"} <= {e.name for _, _, e in run.rows}


def test_the_loss_of_a_text_is_the_mean_over_all_positions(other_data):
    training = train.Training(other_data["text"].resolved())
    tokens, labels = training.next_batch()
    log_probabilities = training.model(tokens).log_softmax(-1)
    by_hand = -sum(log_probabilities[i, j, labels[i, j]] for i in range(8) for j in range(6)) / 48
    torch.testing.assert_close(training.loss_fn(training.model, (tokens, labels)), by_hand)


def test_the_loss_of_a_regression_is_on_the_standardised_numbers(other_data):
    training = train.Training(other_data["numbers"].resolved())
    inputs, targets = training.next_batch()
    assert targets.shape == (8, 1)
    by_hand = (training.model(inputs) - targets).square().mean()
    torch.testing.assert_close(training.loss_fn(training.model, (inputs, targets)), by_hand)


def test_other_sizes_that_train(tmp_path):
    for index, change in enumerate([{"steps": 0}, {"batch_size": 48}, {"batch_size": 1}, {"subset": 9},
                                    {"eigenvalues": 3}, {"every": None}, {"mode": "eval"}]):  # fmt: skip
        run = train.train(replace(SMALL, **change), tmp_path / str(index))
        assert run.status == "finished"
        assert [e.reason for _, _, e in run.rows if "Error" in e.reason] == []
        report.render(run)


def test_full_batch_predictions_are_held_against_the_full_batch_threshold(tmp_path):
    run = train.train(replace(SMALL, batch_size=48, optimizer="momentum", momentum=0.5, lr=0.05), tmp_path / "a")
    doubled = next(e for e in run.standing().changes if e.settings["change"] == "double the learning rate")
    sharpness = float(run["lambda_max"].latest)
    assert float(doubled) == pytest.approx(sharpness * 2 * 0.05 / (2 * 1.5), rel=0.05)


def test_the_same_seed_gives_the_same_run(tmp_path):
    one, again, other = (train.train(replace(SMALL, seed=s), tmp_path / str(i)) for i, s in enumerate((0, 0, 1)))
    assert same(one.path, again.path)
    assert not same(one.path, other.path)
    assert values(one, "batch_sharpness", 24) == values(again, "batch_sharpness", 24)


def test_global_settings_are_put_back(tmp_path):
    threads, handlers = torch.get_num_threads(), [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    train.train(replace(SMALL, threads=1), tmp_path / "a")
    assert torch.get_num_threads() == threads
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


# -- it goes on -----------------------------------------------------------------------------------------------------


class WithDropout(nn.Sequential):
    pass


@pytest.fixture
def dropout(monkeypatch):
    """The reference models have no dropout: one that has, so that its masks are part of what must come back."""
    build = models.build

    def built(*args, **named):
        return WithDropout(build(*args, **named), nn.Dropout(0.2))

    monkeypatch.setattr(models, "build", built)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw"])
@pytest.mark.parametrize("sampling", ["reshuffle", "replacement"])
def test_a_finished_run_is_extended_bit_for_bit(tmp_path, optimizer, sampling, dropout):
    config = replace(SMALL, optimizer=optimizer, sampling=sampling, lr=0.01, batch_size=7)
    whole = train.train(replace(config, steps=40), tmp_path / "whole")
    train.train(replace(config, steps=19), tmp_path / "part")
    torch.manual_seed(12345)  # another process has another random state
    extended = train.resume(tmp_path / "part", steps=40)
    assert extended.status == "finished"
    assert extended.config["steps"] == 40
    assert same(whole.path, extended.path)
    # readings at steps after the resume are those of the uninterrupted run
    for name in ("batch_sharpness", "gradient_noise_interaction"):
        late = [(s, v) for s, v in values(whole, name, 39) if s > 19]
        assert [(s, v) for s, v in values(extended, name, 39) if s > 19] == late
        assert late


@pytest.mark.parametrize("kind", ["text", "classes", "numbers"])
@pytest.mark.parametrize("optimizer", ["momentum", "torch.optim:NAdam"])
def test_text_tables_and_given_optimizers_go_on_bit_for_bit(tmp_path, other_data, kind, optimizer):
    config = replace(other_data[kind], optimizer=optimizer, lr=0.01, batch_size=7)
    whole = train.train(config, tmp_path / "whole")
    train.train(replace(config, steps=11), tmp_path / "part")
    torch.manual_seed(12345)
    assert same(whole.path, train.resume(tmp_path / "part", steps=24).path)


@pytest.mark.parametrize("kind", ["text", "classes"])
def test_a_file_that_has_changed_is_not_trained_on_by_a_resumed_run(tmp_path, other_data, kind):
    config = other_data[kind]
    train.train(config, tmp_path / "a")
    content = config.data_file.read_text()
    config.data_file.write_text(content.replace("1", "2").replace("word", "ward"))
    with pytest.raises(ConfigError, match=r"the data that .* began with, but they have changed: t\..*\nhint: "):
        train.resume(tmp_path / "a", steps=30)
    config.data_file.write_text(content.replace("\n", "\r\n"))  # the same text
    assert train.resume(tmp_path / "a", steps=30).status == "finished"


def test_an_interrupted_run_goes_on(tmp_path):
    def stop_at(step):
        return lambda now, *_: os.kill(os.getpid(), signal.SIGINT) if now == step else None

    whole = train.train(SMALL, tmp_path / "whole")
    part = train.train(SMALL, tmp_path / "part", progress=stop_at(11))
    assert (part.status, part.last_step) == ("interrupted", 11)
    assert "predicted_edge" not in part
    part = train.resume(tmp_path / "part", progress=stop_at(13))
    assert part.status == "interrupted"
    assert same(whole.path, train.resume(tmp_path / "part").path)


def test_the_charges_of_layers_are_followed_and_go_on_after_an_interruption(tmp_path):
    config = replace(SMALL, activation="relu", weight_decay=0.01)
    whole = train.train(config, tmp_path / "whole")
    asked = itertools.count(1)
    part = train.train(config, tmp_path / "part", stop=lambda: next(asked) == 11)
    part = train.resume(part.path)
    found = [(step, e) for step, _, e in whole.rows if e.name == "charges"]
    assert [step for step, _ in found] == [0, 8, 16, 24]
    assert [step for step, _ in values(part, "charges", 24)] == [0, 8, 11, 11, 16, 24]  # 11: closed, and opened anew
    assert [pair for pair in values(part, "charges", 24) if pair[0] != 11] == [(step, e.value) for step, e in found]
    starts = [e.settings["from_step"] for _, _, e in part.rows if e.name == "charges"]
    assert starts == [0, 0, 8, 11, 11, 16]
    assert all(e.settings["law"] == [] for _, e in found)
    assert max(float(e.beside["identity_residual"]) for _, e in found[1:]) < 1e-3
    assert [step for step, _ in values(whole, "balance", 24)] == [0, 8, 16, 24, 24]


def test_a_run_that_is_asked_to_stop_goes_on(tmp_path):
    whole = train.train(SMALL, tmp_path / "whole")
    asked = itertools.count(1)  # once after every step
    part = train.train(SMALL, tmp_path / "part", stop=lambda: next(asked) == 11)
    assert (part.status, part.last_step) == ("interrupted", 11)
    assert train.resume(part.path, stop=lambda: next(asked) == 15).last_step == 15
    assert same(whole.path, train.resume(part.path).path)


def test_data_may_be_read_by_another(tmp_path):
    read = []

    def load(*args, **options):
        read.append(args)
        return train.data.load(*args, **options)

    one = train.train(replace(SMALL, steps=5), tmp_path / "a", load=load)
    assert same(one.path, train.train(replace(SMALL, steps=5), tmp_path / "b").path)
    train.resume(one.path, steps=8, load=load)
    assert read == [("digits",), ("digits",)]


def test_a_second_interrupt_ends_it_at_once(tmp_path):
    def impatient(now, *_):
        if now == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train.train(SMALL, tmp_path / "a", progress=impatient)
    assert open_run(tmp_path / "a").status == "interrupted"


def crash_at(step):
    def crash(now, *_):
        if now == step:
            raise RuntimeError("crash")

    return crash


def test_rows_torn_by_a_crash_and_damaged_checkpoints_cost_nothing_but_time(tmp_path):
    whole = train.train(SMALL, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="crash"):
        train.train(SMALL, tmp_path / "part", progress=crash_at(21))
    part = tmp_path / "part"
    assert open_run(part).status == "failed"
    rows = part / "rows.jsonl"
    rows.write_bytes(rows.read_bytes()[:-9])  # the last row was being written
    newest = checkpoint.steps(part)[-1][1] / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:500])
    resumed = train.resume(part)
    assert same(whole.path, resumed.path)
    assert resumed.unreadable == 0
    assert [step for step, _ in values(resumed, "batch_sharpness", 23)] == [0, 8, 16]


def test_without_checkpoints_it_says_so(tmp_path):
    with pytest.raises(RuntimeError, match="crash"):
        train.train(SMALL, tmp_path / "a", progress=crash_at(3))
    with pytest.raises(
        checkpoint.NoCheckpointError, match=r"expected a readable checkpoint in .*, but there is none\nhint: start"
    ):
        train.resume(tmp_path / "a")


@pytest.mark.parametrize("steps", [None, 24, 10])
def test_steps_already_taken_are_not_taken_again(tmp_path, steps):
    run = train.train(SMALL, tmp_path / "a")
    rows = len(run.rows)
    with pytest.raises(ConfigError, match="expected --steps above the 24 that this run has taken, got"):
        train.resume(run.path, steps=steps)
    after = open_run(run.path)
    assert (after.status, len(after.rows)) == ("finished", rows)


def test_a_run_that_died_in_its_final_readings_takes_them(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(train, "_predicted", lambda *_: crash_at(0)(0))
        with pytest.raises(RuntimeError, match="crash"):
            train.train(SMALL, tmp_path / "a")
    assert open_run(tmp_path / "a").status == "failed"
    run = train.resume(tmp_path / "a")
    assert run.status == "finished"
    assert "predicted_edge" in run


def test_a_running_run_is_not_resumed(tmp_path):
    run = train.train(SMALL, tmp_path / "a")
    with RunWriter.reopen(run.path, rewind_to=24), pytest.raises(RecordsError, match="another process is writing"):
        train.resume(run.path, steps=30)


COMMAND = [sys.executable, "-m", "sgdscope.cli", "run", "--quiet"]
SETTINGS = [f"--{name.replace('_', '-')}={getattr(SMALL, name)}" for name in ("subset", "width", "batch_size")]


@pytest.mark.slow
def test_killed_at_random_moments_it_goes_on_bit_for_bit(tmp_path):
    steps, part = 4000, tmp_path / "part"
    settings = [*SETTINGS, f"--steps={steps}", "--lr=0.1", "--checkpoint-every=50", "--every=1000"]
    pause = torch.Generator().manual_seed(0)
    command = [*COMMAND, *settings, "--out", str(part)]
    for attempt in itertools.count():
        running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        before = checkpoint.steps(part)[-1:]
        while attempt < 2 and running.poll() is None and checkpoint.steps(part)[-1:] == before:
            time.sleep(0.01)
        if attempt < 2:
            time.sleep(0.3 * float(torch.rand((), generator=pause)))
            running.kill()
            running.communicate()
            assert checkpoint.steps(part)
            command = [*COMMAND, "--resume", str(part)]
            continue
        assert running.communicate(timeout=120)[1] == b""
        assert running.returncode == 0
        break
    config = replace(SMALL, steps=steps, lr=0.1, checkpoint_every=50, every=1000)
    assert same(train.train(config, tmp_path / "whole").path, part)


@pytest.mark.slow
def test_ctrl_c_on_the_command_line(tmp_path):
    part = tmp_path / "part"
    command = [*COMMAND, *SETTINGS, "--steps=1000000", "--checkpoint-every=100", "--out", str(part)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while running.poll() is None and not checkpoint.steps(part):
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    run = open_run(part)
    assert run.status == "interrupted"
    assert f"the run was interrupted at step {run.last_step:,}" in err
    assert f"hint: continue with  sgdscope run --resume {part}" in err
    assert "report: " in out


# -- it fails well --------------------------------------------------------------------------------------------------


def test_a_learning_rate_far_too_large_ends_as_diverged(tmp_path):
    run = train.train(replace(SMALL, lr=1e6), tmp_path / "a")
    assert run.status == "diverged"
    assert run.last_step < 24
    assert "diverged" in report.render(run).lower()


def test_a_full_disk_at_a_checkpoint_ends_the_run_and_says_how_to_go_on(tmp_path, monkeypatch):
    whole = train.train(SMALL, tmp_path / "whole")
    write, full = checkpoint.save_file, iter([False, True])

    def save_file(*args):
        if next(full):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", save_file)
        with pytest.raises(RecordsError, match="No space left on device\nhint: free some space, then continue from st"):
            train.train(SMALL, tmp_path / "a")
    assert open_run(tmp_path / "a").status == "failed"
    assert same(whole.path, train.resume(tmp_path / "a").path)


def test_rows_that_were_lost_are_told_at_the_end(tmp_path, monkeypatch):
    write, calls = RunWriter.append, itertools.count()

    def append(self, step, estimate):
        if next(calls) == 5:
            raise RecordsError("cannot write a row")
        write(self, step, estimate)

    monkeypatch.setattr(RunWriter, "append", append)
    with pytest.warns(RuntimeWarning, match="cannot write a row"), pytest.raises(RecordsError, match="cannot write"):
        train.train(SMALL, tmp_path / "a")
    assert open_run(tmp_path / "a").status == "finished"
    assert checkpoint.steps(tmp_path / "a")[-1][0] == 24


def test_a_prediction_that_raises_is_a_row(tmp_path, monkeypatch):
    def usual_changes(*_, **__):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(train, "usual_changes", usual_changes)
    run = train.train(SMALL, tmp_path / "a")
    assert run.status == "finished"
    assert run.standing().changes[0].reason == "RuntimeError: no kernel"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"batch_size": 49}, ConfigError, r"expected a batch size of at most 48 \(the number of samples\), got 49"),
        ({"subset": 5000}, DataError, "expected a subset between 1 and "),
        ({"eigenvalues": 10_000}, ConfigError, r"expected --eigenvalues of at most 460 \(the number of parameters\)"),
        ({"device": "cuda:99"}, ConfigError, "expected a usable device, got 'cuda:99': "),
        ({"device": "toaster"}, ConfigError, "expected a usable device, got 'toaster': "),
        ({"norm": "batch"}, ConfigError, "norm"),
        ({"data": "npz", "data_dir": Path("/nowhere.npz")}, DataError, "expected the data of npz at /nowhere.npz"),
        ({"image_size": 8}, ConfigError, "expected --image-size only with --data folder"),
    ],
)
def test_what_makes_no_run_leaves_no_folder(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        train.train(replace(SMALL, **change), tmp_path / "a")
    assert not (tmp_path / "a").exists()
