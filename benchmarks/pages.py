"""The page of figures: one section for each benchmark, the last time it was measured."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from benchmarks.harness import Row

NAMES = (
    "batch_sharpness", "lambda_max", "lambda_max_tracking", "top_eigenvalues", "hessian_product", "gradient_noise",
    "noise_traces", "charges", "trace", "what_if_map", "memory", "streaming_edge_ratio", "monitor_overhead",
    "import_time", "sweep", "ensemble", "ensemble_rivals", "ensemble_sgd", "ensemble_torch",
    "fokker_planck_line", "averages", "fokker_planck_plane", "path",
)  # fmt: skip
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
KEPT = PAGE.with_suffix(".json")
HEAD = """# Benchmarks

Every figure is a ratio within one run: ours and the rival, or the limit, timed in turns in one process on one thread
unless a row says otherwise; the median, with the ratio of the minima and the range of the rounds. "Gradients" are wall
time over that of one gradient on the same model and data. A figure that misses its bar is marked. Each section is
measured with `python -m benchmarks NAME --write` (with `--rivals PYTHON` for an interpreter that has the rivals).
"""


def keep(name: str, measured: dict[str, Any]) -> None:
    """Put one benchmark into the page, in place of what was there of it."""
    there = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    there[name] = measured
    # numpy has truth values of its own
    text = json.dumps(there, indent=1, ensure_ascii=False, sort_keys=True, default=bool)
    KEPT.write_text(text + "\n", encoding="utf-8")
    sections = [section(one, there[one]) for one in NAMES if one in there]
    PAGE.write_text("\n".join([HEAD, *(f"{text}\n" for text in sections)]), encoding="utf-8")


def section(name: str, measured: dict[str, Any]) -> str:
    """One benchmark as text."""
    title = (importlib.import_module(f"benchmarks.{name}").__doc__ or name).strip().splitlines()[0]
    versions = ", ".join(f"{package} {version}" for package, version in sorted(measured["versions"].items()))
    return "\n".join([
        f"## `{name}`", "", title, "", "| figure | ours | rival | bar | met? |", "|---|---|---|---|---|",
        *(Row(**row).line() for row in measured["rows"]), "", f"{versions}; {measured['machine']}.",
    ])  # fmt: skip
