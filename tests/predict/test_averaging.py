"""`predict averaging`: the worth of averages, on the finite run whose numbers are known to ten digits."""

import pytest

from sgdscope.predict.averaging import averaging

CASE = {"lr": 0.3, "curvatures": (1, 0.2, 0.02), "noise": (1, 2, 4), "steps": 200}


def rows(answer):
    table = answer.tables[0]
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def test_the_best_of_each_family():
    found = rows(averaging(**CASE, start=(1, 2, 3)))
    worth = {name: float(row["excess loss"]) for name, row in found.items()}
    assert worth["last iterate"] == pytest.approx(0.1026361891, rel=1e-5)
    assert worth["two points 21 steps apart"] == pytest.approx(0.0574138784, rel=1e-5)
    assert worth["window 82"] == pytest.approx(0.0214075416, rel=1e-5)
    assert worth["EMA 0.97308"] == pytest.approx(0.0215350322, rel=1e-5)
    assert worth["uniform"] == pytest.approx(0.0361500012, rel=1e-5)
    assert float(found["uniform"]["its schedule instead"]) == pytest.approx(0.0371870155, rel=1e-5)


def test_what_is_asked_for_and_where_schedules_do_not_stand_in():
    answer = averaging(**CASE, start=(1, 2, 3), decay=0.95, window=50, gap=50)
    found = rows(answer)
    assert float(found["EMA 0.95"]["excess loss"]) == pytest.approx(0.0244862579, rel=1e-5)
    assert float(found["EMA 0.95"]["its schedule instead"]) == pytest.approx(0.0382428743, rel=1e-5)
    assert float(found["window 50"]["excess loss"]) == pytest.approx(0.0232801663, rel=1e-5)
    assert float(found["window 50"]["its schedule instead"]) == pytest.approx(0.0317520747, rel=1e-5)
    assert float(found["two points 50 steps apart"]["excess loss"]) == pytest.approx(0.0586417337, rel=1e-5)
    assert "not interchangeable" in str(answer)
    assert [picture.title.split(":")[0] for picture in answer.draw()] == list(found)[1:]


def test_stationary_runs_and_momentum():
    found = rows(averaging(lr=0.3, curvatures=(1, 0.2, 0.02), noise=(1, 2, 4), steps=20, gap=19, window=20))
    assert float(found["last iterate"]["excess loss"]) == pytest.approx(0.0945412222, rel=1e-5)
    assert float(found["two points 19 steps apart"]["excess loss"]) == pytest.approx(0.0483290846, rel=1e-5)
    assert float(found["window 20"]["excess loss"]) == pytest.approx(0.0259542321, rel=1e-5)
    assert not any(name.startswith("EMA") for name in found)  # the longest is the best
    with_momentum = averaging(lr=0.3, curvatures=(1, 0.2, 0.02), noise=(1, 2, 4), steps=20, gap=19, momentum=0.9)
    assert float(rows(with_momentum)["two points 19 steps apart"]["excess loss"]) == pytest.approx(0.3919796, rel=1e-5)
    assert with_momentum.draw() == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"curvatures": ()}, "at least one curvature"),
        ({"noise": (1, 2)}, "3 modes, got 2"),
        ({"lr": 2.0}, "stable|learning rate"),
        ({"start": (1,)}, "3 modes, got 1"),
        ({"window": 1000}, "1000"),
        ({"decay": 1.0}, "decay"),
    ],
)
def test_bad_input(changed, message):
    with pytest.raises(ValueError, match=message):
        averaging(**{**CASE, **changed})
