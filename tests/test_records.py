"""Records: what was written is read, whatever happened to the process, the disk or the folder."""

import builtins
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sgdscope import records
from sgdscope.estimate import Estimate
from sgdscope.records import RecordsError, RunWriter, list_runs, open_run, write_json
from tests.test_estimate import estimates, nested


@pytest.fixture
def folder(tmp_path):
    """A finished run: `x` at steps 0, 10, .. 90 with value step / 10."""
    with RunWriter.create(tmp_path / "run", {"config": {"lr": 0.5}}) as writer:
        for step in range(0, 100, 10):
            writer.append(step, Estimate("x", step / 10, 0.1))
    return tmp_path / "run"


def add(folder, text, mode="ab"):
    with open(folder / "rows.jsonl", mode) as file:
        file.write(text if isinstance(text, bytes) else text.encode())


def rewritten(folder, content):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "manifest.json").write_bytes(text)
    return folder


# --- a run and back


@given(st.lists(st.tuples(st.integers(0, 2**62), estimates()), max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_round_trip(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("runs") / "run"
    with RunWriter.create(folder) as writer:
        for step, estimate in pairs:
            writer.append(step, estimate)
    run = open_run(folder)
    assert run.unreadable == 0
    assert [(step, e) for step, _, e in run.rows] == sorted(pairs, key=lambda pair: pair[0])


def test_what_a_run_knows(folder):
    run = open_run(folder)
    assert (run.status, run.config, run.names, run.last_step) == ("finished", {"lr": 0.5}, ["x"], 90)
    assert "x" in run
    assert "y" not in run
    assert len(run.get("y")) == 0
    x = run["x"]
    np.testing.assert_array_equal(x.steps, range(0, 100, 10))
    np.testing.assert_array_equal(x.values, range(10))
    assert set(x.standard_errors) == {0.1}
    assert x.latest == Estimate("x", 9.0, 0.1)
    np.testing.assert_array_equal(x.between(10, 30).values, [1, 2, 3])
    with pytest.raises(KeyError, match=r"this run has no 'y'; it has x"):
        run["y"]


def test_odd_values_are_written_plainly(tmp_path):
    with RunWriter.create(tmp_path / "run", {"batch_size": np.int64(8), "path": tmp_path, "limit": np.inf}) as writer:
        writer.append(np.int64(3), Estimate("x\ud800", 1.0, settings={"lr": np.float32(0.5), (1, 2): np.nan}))
        writer.append(4, Estimate("a\r\n\u2028b", 1.0))
        with pytest.raises(TypeError):
            writer.append(2.5, Estimate("x", 1.0))
        writer.update(seen=np.arange(2))
    run = open_run(tmp_path / "run")
    assert (run.manifest["batch_size"], run.manifest["path"], run.manifest["limit"]) == (8, str(tmp_path), "inf")
    assert run.manifest["seen"] == [0, 1]
    assert run.rows[0][2] == Estimate("x\ud800", 1.0, settings={"lr": 0.5, "(1, 2)": "nan"})
    assert run.rows[1][2].name == "a\r\n\u2028b"


def test_a_copied_manifest_does_not_pass_for_the_new_run(folder, tmp_path):
    old = {**open_run(folder).manifest, "seconds": 1e6}
    writer = RunWriter.create(tmp_path / "fork", {**old, "format": 99})
    assert writer.seconds < 100
    assert (open_run(tmp_path / "fork").status, open_run(tmp_path / "fork").manifest["format"]) == ("running", 1)
    writer.close()


@pytest.mark.parametrize(
    ("raised", "status"), [(ValueError, "failed"), (KeyboardInterrupt, "interrupted"), (SystemExit, "interrupted")]
)
def test_leaving_on_an_error_says_so(tmp_path, raised, status):
    with pytest.raises(raised), RunWriter.create(tmp_path / "run") as writer:
        raise raised
    assert open_run(tmp_path / "run").status == status
    writer.close("finished")  # closing twice does nothing
    assert open_run(tmp_path / "run").status == status
    with pytest.raises(RecordsError, match=r"cannot write a row in .*run: this run is closed"):
        writer.append(0, Estimate("x", 1.0))


def test_series_keeps_rows_that_share_a_step_apart(tmp_path):
    with RunWriter.create(tmp_path / "run") as writer:
        for step, value in ((0, 1.0), (5, 2.0), (5, None), (5, 3.0), (9, 4.0)):
            beside = {"roe": Estimate("roe", (value or 7.0) * 10)}
            e = Estimate("x", value, beside=beside) if value else Estimate.failed("x", "why", beside=beside)
            writer.append(step, e)
            time.sleep(0.002)
    x = open_run(tmp_path / "run")["x"]
    assert x.steps.tolist() == [0, 5, 5, 9]
    assert x.estimate_steps == (0, 5, 5, 5, 9)
    assert (np.diff(x.estimate_seconds) > 0).all()
    roe = x.component("roe")
    assert roe.values.tolist() == [10, 20, 70, 30, 40]
    assert roe.seconds.tolist() == list(x.estimate_seconds)
    middle = x.between(5, 5)
    assert middle.values.tolist() == [2, 3]
    assert middle.seconds.tolist() == x.seconds[1:3].tolist()
    assert len(middle.estimates) == 3
    doubled = x.scaled(lambda step: 0.0 if step == 0 else 2.0, unit="edge units")
    assert doubled.values.tolist() == [4, 6, 8]
    assert doubled.between(9, 9).values.tolist() == [8]
    assert doubled.latest == Estimate(
        "x", 8.0, unit="edge units", beside={"roe": Estimate("roe", 80.0, unit="edge units")}
    )


def test_list_runs_oldest_first_two_levels_down(tmp_path):
    for at, name in enumerate(("b", "sweep/a", "too/deep/c")):
        RunWriter.create(tmp_path / name).close()
        os.utime(tmp_path / name / "manifest.json", (at, at))
    assert list_runs(tmp_path) == [tmp_path / "b", tmp_path / "sweep/a"]
    assert list_runs(tmp_path / "b") == [tmp_path / "b"]
    assert list_runs(tmp_path / "none") == []


# --- crashes


def test_torn_last_line_is_dropped_and_not_counted(folder):
    whole = (folder / "rows.jsonl").read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    for lost in range(2, len(last)):
        add(folder, whole[:-lost], "wb")
        run = open_run(folder)
        assert (len(run.rows), run.unreadable) == (9, 0)
    add(folder, whole[:-1], "wb")  # only the newline is missing: the row is whole
    assert len(open_run(folder).rows) == 10


def test_torn_line_then_resume(folder):
    add(folder, b'{"step": 95, "na')
    with RunWriter.reopen(folder, rewind_to=90) as writer:
        assert open_run(folder).status == "running"
        writer.append(100, Estimate("x", 10.0))
    run = open_run(folder)
    assert (run["x"].steps.tolist()[-3:], run.unreadable, run.status) == ([80, 90, 100], 0, "finished")
    add(folder, b"garbage\n")
    assert open_run(folder).unreadable == 1


def test_rewind_drops_later_rows_only(folder):
    for rewind_to in (45, 20):
        with RunWriter.reopen(folder, rewind_to=rewind_to) as writer:
            writer.append(rewind_to + 1, Estimate("x", -1.0))
    assert open_run(folder)["x"].steps.tolist() == [0, 10, 20, 21]
    with RunWriter.reopen(folder, rewind_to=20) as writer:
        writer.append(20, Estimate("x", -2.0))
    assert open_run(folder)["x"].values.tolist() == [0, 1, 2, -2]
    with RunWriter.reopen(folder, rewind_to=0):
        pass
    assert open_run(folder)["x"].steps.tolist() == [0]
    assert len((folder / "rows.jsonl").read_text().splitlines()) == 17  # nothing was rewritten


def test_time_goes_on_after_a_resume(folder):
    rewritten(folder, {"format": 1, "seconds": 500.0})
    with RunWriter.reopen(folder, rewind_to=90) as writer:
        writer.append(100, Estimate("x", 1.0))
    assert 500 <= open_run(folder)["x"].seconds[-1] < 550


WRITE_FOREVER = """
import sys
from sgdscope.estimate import Estimate
from sgdscope.records import RunWriter
writer = RunWriter.create(sys.argv[1])
for step in range(10**9):
    writer.append(step, Estimate("x", float(step), settings={"padding": "p" * (step % 3000)}))
    sys.stdout.write(f"{step}\\n")
    sys.stdout.flush()
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL and flock")
def test_kill_9_loses_no_flushed_row_and_frees_the_folder(tmp_path):
    folder = tmp_path / "run"
    writing = subprocess.Popen([sys.executable, "-c", WRITE_FOREVER, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        for line in writing.stdout:
            if int(line) >= 2000:
                with pytest.raises(RecordsError, match="another process is writing"):
                    RunWriter.reopen(folder, rewind_to=0)
                break
        writing.send_signal(signal.SIGKILL)
        said = [line for line in writing.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        last = int(said[-1]) if said else 2000
    finally:
        writing.kill()
        writing.stdout.close()
        writing.wait()
    run = open_run(folder)
    assert run.unreadable == 0
    assert run["x"].steps.tolist() == list(range(run.last_step + 1))
    assert run.last_step >= last
    assert run.status == "running"  # nobody was left to say otherwise
    with RunWriter.reopen(folder, rewind_to=1000) as writer:
        writer.append(1001, Estimate("x", 0.0))
    assert open_run(folder).last_step == 1001


def test_reading_while_writing(tmp_path):
    done = threading.Event()
    with RunWriter.create(tmp_path / "run") as writer:

        def write():
            for step in range(1500):
                writer.append(step, Estimate("x", 1.0))
                writer.update(step=step) if step % 100 == 0 else None
            done.set()

        thread = threading.Thread(target=write)
        thread.start()
        seen = []
        while not done.is_set():
            run = open_run(tmp_path / "run")
            assert run.unreadable == 0
            seen.append(len(run.rows))
        thread.join()
    assert seen == sorted(seen)
    assert len(open_run(tmp_path / "run").rows) == 1500


# --- refusals


def test_existing_run_is_refused_and_left_alone(folder):
    before = (folder / "rows.jsonl").read_bytes(), (folder / "manifest.json").read_bytes()
    with pytest.raises(RecordsError, match=r"expected a new folder, but .*run already holds a run\nhint: .*--resume"):
        RunWriter.create(folder)
    assert before == ((folder / "rows.jsonl").read_bytes(), (folder / "manifest.json").read_bytes())
    (folder / "manifest.json").unlink()  # rows without manifest: someone's measurements still
    with pytest.raises(RecordsError, match="already holds a run"):
        RunWriter.create(folder)
    RunWriter.reopen(rewritten(folder, {"format": 1}), rewind_to=90).close()  # the refusals freed the lock


@pytest.mark.skipif(records.fcntl is None, reason="no flock")
def test_two_writers_are_refused(tmp_path):
    with RunWriter.create(tmp_path / "run") as first:
        first.append(0, Estimate("x", 1.0))
        for second in (lambda: RunWriter.create(tmp_path / "run"), lambda: RunWriter.reopen(first.path, rewind_to=0)):
            with pytest.raises(RecordsError, match=r"another process is writing .*\nhint: wait for it to end"):
                second()
    RunWriter.reopen(tmp_path / "run", rewind_to=0).close()


def test_without_locks_in_the_file_system_writing_goes_on(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(records, "fcntl", type("fcntl", (), {"flock": no_locks, "LOCK_EX": 2, "LOCK_NB": 4}))
    RunWriter.create(tmp_path / "run").close()
    assert open_run(tmp_path / "run").status == "finished"


def test_folders_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("n" * 300)):
        with pytest.raises(RecordsError, match="cannot create the run folder"):
            RunWriter.create(path)


@pytest.mark.parametrize("name", ["lock", "rows.jsonl", "manifest.json.tmp"])
def test_folders_that_cannot_be_written(tmp_path, name):
    (tmp_path / "run" / name).mkdir(parents=True)
    if name == "rows.jsonl":
        name += "/x"
        (tmp_path / "run" / name).mkdir()
    with pytest.raises(RecordsError, match=r"cannot write in the run folder|already holds a run"):
        RunWriter.create(tmp_path / "run")


def test_read_only_folder(folder, monkeypatch):
    real = builtins.open

    def read_only(path, mode="r", *args, **kwargs):
        if not set(mode).isdisjoint("wax+"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, mode, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", read_only)
    with pytest.raises(RecordsError, match=r"cannot write in the run folder .*run: Permission denied"):
        RunWriter.reopen(folder, rewind_to=0)
    with pytest.raises(RecordsError, match="Permission denied"):
        RunWriter.create(folder.parent / "new")
    assert len(open_run(folder).rows) == 10  # reading needs no right to write


# --- a full disk


class FullDisk:
    """A file on a disk with room for so many more bytes."""

    def __init__(self, file, room):
        self.file, self.room, self.closed = file, room, False

    def write(self, data):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = data[: self.room]
        self.room -= len(part)
        return self.file.write(part)

    def close(self):
        self.closed = True
        self.file.close()


@pytest.mark.parametrize("room", [0, 1, 40, 10_000])
def test_full_disk_loses_only_the_row_being_written(tmp_path, room):
    writer = RunWriter.create(tmp_path / "run")
    writer.append(0, Estimate("x", 0.0))
    writer._rows = disk = FullDisk(writer._rows, room)
    lost, said = [], []
    for step in range(1, 400):
        try:
            writer.append(step, Estimate("x", float(step)))
        except RecordsError as error:
            said.append(str(error))
            lost.append(step)
            if len(lost) == 3:
                disk.room = 10**9  # someone tidied up
    assert all("No space left on device\nhint: rows written so far are safe" in text for text in said)
    writer.close()
    run = open_run(tmp_path / "run")
    assert len(lost) == 3
    assert sorted(set(range(400)) - set(lost)) == run["x"].steps.tolist()
    assert run.unreadable <= 1  # the row that was cut


def test_full_disk_keeps_the_old_manifest_and_the_first_error(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = RunWriter.reopen(folder, rewind_to=90)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        RecordsError, match=r"cannot write .*manifest.json: No space left on device\nhint: the manifest"
    ):
        writer.update(note="x")
    with pytest.raises(ZeroDivisionError), writer:  # not hidden behind the failing close
        raise ZeroDivisionError
    assert writer._rows.closed
    assert open_run(folder).status == "running"
    with pytest.raises(RecordsError, match="No space left"):
        RunWriter.create(folder.parent / "new")
    monkeypatch.undo()
    RunWriter.reopen(folder, rewind_to=90).close()  # the lock was let go
    RunWriter.create(folder.parent / "new").close()


def test_write_json_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    monkeypatch.setattr(os, "fsync", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


# --- folders of others: corrupt or hostile


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe{}",
        b'{"step": 1, "name": "caf\xe9", "value": 1.0}',
        b"null",
        b"[1, 2]",
        b"{}",
        b'{"step": 1}',
        b'{"step": 1, "name": "x", "value": NaN}',
        b'{"step": 1, "name": "x", "value": -Infinity}',
        b'{"step": 1, "name": "x", "value": 1e999}',
        b'{"step": 1, "name": "x", "value": "1"}',
        b'{"step": 1, "name": "x", "value": ' + b"9" * 400 + b"}",
        b'{"step": 1, "name": "x", "value": ' + b"9" * 5000 + b"}",
        b'{"step": 1, "name": "x", "value": 1, "cost": 1e999}',
        b'{"step": 1, "name": "x", "value": 1, "count": 1e999}',
        b'{"step": 1, "name": "x", "value": 1, "standard_error": -1}',
        b'{"step": 1, "name": "x", "value": [1, 2], "standard_error": [1]}',
        b'{"step": 1, "name": "x", "value": []}',
        b'{"step": 1, "name": "x", "value": null}',
        b'{"step": 1.5, "name": "x", "value": 1}',
        b'{"step": true, "name": "x", "value": 1}',
        b'{"step": "1", "name": "x", "value": 1}',
        b'{"step": 1e999, "name": "x", "value": 1}',
        b'{"step": -1, "name": "x", "value": 1}',
        b'{"step": 99999999999999999999, "name": "x", "value": 1}',
        b'{"rewind_to": "0"}',
        b'{"rewind_to": 1e999}',
        b'{"rewind_to": null}',
        b'{"rewind_to": -1}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"step": 1, "name": "x", "value": 1, "beside": {"x": ' + json.dumps(nested(300)).encode() + b"}}",
        b"\0" * 5000,
    ],
    ids=lambda line: repr(line[-40:]),
)
def test_unreadable_lines_are_counted_not_fatal(folder, line):
    add(folder, line + b"\n" + b'{"step": 200, "name": "x", "value": 20.0}\n')
    run = open_run(folder)
    assert run.unreadable == 1
    assert run["x"].values.tolist() == [*range(10), 20]
    assert run.standing().headline


def test_odd_but_readable_lines(folder):
    add(folder, '{"step": 5, "seconds": 1e999, "name": "x", "value": 1e308, "standard_error": 1e308}\n')  # out of order
    deep = '{"a":' * 500 + "1" + "}" * 500
    add(folder, f'{{"step": 7, "seconds": "soon", "name": "x", "value": 1, "settings": {deep}}}\n')
    run = open_run(folder)
    assert run.unreadable == 0
    assert run["x"].steps.tolist() == [0, 5, 7, *range(10, 100, 10)]
    assert np.isfinite(run["x"].seconds).all()
    assert run.last_step == 90
    json.dumps(run["x"].latest.to_row())
    repr(run)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot read .*manifest.json: Expecting value"),
        (b"\xff\xff", "cannot read .*manifest.json: .*utf-8"),
        (b'{"format": 1', "cannot read .*manifest.json"),
        (b"[" * 100_000, "cannot read .*manifest.json"),
        (b'{"format": ' + b"1" * 5000 + b"}", "cannot read .*manifest.json"),
        (b"[]", "expected a manifest with a format number in .*run, got something else"),
        (b"{}", "expected a manifest with a format number"),
        (b'{"format": true}', "expected a manifest with a format number"),
        (b'{"format": "1"}', "expected a manifest with a format number"),
        (b'{"format": 0}', "expected a manifest with a format number"),
        (b'{"format": 2}', r"was written in format 2, this version reads up to 1\nhint: upgrade sgdscope"),
    ],
    ids=lambda text: repr(text[:20]),
)
def test_manifests_that_cannot_be_read(folder, content, message):
    rewritten(folder, content)
    for act in (open_run, lambda path: RunWriter.reopen(path, rewind_to=0)):
        with pytest.raises(RecordsError, match=message):
            act(folder)


@pytest.mark.parametrize(
    "manifest",
    [
        {"optimizer": []},
        {"optimizer": "sgd"},
        {"optimizer": {"method": ["sgd"], "momentum": {}, "full_batch": "yes"}},
        {"optimizer": {"method": "momentum", "momentum": "0.9"}},
        {"optimizer": {"method": "momentum", "momentum": 1.0}},
        {"optimizer": {"method": "sgd", "momentum": -3}},
        {"status": ["running"], "config": [], "seconds": "long", "created": 3},
        {"seconds": 1e300},
        {"config": None, "optimizer": None, "status": None},
    ],
)
def test_manifests_of_wrong_types(folder, manifest):
    add(
        folder,
        '{"step": 0, "name": "learning_rate", "value": 0.5}\n{"step": 9, "name": "batch_sharpness", "value": 4}\n',
    )
    run = open_run(rewritten(folder, {"format": 1, **manifest}))
    assert isinstance(run.config, dict)
    assert isinstance(run.status, str)
    assert run.standing().headline
    assert isinstance(run.verdicts(), tuple)
    with RunWriter.reopen(folder, rewind_to=90) as writer:
        assert writer.seconds < 1e6


def test_a_manifest_may_hold_constants_that_are_no_json(folder):
    run = open_run(rewritten(folder, b'{"format": 1, "optimizer": {"method": "sgd", "momentum": NaN}}'))
    assert run.manifest["optimizer"] == {"method": "sgd", "momentum": None}


def test_things_that_are_not_what_their_name_says(folder, tmp_path):
    with pytest.raises(RecordsError, match=r"expected a run folder with a manifest.json, got .*\nhint: `sgdscope list"):
        open_run(tmp_path)
    with pytest.raises(RecordsError, match="expected a run folder"):
        RunWriter.reopen(tmp_path, rewind_to=0)
    assert not (tmp_path / "lock").exists()
    rows = folder / "rows.jsonl"
    rows.unlink()
    assert open_run(folder).rows == ()
    rows.mkdir()
    with pytest.raises(RecordsError, match=r"cannot read .*rows.jsonl: it is not a file"):
        open_run(folder)
    with pytest.raises(RecordsError, match=r"cannot write in the run folder .*: Is a directory"):
        RunWriter.reopen(folder, rewind_to=0)
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()
    with pytest.raises(RecordsError, match=r"cannot read .*manifest.json: it is not a file"):
        open_run(folder)


@pytest.mark.skipif(os.name != "posix", reason="links and pipes")
def test_links_and_pipes(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert len(open_run(tmp_path / "link").rows) == 10
    rows = folder / "rows.jsonl"
    for make in (lambda: rows.symlink_to("rows.jsonl"), lambda: rows.symlink_to("/dev/zero"), lambda: os.mkfifo(rows)):
        rows.unlink()
        make()
        with pytest.raises(RecordsError, match=r"cannot read .*rows.jsonl"):
            open_run(folder)
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").symlink_to("manifest.json")
    with pytest.raises(RecordsError):
        open_run(folder)
    list_runs(tmp_path)
