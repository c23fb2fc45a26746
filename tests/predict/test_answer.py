"""Answers are tables that a person and a script can read."""

from sgdscope.predict.answer import Answer, Table, notes_of, number
from sgdscope.theory.prediction import Prediction


def test_columns_line_up():
    table = Table("Escape", ["from", "time"], [["left", "1941.7"], ["the right well", "3"]])
    assert str(table) == "Escape\n  from            time\n  left            1941.7\n  the right well  3"
    assert str(Answer([table, table], ["source: x"])) == f"{table}\n\n{table}\n\nsource: x"


def test_notes_are_said_once():
    found = [Prediction(1, "τ", "", "", source, warnings=("too hot",)) for source in ("A", "B", "A")]
    assert notes_of(found) == ["outside its range: too hot", "source: A; B"]
    assert notes_of([]) == []


def test_numbers_for_a_glance():
    assert [number(x) for x in (1941.6999, 2.5e-7, None, 0)] == ["1941.7", "2.5e-07", "–", "0"]
