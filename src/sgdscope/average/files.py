"""Files: state dicts on disk, read one tensor at a time and written whole. Nothing is ever unpickled."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sgdscope.average.names import few

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
_ENTRIES = ("state_dict", "model_state_dict", "model", "weights")
"""Where training scripts put the weights among other things; the first that is there is taken."""
_OF_A_RUN = "model/"
"""What weights are called in a checkpoint of a run folder."""
_ONLY_OF_A_RUN = "random/cpu"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read or written: torn, or no state dict. The message says what to do."""


@dataclass(frozen=True)
class StateFile:
    """An open checkpoint.

    Attributes:
        path: the file.
        names: tensors, in the order of the file.
        read: gives a tensor by name, on the CPU; it may lie in memory mapped from the file, so it is not to be changed.
        others: entries of the state dict that are no tensors.
        metadata: text stored along with them.
    """

    path: Path
    names: tuple[str, ...]
    read: Callable[[str], Tensor]
    others: Mapping[str, Any]
    metadata: Mapping[str, str]


def file_of(path: Path) -> Path | None:
    """The file with the weights: `path` itself, or in a folder the one that holds them; None if there is none."""
    if not path.is_dir():
        return path if path.is_file() else None
    names = ("tensors.safetensors", "model.safetensors", "pytorch_model.bin")
    return next((path / name for name in names if (path / name).is_file()), None)


@contextmanager
def opened(path: str | Path, entry: str | None = None) -> Iterator[StateFile]:
    """A safetensors file, a state dict written by torch.save, or a checkpoint of a run folder, open for reading.

    `entry` names the state dict in a file that holds several things. Raises CheckpointError.
    """
    file = file_of(Path(path))
    if file is None:
        raise CheckpointError(f"expected a checkpoint, got {path}: there is no file with weights")
    with ExitStack() as stack:
        try:
            if file.suffix == ".safetensors":
                found = _of_safetensors(file, stack.enter_context(safe_open(file, framework="pt")), entry)
            else:
                found = _of_torch(file, entry)
        except CheckpointError:
            raise
        except Exception as error:  # what a torn file makes the readers stumble over is theirs
            raise CheckpointError(_unreadable(file, error)) from error
        yield found


def _of_safetensors(path: Path, content: Any, entry: str | None) -> StateFile:
    names = tuple(content.keys())
    prefix = _OF_A_RUN if entry is None and _ONLY_OF_A_RUN in names else f"{entry or ''}/"
    if prefix != "/":
        names = tuple(name.removeprefix(prefix) for name in names if name.startswith(prefix))
    else:
        prefix = ""
    if not names:
        raise CheckpointError(f"expected tensors{f' called {prefix}…' if prefix else ''} in {path}, got none")
    return StateFile(path, names, lambda name: content.get_tensor(prefix + name), {}, dict(content.metadata() or {}))


def _of_torch(path: Path, entry: str | None) -> StateFile:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on old formats, and on what is then refused anyway
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    whole: Mapping[str, Any] = content if isinstance(content, Mapping) else {}
    if entry is not None:
        found = whole.get(entry)
    else:
        found = whole if _has_tensors(whole) else next((whole[k] for k in _ENTRIES if _has_tensors(whole.get(k))), None)
    if not isinstance(found, Mapping) or not _has_tensors(found):
        raise CheckpointError(
            f"expected tensors by name in {path}{f' under {entry!r}' if entry else ''}, got "
            f"{few([str(key) for key in whole]) or f'a {type(content).__name__} without any'}\n"
            "hint: save model.state_dict(), or name the entry that holds it: entry='…'"
        )
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    others = {name: value for name, value in found.items() if not isinstance(value, Tensor)}
    return StateFile(path, tuple(tensors), tensors.__getitem__, others, {})


def _has_tensors(content: Any) -> bool:
    return isinstance(content, Mapping) and any(isinstance(value, Tensor) for value in content.values())


def _unreadable(path: Path, error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError) and "weights_only" in str(error).lower():
        return (
            f"cannot read {path}: it is torn, or holds Python objects beside tensors, which are never loaded\n"
            "hint: save model.state_dict() alone"
        )
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"cannot read {path}: {reason[:200]}\nhint: the file is torn or no checkpoint; leave it out"


def save(
    state: Mapping[str, Any], path: str | Path, *, overwrite: bool = False, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a state dict, whole or not at all: as safetensors, or for .pt, .pth, .ckpt and .bin with torch.save.

    Tensors that share memory are written each on its own in safetensors, which also takes `metadata` (text). Raises
    CheckpointError where a file is in the way, unless `overwrite`, or it cannot be written.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f"expected a file name that ends in {', '.join(SUFFIXES)}, got {path.name!r}")
    if path.exists() and not overwrite:
        raise CheckpointError(f"expected a new file, but {path} exists: choose another name, or pass overwrite=True")
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            if unfit := [name for name, value in state.items() if not isinstance(value, Tensor)]:
                raise CheckpointError(f"expected tensors only for safetensors, got {few(unfit)}: write a .pt file")
            save_file(_owned(state), temporary, metadata={"format": "pt", **(metadata or {})})
        else:
            torch.save(dict(state), temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError, RuntimeError) as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
    return path


def _owned(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors, copied where they share memory (tied weights), which the format does not know."""
    seen: set[int] = set()
    owned = {}
    for name, tensor in state.items():
        tensor = tensor.detach().contiguous()
        place = tensor.untyped_storage().data_ptr()
        owned[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return owned
