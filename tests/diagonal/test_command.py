"""`sgdscope diagonal`: what it prints, what it draws, how it refuses."""

import pytest

from sgdscope import cli
from sgdscope.diagonal import phase_plane, setting

QUICK = ["--replicas", "500", "--steps", "200"]


@pytest.fixture
def command(capsys):
    def run(*arguments):
        try:
            code = cli.main(["diagonal", *map(str, arguments)])
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


def test_it_prints_data_phases_comparison_and_what_is_open(command, tmp_path):
    code, out, err = command(*QUICK, "--plot", tmp_path / "a.png")
    assert (code, err) == (0, "")
    for words in ("Data: y = 1 x + noise of variance 1", "T_c: from here on all mass at 0", "distance of distributions",
                  "at 0 from minus this start", "source: Ziyin"):  # fmt: skip
        assert words in out
    assert out.splitlines()[-1] == f"picture: {tmp_path / 'a.png'}"
    assert (tmp_path / "a.png").stat().st_size > 10_000


@pytest.mark.slow
def test_phase_diagram_and_sweep(command, tmp_path, monkeypatch):
    monkeypatch.setattr(phase_plane, "COLUMNS", 1)
    monkeypatch.setattr(setting, "_SLOW", 0.5)  # not to settle, to be quick
    code, out, err = command(
        *QUICK, "--noise-variance", "4", "--process", "diffusion", "--phase-diagram", tmp_path / "p.png",
        "--temperature-sweep", tmp_path / "s.svg",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "decided cells are in the phase that theory of the differential equation says" in out
    assert "T_c, where growth close to 0 does" in out
    assert (tmp_path / "p.png").exists()
    assert (tmp_path / "s.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--phase-diagram", "a.gif"), "ends in .png, .svg or .pdf"),
        (("--lr", "0"), "lr > 0"),
        (("--start", "1", "2", "3"), "a start of 1 or 2 numbers, got 3"),
        (("--data-file", "nothing.csv"), "cannot read nothing.csv"),
        (("--replicas", "9"), "at least 100 replicas"),
    ],
)
def test_wrong_input_is_told_in_a_sentence(command, arguments, said):
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_help_names_every_option(command):
    code, out, _ = command("--help")
    assert code == 0
    for option in ("--lr", "--width", "--phase-diagram", "--temperature-sweep", "--process", "--plot"):
        assert option in out
    assert "--progress" not in out
