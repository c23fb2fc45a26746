"""Compiling: Numba, loaded when the first kernel is needed, and the file that compiled kernels are kept in.

A kernel is a text. It is written to a file named after its content in the user's cache folder, so that Numba keeps the
machine code beside it and the next process finds it there; where no such folder can be written, it is compiled anew.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
import types
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from sgdscope._version import __version__

Function = TypeVar("Function", bound=Callable[..., Any])

FAST_MATH = {"contract", "nsz", "arcp"}
"""Fused multiply-add, no signed zeros, reciprocals. Infinities and NaN stay: replicas may diverge."""
KEPT = 512
"""Kernels kept on disk; older ones go."""


def numba() -> Any:
    """The package. Raises ImportError with what to do if it is not installed."""
    try:
        import numba
    except ImportError as error:
        raise ImportError("ensembles need Numba\nhint: pip install numba") from error
    return numba


def inlined(function: Function) -> Function:
    """A scalar function for use in kernels, always inlined there."""
    compiled: Function = numba().njit(forceinline=True, error_model="numpy")(function)
    return compiled


@cache
def kernel(text: str, name: str = "kernel", keep: bool = True) -> Any:
    """The function of this name in a Python text, compiled, or taken from memory or, with `keep`, from disk.

    Numba shows the assembly of a function only if it was not kept.
    """
    module, kept = _module(text, keep)
    # error_model: a division that looks for zero and raises would not vectorise
    return numba().njit(nogil=True, fastmath=FAST_MATH, error_model="numpy", cache=kept)(getattr(module, name))


def _module(text: str, keep: bool) -> tuple[types.ModuleType, bool]:
    """The text as a module, and whether it comes from a file that Numba can keep machine code beside."""
    stamp = hashlib.sha256("\0".join([text, _inlined_sources(), numba().__version__, __version__]).encode())
    name = f"kernel_{stamp.hexdigest()[:32]}"
    path = _written(name, text) if keep else None
    if path is None:
        module = types.ModuleType(name)
        exec(compile(text, f"<{name}>", "exec"), module.__dict__)
        return module, False
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # what Numba loads from disk looks its globals up there
    spec.loader.exec_module(module)
    return module, True


@cache
def _inlined_sources() -> str:
    """The text of what kernels import: Numba does not see that it changed."""
    folder = Path(__file__).parent
    return "".join(
        (folder / f"{name}.py").read_text(encoding="utf-8") for name in ("functions", "generators", "normals")
    )


def _written(name: str, text: str) -> Path | None:
    """The file with this text; None if there is no place for it."""
    folder = _folder()
    path = folder / f"{name}.py"
    try:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return path
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".tmp", delete=False, encoding="utf-8") as file:
            file.write(text)
        os.replace(file.name, path)  # at once: other processes may be writing the same
        _prune(folder)
    except OSError:
        return None
    return path


def _folder() -> Path:
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache_home) / "sgdscope" / "kernels"


def _prune(folder: Path) -> None:
    """Removes all but the newest kernels with what Numba keeps of them."""
    oldest_first = sorted(folder.glob("kernel_*.py"), key=lambda path: path.stat().st_mtime)
    for path in oldest_first[:-KEPT]:
        for file in [path, *folder.glob(f"__pycache__/{path.stem}.*")]:
            with suppress(OSError):
                file.unlink()
