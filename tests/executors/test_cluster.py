"""A Dask cluster as an executor; needs dask.distributed."""

import os

import pytest
from tests.executors import tasks

from sgdscope.executors import TaskError, WorkerLostError, in_order, outcomes

try:
    import distributed
except ImportError:
    distributed = None

needs_dask = pytest.mark.skipif(distributed is None, reason="dask.distributed is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # Dask's own


@pytest.mark.skipif(distributed is not None, reason="dask.distributed is installed")
def test_without_dask():
    with pytest.raises(ImportError, match=r"sgdscope\[cluster\]"):
        outcomes(tasks.square, [1], executor="tcp://127.0.0.1:1")


@pytest.fixture(scope="module")
def cluster():
    environment = {"PYTHONPATH": os.pathsep.join(["src", ".", os.environ.get("PYTHONPATH", "")])}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, env=environment) as found:
        yield found


@needs_dask
@pytest.mark.slow
def test_results_come_in_order(cluster):
    expected = [n * n for n in range(12)]
    assert list(in_order(tasks.slow_square, range(12), executor=cluster.scheduler_address)) == expected
    with distributed.Client(cluster) as client:
        assert list(in_order(tasks.slow_square, range(12), executor=client)) == expected
        assert client.status == "running"  # someone else's stays open


@needs_dask
@pytest.mark.slow
def test_lost_workers_are_made_good(cluster, tmp_path):
    given = [(n, str(tmp_path)) for n in range(8)]
    assert list(in_order(tasks.dies_at_first, given, executor=cluster.scheduler_address)) == [n * n for n in range(8)]
    assert len(list(tmp_path.iterdir())) == 2


@needs_dask
@pytest.mark.slow
def test_failures_are_reported(cluster):
    with pytest.raises(TaskError, match="task 3 failed at attempt 1: three is too much"):
        list(in_order(tasks.third_fails, range(6), executor=cluster.scheduler_address))
    with distributed.Client(cluster) as client:
        client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
        found = {o.key: o for o in outcomes(tasks.always_dies, range(3), executor=client, retries=1)}
    assert isinstance(found[2].error, WorkerLostError)
    assert found[2].attempts == 2
    assert [found[n].value for n in (0, 1)] == [0, 1]


@needs_dask
@pytest.mark.slow
def test_no_scheduler():
    with pytest.raises(ValueError, match=r"expected a Dask scheduler at tcp://127\.0\.0\.1:9, found none"):
        outcomes(tasks.square, [1], executor="tcp://127.0.0.1:9")
