"""Tables: numbers standardised, categories one-hot, the target found out, and every refusal."""

import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdscope.data import DataError, Dataset, load

PETS = """\
weight,kind,age,name of owner,happy
3.5,cat,2,Ann,yes
30,dog,,Bob,no
,dog,4,Ann,yes
0.5,fish,1,Bob,
4.5,?,9,Ann,no
"""


@pytest.fixture
def table(tmp_path):
    def write(content, **options):
        path = tmp_path / "pets.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load("table", data_dir=path, **options)

    return write


def numbers(values):
    return np.array(values, dtype=float)


def test_each_kind_of_column_by_hand(table):
    data = table(PETS, target="happy")
    # the row without target is dropped; yes is 1, no is 0
    assert data.labels.tolist() == [1, 0, 1, 0]
    assert data.class_names == ("no", "yes")
    weight, age = numbers([3.5, 30, np.nan, 4.5]), numbers([2, np.nan, 4, 9])
    columns = [(x - np.nanmean(x)) / np.nanstd(x) for x in (weight, age)]
    cat, dog, missing = [1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]
    expected = [np.nan_to_num(columns[0]), cat, dog, missing, np.nan_to_num(columns[1]), [1, 0, 1, 1], [0, 1, 0, 0]]
    np.testing.assert_allclose(data.inputs.numpy(), np.array(expected).T, atol=1e-6)
    assert data.test_inputs is None
    assert data.preprocessing == (
        "pets.csv: 4 rows, in file order; 1 rows without target dropped; classification of happy, 2 classes; 2 columns "
        "of numbers standardised, 2 of categories one-hot: 7 features; 2 missing numbers took the mean"
    )


def test_a_target_of_numbers_is_a_regression(table):
    data = table(PETS, target="weight")
    x = numbers([3.5, 30, 0.5, 4.5])
    assert data.classes is None
    assert data.outputs == 1
    np.testing.assert_allclose(data.labels.numpy(), ((x - x.mean()) / x.std())[:, None], atol=1e-6)
    assert f"regression of weight, standardised by mean {x.mean():.6g} and" in data.preprocessing


def column(values):
    return "x,y\n" + "".join(f"{i},{v}\n" for i, v in enumerate(values))


def test_whole_numbers_are_classes_while_they_are_few(table):
    assert table(column([3, 1, 10, 1]), target="y").labels.tolist() == [1, 0, 2, 0]
    assert table(column([3, 1, 10, 1]), target="y").class_names == ("1", "3", "10")  # by size, not by spelling
    assert table(column(["2.0", "2", "1.0"]), target="y").labels.tolist() == [1, 1, 0]
    assert table(column(range(20)), target="y").classes == 20
    assert table(column(range(21)), target="y").classes is None
    assert table(column([1, 1.5, 2]), target="y").classes is None


def test_the_task_can_be_told(table):
    assert table(column([3, 1, 10, 1]), target="y", task="regression").classes is None
    assert table(column([0.5, 1.5, 0.5]), target="y", task="classification").class_names == ("0.5", "1.5")


def test_columns_can_be_ignored_and_flat_ones_are(table):
    data = table(PETS, target="happy", ignore=["kind", "weight"])
    assert data.inputs.shape == (4, 3)
    flat = table("a,b,c,d,y\n1,x,,1,0\n1,x,,2,1\n", target="y")
    assert flat.inputs.shape == (2, 1)
    assert "without variation and left out: a, b, c" in flat.preprocessing


def test_a_subset_is_the_head_of_a_fixed_shuffle_and_the_others_are_the_test_set(table):
    rng = np.random.default_rng(0)
    x = rng.normal(5, 3, 30)
    content = "x,y\n" + "".join(f"{v!r},{i % 3}\n" for i, v in enumerate(x.tolist()))
    data = table(content, target="y", subset=20, seed=4)
    order = np.random.default_rng(4).permutation(30)
    assert data.labels.tolist() == [i % 3 for i in order[:20]]
    train = x[order[:20]]
    np.testing.assert_allclose(data.inputs[:, 0].numpy(), (train - train.mean()) / train.std(), atol=1e-5)
    np.testing.assert_allclose(data.test_inputs[:, 0].numpy(), (x[order[20:]] - train.mean()) / train.std(), atol=1e-5)
    assert table(content, target="y", subset=20, test=False).test_inputs is None


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_quotes_and_line_ends(table, delimiter):
    content = f'"a x"{delimiter}b\r\n"1{delimiter}""0"{delimiter}1\r\n\r\nz{delimiter}0\r\n'
    data = table(b"\xef\xbb\xbf" + content.encode(), target="b")
    assert data.inputs.tolist() == [[1, 0], [0, 1]]
    assert data.labels.tolist() == [1, 0]


def test_numbers_of_any_size(table):
    for scale in (1e300, 1e-300, 1.0):
        data = table(f"x,y\n{scale},0\n{2 * scale},1\n{3 * scale},0\n", target="y")
        np.testing.assert_allclose(data.inputs[:, 0].numpy(), [-(1.5**0.5), 0, 1.5**0.5], atol=1e-6)
    assert table("x,z,y\n0.1,1,0\n0.1,2,1\n0.1,3,1\n", target="y").inputs.shape == (3, 1)  # rounding is no variation


