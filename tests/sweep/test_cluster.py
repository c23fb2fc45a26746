"""Sweeps on a Dask cluster; needs dask.distributed."""

import os
import threading
import time

import pytest
import torch
from safetensors.torch import load_file

from sgdscope import checkpoint
from sgdscope.sweep import Grid, Sweep, run

distributed = pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Dask's own

TINY = {"subset": 48, "width": 6, "batch-size": 8, "steps": 40, "every": 20, "lr": 0.1}


@pytest.fixture(scope="module")
def cluster():
    environment = {"PYTHONPATH": os.pathsep.join(["src", ".", os.environ.get("PYTHONPATH", "")])}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, env=environment) as found:
        yield found


def weights(path):
    _, folder = checkpoint.steps(path)[-1]
    return load_file(folder / "tensors.safetensors")


def test_the_same_numbers_as_without_a_cluster(cluster, tmp_path):
    grid = Grid({**TINY, "seed": [0, 1, 2]})
    far = run(grid, tmp_path / "far", executor=cluster.scheduler_address, reports=False)
    here = run(grid, tmp_path / "here", executor=0, reports=False)
    assert [cell.status for cell in far] == ["finished"] * 3
    for one, other in zip(far, here, strict=True):
        a, b = weights(one.path), weights(other.path)
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_an_interrupt_reaches_cells_that_no_signal_reaches(cluster, tmp_path):
    grid = Grid({**TINY, "steps": 1_000_000, "checkpoint-every": 1000, "seed": [0, 1, 2]})

    def interrupt():
        while not all(checkpoint.steps(tmp_path / "a" / "cells" / f"seed={seed}") for seed in (0, 1)):
            time.sleep(0.02)
        os.kill(os.getpid(), 2)

    killer = threading.Thread(target=interrupt)
    killer.start()
    with distributed.Client(cluster) as client:
        found = run(grid, tmp_path / "a", executor=client, reports=False)
    killer.join()
    assert found.status == "interrupted"
    assert [cell.status for cell in found] == ["interrupted", "interrupted", "waiting"]
    assert [cell.run.last_step for cell in found.cells[:2]] == [
        checkpoint.steps(cell.path)[-1][0] for cell in found.cells[:2]
    ]
    assert Sweep.open(found.path).status == "interrupted"
