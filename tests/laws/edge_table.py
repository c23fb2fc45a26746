"""The tables of eoss.md, section 9, measured again: ``python -m tests.laws.edge_table [block …]``.

Each block writes its rows to docs/tables/edge_of_stochastic_stability.json; the page beside it is made from that file.
Without a block the page is written anew from what is there. The blocks are functions of `edge_table_blocks`.
"""

from __future__ import annotations

import json
import math
import platform
import statistics
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from tests.laws.digits_runs import QUANTITIES, Diverged, Setting, readings

import sgdscope

FOLDER = Path(__file__).parents[2] / "docs" / "tables"
ROWS, PAGE = FOLDER / "edge_of_stochastic_stability.json", FOLDER / "edge_of_stochastic_stability.md"


@dataclass(frozen=True)
class Noted:
    """A number of the notes: a value, or a range over runs, with its standard deviation over the window if stated."""

    low: float
    high: float
    sd: float = 0.0

    @property
    def rounding(self) -> float:
        """Half a unit of the last of two decimals, or of three where they are given."""
        return 0.005 if all(round(v, 2) == v for v in (self.low, self.high)) else 0.0005

    def __str__(self) -> str:
        value = f"{self.low:g}" if self.low == self.high else f"{self.low:g}–{self.high:g}"
        return value + (f"±{self.sd:g}" if self.sd else "")


def noted(value: float, sd: float = 0.0) -> Noted:
    return Noted(value, value, sd)


@dataclass(frozen=True)
class Found:
    """Ours: mean over seeds of the mean over the window, its spread over the window and over the seeds."""

    mean: float
    window_sd: float
    seeds: tuple[float, ...]

    @property
    def seed_sd(self) -> float:
        return statistics.stdev(self.seeds) if len(self.seeds) > 1 else 0.0

    def __str__(self) -> str:
        return f"{self.mean:.3f}±{self.window_sd:.3f}" + (f" ({self.seed_sd:.3f})" if len(self.seeds) > 1 else "")


def apart(ours: Found, theirs: Noted) -> tuple[float, float]:
    """Distance from the notes' value or range, with sign, and one standard deviation of it: window, seeds, rounding.

    A value of the notes is of one run, so it scatters as one run of ours does; of the two stated scatters over the
    window the larger counts, once.
    """
    difference = ours.mean - min(max(ours.mean, theirs.low), theirs.high)
    return difference, math.hypot(max(ours.window_sd, theirs.sd), ours.seed_sd, theirs.rounding)


@dataclass(frozen=True)
class Row:
    """A run of the notes, with the numbers that they give for it."""

    name: str
    setting: Setting
    window: tuple[int, int]
    notes: dict[str, Noted] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    count: int = 40
    remark: str = ""


def measured(row: Row) -> dict[str, object]:
    """Run the row; what goes into the file."""
    by_seed = []
    for seed in row.seeds:
        try:
            _, found = readings(row.setting, row.window, seed, count=row.count)
        except Diverged as at:
            by_seed.append({"diverged_at": at.args[0]})
            continue
        by_seed.append({
            name: [float(f"{f(r[name] for r in found):.5g}") for f in (statistics.fmean, statistics.stdev)]
            for name in (*QUANTITIES, "loss")
        })  # fmt: skip
        print(row.name, seed, {k: f"{m:.3f}±{s:.3f}" for k, (m, s) in by_seed[-1].items()}, flush=True)
    return {
        "name": row.name, "setting": asdict(row.setting), "window": row.window, "count": row.count,
        "seeds": row.seeds, "found": by_seed, "remark": row.remark,
        "notes": {name: asdict(value) for name, value in row.notes.items()},
    }  # fmt: skip


def found_of(row: dict, name: str) -> Found | None:
    """A quantity over the seeds that came through."""
    pairs = [seed[name] for seed in row["found"] if name in seed]
    if not pairs:
        return None
    means = tuple(mean for mean, _ in pairs)
    return Found(statistics.fmean(means), math.sqrt(statistics.fmean(sd**2 for _, sd in pairs)), means)


def verdict(row: dict) -> str:
    """Whether each number of the notes lies within two standard deviations."""
    said = []
    for name, value in row["notes"].items():
        ours = found_of(row, name)
        if ours is None:
            return "**diverged**"
        difference, sd = apart(ours, Noted(**value))
        if abs(difference) > 2 * sd:
            said.append(f"{NAMES[name]} {difference:+.2f} ({abs(difference) / sd:.1f} sd)")
    answer = f"**differs**: {', '.join(said)}" if said else "agrees" if row["notes"] else "not in the notes"
    lost = [f"{seed['diverged_at'] / 1000:g}k" for seed in row["found"] if "diverged_at" in seed]
    return answer + (f"; {len(lost)} of {len(row['found'])} seeds **diverged**, by {', '.join(lost)}" if lost else "")


