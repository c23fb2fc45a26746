"""The README: what it shows is what the commands print, and the commands and options it names exist."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from sgdscope import cli, train

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def sample(command):
    """What the README shows below a command."""
    (found,) = re.findall(rf"^```\n\$ sgdscope {command}\n(.*?)^```", README, flags=re.S | re.M)
    assert found.strip()
    return found.splitlines()


def names(lines):
    """The words at the left of the indented lines."""
    return [re.split(r"\s{2,}", line.strip())[0] for line in lines if line.startswith("  ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs") / "a"


@pytest.fixture(scope="module")
def printed(folder):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert cli.main(["run", "--quiet", "--subset=64", "--steps=20", "--every=10", "--out", str(folder)]) == 0
    return out.getvalue().splitlines()


def test_the_sample_of_run_has_the_lines_that_run_prints(printed):
    assert names(sample("run")) == names(printed)
    assert [line.split(":")[0] for line in sample("run")[-1:]] == [line.split(":")[0] for line in printed[-1:]]


def test_the_sample_of_edge_test_has_the_lines_that_it_prints(printed, folder, capsys):
    assert cli.main(["edge-test", str(folder), "--steps", "3", "--seeds", "2", "--quiet"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in sample(r"edge-test \S+")[1:]] == [line.split()[0] for line in out[1:]]


def test_the_sample_of_balance_has_the_lines_that_it_prints(tmp_path, capsys):
    quick = ["--quiet", "--subset=64", "--steps=20", "--every=10", "--activation=relu"]
    assert cli.main(["run", *quick, "--out", str(tmp_path / "relu")]) == 0
    capsys.readouterr()
    assert cli.main(["balance", str(tmp_path / "relu"), "--dry-run"]) == 0
    out, shown = capsys.readouterr().out.splitlines(), sample(r"balance \S+")
    assert names(out) == names(shown)
    assert [line for line in out if line[:1].isupper()] == [line for line in shown if line[:1].isupper()]


def test_the_sample_of_sweep_has_the_lines_that_it_prints(tmp_path, capsys, monkeypatch):
    (words,) = re.findall(r"^\$ sgdscope (sweep .*)$", README, flags=re.M)
    shown = sample(r"sweep [^\n]*")
    small = ["--subset=64", "--width=4", "--out", str(tmp_path / "a"), "--executor=0", "--no-reports", "--quiet"]
    given = [word if word not in ("8000", "400") else "6" for word in shlex.split(words)]
    monkeypatch.setattr(train.Monitor, "read_carefully", lambda self: None)  # nine times
    monkeypatch.setattr(train, "usual_changes", lambda *_, **__: [])
    assert cli.main([*given, *small]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in out[1:-1]] == [line.split()[:2] for line in shown[1:-1]]
    assert out[1].split() == shown[1].split()
    assert out[0].split(":")[0] == shown[0].split(":")[0]
    assert out[-1].split(":")[0] == shown[-1].split(":")[0]


def test_the_sample_of_predict_is_what_it_prints(capsys):
    (words,) = re.findall(r"^\$ sgdscope (predict .*)$", README, flags=re.M)
    assert cli.main(shlex.split(words)) == 0
    assert capsys.readouterr().out.startswith("\n".join(sample(r"predict escape [^\n]*")))


def test_the_sample_of_simulate_has_the_lines_that_it_prints(capsys):
    (words,) = re.findall(r"^\$ sgdscope (simulate .*)$", README, flags=re.M)
    assert cli.main(shlex.split(words)) == 0
    shown, out = sample(r"simulate [^\n]*"), capsys.readouterr().out.splitlines()[: len(sample(r"simulate [^\n]*"))]
    assert names(out) == names(shown)
    (said,), (found,) = ([line.split()[6] for line in lines if "mean time" in line] for lines in (shown, out))
    assert float(found) == pytest.approx(float(said), rel=0.03)  # equal but for the rounding of the processor


def test_the_sample_of_diagonal_has_the_lines_that_it_prints(capsys):
    (words,) = re.findall(r"^\$ sgdscope (diagonal .*)$", README, flags=re.M)
    assert cli.main(shlex.split(words)) == 0
    shown, out = sample(r"diagonal [^\n]*"), capsys.readouterr().out.splitlines()
    out = out[out.index(shown[0]) :][: len(shown)]
    assert names(out) == names(shown)
    assert out[: shown.index("")] == shown[: shown.index("")]  # the phases are theory: to the last digit
    (said,), (found,) = ([line.split()[1] for line in lines if "mean " in line] for lines in (shown, out))
    assert float(found) == pytest.approx(float(said), rel=0.02)


def test_every_command_and_option_named_exists(capsys):
    named = re.findall(r"(?:`|\$ )sgdscope ([a-z-]+)(?: ([a-z-]+)\b)?", README)
    assert {command for command, _ in named} <= set(cli.COMMANDS)
    assert len(set(named)) >= 5
    known = ""
    for command, subject in set(named):
        with pytest.raises(SystemExit) as stopped:
            cli.main([command, *([subject] if command == "predict" and subject else []), "--help"])
        assert stopped.value.code == 0
        known += capsys.readouterr().out
    options = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", README))
    assert len(options) > 5
    assert {option for option in options if not re.search(rf"{option}(?![\w-])", known)} == set()
