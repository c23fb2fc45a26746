"""Which average to keep: the advice holds when it is tried."""

import pytest
import torch

from sgdscope.average.files import opened
from sgdscope.best_average import average
from sgdscope.config import RunConfig
from sgdscope.train import Training, train


def answers(answer):
    return {row[0]: row[1] for row in answer.tables[0].rows}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    train(RunConfig(subset=128, steps=1500, checkpoint_every=100, keep_checkpoints=0, budget=0.01), folder)
    return folder


def test_the_average_written_has_the_loss_that_was_measured(run):
    answer = average(run, overwrite=True)
    said = answers(answer)
    assert said["keep"].endswith("to 1,500")
    training = Training(RunConfig(subset=128).resolved())
    with opened(run / "average.safetensors") as file:
        state = {name: file.read(name) for name in file.names}
        assert file.metadata["average"] in said["keep"]
    training.model.load_state_dict(state)
    newest = float(said["newest checkpoint"].split()[-1])
    gained = float(said["gain, measured"].split(",")[0].split(" ± ")[0])
    assert training.risk.value() == pytest.approx(newest - gained, abs=0.01 * newest)  # as printed
    assert gained > 0
    predicted = float(said["gain, predicted"].split(" ± ")[0])
    assert predicted == pytest.approx(gained, rel=0.15)
    after, before = (float(word) for word in said["loss on held-out data"].split() if word[0].isdigit())
    assert after < 1.1 * before
    assert f"written: {run / 'average.safetensors'}" in str(answer)


def test_two_checkpoints_are_enough_and_few(run, tmp_path):
    answer = average(run, out=tmp_path / "two.pt", last=2)
    assert "2 checkpoints only" in str(answer)
    assert len(answer.tables[1].rows) >= 1
    keep = answers(answer)["keep"]
    assert keep.startswith(("two checkpoints", "the newest checkpoint"))
    assert (tmp_path / "two.pt").exists() == keep.startswith("two")


def test_samples_give_errors_and_a_dry_run_writes_nothing(run, tmp_path):
    answer = average(run, out=tmp_path / "none.safetensors", samples=64, dry_run=True)
    assert " ± " in answers(answer)["newest checkpoint"]
    assert not (tmp_path / "none.safetensors").exists()
    assert "64 samples" in str(answer)
    (picture,) = answer.draw()
    assert picture.shapes[0].label == "checkpoints"


def test_batch_norm_is_computed_anew(tmp_path):
    folder = tmp_path / "b"
    config = RunConfig(
        model="cnn", norm="batch", subset=64, steps=300, checkpoint_every=20, keep_checkpoints=0, batch_size=4, lr=0.3,
        width=4, budget=0.01,
    )  # fmt: skip
    train(config, folder)
    answer = average(folder, overwrite=True)
    assert not answers(answer)["keep"].startswith("the newest")
    assert "running statistics of" in str(answer)
    with opened(folder / "average.safetensors") as file:
        assert all(torch.isfinite(file.read(name)).all() for name in file.names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"last": 1}, "at least 2"), ({"samples": 0}, "at least 1"), ({}, "exists: choose another")],
)
def test_bad_input(run, tmp_path, arguments, message):
    file = tmp_path / "there.safetensors"
    if not arguments:
        file.touch()
    with pytest.raises(ValueError, match=message):
        average(run, out=file, **arguments)


def test_one_checkpoint_is_too_few(tmp_path):
    train(RunConfig(subset=32, steps=20, keep_checkpoints=1, budget=0.01), tmp_path / "c")
    with pytest.raises(ValueError, match=r"at least two checkpoints .* got 1"):
        average(tmp_path / "c")
