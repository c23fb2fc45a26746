"""`predict stability`: levels, and where a measured curvature stands."""

import pytest

from sgdscope.predict import stability


def cells(answer):
    return {row[0]: dict(zip(answer.tables[0].columns, row, strict=True)) for row in answer.tables[0].rows}


def test_plain_sgd_at_and_beyond_its_edge():
    found = cells(stability(0.1, curvature=25.0))
    assert found["SGD, any batch size"]["level"] == "20"
    assert found["SGD, any batch size"]["measured in edge units"] == "1.25"
    assert found["SGD, any batch size"]["learning rate at its edge"] == "0.08"
    assert "at least 2.25 per step" in str(stability(0.1, curvature=25.0))
    assert "grow" not in str(stability(0.1, curvature=15.0))


def test_momentum_has_a_level_for_each_batch():
    found = cells(stability(0.1, 0.9, relative_variance=0.3))
    levels = [float(found[case]["level"]) for case in ("small batch", "relative variance 0.3", "full batch")]
    assert levels == sorted(levels)
    assert levels[0] == pytest.approx(2)
    assert levels[2] == pytest.approx(38)
    nesterov = cells(stability(0.1, 0.9, nesterov=True))
    assert float(nesterov["full batch"]["level"]) == pytest.approx(38 / 2.8, rel=1e-5)


def test_the_picture_has_the_levels():
    (picture,) = stability(0.1, 0.9, curvature=3.0).draw()
    assert [shape.label for shape in picture.shapes][-2:] == ["measured", "lr 0.1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0,), "learning rate > 0"), ((0.1, 1.0), "momentum"), ((0.1, 0.0, False, -1.0), "curvature > 0")],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        stability(*arguments)
