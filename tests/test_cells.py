"""Cells: each is done once, failures leave the others alone, and nothing finished is lost."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sgdscope import cells as module
from sgdscope.cells import Cell, MissingCellError, Results, read_results, run_cells
from sgdscope.estimate import Estimate
from sgdscope.records import RecordsError

CALLS: list[str] = []


def double(settings, folder: Path):
    CALLS.append(settings["of"])
    return {"twice": 2 * settings["of"], "estimate": Estimate("twice", 2.0 * settings["of"], 0.1)}


def boom(settings, folder: Path):
    CALLS.append("boom")
    raise RuntimeError("no such luck\nsecond line")


def not_finite(settings, folder: Path):
    return {"value": [1.0, math.nan]}


@pytest.fixture(autouse=True)
def _functions(monkeypatch):
    """Functions of the tests, found where those of the package are."""
    CALLS.clear()
    for function in (double, boom, not_finite):
        monkeypatch.setattr(module, function.__name__, function, raising=False)


def cell(name: str, of: float = 1, function: str = "double") -> Cell:
    return Cell(name, f"sgdscope.cells:{function}", {"of": of})


def test_results_with_their_errors(tmp_path):
    found = run_cells([cell("a", 1), cell("b", 2)], tmp_path, executor=0)
    assert {name: r["twice"] for name, r in found.items()} == {"a": 2, "b": 4}
    assert found.estimate("b", "estimate") == Estimate("twice", 4.0, 0.1)
    assert list(found.where(of=2)) == ["b"]
    with pytest.raises(MissingCellError, match="no estimate 'twice'"):
        found.estimate("b", "twice")
    with pytest.raises(MissingCellError, match="no cell has of 3"):
        found.where(of=3)


def test_what_is_finished_is_not_done_again(tmp_path):
    run_cells([cell("a", 1)], tmp_path, executor=0)
    run_cells([cell("a", 1), cell("b", 2)], tmp_path, executor=0)
    assert CALLS == [1, 2]
    run_cells([cell("a", 5)], tmp_path, executor=0)  # it asks another thing
    assert CALLS == [1, 2, 5]


def test_a_failing_cell_leaves_the_others_alone_and_is_tried_again(tmp_path):
    asked = [cell("a"), cell("bad", function="boom"), cell("c")]
    found = run_cells(asked, tmp_path, executor=0)
    assert set(found) == {"a", "c"}
    assert found.failures == {"bad": "RuntimeError: no such luck"}
    with pytest.raises(MissingCellError, match="the result of bad is missing: RuntimeError: no such luck"):
        found["bad"]
    run_cells(asked, tmp_path, executor=0)
    assert CALLS == [1, "boom", 1, "boom"]


def test_numbers_that_are_none_are_refused(tmp_path):
    found = run_cells([cell("a", function="not_finite")], tmp_path, executor=0)
    assert "finite" in found.failures["a"]


def threads(settings, folder: Path):
    return {"threads": torch.get_num_threads()}


def test_a_cell_has_one_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "threads", threads, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = run_cells([cell("a", function="threads")], tmp_path, executor=0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert found["a"]["threads"] == 1


def test_progress_counts_what_was_there(tmp_path):
    run_cells([cell("a")], tmp_path, executor=0)
    seen: list[tuple[int, int]] = []
    run_cells([cell("a"), cell("b")], tmp_path, executor=0, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize("name", ["", "A", "../a", "a/b", "a b", ".a", "a" * 130])
def test_names_that_are_no_files_are_refused(name):
    with pytest.raises(ValueError, match="expected a cell's name of"):
        Cell(name, "sgdscope.cells:run_cells")


@pytest.mark.parametrize("function", ["os:system", "sgdscope:x y", "sgdscope.cells", "os.path:join"])
def test_functions_of_others_are_refused(function):
    with pytest.raises(ValueError, match="function of this package"):
        Cell("a", function)


def test_two_cells_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="got two of a"):
        run_cells([cell("a"), cell("a", 2)], tmp_path)


@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(max_size=9), lambda inner: st.lists(
    inner, max_size=3) | st.dictionaries(st.sampled_from(["format", "function", "settings", "result", "failure"]),
    inner, max_size=5)).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_files_from_elsewhere_count_as_not_there(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("cells")
    (folder / "cells").mkdir()
    asked = cell("a")
    asked.file(folder).write_bytes(content)
    assert list(read_results([asked], folder)) == []


def test_results_say_what_is_missing():
    found = Results([cell("a")], {})
    with pytest.raises(MissingCellError, match="a is missing: it was not run"):
        found["a"]
    with pytest.raises(MissingCellError, match="b is missing: there is no such cell"):
        found["b"]


def test_two_processes_do_not_work_on_one_folder(tmp_path):
    (tmp_path / "lock").touch()
    held = subprocess.Popen(
        [sys.executable, "-c", f"import fcntl,time;f=open({str(tmp_path / 'lock')!r},'a');"
         "fcntl.flock(f,fcntl.LOCK_EX);print('held',flush=True);time.sleep(60)"], stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert held.stdout is not None
        assert held.stdout.readline() == b"held\n"
        with pytest.raises(RecordsError, match="another process is writing"):
            run_cells([cell("a")], tmp_path, executor=0)
    finally:
        held.kill()
        held.wait()
        held.stdout.close()


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_where_it_stopped(tmp_path):
    asked = ",".join(f"Cell('c{i}', 'sgdscope.estimate:slow', {{'n': {i}}})" for i in range(40))
    code = (
        "from sgdscope.cells import *; import sgdscope.estimate, time\n"
        "def slow(settings, folder): time.sleep(0.1); return dict(settings)\n"
        f"sgdscope.estimate.slow = slow\nrun_cells([{asked}], {str(tmp_path)!r}, executor=0)"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 15
    while len(list(tmp_path.glob("cells/*.json"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*.json")}
    assert 5 <= len(kept) < 40
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert len(list(tmp_path.glob("cells/*.json"))) == 40
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
