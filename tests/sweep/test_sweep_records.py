"""Reading sweeps: rows of a table out of run folders, whatever state they are in, and without torch."""

import csv
import io
import json
import subprocess
import sys

import pytest

from sgdscope.estimate import Estimate
from sgdscope.records import RecordsError, RunWriter, list_runs
from sgdscope.sweep import Grid, Sweep
from sgdscope.sweep_records import is_sweep, last_step, list_sweeps
from tests.sweep.demo_sweep import edge_of, make

GRID = Grid({"lr": [0.1, 0.4], "batch-size": [4, 16], "seed": [0, 1]})
SPECIAL = {(0.4, 4, 1): "diverged", (0.1, 16, 0): "failed", (0.1, 16, 1): "waiting", (0.1, 4, 0): "interrupted"}


def ending(config):
    return SPECIAL.get((config["lr"], config["batch_size"], config["seed"]), edge_of(config))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return make(tmp_path_factory.mktemp("sweeps") / "a", GRID, ending)


def test_cells_know_their_settings_and_how_they_went(sweep):
    assert sweep.varying == ("lr", "batch_size", "seed")
    assert [cell.status for cell in sweep] == [
        "interrupted", "finished", "failed", "waiting", "finished", "diverged", "finished", "finished",
    ]  # fmt: skip
    (failed,) = (cell for cell in sweep if cell.status == "failed")
    assert (failed.reason, failed.attempts, failed.run) == ("out of memory", 2, None)
    assert sweep["lr=0.4,batch-size=4,seed=1"].outcome == "diverged"
    assert [cell.name for cell in sweep.where(lr=0.4, seed=0)] == [
        "lr=0.4,batch-size=4,seed=0", "lr=0.4,batch-size=16,seed=0",
    ]  # fmt: skip
    with pytest.raises(KeyError, match="no 'x'"):
        sweep["x"]
    assert len(sweep) == 8
    assert sweep.cells[0].config["data"] == "digits"


def test_the_headline_counts_in_a_fixed_order(sweep):
    assert sweep.headline == (
        "8 runs: 3 below the edge, 1 at the edge, 1 diverged, 1 interrupted, 1 failed, 1 waiting"
    )  # fmt: skip
    assert str(sweep).splitlines()[1].split() == ["lr", "batch-size", "seed", "outcome", "edge", "λ_max", "loss"]
    assert "out of memory" in str(sweep)


def test_rows_hold_the_numbers_of_the_standing(sweep):
    rows = {row["cell"]: row for row in sweep.rows()}
    row, cell = rows["lr=0.4,batch-size=4,seed=0"], sweep["lr=0.4,batch-size=4,seed=0"]
    assert (row["lr"], row["batch_size"], row["seed"], row["regime"]) == (0.4, 4, 0, "at the edge")
    assert row["edge"] == float(cell.standing.edge)
    assert row["edge_error"] == cell.standing.edge.standard_error
    assert row["edge_of"] == "batch_sharpness"
    assert row["batch_sharpness_edge_units"] == pytest.approx(row["batch_sharpness"] * 0.4 / 2)
    assert row["lambda_max_edge_units"] == pytest.approx(0.6 * row["edge"], rel=1e-6)
    assert row["edge_ratio_edge_units"] == pytest.approx(row["edge"], abs=0.05)
    assert row["loss"] == float(cell.mean("loss"))
    assert row["step"] == 4000
    assert "held_out_loss" not in row
    waiting = rows["lr=0.1,batch-size=16,seed=1"]
    assert {waiting[key] for key in ("edge", "loss", "regime", "step", "edge_error")} == {None}


def test_what_was_recorded_on_held_out_data_is_shown(tmp_path):
    found = make(tmp_path / "a", Grid({"lr": [0.1, 0.2]}))
    path = found.cells[0].path
    with RunWriter.reopen(path, rewind_to=4000) as writer:
        writer.append(4000, Estimate("held_out_accuracy", 0.93, 0.01))
    first, second = Sweep.open(found.path).rows()
    assert (first["held_out_accuracy"], first["held_out_accuracy_error"]) == (0.93, 0.01)
    assert second["held_out_accuracy"] is None


def test_tables(sweep):
    rows = sweep.rows()
    read = list(csv.DictReader(io.StringIO(sweep.to_csv())))
    assert [row["cell"] for row in read] == [row["cell"] for row in rows]
    assert [float(row["edge"]) if row["edge"] else None for row in read] == [row["edge"] for row in rows]
    assert json.loads(sweep.to_json()) == rows


