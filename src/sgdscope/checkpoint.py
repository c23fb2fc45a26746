"""Checkpoint: everything a run needs to go on bit for bit, as safetensors and JSON. Nothing is ever unpickled.

    RUN/checkpoints/step-00012000/tensors.safetensors    weights, buffers, optimizer, order of data, random state
    RUN/checkpoints/step-00012000/state.json             step, numbers of the optimizer, state of the monitor, checksum

A checkpoint is written beside and renamed into place, so a folder with this name is whole; the checksum sees what a
power cut or a bad disk did to it later.
"""

from __future__ import annotations

import json
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sgdscope.records import RecordsError, write_json
from sgdscope.sampler import Sampler

_NAME = re.compile(r"step-(\d{8,})")


class NoCheckpointError(RecordsError):
    """A run has no checkpoint that can be read: it cannot be continued, only started anew."""


def save(
    run: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, sampler: Sampler, monitor: dict[str, Any],
    *, keep: int,
) -> Path:  # fmt: skip
    """Write the checkpoint of `step` and remove all but the last `keep` (0 keeps all).

    Those of later steps go too: the run went back before them, because they could not be read. Raises RecordsError if
    it cannot be written; older checkpoints are then still there.
    """
    folder = run / "checkpoints" / f"step-{step:08d}"
    temporary = folder.with_name(folder.name + ".tmp")
    tensors = {f"model/{k}": v for k, v in model.state_dict().items()}
    numbers: dict[str, dict[str, Any]] = {}
    optimizer_state = optimizer.state_dict()
    for index, entries in optimizer_state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{key}"] = value
            else:
                numbers.setdefault(str(index), {})[key] = value
    tensors |= {f"sampler/{k}": v for k, v in sampler.state().items()}
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors |= {f"random/cuda/{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(_owned(tensors), temporary / "tensors.safetensors")
        state = {"step": step, "optimizer_numbers": numbers, "monitor": monitor,
                 "param_groups": optimizer_state["param_groups"],
                 "crc32": _checksum(temporary / "tensors.safetensors")}  # fmt: skip
        write_json(temporary / "state.json", state)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
        there = steps(run)
        kept = [path for number, path in there if number <= step][-keep:]  # all of them if keep is 0
        for path in {path for _, path in there}.difference(kept):
            shutil.rmtree(path, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise RecordsError(
            f"cannot write a checkpoint in {run}: {getattr(error, 'strerror', None) or error}\n"
            + (
                f"hint: free some space, then continue from step {there[-1][0]} with --resume"
                if (there := steps(run))
                else "hint: free some space, then start the run anew"
            )
        ) from error
    return folder


def unstorable(optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of what an optimizer keeps that is neither a tensor nor plain JSON, so that no checkpoint can hold it."""
    state = optimizer.state_dict()
    entries = [item for kept in state["state"].values() for item in kept.items() if not isinstance(item[1], Tensor)]
    entries += [item for group in state["param_groups"] for item in group.items()]
    return sorted({str(name) for name, value in entries if not _plain(value)})


def _plain(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _checksum(path: Path) -> int:
    total = 0
    with open(path, "rb") as file:
        while part := file.read(1 << 22):
            total = zlib.crc32(part, total)
    return total


def _owned(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies where tensors share memory (tied weights), which the format does not know."""
    seen: set[int] = set()
    owned = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        if tensor.numel() and tensor.data_ptr() in seen:
            tensor = tensor.clone()
        seen.add(tensor.data_ptr())
        owned[name] = tensor
    return owned


def steps(run: Path) -> list[tuple[int, Path]]:
    """Checkpoints of a run as (step, folder), in order of step."""
    found = []
    for folder in (run / "checkpoints").glob("step-*"):
        match = _NAME.fullmatch(folder.name)
        if match and folder.is_dir():
            found.append((int(match[1]), folder))
    return sorted(found)


def load_latest(
    run: Path, model: nn.Module, optimizer: torch.optim.Optimizer, sampler: Sampler, *, up_to: int | None = None
) -> tuple[int, dict[str, Any]]:
    """Put the last readable checkpoint into model, optimizer, sampler and random state; returns step and monitor state.

    Of step `up_to` at most, if given. A damaged checkpoint is passed over for the one before. Raises NoCheckpointError
    if none can be read.
    """
    reasons = []
    there = [(step, folder) for step, folder in steps(run) if up_to is None or step <= up_to]
    for step, folder in reversed(there):
        try:
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            if _checksum(folder / "tensors.safetensors") != state["crc32"]:
                raise ValueError("tensors.safetensors is damaged")
            monitor = dict(state["monitor"])
            _restore(load_file(folder / "tensors.safetensors"), state, model, optimizer, sampler)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
            reasons.append(f"{folder.name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
            continue
        return step, monitor
    listed = "; ".join(reasons) or ("there is none" if up_to is None else f"there is none up to step {up_to:,}")
    raise NoCheckpointError(f"expected a readable checkpoint in {run / 'checkpoints'}, but {listed}\n"
                            "hint: start the run anew with another --out")  # fmt: skip


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}


def _restore(
    tensors: dict[str, Tensor], state: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer,
    sampler: Sampler,
) -> None:  # fmt: skip
    entries: dict[int, dict[str, Any]] = {}
    for name, tensor in _part(tensors, "optimizer/").items():
        index, key = name.split("/", 1)
        entries.setdefault(int(index), {})[key] = tensor
    for index, numbers in state["optimizer_numbers"].items():
        entries.setdefault(int(index), {}).update(numbers)
    model.load_state_dict(_part(tensors, "model/"))
    optimizer.load_state_dict({"state": entries, "param_groups": state["param_groups"]})
    sampler.load(_part(tensors, "sampler/"))
    torch.set_rng_state(tensors["random/cpu"])
    for name, tensor in _part(tensors, "random/cuda/").items():
        if torch.cuda.is_available() and int(name) < torch.cuda.device_count():
            torch.cuda.set_rng_state(tensor, int(name))
