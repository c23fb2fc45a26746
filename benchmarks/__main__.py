"""Command line: ``python -m benchmarks [name …] [--rivals PYTHON] [--write]`` prints one table of all figures."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import pages
from benchmarks.harness import Row
from benchmarks.pages import NAMES

PACKAGES = (
    "sgdscope",
    "torch",
    "numpy",
    "scipy",
    "PyHessian",
    "curvlinops-for-pytorch",
    "hessian-eigenthings",
    "FiPy",
    "torchsde",
    "diffrax",
    "jax",
)


def versions() -> dict[str, str]:
    """Versions of what is compared."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if name == "sgdscope":
                found[name] = importlib.import_module(name).__version__
    return found


def rows_of(name: str) -> list[Row]:
    """The rows of one benchmark, told on stderr as they come; a failure is a row too."""
    import torch

    torch.set_num_threads(1)
    found: list[Row] = []

    def tell(row: Row) -> None:
        found.append(row)
        print(row.line(), file=sys.stderr, flush=True)

    try:
        for row in importlib.import_module(f"benchmarks.{name}").rows():
            tell(row)
    except Exception as error:
        tell(Row(name, f"failed: {type(error).__name__}: {error}", met=False))
    return found


def elsewhere(name: str, python: str) -> tuple[list[Row], dict[str, str]]:
    """The same under another interpreter, which has the rivals: ours and theirs then share one process."""
    import sgdscope

    paths = [str(Path(__file__).parent.parent), str(Path(sgdscope.__file__).parent.parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([python, "-W", "ignore", "-m", "benchmarks", name, "--json"], env=environment, check=True,
                          stdout=subprocess.PIPE, text=True)  # fmt: skip
    answer = json.loads(done.stdout.splitlines()[-1])
    return [Row(**row) for row in answer["rows"]], answer["versions"]


def main(arguments: list[str] | None = None) -> int:
    """Run, print, write; the exit status is 0 whether or not bars are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"among {', '.join(NAMES)} (default: all)")
    parser.add_argument("--rivals", metavar="PYTHON", help="interpreter that has the rival packages (and torch, scipy)")
    parser.add_argument("--write", action="store_true", help="put them into docs/benchmarks.md in place of older ones")
    parser.add_argument("--json", action="store_true", help="print rows as one line of JSON")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in NAMES]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; expected some of {', '.join(NAMES)}")
    found: dict[str, dict[str, Any]] = {}
    for name in given.names or NAMES:
        if given.rivals and getattr(importlib.import_module(f"benchmarks.{name}"), "NEEDS_RIVALS", False):
            rows, theirs = elsewhere(name, given.rivals)
        else:
            rows, theirs = rows_of(name), {}
        found[name] = {"rows": [asdict(row) for row in rows], "versions": {**theirs, **versions()},
                       "machine": platform.machine()}  # fmt: skip
        if given.write:  # each as soon as it is there
            pages.keep(name, found[name])
    if given.json:
        rows = [row for one in found.values() for row in one["rows"]]
        print(
            json.dumps({"rows": rows, "versions": {k: v for one in found.values() for k, v in one["versions"].items()}})
        )
    else:
        print("\n\n".join(pages.section(name, one) for name, one in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
