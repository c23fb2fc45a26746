"""Grids: what is laid out, how it is named, and what is refused at the door."""

import math
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdscope.config import ConfigError, RunConfig
from sgdscope.sweep import Grid, options
from sgdscope.sweep.grid import MOST

SMALL = {"subset": 48, "width": 6, "steps": 24}

rates = st.lists(st.floats(1e-6, 10), min_size=1, max_size=4, unique=True)
sizes = st.lists(st.integers(1, 512), min_size=1, max_size=4, unique=True)
seeds = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=3, unique=True)


@settings(deadline=None, max_examples=40)
@given(rates, sizes, seeds)
def test_every_combination_is_there_once(lr, batch_size, seed):
    cells = Grid({"lr": lr, "batch-size": batch_size, "seed": seed, "subset": 0}).cells
    assert [(c.config.lr, c.config.batch_size, c.config.seed) for c in cells] == [
        (a, b, c) for a in lr for b in batch_size for c in seed
    ]
    assert len({cell.name.casefold() for cell in cells}) == len(cells)


@settings(deadline=None, max_examples=40)
@given(rates, sizes, seeds, st.randoms(use_true_random=False))
def test_a_name_belongs_to_a_run_and_not_to_its_place_in_the_grid(lr, batch_size, seed, random):
    axes = {"lr": lr, "batch_size": batch_size, "seed": seed}
    names = {cell.config: cell.name for cell in Grid(axes).cells}
    shuffled = {name: random.sample(values, len(values)) for name, values in random.sample(list(axes.items()), 3)}
    assert {cell.config: cell.name for cell in Grid(shuffled).cells} == names


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(
    st.sampled_from(options.NAMES) | st.text(max_size=12),
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                 lambda inner: st.lists(inner, max_size=3), max_leaves=4),
    max_size=3,
))  # fmt: skip
def test_whatever_is_given_makes_runs_or_is_refused_in_one_or_two_lines(values):
    refused = ""
    cells = ()
    try:
        cells = Grid(values).cells
    except ConfigError as error:
        refused = str(error)
    assert bool(cells) != refused.startswith("expected ")
    assert len(refused.splitlines()) <= 3  # a value may hold a line break
    assert all(cell.config == cell.config.resolved() for cell in cells)


def test_names_are_readable():
    names = [cell.name for cell in Grid({"batch-size": [4, 16], "lr": [0.1, 1.0, 1e-5], **SMALL}).cells]
    assert names[:3] == ["lr=0.1,batch-size=4", "lr=1,batch-size=4", "lr=1e-05,batch-size=4"]
    several = Grid({"optimizer": ["torch.optim:Adam", "sgd"], "lr": 0.1})
    assert [cell.name for cell in several.cells] == ["optimizer=torch.optim-Adam", "optimizer=sgd"]
    assert [cell.name for cell in Grid({"lr": 0.3}).cells] == ["run"]
    (cell, _) = Grid({"optimizer_options": [["alpha=0.9", "eps=1"], ["alpha=0.9"]],
                      "optimizer": "torch.optim:RMSprop"}).cells  # fmt: skip
    assert cell.name == "optimizer-options=alpha=0.9+eps=1"


def test_names_that_would_be_the_same_get_a_mark(tmp_path):
    places = [tmp_path / "a" / "x.npz", tmp_path / "b" / "x.npz", tmp_path / "y.npz"]
    names = [cell.name for cell in Grid({"data": "npz", "data-file": [str(p) for p in places]}).cells]
    assert names[2] == "data-file=y.npz"
    assert names[0] != names[1]
    assert all(name.startswith("data-file=x.npz,") for name in names[:2])
    (long, _) = Grid({"optimizer-options": [["x=" + "1" * 300], ["x=2"]], "optimizer": "torch.optim:SGD"}).cells
    assert len(long.name) < 120