def test_a_spreadsheet_takes_no_text_for_a_formula(tmp_path):
    found = make(tmp_path / "a", Grid({"target": ["=1+1", "y"], "data": "table", "data-file": "t.csv"}))
    assert [row["target"] for row in csv.DictReader(io.StringIO(found.to_csv()))] == ["'=1+1", "y"]


def test_a_killed_run_that_has_failed_for_good_is_not_running(tmp_path):
    found = make(tmp_path / "a", Grid({"lr": [0.1, 0.2]}))
    cell = found.cells[0]
    text = (cell.path / "manifest.json").read_text().replace('"finished"', '"running"')
    (cell.path / "manifest.json").write_text(text)
    assert Sweep.open(found.path).cells[0].status == "running"
    (cell.path / "cell.json").write_text('{"status": "failed", "reason": "its process ended", "attempts": 2}')
    again = Sweep.open(found.path).cells[0]
    assert (again.status, again.reason, again.outcome) == ("failed", "its process ended", "failed")


def test_a_run_that_was_gone_on_with_by_hand_counts(tmp_path):
    found = make(tmp_path / "a", Grid({"lr": [0.1, 0.2]}))
    (found.cells[0].path / "cell.json").write_text('{"status": "failed", "reason": "no disk", "attempts": 1}')
    assert (Sweep.open(found.path).cells[0].status, Sweep.open(found.path).cells[0].reason) == ("finished", "")


def test_the_last_step_is_read_from_the_end(sweep, tmp_path):
    assert last_step(sweep["lr=0.4,batch-size=4,seed=0"].path) == 4000
    assert last_step(tmp_path) == 0
    (tmp_path / "rows.jsonl").write_text('{"step": 7}\n{"rewind_to": 3}\n{"step": 4, "na')
    assert last_step(tmp_path) == 3
    (tmp_path / "rows.jsonl").write_text("nonsense\n[1]\n")
    assert last_step(tmp_path) == 0


def test_sweeps_are_found_beside_runs(sweep):
    assert is_sweep(sweep.path)
    assert not is_sweep(sweep.path.parent)
    assert list_sweeps(sweep.path.parent) == [sweep.path] == list_sweeps(sweep.path)
    assert list_runs(sweep.path.parent) == []  # the runs of a sweep are listed in its folder
    assert len(list_runs(sweep.path)) == 6


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "{}", '{"format": "1"}', '{"format": 1}', '{"format": 1, "cells": {}, "common": {}}',
        '{"format": 1, "cells": [{"name": "../../x", "settings": {}, "config": {}}], "common": {}}',
        '{"format": 1, "cells": [{"name": "..", "settings": {}, "config": {}}], "common": {}}',
        '{"format": 1, "cells": [{"name": "/etc", "settings": {}, "config": {}}], "common": {}}',
        '{"format": 1, "cells": [{"name": "a", "settings": {}}], "common": {}}',
        '{"format": 1, "cells": [{"name": "a", "settings": {}, "config": {}}, '
        '{"name": "a", "settings": {}, "config": {}}], "common": {}}',
    ],
)  # fmt: skip
def test_a_damaged_sweep_is_told(tmp_path, content):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(RecordsError, match=r"cannot read .*sweep\.json"):
        Sweep.open(tmp_path)


def test_no_sweep_and_one_from_the_future(tmp_path):
    with pytest.raises(RecordsError, match="expected a sweep folder"):
        Sweep.open(tmp_path)
    (tmp_path / "sweep.json").write_text('{"format": 99}')
    with pytest.raises(RecordsError, match="format 99, this version reads up to 1\nhint: upgrade"):
        Sweep.open(tmp_path)


def test_an_unreadable_run_is_one_failed_cell(sweep, tmp_path):
    found = make(tmp_path / "a", Grid({"lr": [0.1, 0.2]}))
    (found.cells[1].path / "manifest.json").write_text("{")
    again = Sweep.open(found.path)
    assert [cell.status for cell in again] == ["finished", "failed"]
    assert again.cells[1].reason.startswith("cannot read ")


def test_laying_out_and_reading_need_no_torch(sweep):
    code = (
        "import sys\nfrom sgdscope.sweep import Grid, Sweep\nfrom sgdscope.report import comparison\n"
        f"Grid({{'lr': [0.1, 0.2]}})\ncomparison.render(Sweep.open({str(sweep.path)!r}))\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("False\n", "")
