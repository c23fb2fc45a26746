"""`sgdscope balance`: what it prints is so, what it writes loads, and a fork of it goes on."""

import pytest
import torch
from safetensors.torch import load_file

from sgdscope import cli
from sgdscope.config import RunConfig
from sgdscope.estimate import Estimate
from sgdscope.measure import noise_traces, symmetries
from sgdscope.rebalance import _sharpness
from sgdscope.records import open_run
from sgdscope.train import Training, restored
from tests.quick_readings import quick_readings

SMALL = ["--quiet", "--subset=48", "--width=6", "--batch-size=8", "--every=20", "--activation=relu", "--momentum=0.9",
         "--optimizer=momentum", "--loss=cross-entropy", "--lr=0.02"]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def few_batches():
    with pytest.MonkeyPatch.context() as patch:
        quick_readings(patch)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    assert cli.main(["run", *SMALL, "--steps=40", "--checkpoint-every=20", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def command(capsys):
    def run(*arguments):
        capsys.readouterr()  # of the run before
        try:
            code = cli.main(["balance", *(str(a) for a in arguments)])
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


def at(folder, step=None):
    """The training as its checkpoint left it."""
    run = open_run(folder)
    return restored(run, RunConfig.from_json(run.config).resolved(), step=step)[0]


def answers(out):
    """First table by its first column."""
    rows = [line.strip().split("  ", 1) for line in out.split("\n\n")[0].splitlines()[2:]]
    return {what: answer.strip() for what, answer in rows}


def off(training):
    """Imbalances of single units in noise; of norms."""
    found = noise_traces(training.risk, symmetries(training.risk))
    noise = torch.cat([(t.noise_u - t.noise_w).abs() / (t.noise_u + t.noise_w) for t in found])
    norms = torch.cat([t.charge.abs() / (t.squared_norm_u + t.squared_norm_w) for t in found])
    return noise[torch.isfinite(noise)], norms


def test_the_file_loads_and_is_balanced(finished, tmp_path, command):
    file = tmp_path / "new" / "balanced.safetensors"
    code, out, err = command(finished, "--out", file)
    assert (code, err) == (0, "")
    said = answers(out)
    assert said["moved"].endswith("at step 40")
    assert float(said["outputs"].removeprefix("the same to ").split(",")[0]) <= 1e-6
    before, after = (float(word) for word in said["gradient noise"].removesuffix(", the least there is").split(" → "))
    assert after < before
    assert " → " in said["λ_max"]
    assert " ± " in said["batch sharpness"]
    assert "momentum 0.9: there the law of balance is silent" in out
    assert f"written: {file}" in out
    training = at(finished)
    old, state = training.model.state_dict(), load_file(file)
    x = training.inputs
    outputs = training.model(x).detach()
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in old.items()}
    training.model.load_state_dict(state)
    torch.testing.assert_close(training.model(x), outputs, rtol=1e-5, atol=1e-5)
    noise, _ = off(training)
    assert float(noise.median()) < 1e-4


def test_norms_at_a_checkpoint_in_powers_of_two(finished, tmp_path, command):
    file = tmp_path / "b.pt"
    folder = finished / "checkpoints" / "step-00000020"
    code, out, _ = command(folder, "--to", "norm", "--exact", "--no-sharpness", "--samples", 16, "--out", file)
    assert code == 0
    said = answers(out)
    assert said["outputs"] == "the same bit for bit"
    assert said["moved"].endswith("at step 20")
    assert "λ_max" not in said
    assert "noise from 16 of 48 samples\n" in out
    training = at(finished, step=20)
    outputs = training.model(training.inputs)
    training.model.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(training.model(training.inputs), outputs)
    assert float(off(training)[1].max()) < 0.61  # norms within a factor of two


def test_a_fork_goes_on_with_what_the_optimizer_remembers(finished, tmp_path, command):
    fork = tmp_path / "fork"
    code, out, _ = command(finished, "--fork", fork, "--no-sharpness", "--out", tmp_path / "c.safetensors")
    assert code == 0
    assert f"sgdscope run --resume {fork} --steps 80" in out
    old, new = at(finished), at(fork)
    state = load_file(tmp_path / "c.safetensors")
    assert all(torch.equal(value, state[name]) for name, value in new.model.state_dict().items())
    for was, now in zip(old.risk.parameters, new.risk.parameters, strict=True):
        one, other = (t.optimizer.state[p]["momentum_buffer"] for t, p in ((old, was), (new, now)))
        moved = (was != 0) & (one != 0)  # a weight times f has momentum over f
        torch.testing.assert_close((now * other)[moved], (was * one)[moved], rtol=1e-5, atol=0)
    assert open_run(fork).manifest["forked_from"] == {"run": str(finished), "step": 40, "balance": "noise"}
    assert cli.main(["run", "--quiet", "--resume", str(fork), "--steps", "60"]) == 0
    assert open_run(fork).last_step == 60
    assert cli.main(["run", "--quiet", "--resume", str(finished), "--steps", "40"]) == 2  # the origin is as it was


def test_what_lies_beyond_the_edge_is_told():
    def sharpness(value):
        return Estimate("batch_sharpness", value, 0.1)

    ((name, row),), said = _sharpness({"batch sharpness": (sharpness(1.8), sharpness(4.0))}, 2.0)
    assert name == "batch sharpness"
    assert row.endswith("0.90 → 2.00 of 2 / lr")
    assert said == [
        "beyond the edge at the learning rate of the run: expect a spike or divergence; go on with 0.5 of it"
    ]
    for changes in ((4.0, 3.0), (1.8, 2.1)):
        assert not _sharpness({"batch sharpness": tuple(map(sharpness, changes))}, 2.0)[1]
    ((_, row),), said = _sharpness({"batch sharpness": (sharpness(1.8), Estimate.failed("x", "no"))}, 2.0)
    assert row.endswith("not measured (no)")
    assert not said


def test_the_picture(finished, tmp_path, command):
    file = tmp_path / "b.png"
    code, out, _ = command(finished, "--dry-run", "--no-sharpness", "--plot", file)
    assert code == 0
    assert file.stat().st_size > 5000
    assert "written" not in out


def test_weight_decay_is_weighed_against_noise(tmp_path, command):
    folder = tmp_path / "d"
    plain = [word for word in SMALL if "momentum" not in word]
    assert cli.main(["run", *plain, "--weight-decay=0.01", "--steps=20", "--out", str(folder)]) == 0
    _, out, _ = command(folder, "--no-sharpness")
    assert "equilibrium of noise and weight decay 0.01 at learning rate 0.02, batch size 8" in out
    assert "T · noise + 4 γ · squared norm" in answers(out)
    assert "law of balance is silent" not in out
    assert (folder / "noise-balance.safetensors").exists()


def test_batch_norm(tmp_path, command):
    folder = tmp_path / "e"
    assert cli.main(["run", "--quiet", "--subset=48", "--model=cnn", "--norm=batch", "--width=2", "--batch-size=8",
                     "--steps=10", "--out", str(folder)]) == 0  # fmt: skip
    code, out, _ = command(folder, "--no-sharpness", "--samples", 16)
    assert code == 0
    assert "noise from" not in out or "64" not in out.split("noise from")[0]
    training = Training(RunConfig.from_json(open_run(folder).config).resolved())
    training.model.load_state_dict(load_file(folder / "noise-balance.safetensors"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fork", "."], "already holds a run"),
        (["--samples", "2"], "--samples of at least 4, got 2"),
        (["--to", "noon"], "noon"),
        (["--plot", "b.txt"], "expected a file that ends in"),
        (["--step", "3"], "there is none up to step 3"),
    ],
)
def test_bad_input(finished, command, monkeypatch, arguments, message):
    monkeypatch.chdir(finished)
    code, _, err = command(finished, *arguments, "--dry-run")
    assert code in (1, 2)
    assert message in err


def test_a_step_and_a_checkpoint_are_one_too_many(finished, command):
    code, _, err = command(finished / "checkpoints" / "step-00000020", "--step", 20)
    assert code == 2
    assert "expected a run folder with --step" in err


def test_a_file_in_the_way(finished, tmp_path, command):
    file = tmp_path / "there.safetensors"
    file.touch()
    code, _, err = command(finished, "--out", file)
    assert code == 2
    assert "exists: choose another --out" in err
    code, _, err = command(finished, "--out", tmp_path / "there.txt", "--no-sharpness")
    assert code == 2
    assert "expected --out to end in .safetensors" in err


def test_a_network_without_symmetries_is_told(tmp_path, command):
    folder = tmp_path / "f"
    tanh = [word for word in SMALL if "activation" not in word]
    assert cli.main(["run", *tanh, "--activation=tanh", "--steps=10", "--out", str(folder)]) == 0
    code, _, err = command(folder)
    assert code == 2
    assert "expected a symmetry to move along" in err