MANY = "name,x,y\n" + "".join(f"n{i},{i},{i % 2}\n" for i in range(60))


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (PETS, {}, r"expected target, the column to predict, got none\nhint: .* has weight, kind, age, name"),
        (PETS, {"target": "sad"}, "expected the target among the columns of pets.csv, got 'sad'\nhint: it has we"),
        (PETS, {"target": "age", "ignore": ["a"]}, "expected columns to ignore among the columns of pets.csv, got 'a'"),
        (PETS, {"target": "age", "ignore": ["age"]}, "expected a target that is not ignored, got 'age' as both"),
        (PETS, {"target": "age", "task": "ranking"}, "expected task 'classification' or 'regression', got 'ranking'"),
        (PETS, {"target": "kind", "task": "regression"}, "expected numbers in the target 'kind' of a regression, got "
                                                         "'cat' in line 2\nhint: leave the task out"),
        (PETS, {"target": "happy", "subset": 5}, r"a subset between 1 and 4 \(the samples in pets.csv\), got 5"),
        (PETS + "1,2\n", {"target": "age"}, "5 values in line 7 of .*pets.csv, as line 1 has names, got 2\nhint: "),
        (PETS.replace("age", "kind"), {"target": "happy"}, "names in line 1 of .*, got 'kind' more than once"),
        (PETS.replace("weight", ""), {"target": "happy"}, "for every column in line 1 .* for column 1\nhint: an "),
        ("", {"target": "y"}, "expected a CSV file, but .* is empty\nhint: "),
        ("x,y\n", {"target": "y"}, "expected rows below the names in .*, got none\nhint: "),
        ('x,y\n"1,2\n', {"target": "y"}, "cannot read line 2 of .*: unexpected end of data\nhint: "),
        ("x,y\n1,2\n", {"target": "y"}, "expected a target with at least two different values, but 'y' is always '2'"),
        ("x,y\n1,\n2,?\n", {"target": "y"}, "values in the target 'y' of pets.csv, but all of them are missing"),
        ("y\n1\n2\n", {"target": "y"}, "expected a column besides the target in .* that varies, got none of 0\nhint: "),
        ("x,y\n1,1\n1,2\n", {"target": "y"}, "expected a column besides the target in .* that varies, got none of 1\n"),
        ("x,y\n1,1\ninf,2\n", {"target": "y"}, "finite numbers in the column 'x', got 'inf' in line 3\nhint: an empty"),
        ("x,y\n1,1.5\n2,1e999\n", {"target": "y"}, "finite numbers in the column 'y', got '1e999' in line 3\nhint: "),
        (MANY, {"target": "y"}, "expected numbers, or at most 50 different values, in the column 'name', got 60 "
                                "values, one of them 'n0' in line 2\nhint: leave it out .*--ignore-columns 'name'"),
        (b"x,y\n\xff,1\n", {"target": "y"}, r"a CSV file in UTF-8, but byte 4 of .* \(in line 2\) is not\nhint: "),
        (b"PK\x03\x04\0\0", {"target": "y"}, "expected a CSV file, but .* holds zero bytes: it is no text\nhint: "),
    ],
)  # fmt: skip
def test_tables_that_do_not_do(table, content, options, message):
    with pytest.raises(DataError, match=message) as caught:
        table(content, **options)
    assert len(str(caught.value).splitlines()) <= 2


def test_more_classes_than_make_sense(table, monkeypatch):
    monkeypatch.setattr("sgdscope.data.table.MAX_CLASSES", 59)
    with pytest.raises(DataError, match=r"expected at most 59 classes in the target 'name', got 60\nhint: is it a col"):
        table(MANY, target="name")


def test_a_regression_needs_variation_in_the_rows_it_is_trained_on(table):
    content = "x,y\n" + "".join(f"{i},{0.5 if i else 1.5}\n" for i in range(9))
    order = np.random.default_rng(0).permutation(9)
    assert 0 not in order[:2]
    with pytest.raises(DataError, match="a target that varies, but 'y' is constant in the 2 training rows"):
        table(content, target="y", subset=2)


def test_features_beyond_memory_are_refused(table, monkeypatch):
    monkeypatch.setattr("sgdscope.data.table.MAX_BYTES", 30)
    with pytest.raises(DataError, match=r"expected features of at most 30 bytes, got more in pets.csv\nhint: fewer"):
        table(PETS, target="happy")


def test_a_field_too_long_to_be_one(table):
    with pytest.raises(DataError, match=r"cannot read line 2 of .*: field larger than field limit \(131072\)\nhint: "):
        table("x,y\n" + "a" * 200_000 + ",1\n", target="y")


cells = st.one_of(st.text(max_size=5), st.integers().map(str), st.floats().map(str), st.just(""))


@settings(max_examples=120, deadline=None)
@given(st.lists(st.lists(cells, min_size=2, max_size=3), max_size=6), st.binary(max_size=9))
def test_any_rows_give_a_data_set_or_a_data_error(rows, damage):
    file = io.StringIO()
    file.write("a,b\n")
    for row in rows:
        file.write(",".join(row[:2] if len(rows) % 2 else row) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(file.getvalue().encode("utf-8", "replace") + (damage if len(damage) > 6 else b""))
        with contextlib.suppress(DataError):
            data = load("table", data_dir=path, target="b")
            assert isinstance(data, Dataset)
            assert torch.isfinite(data.inputs).all()
