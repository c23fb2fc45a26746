"""What a sweep gains by a second worker, the start of workers included, and what it costs beyond training alone."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.harness import Row, seconds
from sgdscope import train
from sgdscope.executors.workers import cores
from sgdscope.sweep import Grid, run

CELLS, STEPS = 8, 16_000


def rows() -> list[Row]:
    grid = Grid({"seed": list(range(CELLS)), "steps": STEPS, "every": STEPS // 4})
    short = Grid({"seed": list(range(CELLS)), "steps": STEPS // 8, "every": STEPS // 8})
    found = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if cores() < 2:
            found.append(Row("two workers against one", "one core only"))
        else:
            ratios = []
            for turn in range(3):
                one, two = (
                    seconds(lambda n=n, turn=turn: run(grid, folder / f"{turn}-{n}", executor=n, reports=False))
                    for n in (1, 2)
                )
                ratios.append(one / two)
            told = f"{statistics.median(ratios):.2f} × (rounds {min(ratios):.2f}–{max(ratios):.2f})"
            found.append(
                Row(f"{CELLS} runs of {STEPS:,} steps on digits: two workers on {cores()} cores against one",
                    told, "1 ×", "≥ 1.7", statistics.median(ratios) >= 1.7)
            )  # fmt: skip
        bare, swept, reported = _costs(short, folder)
        found.append(
            Row("a cell of a sweep beyond training it alone, processor time, page and table of the sweep included",
                f"{swept - bare:.2f} s", f"{bare:.2f} s (training of {STEPS // 8:,} steps)", "≤ 0.3 s",
                swept - bare <= 0.3)
        )  # fmt: skip
        found.append(Row("the report of a cell, processor time", f"{reported - swept:.2f} s"))
    return found


def _costs(grid: Grid, folder: Path) -> tuple[float, float, float]:
    """Processor seconds per cell: trained one by one, by a sweep in this process, and by one with reports."""
    train.train(grid.cells[0].config, folder / "warm")

    def spent(number: int, way: str) -> float:
        start = time.process_time()
        if way == "bare":
            for cell in grid.cells:
                train.train(cell.config, folder / f"bare-{number}" / cell.name)
        else:
            run(grid, folder / f"{way}-{number}", executor=0, reports=way == "reports")
        return (time.process_time() - start) / len(grid.cells)

    times = {way: [spent(number, way) for number in range(2)] for way in ("bare", "sweep", "reports")}
    return min(times["bare"]), min(times["sweep"]), min(times["reports"])