NAMES = {"lambda_max": "λ_max", "eor": "EoR", "roe": "RoE", "ias": "IAS", "gni": "GNI"}


def table_of_runs(rows: list[dict]) -> list[str]:
    lines = [f"| run | steps | {' | '.join(NAMES.values())} | verdict |", f"|{'---|' * (len(NAMES) + 3)}"]
    for row in rows:
        cells = []
        for name in NAMES:
            ours = found_of(row, name)
            theirs = f"; {Noted(**row['notes'][name])}" if name in row["notes"] else ""
            cells.append("–" if ours is None else f"{ours}{theirs}")
        first, last = row["window"]
        said = verdict(row) + (f". {row['remark']}" if row["remark"] else "")
        lines.append(f"| {row['name']} | {first / 1000:g}–{last / 1000:g}k | {' | '.join(cells)} | {said} |")
    return lines


def table_of_facts(rows: list[dict]) -> list[str]:
    return ["| what | ours | notes | verdict |", "|---|---|---|---|",
            *(f"| {r['name']} | {r['ours']} | {r['notes']} | {r['verdict']} |" for r in rows)]  # fmt: skip


def page(file: dict) -> str:
    from tests.laws.edge_table_blocks import BLOCKS

    given = [verdict(row) if "setting" in row else row["verdict"] for entry in file.values() for row in entry["rows"]]
    counts = [sum(v.startswith(word) for v in given) for word in ("agrees", "**differs**")]
    lines = [HEAD, "", f"Of {sum(counts)} rows {counts[0]} agree and {counts[1]} differ."]
    for name, block in BLOCKS.items():
        if name not in file:
            continue
        entry = file[name]
        rows = entry["rows"]
        lines += ["", f"## {block.title}", "", *([block.text, ""] if block.text else []),
                  *(table_of_runs(rows) if "setting" in rows[0] else table_of_facts(rows)), "",
                  f"`python -m tests.laws.edge_table {name}`; {entry['versions']}."]  # fmt: skip
    return "\n".join(lines) + "\n"


HEAD = """# The edge of stochastic stability on digits

The numbers that this package is built on, measured again through its public interface (`Risk`, `measure`,
`simulate.batch_noise`, `edge_test`) and set beside those of our notes, which were found with other code.

Setting: scikit-learn's digits (mean image taken off, divided by 8), the first N of a fixed order, N = 256 unless said;
one hidden layer of 32 tanh units, weights uniform in ±1/√fan_in, biases zero; ½ Σ (f − y)², mean over samples; plain
SGD with a new order of the data every epoch; double precision, one thread. Seeds 0, 1, 2 (weights and order) unless
said.

All curvatures are in edge units: times η / 2, so that the edge is 1. λ_max: largest eigenvalue of the Hessian. EoR:
batch sharpness, E[gᵀH_B g / ‖g‖²]. RoE: E[gᵀH_B g] / E‖g‖². IAS: E[gᵀHg] / E‖g‖² with the Hessian of all data. GNI:
E[gᵀHg] / ‖∇L‖².

A cell reads "mean ± standard deviation over the window (standard deviation between seeds); the notes". 40 readings per
window, each of 4096 drawn samples (at least 64 batches), and of 64 batches for IAS and GNI. **Agrees** means that each
number of the notes lies within two standard deviations, of window, seeds and rounding together; where they give a range
over runs, that our mean is that near to it. The notes' runs had other initial weights and another order of the data.
Seeds that diverged have no part in the means.

What comes out: batch sharpness settles near the edge whatever the batch, and λ_max below it, the lower the smaller the
batch. Gradient descent with noise of the batches' covariance does the same. With isotropic noise of the same trace
λ_max is at the edge, as without noise, and batch sharpness a third above it; diagonal noise is no better, and those
runs all diverged. GNI is near 1 in every run of SGD, also far below the edge. A run may also end at the edge: one of
SGD with b = 4 diverged after 29k steps, and one with matched noise at η .7 after 10k."""


def as_text(file: dict) -> str:
    """JSON with one row on a line."""
    blocks = []
    for name, entry in file.items():
        rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in entry["rows"])
        versions = json.dumps(entry["versions"], ensure_ascii=False)
        blocks.append(f'{json.dumps(name)}: {{"versions": {versions}, "rows": [\n  {rows}\n ]}}')
    return "{\n " + ",\n ".join(blocks) + "\n}\n"


def main(blocks: list[str]) -> None:
    from tests.laws.edge_table_blocks import BLOCKS

    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = json.loads(ROWS.read_text(encoding="utf-8")) if ROWS.exists() else {}
    versions = f"sgdscope {sgdscope.__version__}, torch {torch.__version__}, python {platform.python_version()}"
    for name in blocks:
        file[name] = {"versions": versions, "rows": BLOCKS[name].rows()}
        ROWS.write_text(as_text(file), encoding="utf-8")
    PAGE.write_text(page(file), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
