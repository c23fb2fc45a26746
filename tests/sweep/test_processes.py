"""Sweeps by real processes: the same numbers whoever does the work, and nothing lost whoever is killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from safetensors.torch import load_file

from sgdscope import checkpoint, train
from sgdscope.records import open_run
from sgdscope.sweep import Grid, Sweep, run

pytestmark = pytest.mark.slow

LONG = {"subset": 48, "width": 6, "batch-size": 8, "steps": 4000, "every": 2000, "checkpoint-every": 50, "lr": 0.1}
SEEDS = Grid({**LONG, "seed": [0, 1]})
COMMAND = [sys.executable, "-m", "sgdscope.cli", "sweep", *(f"--{name}={value}" for name, value in LONG.items()),
           "--seed", "0", "1", "--no-reports", "--quiet", "--executor", "2"]  # fmt: skip


def weights(path):
    _, folder = checkpoint.steps(path)[-1]
    return load_file(folder / "tensors.safetensors")


def same(one, other):
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def readings(path):
    """Everything measured, but what is measured by the clock."""
    return [(step, e.name, e.value, e.standard_error) for step, _, e in open_run(path).rows
            if e.name not in ("monitor_share",)]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Run folders of both seeds, trained one by one without any sweep."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return [train.train(cell.config, folder / cell.name).path for cell in SEEDS.cells]


def test_the_numbers_depend_neither_on_the_executor_nor_on_the_number_of_workers(tmp_path):
    grid = Grid({**LONG, "steps": 40, "every": 20, "seed": [0, 1]})
    found = [run(grid, tmp_path / str(executor), executor=executor, reports=False) for executor in (0, 2)]
    first, *others = ([cell.path for cell in sweep] for sweep in found)
    for paths in others:
        assert all(same(a, b) for a, b in zip(first, paths, strict=True))
        assert [readings(path) for path in paths] == [readings(path) for path in first]
        assert len(readings(paths[0])) > 20


def test_a_worker_that_is_killed_costs_nothing_but_time(tmp_path, undisturbed):
    first = tmp_path / "a" / "cells" / "seed=0"

    def kill():
        while not checkpoint.steps(first):
            time.sleep(0.01)
        time.sleep(0.1)
        for process in multiprocessing.active_children():
            process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    found = run(SEEDS, tmp_path / "a", executor=1, reports=False)
    killer.join()
    assert [cell.status for cell in found] == ["finished", "finished"]
    assert [cell.attempts for cell in found] == [2, 1]
    assert all(same(cell.path, path) for cell, path in zip(found, undisturbed, strict=True))
    assert found.cells[0].run.unreadable == 0


def test_a_cell_whose_workers_are_killed_again_and_again_fails(tmp_path):
    def kill():
        while not over.is_set():
            if checkpoint.steps(tmp_path / "a" / "cells" / "run"):
                for process in multiprocessing.active_children():
                    process.kill()
            time.sleep(0.02)

    over = threading.Event()
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        found = run(Grid({**LONG, "steps": 1_000_000}), tmp_path / "a", executor=1, reports=False)
    finally:
        over.set()
        killer.join()
    assert [cell.status for cell in found] == ["failed"]
    assert found.cells[0].reason.startswith("WorkerLostError: its process ended before it did: killed")
    assert found.status == "finished"


def until(condition, seconds=150):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def started(folder):
    """The sweep on the command line, in a process group of its own, once both cells have left a checkpoint."""
    running = subprocess.Popen([*COMMAND, "--out", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, start_new_session=True)  # fmt: skip
    before = [checkpoint.steps(folder / "cells" / cell.name)[-1:] for cell in SEEDS.cells]
    until(lambda: all(checkpoint.steps(folder / "cells" / cell.name)[-1:] not in ([], was)
                      for cell, was in zip(SEEDS.cells, before, strict=True)))  # fmt: skip
    return running


def test_the_whole_sweep_killed_goes_on_where_it_stopped(tmp_path, undisturbed):
    running = started(tmp_path / "a")
    running.kill()  # its workers see to themselves
    running.communicate()
    until(lambda: all(cell.status in ("interrupted", "finished") for cell in Sweep.open(tmp_path / "a")))
    reached = [cell.run.last_step for cell in Sweep.open(tmp_path / "a")]
    done = subprocess.run([*COMMAND, "--out", str(tmp_path / "a")], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    found = Sweep.open(tmp_path / "a")
    assert (found.status, [cell.status for cell in found]) == ("finished", ["finished"] * 2)
    assert all(same(cell.path, path) for cell, path in zip(found, undisturbed, strict=True))
    assert all(step > 50 for step in reached)


def test_ctrl_c_in_a_terminal_leaves_everything_to_go_on_with(tmp_path, undisturbed):
    running = started(tmp_path / "a")
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to the workers as well
    out, err = running.communicate(timeout=150)
    assert running.returncode == 130
    assert "the sweep was interrupted with 0 of 2 runs done\nhint: go on with  sgdscope sweep --resume " in err
    assert out.startswith("2 runs: 2 interrupted")
    found = Sweep.open(tmp_path / "a")
    assert [cell.status for cell in found] == ["interrupted"] * 2
    for cell in found:
        assert checkpoint.steps(cell.path)[-1][0] == cell.run.last_step  # the step it stopped at
    done = subprocess.run([*COMMAND[:4], "--resume", str(tmp_path / "a"), "--no-reports", "--quiet"],
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = Sweep.open(tmp_path / "a")
    assert all(same(cell.path, path) for cell, path in zip(found, undisturbed, strict=True))
    assert [cell.attempts for cell in found] == [2, 2]
