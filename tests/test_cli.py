"""The command line: what it prints where, how it exits, and what it says when something is wrong."""

import json
import subprocess
import sys

import numpy as np
import pytest

from sgdscope import cli
from sgdscope._version import __version__
from sgdscope.records import RunWriter, open_run
from tests.quick_readings import quick_readings

TINY = ["--quiet", "--subset=48", "--width=6", "--batch-size=8", "--steps=20", "--every=10"]


@pytest.fixture
def command(capsys):
    """Runs a command in this process; gives its exit code, stdout and stderr."""

    def run(*arguments):
        try:
            code = cli.main([str(a) for a in arguments])
        except SystemExit as stop:  # how the parser of arguments leaves
            code = stop.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "a"


@pytest.fixture
def tiny(command, folder):
    """A run of a second into `folder`, with further arguments."""
    return lambda *arguments: command("run", *TINY, "--out", folder, *arguments)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    assert cli.main(["run", *TINY, "--out", str(folder)]) == 0
    return folder


def test_run_prints_where_it_stands_and_writes_a_report(folder, tiny):
    code, out, err = tiny()
    assert (code, err) == (0, "")
    assert "batch sharpness" in out.splitlines()[0]
    assert out.splitlines()[-1] == f"report: {folder / 'report.html'}"
    assert "double the learning rate" in out
    assert "watching" in out
    assert (folder / "report.html").stat().st_size > 1000


def test_progress_goes_to_stderr(folder, command):
    code, out, err = command("run", *TINY[1:], "--out", folder)
    assert code == 0
    assert "20/20" in err
    assert "watching=" in err
    assert "steps/s" not in out


def test_run_names_its_folder(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    for number in ("001", "002"):
        assert command("run", *TINY)[0] == 0
        assert (tmp_path / "runs" / f"digits-mlp-{number}" / "manifest.json").exists()


def test_resume(folder, command, tiny):
    tiny()
    code, out, _ = command("run", "--quiet", "--resume", folder, "--steps", 30)
    assert code == 0
    assert open_run(folder).last_step == 30
    assert "report: " in out


def test_a_diverged_run_exits_with_1_and_has_its_report(folder, tiny):
    code, out, err = tiny("--lr=1e6")
    assert code == 1
    assert out.startswith("Diverged at step ")
    assert err.startswith("the run diverged at step ")
    assert (folder / "report.html").exists()


def measured(out):
    """Whether batch sharpness and λ_max were both read."""
    rows = {line.split("  ")[1]: line for line in out.splitlines() if line.startswith("  ")}
    return {"batch sharpness", "λ_max, full loss"} <= {name.strip() for name in rows}


def test_text(folder, tiny, command, monkeypatch):
    quick_readings(monkeypatch)
    code, out, err = tiny("--data=text", "--context-length=8", "--depth=1", "--heads=2")
    assert (code, err) == (0, "")
    assert measured(out)
    assert open_run(folder).config["model"] == "transformer"
    assert command("run", "--quiet", "--resume", folder, "--steps", 25)[0] == 0


TABLE = "x,kind,y\n" + "".join(f"{i % 7},{'abc'[i % 3]},{i % 5}\n" for i in range(60))


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_table(folder, tiny, tmp_path, task):
    (tmp_path / "t.csv").write_text(TABLE)
    code, out, err = tiny("--data=table", "--data-file", tmp_path / "t.csv", "--target=y", "--task", task)
    assert (code, err) == (0, "")
    assert measured(out)
    assert f"{task} of y" in open_run(folder).manifest["data"]


def test_another_optimizer_says_that_there_is_no_theory(folder, tiny):
    code, out, err = tiny("--optimizer=torch.optim:RMSprop", "--optimizer-options", "alpha=0.9", "centered=true")
    assert (code, err) == (0, "")
    assert out.startswith(
        "No theory says where the edge ratio settles under RMSprop: half the generalised edge ratio is"
    )
    assert "2 / lr" not in out
    (group,) = json.loads(next((folder / "checkpoints").glob("*/state.json")).read_text())["param_groups"]
    assert (group["alpha"], group["centered"], group["lr"]) == (0.9, True, 0.001)


def test_report_and_list(finished, tmp_path, command):
    code, out, err = command("report", finished, "--out", tmp_path / "page.html")
    assert (code, err) == (0, "")
    assert out.endswith(f"report: {tmp_path / 'page.html'}\n")
    code, out, err = command("list", finished.parent)
    assert (code, err) == (0, "")
    assert out.split("\t")[:3] == [str(finished), "finished", "step 20"]


def test_every_quantity_of_a_run_is_explained_in_its_report(finished, tmp_path, command):
    assert command("report", finished, "--out", tmp_path / "page.html")[0] == 0
    page = (tmp_path / "page.html").read_text()
    assert "critical batch size" in page
    assert "Not in the glossary" not in page


def test_list_goes_on_past_what_it_cannot_read(finished, tmp_path, command):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "manifest.json").write_text("{")
    code, out, _ = command("list", tmp_path)
    assert code == 0
    assert out.startswith(f"{tmp_path / 'b'}\tunreadable\tcannot read")
    (tmp_path / "c").mkdir()
    assert command("list", tmp_path / "c") == (0, "", f"no runs in {tmp_path / 'c'}\n")


