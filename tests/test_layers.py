"""Who may import whom: the table of design's layers, held against every import in the source."""

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "sgdscope"

NUMBERS = "estimate series verdict records edge_units edge_map gradient_steps layer_balance regime"
PROBE = "risk batches evaluation vectors self_check chain hessian per_sample"  # floor 1: the risk and its parts
TRAINED_WITH = f"{NUMBERS} theory measure what_if monitor average data models config sampler checkpoint optimizers"
MAY_IMPORT = {
    # floor 0: no torch
    "_version": "",
    "estimate": "",
    "series": "estimate",
    "verdict": "estimate",
    "theory": "estimate",
    "records": "estimate series regime verdict",  # the last two when asked for a verdict only
    "edge_units": "estimate series records theory",
    "edge_map": "estimate series records edge_units theory",
    "gradient_steps": "estimate records edge_units",
    "layer_balance": "estimate verdict records edge_units",
    "regime": "estimate series verdict records edge_units theory",
    "sweep_records": f"{NUMBERS} theory",
    "summary": f"{NUMBERS} theory",
    "picture": "",
    "report": f"{NUMBERS} theory picture sweep_records _version",
    "predict": "estimate picture theory",
    "config": "",  # plain values: the command line checks them before torch is asked for anything
    "errors": "config",
    "executors": "",
    # floor 1
    **dict.fromkeys(PROBE.split(), f"estimate {PROBE}"),
    "data": f"estimate {PROBE}",
    "models": f"estimate {PROBE}",
    "measure": f"estimate {PROBE}",
    "simulate": f"estimate series records theory executors _version {PROBE}",
    "average": f"estimate theory {PROBE}",
    # floor 2: composes
    "trial": "estimate picture predict simulate theory verdict",
    "diagonal": "estimate picture predict simulate theory verdict",
    "balance": f"estimate verdict theory measure {PROBE}",
    "what_if": f"{NUMBERS} theory measure {PROBE}",
    "monitor": f"{NUMBERS} theory measure balance what_if _version {PROBE}",
    "trajectory": f"estimate verdict theory measure {PROBE}",
    "sampler": "",
    "checkpoint": f"records sampler {PROBE}",
    "optimizers": "config checkpoint",
    "train": f"{TRAINED_WITH} _version {PROBE}",
    "edge_test": f"{TRAINED_WITH} train _version {PROBE}",
    "best_average": f"{TRAINED_WITH} train picture predict trajectory _version {PROBE}",
    "rebalance": f"{TRAINED_WITH} train balance picture predict _version {PROBE}",
    "cells": "estimate executors records",
    "sweep": f"{TRAINED_WITH} train edge_test errors executors report sweep_records _version {PROBE}",
    "studies": (
        f"{TRAINED_WITH} train edge_test cells sweep balance diagonal trial trajectory best_average"
        f" simulate report picture predict executors _version {PROBE}"
    ),
}
ANY = {"cli", "__main__"}  # the command line may import everything, and nobody imports it
WITHOUT_TORCH = {
    *NUMBERS.split(), "_version", "theory", "report", "summary", "config", "errors", "picture", "predict", "executors",
    "sweep_records",
}  # fmt: skip
"""Parts that do not import torch anywhere, not even inside a function."""
ONLY_THERE = {
    # third-party packages that belong to one adapter
    "lightning": "monitor.lightning",
    "pytorch_lightning": "monitor.lightning",
    "transformers": "monitor.transformers",
    "wandb": "monitor.sinks",
    "mlflow": "monitor.sinks",
    "tensorboard": "monitor.sinks",
    "matplotlib": "report",
    "tyro": "cli",
    "numba": "simulate",
    "dask": "executors.cluster",
    "distributed": "executors.cluster",
}
OF_THEORY = {"numpy", "scipy", "sympy"} | set(sys.stdlib_module_names)


def imports(module: str, text: str, package: bool) -> list[str]:
    """Absolute names a module imports anywhere, lazily and for types too; `from a import b` gives a.b."""
    found = []
    home = module.split(".") if package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            up = home[: len(home) - node.level + 1] if node.level else []
            base = ".".join([*up, *([node.module] if node.module else [])])
            found += [f"{base}.{alias.name}" for alias in node.names]
    return found


def faults(module: str, text: str, package: bool = False) -> list[str]:
    """What a module (name without `sgdscope.`) imports against the rules, in words."""
    part = module.split(".")[0]
    if part not in MAY_IMPORT and part not in ANY:
        return [f"{part} is in no layer: add it to the table"]
    said = []
    for name in imports(f"sgdscope.{module}", text, package):
        root, *rest = name.split(".")
        if root == "sgdscope":
            target = rest[0] if rest else ""
            if target == part or part in ANY:
                continue
            if target not in MAY_IMPORT[part].split():
                said.append(f"{module} imports {name}: {part} may import {MAY_IMPORT[part] or 'nothing of ours'}")
        elif root in ("torch", "torchvision") and part in WITHOUT_TORCH:
            said.append(f"{module} imports {name}: {part} works without torch")
        elif part == "theory" and root not in OF_THEORY:
            said.append(f"{module} imports {name}: theory takes numbers and returns numbers")
        elif root in ONLY_THERE and not f"{module}.".startswith(f"{ONLY_THERE[root]}."):
            said.append(f"{module} imports {name}: {root} belongs in {ONLY_THERE[root]}")
    return said


