"""Ensembles in parts: the same to the last bit as run in one, for any number of workers and with some of them lost."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest

from sgdscope.executors import TaskError
from sgdscope.simulate import Average, Course, FirstPassage, Histogram, Overdamped, Paths, ensemble, ensemble_in_parts
from sgdscope.theory.potential import double_well

PART = 1 << 16
RECORD = [
    Histogram(-3, 3, 20), Average("x", "x > 0"), Course("x**2", every=5), FirstPassage("x > 1", absorb=False), Paths(2),
]  # fmt: skip
SETTINGS = {"steps": 10, "start": -0.5, "replicas": 2 * PART + 700, "record": RECORD, "seed": 4}
WELL, PROCESS = double_well(), Overdamped(0.5, 0.05)


@dataclass(frozen=True)
class Fragile(Overdamped):
    """Kills the process it is begun in, unless that is the test's own or has the mark of an earlier loss."""

    folder: str = ""
    own: int = 0
    losses: int = 1

    def memory_at(self, landscape, positions):
        marks = len(list(Path(self.folder).iterdir()))
        if os.getpid() != self.own and marks < self.losses:
            (Path(self.folder) / str(marks)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().memory_at(landscape, positions)


@pytest.fixture(scope="module")
def whole():
    return ensemble(WELL, PROCESS, **SETTINGS, threads=1)


def assert_same(found, expected):
    for field in fields(expected.state):
        np.testing.assert_array_equal(getattr(found.state, field.name), getattr(expected.state, field.name))
    np.testing.assert_array_equal(found.histogram.counts, expected.histogram.counts)
    np.testing.assert_array_equal(found.averages.sums, expected.averages.sums)
    np.testing.assert_array_equal(found.course.sums, expected.course.sums)
    np.testing.assert_array_equal(found.passage.steps, expected.passage.steps)
    np.testing.assert_array_equal(found.paths.positions, expected.paths.positions)
    np.testing.assert_array_equal(found.diverged, expected.diverged)
    assert found.averages["x"] == expected.averages["x"]


def test_parts_in_this_process(whole):
    told = []
    found = ensemble_in_parts(WELL, PROCESS, **SETTINGS, part=PART, executor=0, progress=told.append)
    assert_same(found, whole)
    assert told == pytest.approx([1 / 3, 2 / 3, 1])


@pytest.mark.slow
@pytest.mark.parametrize("executor", [1, 2])
def test_parts_in_processes(whole, executor):
    assert_same(ensemble_in_parts(WELL, PROCESS, **SETTINGS, part=PART, executor=executor), whole)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Dask's own
def test_parts_on_a_cluster(whole):
    distributed = pytest.importorskip("distributed")
    environment = {"PYTHONPATH": os.pathsep.join(["src", os.environ.get("PYTHONPATH", "")])}
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, env=environment
    ) as cluster:
        assert_same(ensemble_in_parts(WELL, PROCESS, **SETTINGS, part=PART, executor=cluster.scheduler_address), whole)


def test_workers_with_other_code_are_refused():
    def submitted(function, task):
        return given.submit(function, (*task[:3], "0.0.1"))

    with ThreadPoolExecutor(1) as given:
        other = type("Executor", (), {"submit": staticmethod(submitted)})()
        with pytest.raises(ValueError, match=r"expected workers with sgdscope 0\.0\.1, got one with"):
            ensemble_in_parts(WELL, PROCESS, **SETTINGS, part=PART, executor=other)


@pytest.mark.slow
def test_lost_workers_change_nothing(whole, tmp_path):
    process = Fragile(0.5, 0.05, folder=str(tmp_path), own=os.getpid())
    assert_same(ensemble_in_parts(WELL, process, **SETTINGS, part=PART, executor=1), whole)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
def test_a_part_that_is_lost_too_often(tmp_path):
    process = Fragile(0.5, 0.05, folder=str(tmp_path), own=os.getpid(), losses=100)
    with pytest.raises(TaskError, match="task 0 failed at attempt 2: its process ended"):
        ensemble_in_parts(WELL, process, **SETTINGS, part=PART, executor=1, retries=1)


def test_going_on_and_a_start_for_each_replica():
    settings = {**SETTINGS, "start": np.linspace(-1, 0.5, SETTINGS["replicas"])}
    expected = ensemble(WELL, PROCESS, **settings, threads=1)
    found = ensemble_in_parts(WELL, PROCESS, **settings, part=PART, executor=0)
    assert_same(found, expected)
    again = {"steps": 5, "record": RECORD}
    assert_same(
        ensemble_in_parts(WELL, PROCESS, start=found, **again, part=2 * PART, executor=0),
        ensemble(WELL, PROCESS, start=expected, **again, threads=1),
    )


def test_an_interrupt_returns_what_is_done():
    def stop(share):
        if share > 0.5:
            raise KeyboardInterrupt

    found = ensemble_in_parts(WELL, PROCESS, **SETTINGS, part=PART, executor=0, progress=stop)
    assert found.interrupted
    assert found.replicas == PART
    assert found.steps == 10

    def stop_at_once(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensemble_in_parts(WELL, PROCESS, **SETTINGS, part=PART, executor=0, progress=stop_at_once)


def test_bad_input():
    with pytest.raises(ValueError, match="a multiple of 65536 replicas, got 1000"):
        ensemble_in_parts(WELL, PROCESS, **SETTINGS, part=1000)
    with pytest.raises(ValueError, match="a number of replicas ≥ 1, got None"):
        ensemble_in_parts(WELL, PROCESS, steps=1, start=0.0)
    with pytest.raises(ValueError, match="expected a landscape that keeps replicas in"):
        ensemble_in_parts("-x**2", PROCESS, steps=1, start=0.0, replicas=10, executor=1)
    with pytest.raises(ValueError, match="expected a step that is stable"):
        ensemble_in_parts("x**2", Overdamped(1.0, 9.0), steps=1, start=0.0, replicas=10, executor=0, backend="torch")
