"""`sgdscope sweep`, and sweeps in `report` and `list`: what is printed where, exit codes, and wrong input."""

import json

import pytest

from sgdscope import cli, train
from sgdscope.sweep import Grid, Sweep
from tests.quick_readings import quick_readings
from tests.sweep.demo_sweep import edge_of, make

SMALL = ["--subset=48", "--width=6", "--batch-size=8", "--steps=20", "--every=10", "--executor=0"]


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
def quick(monkeypatch):
    """Runs without what takes seconds, and is tested elsewhere."""
    quick_readings(monkeypatch)
    monkeypatch.setattr(train.Monitor, "read_carefully", lambda self: None)
    monkeypatch.setattr(train, "usual_changes", lambda *_, **__: [])


def test_a_sweep_prints_its_table_and_writes_its_page(tmp_path, command, quick):
    folder = tmp_path / "a"
    code, out, err = command("sweep", "--lr", 0.1, 0.2, *SMALL, "--out", folder, "--no-reports")
    assert code == 0
    assert out.splitlines()[0].startswith("2 runs: ")
    assert out.splitlines()[1].split() == ["lr", "outcome", "edge", "λ_max", "loss"]
    assert out.splitlines()[-1] == f"report: {folder / 'report.html'}"
    assert "2 of 2 done, 0 running, 0 failed; " in err
    assert Sweep.open(folder).manifest["command"][:4] == ["sgdscope", "sweep", "--lr", "0.1"]
    again = command("sweep", "--lr", 0.1, 0.2, *SMALL, "--out", folder, "--no-reports", "--quiet")
    assert again == (0, out, "")


def test_the_same_command_finds_its_folder_again(tmp_path, command, quick, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--seed", 0, 1, *SMALL, "--no-reports", "--quiet"]
    for lr, folder in ((0.1, "digits-sweep-001"), (0.2, "digits-sweep-002"), (0.1, "digits-sweep-001")):
        code, out, _ = command("sweep", "--lr", lr, *words)
        assert code == 0
        assert out.splitlines()[-1] == f"report: {'runs/' + folder}/report.html"
    (tmp_path / "edges.toml").write_text('lr = [0.1, 0.3]\ndata = "digits"\n')
    assert command("sweep", "edges.toml", *SMALL, "--no-reports", "--quiet")[0] == 0
    assert Sweep.open(tmp_path / "runs" / "edges-001").varying == ("lr",)


def test_failing_and_diverging_runs(tmp_path, command, quick):
    code, out, err = command("sweep", "--batch-size", 8, 49, *SMALL[:2], *SMALL[3:], "--out", tmp_path / "a", "--quiet")
    assert code == 1
    assert "failed" in out
    assert err == "failed: batch-size=49: expected a batch size of at most 48 (the number of samples), got 49\n"
    code, out, err = command("sweep", "--lr", 1e6, 0.1, *SMALL, "--out", tmp_path / "b", "--quiet", "--no-reports")
    assert (code, err) == (0, "")  # a finding
    assert "1 diverged" in out


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    grid = Grid({"lr": [0.1, 0.4], "batch-size": [4, 16]})
    return make(folder / "a", grid, lambda c: "failed" if c["lr"] == 0.1 and c["batch_size"] == 4 else edge_of(c))


def test_report_and_list(sweep, command, tmp_path):
    code, out, err = command("report", sweep.path)
    assert (code, err) == (0, "")
    assert out == f"{sweep}\nreport: {sweep.path / 'report.html'}\n"
    for ending, content in (("csv", sweep.to_csv()), ("json", sweep.to_json())):
        code, out, _ = command("report", sweep.path, "--out", tmp_path / f"x.{ending}")
        assert code == 0
        assert out.splitlines()[-1] == f"table: {tmp_path / f'x.{ending}'}"
        assert (tmp_path / f"x.{ending}").read_text() == content
    assert len(json.loads((tmp_path / "x.json").read_text())) == 4
    code, out, err = command("list", sweep.path.parent)
    assert (code, err) == (0, "")
    assert out == f"{sweep.path}\tsweep finished\t3 of 4 done\t{sweep.headline}\n"
    code, out, _ = command("list", sweep.path)
    assert len(out.splitlines()) == 4  # the sweep, and the runs there are


def test_list_goes_on_past_a_damaged_sweep(command, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "sweep.json").write_text("{")
    code, out, err = command("list", tmp_path)
    assert (code, err) == (0, "")
    assert out.startswith(f"{tmp_path / 'b'}\tunreadable\tcannot read ")
    assert command("report", tmp_path / "b")[0] == 1


WRONG = [
    ("", 2, "expected a grid, as a TOML file or as options with several values, got none\nhint: sgdscope sweep --lr"),
    ("--lrr 0.1", 2, "expected an option of a run or a sweep, got 'lrr'\nhint: did you mean lr?"),
    ("--fly", 2, "expected an option of a run or a sweep, got 'fly'\nhint: `sgdscope run --help` lists them"),
    ("--lr fast", 2, "expected numbers for --lr, got 'fast'"),
    ("--batch-size 4 8.5", 2, "expected whole numbers for --batch-size, got '8.5'"),
    ("--lr 0.1 g.toml", 2, "expected numbers for --lr, got 'g.toml'\nhint: the file with the grid comes before"),
    ("--lr 0.1 0.1", 2, "expected different values of lr, got 0.1 twice"),
    ("--lr 0.1 --lr 0.2", 2, "expected --lr once, with one value or several, got it twice"),
    ("--lr", 2, "expected a value after --lr, got none"),
    ("--lr -1 0.1", 2, "expected --lr > 0, got -1.0 (in the run --lr -1)"),
    ("--data digits imagenet", 2, "expected data as one of digits, cifar10, "),
    ("--lr 0.1 0.2 --cadence nonsense=5", 2, "expected a cadence of at least 1 step for any of batch_"),
    ("--lr 0.1 --executor many", 2, "expected --executor as a number of processes or tcp://host:port, got 'many'"),
    ("{tmp}/gone.toml", 2, "expected a file with a grid at {tmp}/gone.toml: No such file or directory"),
    ("{tmp}/g.toml --lr 0.3", 2, "expected --lr in {tmp}/g.toml or on the command line, not in both"),
    ("--resume {tmp}", 1, "expected a sweep folder with a sweep.json, got {tmp}"),
    ("{tmp}/g.toml --resume {tmp} --lr 1", 2, "expected no grid with --resume, got {tmp}/g.toml, --lr\nhint: to add"),
    ("--lr 0.1 --out {tmp}/g.toml/x", 1, "cannot create the sweep folder {tmp}/g.toml/x: Not a directory"),
    ("--lr 0.1 --out {sweep}", 2, "expected a grid with all 4 runs that {sweep} was begun with, but it lacks 4, such "),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "code", "message"), WRONG, ids=[words or "nothing" for words, *_ in WRONG])
def test_wrong_input_is_told_in_one_or_two_lines(arguments, code, message, tmp_path, sweep, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "g.toml").write_text("lr = [0.1, 0.2]")
    places = {"tmp": tmp_path, "sweep": sweep.path}
    found, out, err = command("sweep", *(word.format(**places) for word in arguments.split()))
    assert (found, out) == (code, "")
    assert err.startswith("sgdscope: " + message.format(**places))
    assert 1 <= len(err.splitlines()) <= 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.toml"]


def test_help_names_what_a_sweep_adds(command):
    code, out, _ = command("sweep", "--help")
    assert code == 0
    for words in ("--resume", "--executor", "--no-reports", "[zip]", "[[cells]]", "exit code"):
        assert words in out