def test_lists_in_step_and_single_runs():
    grid = Grid(
        {"seed": [0, 1], **SMALL},
        together=[{"lr": [0.1, 0.2], "batch_size": [4, 8]}],
        single=[{"lr": 0.7, "seed": 5}, {"momentum": 0.5}],
    )
    assert [(c.config.seed, c.config.lr, c.config.batch_size) for c in grid.cells[:4]] == [
        (0, 0.1, 4), (0, 0.2, 8), (1, 0.1, 4), (1, 0.2, 8),
    ]  # fmt: skip
    assert [(c.config.seed, c.config.lr, c.config.momentum, c.name) for c in grid.cells[4:]] == [
        (5, 0.7, 0.9, "lr=0.7,seed=5"), (0, 0.7, 0.5, "momentum=0.5"),
    ]  # fmt: skip
    assert all(cell.config.width == 6 for cell in grid.cells)
    only = Grid(SMALL, single=[{"lr": 0.1}, {"lr": 0.2}])
    assert [cell.config.lr for cell in only.cells] == [0.1, 0.2]


def test_runs_have_one_thread_and_absolute_paths_unless_told_otherwise(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (cell,) = Grid({"data": "npz", "data-file": "x.npz"}).cells
    assert (cell.config.threads, cell.config.data_file) == (1, tmp_path / "x.npz")
    (cell,) = Grid({"threads": 3}).cells
    assert cell.config.threads == 3


def test_numpy_values():
    import numpy as np

    grid = Grid({"lr": np.geomspace(0.1, 0.4, 3), "seed": np.arange(2)})
    assert {type(cell.config.lr) for cell in grid.cells} == {float}
    assert {type(cell.config.seed) for cell in grid.cells} == {int}


WRONG = [
    ({"lrr": 0.1}, "expected an option of a run, got 'lrr'\nhint: did you mean lr?"),
    ({"out": "x"}, "expected an option of a run, got 'out'"),
    ({"lr": "0.1"}, "expected lr as a number, got '0.1'"),
    ({"lr": [0.1, True]}, "expected lr as a number, got True"),
    ({"lr": [0.1, [0.2]]}, "expected lr as a number, got [0.2]"),
    ({"batch-size": 4.0}, "expected batch-size as a whole number, got 4.0"),
    ({"data": "imagenet"}, "expected data as one of digits, cifar10, "),
    ({"optimizer": 3}, "expected optimizer as a text, got 3"),
    ({"cadence": "spectrum=10"}, "expected cadence as a list of texts, got 'spectrum=10'"),
    ({"data-file": ""}, "expected data-file as a path, got ''"),
    ({"lr": []}, "expected at least one value of lr, got an empty list"),
    ({"lr": [0.1, 0.2, 0.1]}, "expected different values of lr, got 0.1 twice"),
    ({"lr": [1, 1.0]}, "expected different values of lr, got 1 twice"),
    ({"batch-size": 4, "batch_size": 4}, "expected batch-size once, got it with dashes and with underscores"),
    ({"lr": -1}, "expected --lr > 0, got -1.0"),
    ({"lr": [0.1, math.inf]}, "expected --lr > 0, got inf (in the run --lr inf)"),
    ({"data": "mnist"}, "expected --data-dir with --data mnist: the folder that holds it\nhint: nothing is down"),
    ({"lr": [0.7, 0.1], "data": "text", "model": "mlp"}, "expected --model transformer with --data text, got mlp (in"),
    ({"weight_decay": [0, 10**400]}, "expected weight-decay as a number, got 1000"),
    ({"seed": list(range(101)), "steps": list(range(1, 101))}, f"expected a grid of at most {MOST:,} runs, got one "),
    ({"norm": ["default", "none"]}, "expected runs that differ, but norm=default and norm=none are the same run"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "message"), WRONG, ids=[message[9:40] for _, message in WRONG])
def test_what_makes_no_run_is_refused(values, message):
    with pytest.raises(ConfigError) as refused:
        Grid(values)
    assert str(refused.value).startswith(message)
    assert len(str(refused.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"values": {"lr": 0.1}, "together": [{"lr": [0.1, 0.2]}]}, "expected lr in one place of the grid, got it in"),
        ({"values": {"lr": 0.1}, "single": [{"lr": 0.2}]}, "expected lr in one place of the grid, got it in two"),
        ({"together": [{"lr": [0.1, 0.2]}, {"lr": [0.3, 0.4]}]}, "expected lr in one place of the grid, got it in two"),
        ({"together": [{"lr": [0.1, 0.2], "seed": [0]}]}, "expected lists in step of one length, two or more, got lr"),
        ({"together": [{"lr": [0.1]}]}, "expected lists in step of one length, two or more, got lr with 1"),
        ({"single": [{}]}, "expected options with one value each in run 1, got {}"),
        ({"single": [{"seed": 1}, {"lr": [0.1, 0.2]}]}, "expected options with one value each in run 2, got {'lr'"),
        ({"single": [{"lr": 0.1}, {"lr": 0.1}]}, "expected runs that differ, but "),
        ({"single": [{"lrr": 0.1}]}, "expected an option of a run in run 1, got 'lrr'\nhint: did you mean lr?"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, message):
    with pytest.raises(ConfigError) as refused:
        Grid(**parts)
    assert str(refused.value).startswith(message)


def written(tmp_path, text):
    (tmp_path / "grid.toml").write_text(text, encoding="utf-8")
    return tmp_path / "grid.toml"


def test_a_file_says_the_same_as_the_arguments(tmp_path):
    path = written(tmp_path, """
data = "digits"
batch-size = [4, 16]
optimizer-options = ["dampening=0.1"]
optimizer = "torch.optim:SGD"
[zip]
lr = [0.1, 0.2]
width = [8, 16]
[[cells]]
lr = 1
""")  # fmt: skip
    same = Grid(
        {"data": "digits", "batch_size": [4, 16], "optimizer_options": ["dampening=0.1"],
         "optimizer": "torch.optim:SGD"},
        together=[{"lr": [0.1, 0.2], "width": [8, 16]}], single=[{"lr": 1.0}],
    )  # fmt: skip
    assert Grid.read(path).cells == same.cells
    assert len(same.cells) == 5
    more = Grid.read(path, {"seed": [0, 1]})
    assert len(more.cells) == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr = [0.1", "expected {path} to be TOML, but it is not: "),
        ("lr = 0.1\nlr = 0.2", "expected {path} to be TOML, but it is not: Cannot overwrite a value"),
        ("[grid]\nlr = [0.1, 0.2]", "expected an option of a run, got 'grid'"),
        ("[lr]\nx = 1", "expected lr as a number, got {{'x': 1}}"),
        ("zip = 3", "expected [[zip]] as tables in {path}, got 3"),
        ("[cells]\nlr = 1", "expected [[cells]] as tables in {path}, got {{'lr': 1}}"),
        ("seed = 1", "expected --seed in {path} or on the command line, not in both"),
        ("lr = 2024-01-01", "expected lr as a number, got datetime.date(2024, 1, 1)"),
    ],
)
def test_files_that_are_refused(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        Grid.read(path, {"seed": [0, 1]} if text.startswith("seed") else None)
    assert str(refused.value).startswith(message.format(path=path))


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "latin.toml").write_bytes(b"lr = '\xe9'")
    for path, said in ((tmp_path / "gone.toml", "No such file"), (tmp_path, "Is a directory"),
                       (tmp_path / "latin.toml", "TOML")):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            Grid.read(path)


