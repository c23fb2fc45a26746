"""Averages of weights: updates of an EMA against torch's own, and averages of files against loading and adding."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import swa_utils

from benchmarks.harness import Ratio, Row, interleaved
from sgdscope.average import EMA, Checkpoints, combine, save
from sgdscope.theory.averaging import averages

_FILES = 10


def network() -> nn.Module:
    """Ten million parameters in tensors of the sizes of a residual network."""
    sizes = [64, 64, 128, 128, 256, 256, 512, 512, 512]
    layers: list[nn.Module] = [nn.Conv2d(3, sizes[0], 3)]
    for a, b in zip(sizes, sizes[1:]):  # noqa: B905, RUF007
        layers += [nn.Conv2d(a, b, 3), nn.BatchNorm2d(b), nn.Conv2d(b, b, 1), nn.BatchNorm2d(b)]
    return nn.Sequential(*layers, nn.Linear(512, 4000))


def updates() -> Iterator[Row]:
    """One update after each step, statistics averaged or those of the last model, as AveragedModel does."""
    model = network()
    count = sum(p.numel() for p in model.parameters())
    for buffers in (False, True):
        theirs = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.999), use_buffers=buffers)
        ours = EMA(0.999, buffers="average" if buffers else "last")
        actions: dict[str, Callable[[], object]] = {
            "ours": lambda ours=ours: ours.update(model),  # type: ignore[misc]
            "theirs": lambda theirs=theirs: theirs.update_parameters(model),  # type: ignore[misc]
        }
        times = interleaved(actions, rounds=15, least=0.2)
        ratio = Ratio.of(times["ours"], times["theirs"])
        yield Row(
            f"EMA update of {count / 1e6:.1f} million float32 parameters{', buffers averaged' if buffers else ''}, in "
            "updates of torch's AveragedModel", str(ratio), "multi_avg_fn EMA", "≤ 1.0", ratio.median <= 1.0,
        )  # fmt: skip


def plain_sum(paths: list[Path]) -> dict[str, Tensor]:
    """What one writes by hand: load each file whole, and add."""
    total: dict[str, Tensor] = {}
    for path in paths:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, tensor in state.items():
            if name not in total:
                total[name] = tensor / len(paths) if tensor.is_floating_point() else tensor
            elif tensor.is_floating_point():
                total[name] += tensor / len(paths)
    return total


def files(folder: Path, suffix: str) -> Iterator[Row]:
    """The mean of ten files against adding them up by hand, and against reading them alone."""
    window = averages.window(_FILES)
    paths = []
    for step in range(_FILES):
        state = network().state_dict()
        paths.append(save(state, folder / f"{step}.pt"))
        save(state, folder / "streamed" / f"{step}{suffix}")
    checkpoints = Checkpoints.of(folder / "streamed")
    actions: dict[str, Callable[[], object]] = {
        "ours": lambda: combine(checkpoints, window),
        "by hand": lambda: plain_sum(paths),
        "read": lambda: [torch.load(path, weights_only=True) for path in paths],
    }
    times = interleaved(actions, rounds=7)
    for against, bar in (("by hand", 1.0), ("read", 1.2)):
        ratio = Ratio.of(times["ours"], times[against])
        what = {"by hand": "torch.load and sum", "read": "torch.load of each, once"}[against]
        yield Row(f"mean of {_FILES} {suffix} checkpoints, in units of {what}", str(ratio), what, f"≤ {bar:g}",
                  ratio.median <= bar)  # fmt: skip
    state = network().state_dict()
    copy = sum(t.numel() * t.element_size() for t in state.values())
    largest = max(t.numel() * t.element_size() for t in state.values())
    allowed = 2 + largest / copy
    held = resident(checkpoints.paths) / copy
    yield Row(f"memory of the mean of {_FILES} {suffix} checkpoints, in copies of the model", f"{held:.2f}", "-",
              "≤ 2 copies + 1 tensor", held <= allowed)  # fmt: skip


def resident(paths: tuple[Path, ...]) -> int:
    """Growth of the most memory a process held at once, files mapped into it included, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_resident, ([str(path) for path in paths],))


def _resident(paths: list[str]) -> int:
    """Linux only: elsewhere the files are not there, and the row says so."""
    torch.set_num_threads(1)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts at the present size
    before = _status("VmRSS")
    combine(Checkpoints.of(paths), averages.window(len(paths)))
    return _status("VmHWM") - before


def _status(entry: str) -> int:
    """Bytes of an entry of the process's memory status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(entry))


def rows() -> Iterator[Row]:
    yield from updates()
    for suffix in (".safetensors", ".pt"):
        with tempfile.TemporaryDirectory() as folder:
            yield from files(Path(folder), suffix)
