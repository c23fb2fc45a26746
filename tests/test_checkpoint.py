"""Checkpoints: everything comes back bit for bit, damage is seen, and a bad disk costs at most the newest."""

import errno
import json
import shutil

import pytest
import torch
from torch import nn

from sgdscope import checkpoint
from sgdscope.records import RecordsError
from sgdscope.sampler import Sampler


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.norm(self.first(x)))


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
}


def parts(optimizer="adamw", steps=0):
    """Model, optimizer and sampler after some steps whose masks come from the global generator."""
    torch.manual_seed(3)
    model = Tied()
    made = model, OPTIMIZERS[optimizer](model.parameters()), Sampler(20, 3, replacement=False, seed=0)
    take(*made, steps)
    return made


def take(model, optimizer, sampler, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        x = sampler.next()[:, None] * torch.rand(3, 4)
        (model(x) - 1).square().mean().backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()] + [b.clone() for b in model.buffers()]


def save(run, step, made, *, keep=2, monitor=None):
    return checkpoint.save(run, step, *made, monitor or {"a": 1}, keep=keep)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_goes_on_bit_for_bit(tmp_path, optimizer):
    made = parts(optimizer, 5)
    save(tmp_path, 5, made, monitor={"step": 5, "nested": {"x": [1, 2.5]}})
    expected = take(*made, 10)
    assert all(tensor.isfinite().all() for tensor in expected)
    again = parts(optimizer, 2)
    torch.manual_seed(99)
    assert checkpoint.load_latest(tmp_path, *again) == (5, {"step": 5, "nested": {"x": [1, 2.5]}})
    assert all(torch.equal(a, b) for a, b in zip(expected, take(*again, 10), strict=True))


def test_saving_changes_nothing_and_only_the_last_are_kept(tmp_path):
    made = parts(steps=2)
    before = torch.get_rng_state()
    for step in (1, 2, 3):
        save(tmp_path, step, made)
    assert torch.equal(torch.get_rng_state(), before)
    assert [step for step, _ in checkpoint.steps(tmp_path)] == [2, 3]
    save(tmp_path, 4, made, keep=0)
    assert [step for step, _ in checkpoint.steps(tmp_path)] == [2, 3, 4]
    save(tmp_path, 4, made, keep=1)  # written over
    assert [step for step, _ in checkpoint.steps(tmp_path)] == [4]


def test_what_is_no_checkpoint_is_not_one(tmp_path):
    save(tmp_path, 7, parts())
    (tmp_path / "checkpoints" / "step-00000009.tmp").mkdir()  # died while writing
    (tmp_path / "checkpoints" / "step-00000010").write_text("a file")
    assert [step for step, _ in checkpoint.steps(tmp_path)] == [7]


def torn(folder):
    file = folder / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def flipped(folder):  # the header is whole: only the checksum sees it
    file = folder / "tensors.safetensors"
    content = bytearray(file.read_bytes())
    content[-50] ^= 1
    file.write_bytes(content)


def zeroed(folder):
    file = folder / "tensors.safetensors"
    file.write_bytes(bytes(len(file.read_bytes())))


def without_tensors(folder):
    (folder / "tensors.safetensors").unlink()


def torn_state(folder):
    file = folder / "state.json"
    file.write_text(file.read_text()[:50])


def poor_state(folder):
    (folder / "state.json").write_text("{}")


def foreign_state(folder):
    (folder / "state.json").write_text("[1, 2]")


def wrong_monitor(folder):
    file = folder / "state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"monitor": 3}))


DAMAGE = [torn, flipped, zeroed, without_tensors, torn_state, poor_state, foreign_state, wrong_monitor, shutil.rmtree]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over(tmp_path, damage):
    made = parts(steps=3)
    save(tmp_path, 3, made)
    expected = take(*made, 4)
    damage(save(tmp_path, 7, made))
    again = parts()
    assert checkpoint.load_latest(tmp_path, *again)[0] == 3
    assert all(torch.equal(a, b) for a, b in zip(expected, take(*again, 4), strict=True))


def test_a_run_that_went_back_keeps_what_it_writes(tmp_path):
    made = parts()
    flipped(save(tmp_path, 7, made))
    save(tmp_path, 5, made, keep=1)  # after a resume from before 7
    assert [step for step, _ in checkpoint.steps(tmp_path)] == [5]


def test_without_a_readable_one_it_says_why(tmp_path):
    with pytest.raises(RecordsError, match=r"expected a readable checkpoint in .*checkpoints, but there is none\n"
                                           "hint: start the run anew with another --out"):  # fmt: skip
        checkpoint.load_latest(tmp_path, *parts())
    flipped(save(tmp_path, 7, parts()))
    with pytest.raises(RecordsError, match=r"but step-00000007: tensors.safetensors is damaged"):
        checkpoint.load_latest(tmp_path, *parts())


def test_a_checkpoint_of_another_model_is_not_loaded(tmp_path):
    save(tmp_path, 1, parts())
    model = nn.Linear(2, 2)
    with pytest.raises(RecordsError, match=r"but step-00000001: Error\(s\) in loading state_dict for Linear"):
        checkpoint.load_latest(tmp_path, model, OPTIMIZERS["sgd"](model.parameters()), parts()[2])


@pytest.mark.parametrize(
    ("earlier", "hint"),
    [(True, "hint: free some space, then continue from step 3 with --resume"),
     (False, "hint: free some space, then start the run anew")],
)  # fmt: skip
def test_a_full_disk_leaves_the_earlier_ones(tmp_path, monkeypatch, earlier, hint):
    made = parts()
    if earlier:
        save(tmp_path, 3, made)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(RecordsError) as caught:
        save(tmp_path, 4, made)
    assert str(caught.value) == f"cannot write a checkpoint in {tmp_path}: No space left on device\n{hint}"
    assert [step for step, _ in checkpoint.steps(tmp_path)] == [3] * earlier
    assert not list((tmp_path / "checkpoints").glob("*.tmp"))
