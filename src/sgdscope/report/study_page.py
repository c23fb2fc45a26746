"""Study page: claims of a paper with their verdicts, and the figures behind them, as one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sgdscope.picture import Picture
from sgdscope.report import shell
from sgdscope.report.markup import Html, join, section, source, table, text, tied
from sgdscope.report.picture_chart import picture_chart

_MARKS = {
    "agrees": ("✓", "agrees", "good"), "disagrees": ("✕", "disagrees", "bad"),
    "undecided": ("≈", "undecided", "unsure"), "unassessed": ("–", "not assessed", "none"),
}  # fmt: skip


@dataclass(frozen=True)
class StudyRow:
    """One finding: the claim, of which case it is, and its numbers as they are shown."""

    claim: str
    of: str
    source: str
    predicted: str
    formula: str
    measured: str
    outcome: str
    remark: str


@dataclass(frozen=True)
class StudyFigure:
    """Pictures with what to see in them."""

    name: str
    pictures: Sequence[Picture]
    caption: str


@dataclass(frozen=True)
class StudyPage:
    """All that the page of a study shows."""

    name: str
    title: str
    paper: str
    headline: str
    rows: Sequence[StudyRow]
    figures: Sequence[StudyFigure]
    notes: Sequence[str]
    command: str


def render_study(study: StudyPage) -> str:
    """The page: what came of the claims first, then figures, then notes and the command that makes it again.

    The same study gives the same bytes.
    """
    masthead = Html(
        f'<header><p class="eyebrow"><span class="brand">sgdscope</span> <span class="run">study {text(study.name)}'
        "</span></p></header>"
    )
    title = Html(f'<div class="answer"><h1>{text(study.title)}<span class="colon">:</span> '
                 f'<span class="rest">{tied(study.headline)}. {source(study.paper)}</span></h1></div>')  # fmt: skip
    notes = join(Html(f"<li>{text(note, 1000)}</li>") for note in study.notes)
    again = Html(f"<pre>{text(study.command)}</pre>")
    parts = [
        title,
        _findings(study.rows),
        *(_figure(number, figure) for number, figure in enumerate(study.figures, 1)),
        section("notes", "Notes", Html(f"<ul>{notes}</ul>") if study.notes else Html("")),
        section("again", "To make this page again", again),
    ]
    return shell.page(f"{study.title} – sgdscope", masthead, join(parts, "\n"), "the cells of this study")


def write_study(path: str | Path, study: StudyPage) -> Path:
    """Write the page of a study whole or not at all. Raises RecordsError if the place cannot be written."""
    return shell.written(path, render_study(study))


def _findings(rows: Sequence[StudyRow]) -> Html:
    intro = text("Each verdict is computed: “disagrees” is a finding, “undecided” means that the error bars cross the "
                 "border of the claim.")  # fmt: skip
    headers = ("claim", "predicted", "measured", "verdict", "source")
    body, before = [], ""
    for row in rows:
        mark, words, kind = _MARKS.get(row.outcome, _MARKS["unassessed"])
        again = row.claim == before
        claim = Html("") if again else text(row.claim)
        of = f"<small>{tied(row.of)}</small>" if row.of else ""
        remark = f"<small>{tied(row.remark)}</small>" if row.remark else ""
        formula = f"<small>{tied(row.formula)}</small>" if row.formula and not again else ""
        body.append([
            Html(f"{claim} {of}"), Html(f"{tied(row.predicted)} {formula}"), tied(row.measured),
            Html(f'<span class="mark {kind}"><span aria-hidden="true">{mark}</span> {words}</span> {remark}'),
            Html("") if again else Html(f"<small>{source(row.source)}</small>"),
        ])  # fmt: skip
        before = row.claim
    shown = table(headers, body, label="Claims, predictions and measurements") if body else Html("")
    return section("findings", "Claim by claim", shown, intro)


def _figure(number: int, figure: StudyFigure) -> Html:
    drawn = []
    for index, picture in enumerate(figure.pictures):
        chart = picture_chart(picture, f"figure-{number}-{index + 1}")
        drawn.append(Html(f'<h3>{text(picture.title)}</h3><div class="wide">{chart.wide}</div>'
                          f'<div class="narrow">{chart.narrow}</div>'))  # fmt: skip
    body = Html(f"<figure>{join(drawn)}<figcaption>{text(figure.caption, 1000)}</figcaption></figure>")
    return section(f"figure-{number}", f"Figure {number}", body)
