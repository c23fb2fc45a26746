"""Running sweeps in this process: what is done, skipped, gone on with, tried again, and what is refused."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file

from sgdscope import checkpoint, train
from sgdscope.config import ConfigError
from sgdscope.records import RecordsError, RunWriter, locked, open_run
from sgdscope.report import comparison
from sgdscope.sweep import Grid, Sweep, cell, resume, run
from sgdscope.sweep.dataset import KeptDataset
from sgdscope.sweep.folder import holds
from sgdscope.sweep.session import is_over, session
from sgdscope.sweep_records import note_of
from tests.quick_readings import quick_readings

SMALL = {"subset": 48, "width": 6, "steps": 24, "every": 8, "checkpoint-every": 8, "batch-size": 8}
GRID = Grid({"lr": [0.1, 0.2], "seed": [0, 1], **SMALL})


@pytest.fixture(autouse=True)
def without_final_readings(monkeypatch):
    """They take seconds, and are tested elsewhere; so do pictures."""
    quick_readings(monkeypatch)
    monkeypatch.setattr(train.Monitor, "read_carefully", lambda self: None)
    monkeypatch.setattr(train, "usual_changes", lambda *_, **__: [])
    monkeypatch.setattr(comparison, "write", lambda sweep, path: path.write_text(str(sweep)))


def swept(folder, grid=GRID, **options):
    return run(grid, folder, executor=0, reports=False, **options)


def weights(path):
    _, folder = checkpoint.steps(path)[-1]
    return load_file(folder / "tensors.safetensors")


def same(one, other):
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def failing_at(monkeypatch, *moments):
    """Makes `train` raise in these of its next runs (numbered from 1), after 11 steps."""
    real, calls = train.train, []

    def trained(config, out, **options):
        calls.append(out.name)
        if len(calls) in moments:

            def crash(step, *_):
                if step == 11:
                    raise RuntimeError("no memory left\non device 3")

            options["progress"] = crash
        return real(config, out, **options)

    monkeypatch.setattr(train, "train", trained)
    return calls


def test_every_cell_is_a_run_of_its_own(tmp_path):
    found = swept(tmp_path / "a", command=["sgdscope", "sweep"])
    assert found.status == "finished"
    assert [c.status for c in found] == ["finished"] * 4
    assert [c.attempts for c in found] == [1] * 4
    for planned, made in zip(GRID.cells, found, strict=True):
        assert open_run(made.path).config == json.loads(json.dumps(planned.config.to_json()))
        assert made.run.manifest["command"] == ["sgdscope", "sweep"]
    alone = train.train(GRID.cells[2].config, tmp_path / "alone")
    assert same(alone.path, found.cells[2].path)
    assert (tmp_path / "a" / "report.html").read_text() == str(found)
    assert (tmp_path / "a" / "cells.csv").read_text() == found.to_csv()
    assert not (tmp_path / "a" / "session").exists()


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch):
    swept(tmp_path / "a")
    calls = failing_at(monkeypatch)
    before = {c.name: c.run.rows for c in Sweep.open(tmp_path / "a")}
    again = swept(tmp_path / "a")
    assert calls == []
    assert {c.name: c.run.rows for c in again} == before
    assert [c.attempts for c in again] == [1] * 4
    assert resume(tmp_path / "a", executor=0, reports=False).status == "finished"
    assert calls == []


def test_reports_are_written_with_the_runs_or_later(tmp_path):
    grid = Grid({"lr": [0.1, 1e6], **SMALL})
    swept(tmp_path / "a", grid)
    assert list(tmp_path.glob("a/cells/*/report.html")) == []
    run(grid, tmp_path / "a", executor=0)
    assert len(list(tmp_path.glob("a/cells/*/report.html"))) == 2
    assert [c.attempts for c in Sweep.open(tmp_path / "a")] == [1, 1]


def test_a_diverging_cell_is_a_result(tmp_path, monkeypatch):
    found = swept(tmp_path / "a", Grid({"lr": [1e6, 0.1], **SMALL}))
    assert [c.status for c in found] == ["diverged", "finished"]
    assert (found.status, found.outcomes["diverged"]) == ("finished", 1)
    assert failing_at(monkeypatch) == []
    assert swept(tmp_path / "a", Grid({"lr": [1e6, 0.1], **SMALL})).outcomes == found.outcomes


def test_a_cell_that_fails_is_tried_once_more_from_its_checkpoint(tmp_path, monkeypatch):
    whole = swept(tmp_path / "whole")
    failing_at(monkeypatch, 2)
    found = swept(tmp_path / "a")
    assert [c.status for c in found] == ["finished"] * 4
    assert [c.attempts for c in found] == [1, 2, 1, 1]
    assert all(same(a.path, b.path) for a, b in zip(whole, found, strict=True))


def test_a_cell_that_fails_again_is_recorded_and_does_not_stop_the_others(tmp_path, monkeypatch):
    real = train.resume

    def resumed(*_, **__):
        raise RuntimeError("no memory left\non device 3")

    failing_at(monkeypatch, 2)
    monkeypatch.setattr(train, "resume", resumed)
    found = swept(tmp_path / "a")
    assert [c.status for c in found] == ["finished", "failed", "finished", "finished"]
    assert found.cells[1].reason == "RuntimeError: no memory left on device 3"
    assert found.status == "finished"
    assert "no memory left" in (tmp_path / "a" / "report.html").read_text()
    monkeypatch.setattr(train, "resume", real)  # the next day
    again = swept(tmp_path / "a")
    assert [c.status for c in again] == ["finished"] * 4
    assert again.cells[1].attempts == 3


def test_what_the_settings_are_to_blame_for_is_not_tried_again(tmp_path):
    found = swept(tmp_path / "a", Grid({**SMALL, "batch-size": [8, 49]}))
    assert [c.status for c in found] == ["finished", "failed"]
    assert found.cells[1].reason == "expected a batch size of at most 48 (the number of samples), got 49"
    assert note_of(found.cells[1].path).attempts == 1
    assert "49" in str(found)


def test_a_report_that_cannot_be_written_does_not_cost_the_run(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("no room")

    monkeypatch.setattr(cell.report, "write", broken)
    found = run(Grid({"lr": [0.1, 0.2], **SMALL}), tmp_path / "a", executor=0)
    assert [(c.status, c.reason) for c in found] == [("finished", "no report: OSError: no room")] * 2


def interrupting_at(monkeypatch, number, step):
    """Makes Ctrl-C come at a step of the run with this number."""
    real, calls = train.train, []

    def trained(config, out, **options):
        calls.append(out.name)
        if len(calls) == number:
            options["progress"] = lambda now, *_: os.kill(os.getpid(), signal.SIGINT) if now == step else None
        return real(config, out, **options)

    monkeypatch.setattr(train, "train", trained)
    return calls


def test_an_interrupted_sweep_goes_on_bit_for_bit(tmp_path, monkeypatch):
    whole = swept(tmp_path / "whole")
    with monkeypatch.context() as patch:
        calls = interrupting_at(patch, 2, 11)
        part = swept(tmp_path / "a")
        assert len(calls) == 2
    assert part.status == "interrupted"
    assert [c.status for c in part] == ["finished", "interrupted", "waiting", "waiting"]
    assert part.cells[1].run.last_step == 11
    assert not (tmp_path / "a" / "session").exists()
    again = resume(tmp_path / "a", executor=0, reports=False)
    assert again.status == "finished"
    assert [c.attempts for c in again] == [1, 2, 1, 1]
    assert all(same(a.path, b.path) for a, b in zip(whole, again, strict=True))


def test_a_cell_killed_before_its_first_checkpoint_is_begun_anew(tmp_path):
    whole = swept(tmp_path / "whole")
    part = tmp_path / "a"
    with locked_sweep(part), RunWriter.create(part / "cells" / GRID.cells[0].name,
                                              {"config": GRID.cells[0].config.to_json()}):  # fmt: skip
        pass
    path = part / "cells" / GRID.cells[0].name
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "status": "running"}))
    found = swept(part)
    assert [c.status for c in found] == ["finished"] * 4
    assert same(whole.cells[0].path, found.cells[0].path)
    assert found.cells[0].run.unreadable == 0


def locked_sweep(folder):
    folder.mkdir()
    return locked(folder)


def test_two_sweeps_in_one_folder_are_refused(tmp_path):
    with locked_sweep(tmp_path / "a"), pytest.raises(RecordsError, match="another process is writing the folder"):
        swept(tmp_path / "a")
    assert not (tmp_path / "a" / "sweep.json").exists()


def test_a_folder_with_a_run_or_without_a_sweep_is_refused(tmp_path):
    with RunWriter.create(tmp_path / "a"):
        pass
    with pytest.raises(RecordsError, match=r"expected a folder for a sweep, but .* holds a run\nhint: "):
        swept(tmp_path / "a")
    with pytest.raises(RecordsError, match="expected a sweep folder"):
        resume(tmp_path, executor=0)
    assert not (tmp_path / "lock").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordsError, match="cannot create the sweep folder"):
        swept(tmp_path / "file" / "b")


def test_a_grid_may_grow_and_not_shrink(tmp_path, monkeypatch):
    swept(tmp_path / "a", Grid({"lr": [0.1, 0.2], **SMALL}))
    calls = failing_at(monkeypatch)
    grown = Grid({"seed": [0, 1], "lr": [0.2, 0.4, 0.1], **SMALL})
    found = swept(tmp_path / "a", grown)
    assert sorted(calls) == ["lr=0.1,seed=1", "lr=0.2,seed=1", "lr=0.4,seed=0", "lr=0.4,seed=1"]
    assert len(found) == 6
    assert {c.name for c in found} >= {"lr=0.1", "lr=0.2"}  # as they were
    assert found.varying == ("lr", "seed")
    assert holds(tmp_path / "a", grown)
    assert not holds(tmp_path / "a", GRID)
    assert not holds(tmp_path, GRID)
    with pytest.raises(ConfigError, match=r"all 6 runs that .* was begun with, but it lacks 4, such as lr=0"):
        swept(tmp_path / "a", Grid({"lr": [0.1, 0.2], **SMALL}))


def test_the_same_name_for_another_run_gets_a_mark(tmp_path):
    swept(tmp_path / "a", Grid({"lr": [0.1, 0.2], **SMALL}))
    both = Grid({k: v for k, v in SMALL.items() if k != "steps"}, together=[
        {"lr": [0.1, 0.2, 0.1], "steps": [24, 24, 16]}
    ])  # fmt: skip
    found = swept(tmp_path / "a", both)
    assert [c.name for c in found] == ["lr=0.1", "lr=0.2", "lr=0.1,steps=16"]
    single = [*(dict(c.settings) for c in both.cells), {"lr": 0.1, "steps": 8}]
    other = Grid({k: v for k, v in SMALL.items() if k != "steps"}, single=single)
    assert len(swept(tmp_path / "a", other)) == 4


def test_a_cell_with_another_run_in_its_folder_is_refused(tmp_path):
    found = swept(tmp_path / "a")
    train.resume(found.cells[0].path, steps=30)
    with pytest.raises(ConfigError, match=r"expected a run with --steps 24 in .*seed=0, got one with 30\nhint: choose"):
        swept(tmp_path / "a")
    assert Sweep.open(tmp_path / "a").status == "finished"


def test_cadences_and_executors_are_checked_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match="nonsense"):
        swept(tmp_path / "a", Grid({"lr": [0.1, 0.2], "cadence": ["nonsense=5"]}))
    with pytest.raises(ValueError, match="expected a number of processes"):
        run(GRID, tmp_path / "a", executor=-1)
    assert not (tmp_path / "a").exists()


def test_threads_of_one_process_take_turns(tmp_path):
    """As in a worker of a cluster that has several: torch's random state and number of threads are the process's."""
    whole = swept(tmp_path / "whole")
    with ThreadPoolExecutor(3) as executor:
        found = run(GRID, tmp_path / "a", executor=executor, reports=False)
    assert [c.status for c in found] == ["finished"] * 4
    assert all(same(a.path, b.path) for a, b in zip(whole, found, strict=True))


def test_progress(tmp_path):
    told = []
    swept(tmp_path / "a", Grid({"lr": [0.1, 1e6, 0.2], **SMALL}), progress=told.append)
    assert (told[0].done, told[0].fraction, told[0].total) == (0, 0.0, 3)
    last = told[-1]
    assert (last.done, last.failed, last.running, last.fraction) == (3, 0, 0, 1.0)
    assert last.outcomes["diverged"] == 1
    assert sum(last.outcomes.values()) == 3
    assert [state.done for state in told] == sorted(state.done for state in told)


def test_cells_notice_that_their_session_is_over(tmp_path, monkeypatch):
    with session(tmp_path) as mark:
        over = is_over(tmp_path, mark)
        assert not over()
        (tmp_path / "session").write_text("another")
        assert not over()  # it looks once a second
        assert is_over(tmp_path, mark)()
    monkeypatch.setattr("sgdscope.sweep.session._EVERY", 0.0)
    over = is_over(tmp_path, mark)
    assert over()
    (tmp_path / "session").write_text(mark)
    assert over()  # for good


def test_a_cell_whose_session_is_over_stops_with_a_checkpoint(tmp_path, monkeypatch):
    """As on a cluster, where no signal reaches it: another sweep has taken over."""
    monkeypatch.setattr("sgdscope.sweep.session._EVERY", 0.0)
    real, calls = train.train, []

    def trained(config, out, **options):
        calls.append(out.name)
        return real(config, out, **options, progress=lambda step, *_: step == 11 and (tmp_path / "a/session").unlink())

    with monkeypatch.context() as patch:
        patch.setattr(train, "train", trained)
        part = swept(tmp_path / "a")
    assert len(calls) == 1
    assert (part.cells[0].status, part.cells[0].run.last_step) == ("interrupted", 11)
    assert swept(tmp_path / "a").outcomes == swept(tmp_path / "b").outcomes


def test_data_are_read_once_as_long_as_they_stay_as_they_are(tmp_path, monkeypatch):
    reads = []
    load = train.data.load
    monkeypatch.setattr(train.data, "load", lambda *a, **o: reads.append(a) or load(*a, **o))
    kept = KeptDataset()
    (tmp_path / "t.csv").write_text("x,y\n" + "1,a\n2,b\n" * 20)
    options = {"data_dir": tmp_path / "t.csv", "target": "y", "subset": None, "test": False}
    assert kept("table", **options) is kept("table", **options)
    assert len(reads) == 1
    kept("table", **options | {"subset": 10})
    assert len(reads) == 2
    (tmp_path / "t.csv").write_text("x,y\n" + "1,a\n3,b\n" * 21)
    assert len(kept("table", **options).inputs) == 42
    assert len(reads) == 3


def test_a_sweep_reads_its_data_once(tmp_path, monkeypatch):
    reads = []
    load = train.data.load
    monkeypatch.setattr(train.data, "load", lambda *a, **o: reads.append(a) or load(*a, **o))
    monkeypatch.setattr(cell, "_dataset", KeptDataset())
    swept(tmp_path / "a")
    assert len(reads) == 1
