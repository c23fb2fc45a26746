"""Pictures become files of every kind, the same each time."""

import re

import numpy as np
import pytest
from PIL import Image

from sgdscope.picture import Band, Field, Line, Mark, Picture, Points, Words
from sgdscope.report.draw import save

PICTURE = Picture(
    "Rates fall with batch size", "batch size", "rate",
    [Line([1, 2, 4], [1, 0.1, 0.01], "predicted", dashed=True), Points([1, 2], [1, 0.2], [0.1, 0.1], "measured",
     "second"), Band([1, 4], [0.5, 0.01], [2, 0.1], "doubt"), Mark(2, "here")],
    log_across=True, log_up=True, span_across=(0.9, 5), span_up=(1e-3, 3),
)  # fmt: skip


def test_svg_says_what_it_shows(tmp_path):
    first = save(PICTURE, tmp_path / "a" / "rates.svg").read_text()
    for said in ("Rates fall with batch size", "predicted", "measured", "doubt", "here", ">0.01<"):
        assert said in first
    assert save(PICTURE, tmp_path / "again.svg").read_text() == first
    assert "mathdefault" not in first


def test_fields_and_words(tmp_path):
    values = [[0.1, 0.9, np.nan], [0.6, 0.6, 2.0]]
    field = Field([1, 2, 4, 8], [0, 1, 2], values, (0.0, 0.5, 1.0), ("low", "high"), "second")
    drawn = save(Picture("a", "x", "y", [field, Words(2, 1, "here")], log_across=True), tmp_path / "a.svg").read_text()
    for said in ("low", "high", "here"):
        assert said in drawn
    cells = [part for part in re.findall(r'<g id="PolyCollection_\d">(.*?)</g>', drawn, flags=re.S) if "path" in part]
    assert [len(re.findall(r"<path d=", part)) for part in cells] == [1, 4]  # what is beyond the bands is in the last


def test_short_logarithmic_axes_have_numbers(tmp_path):
    drawn = save(Picture("a", "x", "y", [Line([2.5, 9], [0, 1])], log_across=True), tmp_path / "a.svg").read_text()
    assert ">5<" in drawn


def test_png_and_pdf(tmp_path):
    with (
        Image.open(save(PICTURE, tmp_path / "one.png")) as one,
        Image.open(save([PICTURE, PICTURE], str(tmp_path / "two.PNG"))) as two,
    ):
        assert two.size == (2 * one.size[0], one.size[1])
    assert save(PICTURE, tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_names_in_a_picture_are_text(tmp_path):
    hostile = Picture("<script>alert(1)</script> $x^2$ \x1b[31m", "x", "y", [Line([0, 1], [0, 1])])
    assert "<script>" not in save(hostile, tmp_path / "a.svg").read_text()


@pytest.mark.parametrize("name", ["a.jpg", "a", "png"])
def test_other_kinds_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"ends in \.png, \.svg or \.pdf"):
        save(PICTURE, tmp_path / name)


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="at least one picture"):
        save([], tmp_path / "a.png")
