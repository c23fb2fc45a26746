"""Averages of files: equal to the sums written out, in bounded memory, and loud about what does not fit."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torch.profiler import ProfilerActivity, profile

from sgdscope import checkpoint
from sgdscope.average import EMA, CheckpointError, Checkpoints, MismatchError, PowerEMA, TwoPoint, Window, combine, save
from sgdscope.sampler import Sampler
from sgdscope.theory.averaging import averages, best_simplex_weights
from tests.average.models import KINDS, Net, bits, same

COUNT = 6


def states(dtype=torch.float64, count=COUNT):
    found = []
    for seed in range(count):
        model = Net(seed).double()
        model.calls += seed
        model.norm.running_mean += seed
        found.append({name: tensor.clone() for name, tensor in model.to(dtype).state_dict().items()})
    return found


def write(folder, given, suffix=".safetensors", steps=None):
    folder.mkdir(exist_ok=True)
    steps = steps or [100 * (i + 1) for i in range(len(given))]
    for step, state in zip(steps, given, strict=True):
        save(state, folder / f"step-{step}{suffix}")
    return Checkpoints.of(folder)


def by_hand(given, weights):
    """Sums in double precision; whole numbers of the newest with a weight."""
    newest = max(i for i, w in enumerate(weights) if w)
    return {
        name: sum(w * state[name].double() for w, state in zip(weights, given, strict=True))
        if value.is_floating_point() else given[newest][name]
        for name, value in given[0].items()
    }  # fmt: skip


def check(found, expected, atol=1e-12):
    assert list(found) == list(expected) or sorted(found) == sorted(expected)
    for name, value in expected.items():
        if value.is_floating_point():
            torch.testing.assert_close(found[name].double(), value, rtol=0, atol=atol, msg=name)
        else:
            assert torch.equal(found[name], value)
            assert found[name].dtype == value.dtype


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("weights", [
    averages.window(3), averages.window(2, 3), averages.two_point(4, 0.3), averages.ema(0.7, COUNT - 1),
    averages.power(2.0, COUNT - 1), averages.given(np.array([0.5, -0.5, 0, 0.25, 0.75, 0])),
    [0.1, 0.2, 0.3, 0.1, 0.1, 0.2], np.full(COUNT, 1 / COUNT),
], ids=str)  # fmt: skip
def test_sums_as_written_out(tmp_path, suffix, weights):
    given = states()
    found = combine(write(tmp_path / "a", given, suffix), weights)
    numbers = weights.over(COUNT - 1).weights if hasattr(weights, "over") else weights
    check(found, by_hand(given, numbers))


@pytest.mark.parametrize("kind", KINDS)
def test_as_the_running_average_would(tmp_path, kind):
    given, steps, live = states(), [3, 4, 10, 11, 30, 41], KINDS[kind](buffers="average")
    found = combine(write(tmp_path / "a", given, steps=steps), KINDS[kind]())
    for step, state in zip(steps, given, strict=True):
        model = Net().double()
        model.load_state_dict(state)
        live.update(model, step)
    check(found, {k: v.double() if v.is_floating_point() else v for k, v in live.averaged_state_dict().items()})


@pytest.mark.parametrize(
    ("dtype", "atol"),
    [(torch.float32, 3e-7), (torch.bfloat16, 5e-3), (torch.float16, 1e-3), (torch.float8_e4m3fn, 0.1)],
)
def test_precision_of_the_files_is_kept(tmp_path, dtype, atol):
    given = states(dtype)
    files = write(tmp_path / "a", given)
    found = combine(files, averages.window(COUNT))
    assert found["first.weight"].dtype == dtype
    expected = by_hand(given, [1 / COUNT] * COUNT)
    del expected["norm.running_mean"]  # of large numbers
    check({name: found[name] for name in expected}, expected, atol)
    finer = combine(files, averages.window(COUNT), dtype=torch.float64)
    assert torch.equal(finer["first.weight"], expected["first.weight"].to(dtype))


def test_best_weights_on_the_simplex(tmp_path):
    losses = [1.0, 0.9, 1.1, 0.8, 1.0, 0.9]
    curvatures = 0.5 * (1 - np.eye(COUNT))
    best = best_simplex_weights(losses, curvatures).average
    given = states()
    check(combine(write(tmp_path / "a", given), best), by_hand(given, best.weights))
    assert best.weights.min() >= 0


@settings(max_examples=15, deadline=None)
@given(raw=st.lists(st.floats(0, 1), min_size=COUNT, max_size=COUNT).filter(lambda w: sum(w) > 0.1),
       shift=st.floats(-2, 2))  # fmt: skip
def test_combinations_are_linear(tmp_path_factory, raw, shift):
    weights = np.array(raw) / sum(raw)
    folder = tmp_path_factory.mktemp("linear")
    given = [{"a": torch.randn(7, dtype=torch.float64)} for _ in range(COUNT)]
    moved = [{"a": shift * state["a"] + 1} for state in given]
    one = combine(write(folder / "a", given), weights)["a"]
    two = combine(write(folder / "b", moved), weights)["a"]
    torch.testing.assert_close(two, shift * one + 1, rtol=0, atol=1e-12)


def test_only_files_with_a_weight_are_read(tmp_path):
    given = states()
    files = write(tmp_path / "a", given)
    files.paths[2].write_bytes(b"torn")
    check(combine(files, averages.two_point(5)), by_hand(given, [0.5, 0, 0, 0, 0, 0.5]))
    with pytest.raises(CheckpointError, match="step-300"):
        combine(files, averages.window(6))


def run_folder(tmp_path, momentum):
    """A run folder as the reference loop writes it, and the weights at its checkpoints."""
    model, held = Net().double(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum)
    sampler = Sampler(10, 2, replacement=False, seed=0)
    for step in (10, 20, 30):
        model(torch.randn(4, 6, dtype=torch.float64)).square().mean().backward()
        optimizer.step()
        checkpoint.save(tmp_path / "run", step, model, optimizer, sampler, {}, keep=0)
        held.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    return tmp_path / "run", held


@pytest.mark.parametrize("momentum", [0.0, 0.9])  # without and with tensors of the optimizer
def test_run_folders(tmp_path, momentum):
    run, held = run_folder(tmp_path, momentum)
    (run / "checkpoints" / "step-00000040.tmp").mkdir()  # of a save that was cut off
    files = Checkpoints.of(run)
    assert files.steps == (10, 20, 30)
    found = combine(files, averages.window(3))
    check(found, by_hand(held, [1 / 3] * 3))
    Net().double().load_state_dict(found)
    with pytest.raises(CheckpointError, match="folder of checkpoints"):
        Checkpoints.of(run / "manifest.json")


def test_forms_of_sources(tmp_path):
    given = states(count=3)
    files = write(tmp_path / "a", given)
    assert Checkpoints.of(list(files.paths)).steps == (1, 2, 3)
    assert Checkpoints.of(list(files.paths), steps=(5, 6, 9)).steps == (5, 6, 9)
    assert Checkpoints.of({9: files.paths[1], 4: files.paths[2]}).paths == (files.paths[2], files.paths[1])
    assert (files[1:].steps, len(files[1:])) == ((200, 300), 2)
    assert Checkpoints.of(str(tmp_path / "a")) == files
    for index, path in enumerate(files.paths):
        (tmp_path / "hub" / f"checkpoint-{index}").mkdir(parents=True)
        path.rename(tmp_path / "hub" / f"checkpoint-{index}" / "model.safetensors")
    (tmp_path / "hub" / "logs").mkdir()
    (tmp_path / "hub" / "README.md").write_text("nothing")
    assert Checkpoints.of(tmp_path / "hub").steps == (0, 1, 2)
    check(combine(Checkpoints.of(tmp_path / "hub"), averages.window(3)), by_hand(given, [1 / 3] * 3))


@pytest.mark.parametrize("entry", [None, "ema"])
def test_state_dicts_among_other_things(tmp_path, entry):
    given = states(count=2)
    for index, state in enumerate(given):
        optimizer = torch.optim.AdamW(Net().parameters()).state_dict()
        torch.save({"epoch": 3, "optimizer": optimizer, entry or "state_dict": state}, tmp_path / f"{index}.ckpt")
    check(combine(Checkpoints.of(tmp_path, entry=entry), [0.5, 0.5]), by_hand(given, [0.5, 0.5]))
    with pytest.raises(CheckpointError, match=r"under 'weights', got 'epoch', 'optimizer'.*\n.*entry="):
        combine(Checkpoints.of(tmp_path, entry="weights"), [0.5, 0.5])


def test_entries_that_are_no_tensors_come_from_the_newest(tmp_path):
    for index in range(2):
        torch.save({"a": torch.full((2,), float(index)), "version": index, "note": None}, tmp_path / f"{index}.pt")
    found = combine(Checkpoints.of(tmp_path), [0.5, 0.5])
    assert (found["version"], found["note"], found["a"].tolist()) == (1, None, [0.5, 0.5])
    save(found, tmp_path / "out" / "mean.pt")
    with pytest.raises(CheckpointError, match=r"tensors only for safetensors, got 'version', 'note': write a .pt file"):
        save(found, tmp_path / "out" / "mean.safetensors")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mean.pt"]


def test_wrapped_names(tmp_path):
    given = states(count=3)
    prefixes = ["module.", "", "module._orig_mod."]
    written = [{prefix + k: v for k, v in state.items()} for prefix, state in zip(prefixes, given, strict=True)]
    found = combine(write(tmp_path / "a", written), averages.window(3))
    assert all(name.startswith("module._orig_mod.") for name in found)  # as the newest has them
    check({k.removeprefix(prefixes[2]): v for k, v in found.items()}, by_hand(given, [1 / 3] * 3))


def broken(given, change):
    change(given[0])
    return given


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda s: s.pop("head.bias"),
            "step-100.safetensors to have the tensors of .*step-200.*it lacks 'head.bias'\n",
        ),
        (lambda s: s.update(extra=torch.zeros(1)), "it has 'extra' besides"),
        (lambda s: s.update({"head.bias": torch.zeros(4).double()}), r"'head.bias' in .*step-100.*\(3,\).*got \(4,\)"),
        (lambda s: s.update({"head.bias": torch.zeros(3)}), "'head.bias' in .*float64 as in .*step-200.*got float32"),
        (lambda s: s.update({"calls": torch.zeros(())}), "'calls' in .*int64.*got float32"),
    ],
)
def test_checkpoints_of_different_models_are_refused(tmp_path, change, said):
    files = write(tmp_path / "a", broken(states(count=2), change))
    with pytest.raises(MismatchError, match=said):
        combine(files, [0.5, 0.5])


def test_nan_is_traced_to_its_file(tmp_path):
    given = states(count=3)
    given[1]["head.bias"][1] = torch.nan
    with pytest.raises(ValueError, match=r"NaN or infinity in 'head.bias' of '.*step-200.safetensors': the run"):
        combine(write(tmp_path / "a", given), averages.window(3))


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([0.5, 0.5], "one weight per checkpoint, got 2 for 3"),
        ([0.5, 0.5, 0.5], "weights that sum to one, got 1.5"),
        ([0.5, float("nan"), 0.5], "finite weights"),
        (averages.window(4), "at least 3 steps, the reach of the average, got 2"),
        (EMA(0.9, start=1000), "at which EMA 0.9 is updated, got none"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, weights, said):
    files = write(tmp_path / "a", states(count=3))
    with pytest.raises(ValueError, match=said):
        combine(files, weights)


def test_one_checkpoint_is_no_average(tmp_path):
    with pytest.raises(ValueError, match="at least two checkpoints to average, got 1"):
        combine(write(tmp_path / "a", states(count=1)), [1.0])


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


def test_nothing_is_unpickled(tmp_path):
    torch.save({"a": torch.zeros(2), "b": Evil()}, tmp_path / "1.pt")
    (tmp_path / "2.pt").write_bytes(pickle.dumps(Evil()))
    for path in (tmp_path / "1.pt", tmp_path / "2.pt"):
        with pytest.raises(CheckpointError, match=r"holds Python objects beside tensors.*\n.*state_dict"):
            combine(Checkpoints.of([path, path]), [0.5, 0.5])


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", "legacy"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_torn_files_are_said_to_be(tmp_path, suffix, share):
    path = tmp_path / ("a.pt" if suffix == "legacy" else f"a{suffix}")
    if suffix == "legacy":
        torch.save(states(count=1)[0], path, _use_new_zipfile_serialization=False)
    else:
        save(states(count=1)[0], path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"cannot read .*a\."):
        combine(Checkpoints.of([path, path]), [0.5, 0.5])


def test_old_torch_files_are_read(tmp_path):
    given = states(count=2)
    for index, state in enumerate(given):
        torch.save(state, tmp_path / f"{index}.pth", _use_new_zipfile_serialization=False)
    check(combine(Checkpoints.of(tmp_path), [0.5, 0.5]), by_hand(given, [0.5, 0.5]))


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {"a": 1}, {}])
def test_files_without_tensors_by_name_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "1.pt")
    with pytest.raises(CheckpointError, match=r"expected tensors by name in .*1.pt"):
        combine(Checkpoints.of([tmp_path / "1.pt"] * 2), [0.5, 0.5])


def test_what_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="got none in"):
        Checkpoints.of(tmp_path)
    with pytest.raises(CheckpointError, match="there is no file with weights"):
        Checkpoints.of([tmp_path / "a.pt"])
    (tmp_path / "last.pt").touch()
    with pytest.raises(CheckpointError, match="a step in the name of each checkpoint"):
        Checkpoints.of(tmp_path)
    (tmp_path / "last.pt").unlink()
    (tmp_path / "a-7.pt").touch()
    (tmp_path / "b-7.pt").touch()
    with pytest.raises(CheckpointError, match=r"one checkpoint per step in .*a-7.pt and b-7.pt"):
        Checkpoints.of(tmp_path)
    for steps, said in (((1,), "one step per checkpoint, got 1 for 2"), ((2, 2), "steps that increase")):
        with pytest.raises(ValueError, match=said):
            Checkpoints.of([tmp_path / "a-7.pt", tmp_path / "b-7.pt"], steps=steps)
    save_file({"other": torch.zeros(1)}, tmp_path / "c.safetensors")
    with pytest.raises(CheckpointError, match=r"tensors called model/… in .*c.safetensors, got none"):
        combine(Checkpoints.of([tmp_path / "c.safetensors"] * 2, entry="model"), [0.5, 0.5])


# -- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_written_files_load_and_are_never_overwritten(tmp_path, suffix):
    model = Net()
    path = save(model.state_dict(), tmp_path / "new" / f"mean{suffix}")
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="exists: choose another name"):
        save(Net(3).state_dict(), path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    other = Net(1)
    loaded = (
        torch.load(path, weights_only=True)
        if suffix == ".pt"
        else __import__("safetensors.torch").torch.load_file(path)
    )
    other.load_state_dict(loaded)
    assert same({k: v for k, v in bits(model).items() if k != "scratch"},
                {k: v for k, v in bits(other).items() if k != "scratch"})  # fmt: skip
    save(Net(3).state_dict(), path, overwrite=True)
    assert path.read_bytes() != before


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(CheckpointError, match=r"ends in .safetensors, .pt"):
        save({}, tmp_path / "weights")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot write"):
        save({"a": torch.zeros(1)}, tmp_path / "file" / "a.pt")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_memory_is_two_copies_and_a_tensor(tmp_path, suffix):
    given = [{f"w{i}": torch.randn(50, 1000) for i in range(8)} for _ in range(5)]
    for step, state in enumerate(given):
        torch.save(state, tmp_path / f"{step}.pth", _use_new_zipfile_serialization=False) if suffix == ".pth" else save(
            state, tmp_path / f"{step}{suffix}"
        )
    files = Checkpoints.of(tmp_path)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        found = combine(files, averages.window(5))
    held = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    tensor = 4 * 50 * 1000
    copy = 8 * tensor
    assert len(found) == 8
    assert peak <= 2 * copy + tensor


def test_settings_of_files_suit_those_of_training():
    # as a window kept while training, but by steps
    assert Window(2, 100).weights([100, 200, 300]).weights.tolist() == [0, 0.5, 0.5]
    assert TwoPoint(200, every=100).weights([100, 200, 300]).weights.tolist() == [0.5, 0, 0.5]
    assert PowerEMA(0.0).weights([100, 200, 400]).weights == pytest.approx([0.25, 0.25, 0.5])
    assert isinstance(Net(), nn.Module)
