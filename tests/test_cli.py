"""The command line: what it prints where, how it exits, and what it says when something is wrong."""

import json
import subprocess
import sys

import numpy as np
import pytest

from sgdscope import cli
from sgdscope._version import __version__
from sgdscope.records import RunWriter, open_run

TINY = ["--quiet", "--subset=48", "--width=6", "--batch-size=8", "--steps=20", "--every=10"]


def call(capsys, *arguments):
    """Exit code, stdout and stderr of a command in this process."""
    try:
        code = cli.main([str(a) for a in arguments])
    except SystemExit as stop:  # how the parser of arguments leaves
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    assert cli.main(["run", *TINY, "--out", str(folder)]) == 0
    return folder


def test_run_prints_where_it_stands_and_writes_a_report(tmp_path, capsys):
    code, out, err = call(capsys, "run", *TINY, "--out", tmp_path / "a")
    assert (code, err) == (0, "")
    assert "batch sharpness" in out.splitlines()[0]
    assert out.splitlines()[-1] == f"report: {tmp_path / 'a' / 'report.html'}"
    assert "double the learning rate" in out
    assert "watching" in out
    assert (tmp_path / "a" / "report.html").stat().st_size > 1000


def test_progress_goes_to_stderr(tmp_path, capsys):
    code, out, err = call(capsys, "run", *TINY[1:], "--out", tmp_path / "a")
    assert code == 0
    assert "20/20" in err
    assert "watching=" in err
    assert "steps/s" not in out


def test_run_names_its_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in ("001", "002"):
        assert call(capsys, "run", *TINY)[0] == 0
        assert (tmp_path / "runs" / f"digits-mlp-{number}" / "manifest.json").exists()


def test_resume(tmp_path, capsys):
    folder = tmp_path / "a"
    call(capsys, "run", *TINY, "--out", folder)
    code, out, _ = call(capsys, "run", "--quiet", "--resume", folder, "--steps", 30)
    assert code == 0
    assert open_run(folder).last_step == 30
    assert "report: " in out


def test_a_diverged_run_exits_with_1_and_has_its_report(tmp_path, capsys):
    code, out, err = call(capsys, "run", *TINY, "--lr=1e6", "--out", tmp_path / "a")
    assert code == 1
    assert out.startswith("Diverged at step ")
    assert err.startswith("the run diverged at step ")
    assert (tmp_path / "a" / "report.html").exists()


def test_report_and_list(finished, tmp_path, capsys):
    code, out, err = call(capsys, "report", finished, "--out", tmp_path / "page.html")
    assert (code, err) == (0, "")
    assert out.endswith(f"report: {tmp_path / 'page.html'}\n")
    code, out, err = call(capsys, "list", finished.parent)
    assert (code, err) == (0, "")
    assert out.split("\t")[:3] == [str(finished), "finished", "step 20"]


def test_list_goes_on_past_what_it_cannot_read(finished, tmp_path, capsys):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "manifest.json").write_text("{")
    code, out, _ = call(capsys, "list", tmp_path)
    assert code == 0
    assert out.startswith(f"{tmp_path / 'b'}\tunreadable\tcannot read")
    (tmp_path / "c").mkdir()
    assert call(capsys, "list", tmp_path / "c") == (0, "", f"no runs in {tmp_path / 'c'}\n")


def test_threshold(capsys):
    code, out, _ = call(capsys, "threshold", "--lr", 0.1)
    assert code == 0
    assert out.splitlines()[0] == "batch_sharpness = 20    (2 / lr)"
    assert out.splitlines()[1].startswith("scope: plain SGD")
    _, out, _ = call(capsys, "threshold", "--lr", 0.1, "--momentum", 0.9, "--full-batch")
    assert out.splitlines()[0] == "lambda_max = 38    (2 (1 + β) / lr)"


def test_version(capsys):
    for flag in ("--version", "-V"):
        assert call(capsys, flag) == (0, f"sgdscope {__version__}\n", "")