def test_words_of_a_command_line():
    words = "a.toml --lr 0.1 -0.2 --batch-size=4 --quiet x --momentum 0 --out y --seed 0 1"
    found, rest = options.taken(words.split())
    assert found == {"lr": ["0.1", "-0.2"], "batch_size": ["4"], "momentum": ["0"], "seed": ["0", "1"]}
    assert rest == ["a.toml", "--quiet", "x", "--out", "y"]
    for words, said in (("--lr 1 --lr 2", "--lr once"), ("--lr --seed 1", "a value after --lr"),
                        ("--lr= --seed 1", "a value after --lr")):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            options.taken(words.split())


def test_every_option_of_a_run_may_be_laid_out():
    """A value of each option as the command line gives it, and as a file does, is the value that a run takes."""
    words = {"bool": "true", "int": "3", "float": "0.5", "Path": "x", "str": "x"}
    for field in fields(RunConfig):
        if field.name in options.LISTS:
            assert options.value(field.name, ["a=1"]) == ("a=1",)
            continue
        choices = [c for c in ("digits", "classification", "mlp", "tanh", "none", "he", "cross-entropy", "cosine",
                               "replacement", "float64", "eval") if f"'{c}'" in str(field.type)]  # fmt: skip
        kind = next((kind for kind in words if kind in str(field.type)), "str")
        word = choices[0] if choices else words[kind]
        given = options.read(field.name, word)
        assert options.value(field.name, given) == options.value(field.name, options.value(field.name, given))