WELLS = "(x**2-1)**2/4"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("stability", "--lr", 0.1, "--momentum", 0.9), "full batch   λ_max            38     2 (1 + β) / lr"),
        (("escape", WELLS, "--lr", 0.05, "--batch-size", 0.6, "--variance", "1+x**2"), "384.383  7687.65"),
        (("stationary", "--lr", 0.05), "median                     0.910743"),
        (("averaging", "--lr", 0.3, "--curvatures", 1, 0.2, "--noise", 1, "--steps", 20), "window 21"),
        (("fokker-planck", WELLS, "--temperature", 0.05), "between wells                    0.00277614"),
    ],
)
def test_predict(command, tmp_path, words, said):
    picture = tmp_path / "a.svg"
    code, out, _ = command("predict", *words, "--plot", picture)
    assert code == 0
    assert said in out
    assert out.rstrip().splitlines()[-1] == f"picture: {picture}"
    assert picture.read_text().startswith("<?xml")


def test_simulate(command, tmp_path):
    picture = tmp_path / "a.svg"
    code, out, err = command(
        "simulate", WELLS, "--lr", 0.05, "--batch-size", 0.4, "--replicas", 500, "--steps", 500, "--plot", picture
    )
    assert (code, err) == (0, "")
    assert "mean time from -1 to 1" in out
    assert out.rstrip().splitlines()[-1] == f"picture: {picture}"
    assert "--two-point" in command("simulate", "--help")[1]


def test_average(finished, command, tmp_path):
    code, out, _ = command("average", finished, "--out", tmp_path / "a.pt", "--plot", tmp_path / "a.svg")
    assert code == 0
    assert out.splitlines()[0] == "Which average to keep"
    assert (tmp_path / "a.svg").exists()