# -- what is wrong --------------------------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path, finished):
    """Paths that the messages below name."""
    (tmp_path / "file").write_text("")
    (tmp_path / "mnist").mkdir()
    np.savez(tmp_path / "whole.npz", inputs=np.zeros((20, 3), np.float32), labels=np.zeros(20, np.int64))
    (tmp_path / "torn.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:200])
    (tmp_path / "norun").mkdir()
    return {"tmp": tmp_path, "run": finished}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("run --lr 0", 2, "expected --lr > 0, got 0.0"),
        ("run --lr=-1", 2, "expected --lr > 0, got -1.0"),
        ("run --batch-size 300", 2, "expected a batch size of at most 256 (the number of samples), got 300\n"
                                    "hint: a smaller --batch-size, a larger --subset, or --sampling replacement"),
        ("run --subset 99999", 2, "expected a subset between 1 and 1"),
        ("run --data mnist", 2, "expected --data-dir with --data mnist: the folder that holds it\n"
                                "hint: nothing is downloaded; --data digits needs no files"),
        ("run --data mnist --data-dir {tmp}/gone", 2, "expected the data of mnist at {tmp}/gone, but there is nothing"),
        ("run --data mnist --data-dir {tmp}/mnist", 2, "expected "),
        ("run --data npz --data-dir {tmp}/torn.npz", 2, ""),
        ("run --data folder --data-dir {tmp}/norun", 2, ""),
        ("run --device toaster", 2, "expected a usable device, got 'toaster': "),
        ("run --norm batch", 2, ""),
        ("run --out {run}", 1, "expected a new folder, but {run} already holds a run\n"
                               "hint: choose another --out, or continue that run with --resume"),
        ("run --out {tmp}/file/a --steps 1", 1, "cannot create the run folder {tmp}/file/a: Not a directory"),
        ("run --resume {tmp}/norun", 1, "expected a run folder with a manifest.json, got {tmp}/norun\n"
                                        "hint: `sgdscope list FOLDER` shows the runs in a folder"),
        ("run --resume {run} --steps 20", 2, "expected --steps above the 20 that this run has taken, got 20\n"
                                             "hint: --resume {run} --steps 40"),
        ("run --resume {run} --lr 0.1 --batch-size 4 --out {tmp}/b", 2,
         "expected no other setting than --steps with --resume, got --lr, --batch-size, --out\n"
         "hint: a resumed run keeps its settings and its folder; start a new one to change them"),
        ("report {tmp}/norun", 1, "expected a run folder with a manifest.json, got {tmp}/norun"),
        ("report {run} --out {tmp}/file/a", 1, "cannot write the report {tmp}/file/a: "),
        ("list {tmp}/gone", 2, "expected a folder that holds runs, got {tmp}/gone"),
        ("threshold --lr 0", 2, "expected a learning rate > 0, got 0.0"),
        ("threshold --lr 1 --momentum 1", 2, "expected momentum in [0, 1), got 1.0"),
    ],
)  # fmt: skip
def test_wrong_input_is_told_in_one_or_two_lines(arguments, code, message, places, capsys):
    found, out, err = call(capsys, *(word.format(**places) for word in arguments.split(" ")))
    assert (found, out) == (code, "")
    assert err.startswith("sgdscope: " + message.format(**places))
    assert 1 <= len(err.splitlines()) <= 2
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", ["run --data imagenet", "run --steps many", "fly", "", "threshold", "run --nope"])
def test_what_the_parser_refuses_exits_with_2(arguments, capsys):
    code, out, err = call(capsys, *arguments.split())
    assert (code, out) == (2, "")
    assert "sgdscope" in err


def test_a_run_in_progress_is_not_resumed(finished, capsys):
    with RunWriter.reopen(finished, rewind_to=20):
        code, _, err = call(capsys, "run", "--quiet", "--resume", finished, "--steps", 30)
    assert code == 1
    assert err.startswith(f"sgdscope: another process is writing the run folder {finished}\nhint: ")


def test_a_manifest_without_configuration_cannot_be_resumed(tmp_path, capsys):
    with RunWriter.create(tmp_path / "a", {"config": {"lr": "fast"}}):
        pass
    code, _, err = call(capsys, "run", "--resume", tmp_path / "a")
    assert code == 2
    assert err.startswith("sgdscope: the run's manifest holds no usable configuration: ")


def fresh(*arguments, **options):
    """The command in a process of its own; says which packages it had loaded in the end."""
    code = (
        "import sys, json\nfrom sgdscope.cli import main\ncode = main(sys.argv[1:])\n"
        "print(json.dumps(sorted({n.split('.')[0] for n in sys.modules})), file=sys.stderr)\nsys.exit(code)"
    )
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, timeout=120,
                          **options)  # fmt: skip


def test_what_only_reads_does_not_load_torch(finished, tmp_path):
    for command in (["report", finished, "--out", tmp_path / "a.html"], ["list", finished.parent],
                    ["threshold", "--lr", "0.1"], ["--version"]):  # fmt: skip
        done = fresh(*command)
        assert done.returncode == 0, done.stderr
        assert "torch" not in json.loads(done.stderr.decode().splitlines()[-1])


def test_a_terminal_without_greek_is_no_error(finished, tmp_path):
    done = fresh(
        "report",
        finished,
        "--out",
        tmp_path / "a.html",
        env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert b"?_max" in done.stdout
