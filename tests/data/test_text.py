"""Text: windows of characters and what follows each."""

import builtins
import sys

import numpy as np
import pytest
import torch

from sgdscope.data import DataError, load
from sgdscope.data.text import python_prose

TEXT = "the quick brown fox jumps over the lazy dog\n" * 5


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "story.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def decoded(data, tokens):
    return ["".join(data.class_names[t] for t in window) for window in tokens]


def test_windows_and_the_characters_that_follow(file):
    data = load("text", data_dir=file(TEXT), context_length=7)
    trained_on = TEXT[: len(TEXT) - len(TEXT) // 10]
    assert decoded(data, data.inputs)[:3] == ["the qui", "ck brow", "n fox j"]
    assert "".join(decoded(data, data.inputs)) == trained_on[: len(data) * 7]
    assert "".join(decoded(data, data.labels)) == trained_on[1 : len(data) * 7 + 1]
    assert len(data) == (len(trained_on) - 1) // 7  # as many as have a following character
    assert data.class_names == tuple(sorted(set(TEXT)))
    assert data.classes == data.vocabulary == data.outputs == len(set(TEXT))
    assert data.input_shape == (7,)
    assert data.inputs.dtype == torch.int64


def test_the_last_tenth_is_the_test_set(file):
    data = load("text", data_dir=file(TEXT), context_length=5)
    held_out = TEXT[len(TEXT) - len(TEXT) // 10 :]
    assert "".join(decoded(data, data.test_inputs)) == held_out[: len(data.test_inputs) * 5]
    without = load("text", data_dir=file(TEXT), context_length=5, test=False)
    assert without.test_inputs is None
    assert torch.equal(without.inputs, data.inputs)  # the training set is the same
    assert load("text", data_dir=file(TEXT), context_length=100).test_inputs is None  # too short for a window


def test_a_subset_is_the_head_of_a_fixed_shuffle(file):
    path = file(TEXT)
    whole, part = (load("text", data_dir=path, context_length=7, subset=n, seed=3) for n in (None, 4))
    order = np.random.default_rng(3).permutation(len(whole))[:4]
    assert torch.equal(part.inputs, whole.inputs[order])
    assert torch.equal(part.labels, whole.labels[order])
    assert part.class_names == whole.class_names  # the vocabulary is that of the whole text
    assert "first 4 of a fixed shuffle (seed 3)" in part.preprocessing


def test_without_a_file_it_is_the_prose_of_python():
    data = load("text", subset=64)
    assert data.inputs.shape == (64, 32)
    assert f"pydoc_data.topics of Python {sys.version.split()[0]}" in data.preprocessing
    prose = python_prose()
    assert len(prose) > 300_000
    assert prose.count(" the ") > 2000  # it is English
    assert torch.equal(data.inputs, load("text", subset=64).inputs)


def test_a_python_without_its_prose_says_what_to_do(monkeypatch):
    plain = builtins.__import__

    def without(name, *args):
        if name.startswith("pydoc_data"):
            raise ModuleNotFoundError("No module named 'pydoc_data'")
        return plain(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        DataError, match=r"expected the help texts of Python .* lacks them: No module .*\nhint: pass the"
    ):
        load("text")


def test_line_ends_and_byte_order_marks_do_not_matter(file):
    plain = load("text", data_dir=file("ab\ncd\n" * 9), context_length=3)
    for content in (b"\xef\xbb\xbf" + b"ab\ncd\n" * 9, b"ab\r\ncd\r\n" * 9, b"ab\rcd\r" * 9):
        again = load("text", data_dir=file(content), context_length=3)
        assert torch.equal(again.inputs, plain.inputs)
        assert again.class_names == plain.class_names


def test_any_alphabet(file):
    data = load("text", data_dir=file("日本語🙂 العربية ß" * 5), context_length=4)
    assert "".join(decoded(data, data.inputs)).startswith("日本語🙂 العربية ß日")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, "expected a text of 2 to 10,000 distinct characters, got 0 in story.txt"),
        ("aaaa" * 50, {}, "expected a text of 2 to 10,000 distinct characters, got 1 in story.txt"),
        ("".join(map(chr, range(0x4E00, 0x4E00 + 10_001))), {}, "distinct characters, got 10,001 in story.txt"),
        ("abc", {}, "expected a text of at least 36 characters for windows of 32, got 3 in story.txt\nhint: a longer"),
        (TEXT, {"subset": 7}, r"expected a subset between 1 and 6 \(the samples in story.txt\), got 7\nhint: "),
        (TEXT, {"context_length": 0}, "expected a context length that is a whole number ≥ 1, got 0"),
        (TEXT, {"context_length": 2.5}, "expected a context length that is a whole number ≥ 1, got 2.5"),
        (b"caf\xe9\nab", {}, r"expected a text file in UTF-8, but byte 3 of .* \(in line 1\) is not\nhint: save the"),
        (b"ab\0cd", {}, "expected a text file, but .* holds zero bytes: it is no text\nhint: "),
    ],
)
def test_texts_that_do_not_do(file, content, options, message):
    with pytest.raises(DataError, match=message):
        load("text", data_dir=file(content), **options)


def test_the_shortest_text_that_does(file):
    for length in (2, 8, 9, 32):
        least = next(n for n in range(100) if n - n // 10 > length)
        assert len(load("text", data_dir=file(("ab" * 50)[:least]), context_length=length)) == 1
        with pytest.raises(DataError, match=f"a text of at least {least} characters for windows of {length}, got"):
            load("text", data_dir=file(("ab" * 50)[: least - 1]), context_length=length)


def test_places_that_are_no_text_file(tmp_path, file, monkeypatch):
    with pytest.raises(DataError, match=r"expected a text file, got the folder .*\nhint: "):
        load("text", data_dir=tmp_path)
    with pytest.raises(DataError, match=r"expected the data of text at .*nowhere, but there is nothing\nhint: "):
        load("text", data_dir=tmp_path / "nowhere")
    monkeypatch.setattr("sgdscope.data.utf8.MAX_TEXT", 10)
    with pytest.raises(DataError, match=r"expected a text file of at most 10 bytes, got 220 in .*\nhint: "):
        load("text", data_dir=file(TEXT))


def test_windows_beyond_memory_are_refused(file, monkeypatch):
    monkeypatch.setattr("sgdscope.data.text.MAX_BYTES", 100)
    with pytest.raises(DataError, match=r"expected windows of at most 100 bytes, got 6 windows .*\nhint: a smaller"):
        load("text", data_dir=file(TEXT))
