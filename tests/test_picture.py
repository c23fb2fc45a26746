"""Pictures refuse what cannot be drawn."""

import numpy as np
import pytest

from sgdscope.picture import Band, Field, Line, Mark, Picture, Points, Words


def test_series_have_one_length():
    for shape in (Line([1, 2], [1]), Points([1, 2], [[1, 2]]), Band([1, 2], [1, 2], [1])):
        with pytest.raises(ValueError, match="one length"):
            Picture("a", "x", "y", [shape])
    with pytest.raises(ValueError, match="no shapes"):
        Picture("a", "x", "y", [])
    assert len(Picture("a", "x", "y", (s for s in [Line([1, 2], [3, 4]), Mark(1, "here")])).shapes) == 2


def test_fields_have_borders_around_their_cells():
    cells = np.zeros((2, 3))
    Field([1, 2, 3, 4], [0, 1, 2], cells, (0, 1), ("a",))
    Field([1, 2, 3, 4], np.zeros((3, 4)), cells, (0, 1), ("a",))  # rows that change from column to column
    for x, y in (([1, 2, 3], [0, 1, 2]), ([1, 2, 3, 4], [0, 1]), ([1, 2, 3, 4], np.zeros((2, 3)))):
        with pytest.raises(ValueError, match="one more than each"):
            Field(x, y, cells, (0, 1), ("a",))
    with pytest.raises(ValueError, match="a border more than bands"):
        Field([1, 2, 3, 4], [0, 1, 2], cells, (0, 1), ("a", "b"))


def test_a_legend_names_what_has_no_words_of_its_own():
    field = Field([0, 1], [0, 1], [[0.5]], (0, 0.5, 1), ("low", "high"))
    named, other = Line([0, 1], [0, 1], "line"), Points([0], [0], label="line")
    shapes = [field, named, Line([0, 1], [1, 1]), other, Mark(1, "here"), Words(0, 0, "there")]
    assert Picture("a", "x", "y", shapes).legend == ("low", "high", "line")
