"""Executors: the same results in the same order whoever does the work, and whoever is lost on the way."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import pytest
from tests.executors import tasks

from sgdscope.executors import TaskError, WorkerLostError, in_order, outcomes

SQUARES = [n * n for n in range(12)]


@pytest.mark.parametrize("executor", [0, 1, 3])
def test_results_come_in_order(executor):
    assert list(in_order(tasks.slow_square, range(12), executor=executor)) == SQUARES


def test_outcomes_come_as_they_finish():
    with ThreadPoolExecutor(3) as executor:
        found = list(outcomes(lambda n: time.sleep(0.2 if n == 0 else 0) or n * n, range(12), executor=executor))
    assert found[-1].key == 0
    assert sorted((o.key, o.value, o.attempts) for o in found) == [(n, n * n, 1) for n in range(12)]


def test_no_tasks():
    assert list(in_order(tasks.square, [], executor=2)) == []


def test_a_failure_leaves_the_others_alone():
    found = {o.key: o for o in outcomes(tasks.third_fails, range(6), executor=2)}
    assert [found[n].value for n in range(6)] == [0, 1, 2, None, 4, 5]
    assert isinstance(found[3].error, ValueError)
    assert found[3].attempts == 1  # it would fail again


@pytest.mark.parametrize("executor", [0, 2])
def test_in_order_stops_at_a_failure(executor):
    found = in_order(tasks.third_fails, range(100), executor=executor)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(TaskError, match="task 3 failed at attempt 1: three is too much") as failure:
        next(found)
    assert isinstance(failure.value.__cause__, ValueError)


def test_lost_workers_are_made_good(tmp_path, caplog):
    given = [(n, str(tmp_path)) for n in range(12)]
    assert list(in_order(tasks.dies_at_first, given, executor=2)) == SQUARES
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [1, 5, 9]
    assert "task 5, attempt 1 of 3: its process ended before it did" in caplog.text


def test_a_worker_killed_from_outside(tmp_path):
    """kill -9 of the process in the middle of its task."""

    def kill_first():
        while not list(tmp_path.iterdir()):
            time.sleep(0.01)
        os.kill(int(next(tmp_path.iterdir()).name), 9)

    killer = threading.Thread(target=kill_first)
    killer.start()
    (found,) = outcomes(tasks.waits_for_its_end, [str(tmp_path)], executor=1)
    killer.join()
    assert found.attempts == 2
    assert {str(found.value)} < {path.name for path in tmp_path.iterdir()}


def test_a_task_that_is_lost_too_often_is_reported():
    found = {o.key: o for o in outcomes(tasks.always_dies, range(5), executor=2, retries=1)}
    assert [found[n].value for n in range(5)] == [0, 1, None, 3, 4]
    assert isinstance(found[2].error, WorkerLostError)
    assert found[2].attempts == 2
    with pytest.raises(TaskError, match="task 2 failed at attempt 1: its process ended before it did"):
        list(in_order(tasks.always_dies, range(5), executor=1, retries=0))


def test_a_broken_executor_of_someone_else_is_reported():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        found = list(outcomes(tasks.always_dies, range(2, 4), executor=executor, retries=1))
    assert {type(o.error) for o in found} == {WorkerLostError}
    assert [o.attempts for o in found] == [2, 2]


def test_stopping_ends_processes_at_work(tmp_path):
    with closing(outcomes(tasks.sleeps, [(str(tmp_path), 0), *[(str(tmp_path), 60)] * 3], executor=2)) as found:
        next(found)
        begin = time.monotonic()
    assert time.monotonic() - begin < 20
    for path in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)


@pytest.mark.slow
def test_processes_do_not_outlive_the_one_that_started_them(tmp_path):
    """kill -9 of the process that handed out the tasks, in the middle of one and between two."""
    code = (
        "import sys, time\nfrom sgdscope.executors import outcomes\nfrom tests.executors import tasks\n"
        "if __name__ == '__main__':\n"
        "    given = [(sys.argv[1], 0), (sys.argv[1], 600)]\n"
        "    for _ in outcomes(tasks.sleeps, given, executor=2):\n        print('one')\n"
    )
    (tmp_path / "script.py").write_text(code)
    (tmp_path / "marks").mkdir()
    started = subprocess.Popen([sys.executable, tmp_path / "script.py", tmp_path / "marks"], stdout=subprocess.PIPE,
                               env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])})  # fmt: skip
    assert started.stdout.readline() == b"one\n"
    while len(workers := [int(path.name) for path in (tmp_path / "marks").iterdir()]) < 2:
        time.sleep(0.01)
    started.kill()
    started.communicate()
    deadline = time.monotonic() + 20
    while any(alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [alive(worker) for worker in workers] == [False, False]


def alive(process):
    """Whether a process runs (one that has ended and nobody asked after does not)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_tasks_are_taken_as_there_is_room():
    """Not more than four rounds ahead of the one whose turn it is."""
    taken, held = [], threading.Event()

    def many():
        for n in range(1000):
            taken.append(n)
            yield n

    def work(n):
        if n == 0:
            held.wait(5)
        return n

    def release():
        time.sleep(0.3)
        counted.append(len(taken))
        held.set()

    counted = []
    threading.Thread(target=release).start()
    with ThreadPoolExecutor(2) as executor:
        assert list(in_order(work, many(), executor=executor)) == list(range(1000))
    assert counted[0] <= 4 * 2 + 1


def test_progress(capsys):
    told = []
    list(in_order(tasks.square, range(4), executor=0, progress=told.append))
    assert told == [1, 2, 3, 4]
    list(in_order(tasks.square, range(4), executor=0, progress=True))
    assert "4/4" in capsys.readouterr().err


def test_processes_share_the_cores():
    (found,) = in_order(tasks.threads, [None], executor=10_000)
    assert found == "1"


def test_bad_input():
    with pytest.raises(ValueError, match="a number of processes ≥ 0, the address of a Dask scheduler"):
        in_order(tasks.square, [1], executor="localhost")
    with pytest.raises(ValueError, match="got -1"):
        outcomes(tasks.square, [1], executor=-1)
    with pytest.raises(ValueError, match="expected retries ≥ 0, got -1"):
        outcomes(tasks.square, [1], executor=0, retries=-1)
    with pytest.raises(TaskError, match=r"(?i)pickle"):
        list(in_order(lambda n: n, [1], executor=1))
