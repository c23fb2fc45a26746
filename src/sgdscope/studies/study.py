"""Study: a recipe carried out, its claims judged, and what came of it as text, as Markdown and as a page."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sgdscope._version import __version__
from sgdscope.cells import MissingCellError, Progress, Results, read_results, run_cells
from sgdscope.estimate import plain
from sgdscope.executors import Executor
from sgdscope.predict.answer import Answer, Table
from sgdscope.records import RecordsError, write_json
from sgdscope.studies.claim import Finding
from sgdscope.studies.recipe import Figure, Recipe

_WIDTH = 88
"""Characters of a claim in the terminal."""


@dataclass(frozen=True)
class Study:
    """A recipe with what its cells found.

    Attributes:
        recipe: what was asked.
        results: of its cells.
        findings: its claims, judged.
    """

    recipe: Recipe
    results: Results
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, recipe: Recipe, results: Results) -> Study:
        """Judge the claims of a recipe by the results there are."""
        return cls(recipe, results, tuple(f for claim in recipe.claims() for f in claim.findings(results)))

    @property
    def figures(self) -> list[Figure]:
        """What can be drawn; nothing where results are missing."""
        try:
            return list(self.recipe.figures(self.results))
        except MissingCellError:
            return []

    @property
    def notes(self) -> list[str]:
        """What else a reader should know, and which cells failed."""
        try:
            said = list(self.recipe.notes(self.results))
        except MissingCellError as error:
            said = [str(error)]
        failed = [f"failed: {name}: {why}" for name, why in self.results.failures.items()]
        missing = len(self.results.cells) - len(self.results) - len(failed)
        return [*said, *failed, *([f"{missing} of {len(self.results.cells)} cells were not run"] if missing else [])]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many findings have each outcome."""
        return Counter(f.verdict.outcome for f in self.findings)

    @property
    def headline(self) -> str:
        """``12 findings: 9 agree, 2 disagree, 1 undecided``."""
        words = {"agrees": "agree", "disagrees": "disagree", "undecided": "undecided", "unassessed": "not assessed"}
        said = [f"{self.counts[key]} {word}" for key, word in words.items() if self.counts[key]]
        return f"{len(self.findings)} findings: " + ", ".join(said)

    @property
    def answer(self) -> Answer:
        """The findings as a table, with the pictures."""
        rows: list[list[str]] = []
        said = None
        for f in self.findings:
            if f.of and f.claim is not said:
                rows.append(["", _cut(f.claim.statement), "", ""])
            said = f.claim
            words = f"  {f.of}" if f.of else f.claim.statement
            rows.append([f.verdict.outcome, _cut(words), _cut(f.equation, 40), _cut(f.measured, 48)])
        table = Table(self.recipe.title, ["verdict", "claim", "predicted", "measured"], rows)
        notes = [f"source: {self.recipe.paper}", *self.notes, self.headline]
        return Answer([table], notes, lambda: [p for figure in self.figures for p in figure.pictures])

    def __str__(self) -> str:
        return str(self.answer)

    @property
    def command(self) -> str:
        """What makes it again (without the place of data, which differs from machine to machine)."""
        data = " --data-dir DIR" if self.recipe.data_dir is not None else ""
        seed = f" --seed {self.recipe.seed}" if self.recipe.seed else ""
        return f"sgdscope study {shlex.quote(self.recipe.name)} --size {self.recipe.size}{data}{seed}"

    def markdown(self) -> str:
        """The findings as a page of Markdown, with the command that makes it."""
        lines = [f"# {self.recipe.title}", "", self.recipe.paper, "", f"Made by `{self.command}`. {self.headline}.", "",
                 "| claim | source | predicted | measured | verdict |", "| --- | --- | --- | --- | --- |"]  # fmt: skip
        said = None
        for f in self.findings:
            again, said = f.claim is said, f.claim
            claim = f.of if again else f.claim.statement + (f": {f.of}" if f.of else "")
            outcome = f.verdict.outcome + (f" ({f.remark})" if f.remark else "")
            source = "" if again else f.verdict.source
            cells = (claim, source, f.equation, f.measured, outcome)
            lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
        for figure in self.figures:
            title = "; ".join(picture.title for picture in figure.pictures)
            lines += ["", f"![{title}]({self._drawing(figure)})", "", figure.caption]
        lines += [""] + [f"- {note}" for note in self.notes]
        return "\n".join(lines).rstrip() + "\n"

    def _drawing(self, figure: Figure) -> str:
        """Name of the file of a figure."""
        return f"{self.recipe.name}-{figure.name}.svg"

    def to_json(self) -> dict[str, Any]:
        """Everything but the cells, as plain JSON types."""
        settings = {f.name: plain(getattr(self.recipe, f.name)) for f in fields(self.recipe) if f.name != "data_dir"}
        findings = [{"statement": f.claim.statement, "remark": f.remark, **f.verdict.to_row()} for f in self.findings]
        return {"format": 1, "sgdscope": __version__, "study": self.recipe.name, "command": self.command,
                "settings": settings, "findings": findings, "notes": self.notes}  # fmt: skip

    def write(self, folder: str | Path) -> Path:
        """Write ``findings.json``, ``findings.md`` with its figures, and ``report.html``; returns the page's path.

        Raises RecordsError if they cannot be written.
        """
        from sgdscope.report.draw import save
        from sgdscope.report.study_page import write_study

        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "findings.json", self.to_json())
            (folder / "findings.md").write_text(self.markdown(), encoding="utf-8")
            for figure in self.figures:
                save(figure.pictures, folder / self._drawing(figure))
        except OSError as error:
            raise RecordsError(f"cannot write in {folder}: {error.strerror or error}") from error
        return write_study(folder / "report.html", self.page())

    def page(self) -> Any:
        """What the page shows, without knowing how."""
        from sgdscope.report.study_page import StudyFigure, StudyPage, StudyRow

        rows = [
            StudyRow(
                f.claim.statement, f.of, f.verdict.source, f.predicted, f.formula, f.measured, f.verdict.outcome,
                f.remark,
            )
            for f in self.findings
        ]  # fmt: skip
        figures = [StudyFigure(f.name, f.pictures, f.caption) for f in self.figures]
        return StudyPage(self.recipe.name, self.recipe.title, self.recipe.paper, self.headline, rows, figures,
                         self.notes, self.command)  # fmt: skip


def carry_out(
    recipe: Recipe, folder: str | Path, *, executor: Executor = None, progress: Progress | None = None
) -> Study:
    """Run what is left of a recipe's cells in `folder`, judge its claims, and write what came of it.

    Raises as `cells.run_cells`.
    """
    study = Study.of(recipe, run_cells(recipe.cells(), folder, executor=executor, progress=progress))
    study.write(folder)
    return study


def reopened(recipe: Recipe, folder: str | Path) -> Study:
    """The study as its folder stands, nothing run; needs no torch."""
    return Study.of(recipe, read_results(recipe.cells(), Path(folder)))


def _cut(words: str, most: int = _WIDTH) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"
