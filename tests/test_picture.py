"""Pictures refuse what cannot be drawn."""

import pytest

from sgdscope.picture import Band, Line, Mark, Picture, Points


def test_series_have_one_length():
    for shape in (Line([1, 2], [1]), Points([1, 2], [[1, 2]]), Band([1, 2], [1, 2], [1])):
        with pytest.raises(ValueError, match="one length"):
            Picture("a", "x", "y", [shape])
    with pytest.raises(ValueError, match="no shapes"):
        Picture("a", "x", "y", [])
    assert len(Picture("a", "x", "y", (s for s in [Line([1, 2], [3, 4]), Mark(1, "here")])).shapes) == 2