def modules() -> list[Path]:
    return [path for path in sorted(SOURCE.rglob("*.py")) if path != SOURCE / "__init__.py"]


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_imports_go_down(path):
    package = path.name == "__init__.py"
    relative = path.relative_to(SOURCE)
    module = ".".join(relative.parent.parts if package else relative.with_suffix("").parts)
    assert faults(module, path.read_text(encoding="utf-8"), package) == []


def test_files_stay_short():
    long = {path.name: n for path in modules() if (n := len(path.read_text(encoding="utf-8").splitlines())) > 400}
    assert long == {}, "a file past 400 lines holds two ideas"


def test_no_cycle_but_the_one_that_is_meant():
    # records -> regime -> records: the first only inside the function that asks for a verdict
    order = list(MAY_IMPORT)
    up = {(a, b) for a in order for b in MAY_IMPORT[a].split() if order.index(b) > order.index(a)}
    assert up - {(a, b) for a in PROBE.split() for b in PROBE.split()} == {("records", "regime")}


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("measure.spectrum", "from sgdscope.theory import stability"),
        ("measure.spectrum", "from sgdscope import records"),
        ("measure.spectrum", "def f():\n    from sgdscope.monitor import Monitor"),
        ("measure.spectrum", "from ..records import open_run"),
        ("measure.spectrum", "from .. import theory"),
        ("measure.spectrum", "import sgdscope"),
        ("measure.spectrum", "import sgdscope.records as r"),
        ("theory.escape", "from sgdscope.records import Run"),
        ("theory.escape", "import torch"),
        ("theory.escape", "import pandas"),
        ("report.page", "import torch.nn"),
        ("records", "def f():\n    from torch import nn"),
        ("regime", "from sgdscope.measure import batch_sharpness"),
        ("report.page", "from sgdscope.measure import batch_sharpness"),
        ("models.mlp", "from sgdscope import measure"),
        ("data.digits", "from sgdscope.monitor import Monitor"),
        ("simulate.ensemble", "from sgdscope.measure import spectrum"),
        ("average.ema", "from sgdscope.measure import spectrum"),
        ("monitor.monitor", "from sgdscope.report import write"),
        ("monitor.monitor", "from sgdscope.train import train"),
        ("monitor.monitor", "from sgdscope import cli"),
        ("monitor.monitor", "import lightning.pytorch"),
        ("train", "from sgdscope.studies import balance"),
        ("train", "import wandb"),
        ("studies.balance", "from sgdscope.cli import main"),
        ("config", "import torch"),
        ("config", "from sgdscope.data import NAMES"),
        ("errors", "from sgdscope.data import DataError"),
        ("summary", "from sgdscope.what_if import SPIKE"),
        ("sampler", "from sgdscope.config import RunConfig"),
        ("checkpoint", "from sgdscope.monitor import Monitor"),
        ("monitor.monitor", "from sgdscope.sampler import Sampler"),
        ("measure.spectrum", "from sgdscope.config import RunConfig"),
        ("helpers", "import os"),
    ],
)
def test_a_breach_is_seen(module, text):
    assert faults(module, text)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("measure.spectrum", "import torch\nfrom sgdscope.risk import Risk\nfrom .chain import f"),
        ("measure.spectrum", "from sgdscope import vectors"),
        ("theory.escape", "import math\nimport scipy.linalg\nfrom sgdscope.estimate import Estimate"),
        ("monitor.lightning", "import lightning\nfrom sgdscope.monitor.monitor import Monitor"),
        ("report.figures", "import matplotlib.pyplot\nfrom sgdscope.report import svg"),
        ("cli", "import tyro\nfrom sgdscope import studies, report\nimport sgdscope"),
    ],
)  # fmt: skip
def test_what_is_allowed_passes(module, text):
    assert faults(module, text) == []


def loaded_by(statement: str) -> set[str]:
    """Top-level packages in sys.modules of a fresh interpreter after a statement."""
    code = f"{statement}\nimport sys, json; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_floor_0_loads_without_torch():
    floor = [f"sgdscope.{name}" for name in ("theory.stability", "records", "regime", "report", "predict")]
    there = [name for name in floor if importlib.util.find_spec(name)]
    assert len(there) >= 3
    loaded = loaded_by("import sgdscope, " + ", ".join(there))
    assert "sgdscope" in loaded
    assert "torch" not in loaded


def test_the_front_door_opens_quickly():
    assert loaded_by("import sgdscope").isdisjoint({"torch", "matplotlib", "scipy", "sklearn", "pandas"})
    # asking for the records through it costs numpy, and no more
    assert loaded_by("import sgdscope; sgdscope.open_run").isdisjoint({"torch", "matplotlib", "scipy"})