def test_a_picture_that_cannot_be_written_leaves_the_answer(command, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = command("predict", "stability", "--lr", 1, "--plot", tmp_path / "file" / "a.svg")
    assert code == 2
    assert "Stability at learning rate 1" in out
    assert err.startswith(f"sgdscope: cannot write {tmp_path / 'file' / 'a.svg'}: ")


def test_predict_has_help_for_each_subject(command):
    _, out, _ = command("predict", "--help")
    for subject in ("stability", "escape", "stationary", "averaging", "fokker-planck"):
        assert subject in out
        assert "--plot" in command("predict", subject, "--help")[1]


def test_version(command):
    for flag in ("--version", "-V"):
        assert command(flag) == (0, f"sgdscope {__version__}\n", "")


# -- what is wrong --------------------------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path, finished):
    """Paths that the messages below name."""
    (tmp_path / "file").write_text("")
    (tmp_path / "mnist").mkdir()
    np.savez(tmp_path / "whole.npz", inputs=np.zeros((20, 3), np.float32), labels=np.zeros(20, np.int64))
    (tmp_path / "torn.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:200])
    (tmp_path / "norun").mkdir()
    (tmp_path / "t.csv").write_text(TABLE)
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
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
                                "hint: nothing is downloaded; --data digits and --data text need no files"),
        ("run --data mnist --data-dir {tmp}/gone", 2, "expected the data of mnist at {tmp}/gone, but there is nothing"),
        ("run --data mnist --data-dir {tmp}/mnist", 2, "expected "),
        ("run --data npz --data-dir {tmp}/torn.npz", 2, ""),
        ("run --data folder --data-dir {tmp}/norun", 2, ""),
        ("run --device toaster", 2, "expected a usable device, got 'toaster': "),
        ("run --norm batch", 2, "expected norm 'none' for mlp, got 'batch'\nhint: "),
        ("run --data text --data-file {tmp}/latin.txt", 2, "expected a text file in UTF-8, but byte 3 of {tmp}/"),
        ("run --data text --model mlp", 2, "expected --model transformer with --data text, got mlp"),
        ("run --data text --loss squared-error", 2, "expected --loss cross-entropy with --data text, got squa"),
        ("run --data table", 2, "expected --data-file with --data table: the file that holds it\nhint: "),
        ("run --data table --data-file {tmp}/t.csv", 2, "expected target, the column to predict, got none\n"
                                                        "hint: on the command line --target NAME; t.csv has x, kind"),
        ("run --data table --data-file {tmp}/t.csv --target z", 2,
         "expected the target among the columns of t.csv, got 'z'\nhint: it has x, kind, y"),
        ("run --data table --data-file {tmp}/t.csv --target y --task regression --loss cross-entropy", 2,
         "expected --loss squared-error or half-squared-error for a target of numbers, got cross-entropy\nhint: "),
        ("run --data table --data-file {tmp}/t.csv --target y --model cnn", 2,
         "expected input_shape (channels, height, width) for cnn, got (4,)\nhint: "),
        ("run --optimizer lion", 2, "expected --optimizer among sgd, momentum, nesterov, adamw, or a class as p"),
        ("run --optimizer no.such:Lion", 2, "expected a module that can be imported in --optimizer no.such:Lion, but"),
        ("run --optimizer torch.optim:SGD --optimizer-options rate=1", 2,
         "expected options that SGD takes, got lr=0.001, rate=1: SGD.__init__() got an unexpected keyword arg"),
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
        ("average {tmp}/norun", 1, "expected a run folder with a manifest.json, got {tmp}/norun"),
        ("average {run} --last 1", 2, "expected --last of at least 2 checkpoints, got 1"),
        ("predict stability --lr 0", 2, "expected a learning rate > 0, got 0.0"),
        ("predict stability --lr 1 --momentum 1", 2, "expected momentum in [0, 1), got 1.0"),
        ("predict escape x**2 --lr 1", 2, "expected a landscape with a barrier to escape over, x**2 has 1 minimum"),
        ("predict escape __import__('os') --lr 1", 2, "found the unknown name '__import__' at character 1"),
        ("run --out {tmp}/c --cadence nonsense=5", 2, "expected a cadence of at least 1 step for any of batch_"),
        ("simulate x**3-x --lr 0.1", 2, "expected a landscape that keeps replicas in, got one that is not confining"),
        ("predict stationary --lr 1 --plot a.jpg", 2, "expected a file that ends in .png, .svg or .pdf, got 'a.jpg'"),
    ],
)  # fmt: skip
def test_wrong_input_is_told_in_one_or_two_lines(arguments, code, message, places, command):
    found, out, err = command(*(word.format(**places) for word in arguments.split(" ")))
    assert (found, out) == (code, "")
    assert err.startswith("sgdscope: " + message.format(**places))
    assert 1 <= len(err.splitlines()) <= 2
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", ["run --data imagenet", "run --steps many", "fly", "", "predict", "run --nope"])
def test_what_the_parser_refuses_exits_with_2(arguments, command):
    code, out, err = command(*arguments.split())
    assert (code, out) == (2, "")
    assert "sgdscope" in err


def test_a_run_in_progress_is_not_resumed(finished, command):
    with RunWriter.reopen(finished, rewind_to=20):
        code, _, err = command("run", "--quiet", "--resume", finished, "--steps", 30)
    assert code == 1
    assert err.startswith(f"sgdscope: another process is writing the folder {finished}\nhint: ")


def test_a_manifest_without_configuration_cannot_be_resumed(tmp_path, command):
    with RunWriter.create(tmp_path / "a", {"config": {"lr": "fast"}}):
        pass
    code, _, err = command("run", "--resume", tmp_path / "a")
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
                    ["predict", "stability", "--lr", "0.1"], ["--version"]):  # fmt: skip
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
