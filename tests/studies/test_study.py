"""Studies: claims are judged by what cells found, and the page says what came of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest

from sgdscope import studies
from sgdscope.cells import Cell, Results
from sgdscope.estimate import Estimate
from sgdscope.picture import Line, Picture, Points
from sgdscope.studies import NAMES, SIZES, Claim, Figure, Recipe, Study, carry_out, reopened
from sgdscope.verdict import compare

HOSTILE = "<script>alert(1)</script> | x"


@dataclass(frozen=True, kw_only=True)
class Doubling(Recipe):
    name: ClassVar[str] = "doubling"
    title: ClassVar[str] = "Does a double double?"
    paper: ClassVar[str] = "Nobody 2412.20553"
    factor: float = 2.0
    inputs: tuple[float, ...] = (1.0, 3.0)

    @classmethod
    def of_size(cls, size, *, data_dir=None, seed=0):
        return cls(size=size, data_dir=data_dir, seed=seed)

    def cells(self):
        return [Cell(f"x{x:g}", "sgdscope.estimate:plain", {"value": x}) for x in self.inputs]

    def claims(self):
        def judge(results: Results):
            for x in self.inputs:
                measured = Estimate("twice", 2.0 * results[f"x{x:g}"]["value"], 0.01)
                yield compare(measured, self.factor * x, claim=f"x = {x:g}", tolerance=0.1)

        def missing(results: Results):
            return compare(results.estimate("other", "value"), 1.0, claim="is there")

        return [
            Claim("twice is two times", "Eq. 1", judge, if_not="two is not two " + HOSTILE, formula="2 x"),
            Claim(HOSTILE, "Eq. 2", missing),
        ]

    def figures(self, results):
        found = [results[f"x{x:g}"]["value"] for x in self.inputs]
        picture = Picture("Twice", "x", "2 x", [Points(self.inputs, found, label="m"), Line([1, 3], [1, 3], "p")])
        return [Figure("twice", (picture,), "All on the line.")]


@pytest.fixture
def _cells(monkeypatch):
    monkeypatch.setattr("sgdscope.estimate.plain", lambda settings, folder=None: settings)


def study(**changes) -> Study:
    recipe = Doubling(**changes)
    return Study.of(recipe, Results(recipe.cells(), {f"x{x:g}": {"value": x} for x in recipe.inputs}))


def test_a_changed_prediction_turns_the_verdict():
    assert [f.verdict.outcome for f in study().findings] == ["agrees", "agrees", "unassessed"]
    assert [f.verdict.outcome for f in study(factor=3.0).findings] == ["disagrees", "disagrees", "unassessed"]


def test_the_reason_is_said_only_where_it_fails():
    assert study().findings[0].remark == ""
    assert study(factor=3.0).findings[0].remark.startswith("two is not two")


def test_what_is_missing_is_unassessed_with_its_reason():
    finding = study().findings[-1]
    assert finding.verdict.outcome == "unassessed"
    assert finding.measured == "the result of other is missing: there is no such cell"
    assert finding.predicted == "–"


def test_headline_and_table():
    found = study(factor=3.0)
    assert found.headline == "3 findings: 2 disagree, 1 not assessed"
    text = str(found)
    assert "disagrees" in text
    assert "3 = 2 x" in text
    assert "2.000 ± 0.010" in text or "2.00 ± 0.01" in text


def test_carried_out_it_writes_everything_and_is_read_back(tmp_path):
    recipe = Doubling()
    for cell in recipe.cells():  # as if done: what a cell does is tested with the cells
        cell.file(tmp_path).parent.mkdir(exist_ok=True)
        kept = {"format": 1, "function": cell.function, "settings": cell.settings, "result": cell.settings}
        cell.file(tmp_path).write_text(json.dumps(kept))
    found = carry_out(recipe, tmp_path, executor=0)
    assert [f.verdict.outcome for f in found.findings] == ["agrees", "agrees", "unassessed"]
    page = (tmp_path / "report.html").read_text()
    assert "<script>" not in page
    assert "All on the line." in page
    assert page.count("<svg") == 2
    assert (tmp_path / "findings.md").read_text().count("\n| ") == 5
    assert "![Twice](doubling-twice.svg)" in (tmp_path / "findings.md").read_text()
    assert (tmp_path / "doubling-twice.svg").read_text().startswith("<?xml")
    kept = json.loads((tmp_path / "findings.json").read_text())
    assert [f["outcome"] for f in kept["findings"]] == ["agrees", "agrees", "unassessed"]
    assert "sgdscope study doubling --size toy" in page
    again = reopened(recipe, tmp_path)
    assert again.to_json() == found.to_json()
    found.write(tmp_path)
    assert (tmp_path / "report.html").read_text() == page


def test_nothing_done_is_said(tmp_path):
    found = reopened(Doubling(), tmp_path)
    assert found.headline == "2 findings: 2 not assessed"
    assert found.figures == []
    assert found.notes == ["2 of 2 cells were not run"]


def test_unknown_names_and_sizes():
    with pytest.raises(ValueError, match="expected one of stochastic-edge"):
        studies.recipe("edges")
    with pytest.raises(ValueError, match="expected a size of toy, small, paper"):
        studies.recipe(NAMES[0], "huge")  # type: ignore[arg-type]
    assert SIZES == ("toy", "small", "paper")
