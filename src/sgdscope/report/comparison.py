"""Comparison: the runs of a sweep beside each other as one HTML page: where they ended, how they got there, a table."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from sgdscope.estimate import Estimate, short
from sgdscope.report import shell
from sgdscope.report.chart import Chart, figure
from sgdscope.report.comparison_axes import Panel, label, panels, phase_of, word
from sgdscope.report.comparison_lines import MOST_LINES, along_chart, course_chart
from sgdscope.report.comparison_plane import LOOKS, caption, plane_chart
from sgdscope.report.markup import Html, details, join, section, table, text, tied, whole
from sgdscope.sweep_records import Sweep, SweepCell

_PANELS, _COURSES, _ROWS = 6, 6, 200
_STATUS = {"running": "still running: this page shows the records so far", "interrupted": "interrupted",
           "finished": "finished"}  # fmt: skip
_KIND = {"stable": "good", "edge": "edge", "above": "bad", "diverged": "bad", "unknown": "unsure", "none": "none"}


def render(sweep: Sweep, beside: str | Path | None = None) -> str:
    """The page of a sweep as HTML, finished or not; links to reports of runs are as seen from the folder `beside`.

    The same records give the same bytes. Nothing is fetched by the page, and all names and values are escaped.
    """
    folder = Path(beside) if beside is not None else sweep.path
    laid_out = panels(sweep)
    parts = [_answer(sweep), _plane(laid_out), _courses(laid_out), _cells(sweep, folder), _provenance(sweep)]
    name = sweep.path.resolve().name
    return shell.page(f"{name}: {sweep.headline}", _masthead(sweep, name), join(parts, "\n"), "the records of its runs")


def write(sweep: Sweep, path: str | Path) -> Path:
    """Write the page of a sweep to `path`, whole or not at all. Raises RecordsError if it cannot be written."""
    return shell.written(path, render(sweep, Path(path).parent))


def _masthead(sweep: Sweep, name: str) -> Html:
    done = sum(cell.settled for cell in sweep)
    kind = sweep.status if sweep.status in _STATUS else "unknown"
    return Html(
        f'<header><p class="eyebrow"><span class="brand">sgdscope</span> <span class="run">{text(name)}</span> '
        f'<span class="status {kind}">{text(_STATUS.get(sweep.status, sweep.status))}</span> '
        f'<span class="steps">{whole(done)} of {whole(len(sweep))} runs done</span></p></header>'
    )


def _answer(sweep: Sweep) -> Html:
    options = [label(name) for name in sweep.varying]
    over = " and ".join([", ".join(options[:-1]), options[-1]] if len(options) > 1 else options)
    start, _, rest = sweep.headline.partition(": ")
    lead = f"{start} over {over}" if over else start
    return Html(f'<div class="answer"><h1>{text(lead)}<span class="colon">:</span> '
                f'<span class="rest">{tied(rest[:1].upper() + rest[1:])}.</span></h1></div>')  # fmt: skip


def _plane(laid_out: Sequence[Panel]) -> Html:
    """The phase diagram, or the runs along the one option that varies."""
    shown = [panel for panel in laid_out if panel.across is not None][:_PANELS]
    if not shown:
        return Html("")
    if all(phase_of(cell) == "none" for panel in shown for cell in panel.cells):
        return section("regimes", "Where they ended", Html('<p class="empty">Nothing to draw yet.</p>'))
    drawn = [
        (panel.title, (along_chart if panel.up is None else plane_chart)(panel, f"panel-{i}"))
        for i, panel in enumerate(shown, 1)
    ]
    if shown[0].up is None:
        words = (
            "Bars: two standard errors. ✕: a run diverged." if _any_diverged(shown) else "Bars: two standard errors."
        )
        words = f"Measured over threshold in the last quarter of each run. {words}"
    else:
        words = caption(shown)
    if len(laid_out) > _PANELS:
        words += f" The first {_PANELS} of {len(laid_out)} combinations of the other options; the table has all."
    return section("regimes", "Where they ended", _figures(drawn, words))


def _courses(laid_out: Sequence[Panel]) -> Html:
    """One chart of lines for each value across, or a single one."""
    charts: list[tuple[str, Chart]] = []
    left_out = 0
    for panel in laid_out:
        across, up = panel.across, panel.up
        groups: list[tuple[str, list[SweepCell]]] = [(panel.title, list(panel.cells))]
        if across is not None and up is not None:
            groups = [
                (", ".join(part for part in (f"{across.label} {across.words[i]}", panel.title) if part),
                 [cell for cell in panel.cells if across.index(cell) == i])
                for i in range(len(across.values))
            ]  # fmt: skip
        for title, cells in groups:
            if len(charts) < _COURSES:
                chart = course_chart(cells, up or across, f"Course of the runs, {title}", f"course-{len(charts) + 1}")
                charts += [(title, chart)] if chart is not None else []
                left_out += max(0, len(cells) - MOST_LINES)
            else:
                left_out += len(cells)
    if not charts:
        return Html("")
    words = "Measured over threshold along each run: streamed with plain SGD, else as read now and then. Colours are "
    words += "those of where the run ended. ✕: it diverged there."
    if left_out:
        words += f" {left_out:,} more runs are not drawn; each has a report of its own."
    return section("courses", "How they got there", _figures(charts, words))


def _figures(drawn: Sequence[tuple[str, Chart]], words: str) -> Html:
    """One chart, or several under their titles, two beside each other where there is room."""
    if len(drawn) == 1:
        return figure(drawn[0][1], words)
    shown = join(
        Html(f"<figure><h3>{text(title[:1].upper() + title[1:])}</h3>{chart.narrow}</figure>") for title, chart in drawn
    )
    return Html(f'<div class="pairs">{shown}</div><p class="note">{text(words, 1000)}</p>')


def _any_diverged(shown: Sequence[Panel]) -> bool:
    return any(phase_of(cell) == "diverged" for panel in shown for cell in panel.cells)


def _cells(sweep: Sweep, folder: Path) -> Html:
    """All runs with their settings and where they stand; names lead to their reports."""
    options = list(sweep.varying)
    headers = ["run", *(label(name) for name in options), "ended", "edge units", "λ_max, edge units", "loss", "step"]
    rows = []
    for number, cell in enumerate(sweep.cells[:_ROWS], 1):
        phase = phase_of(cell)
        reason = f"<small>{text(cell.reason)}</small>" if cell.reason else ""
        again = f"<small>begun {cell.attempts} times</small>" if cell.attempts > 1 else ""
        edge = cell.standing.edge if cell.standing is not None else None
        rows.append([
            _linked(number, cell, folder), *(text(word(cell.config.get(name))) for name in options),
            Html(f'<span class="mark {_KIND[phase]}"><span aria-hidden="true">{LOOKS[phase][0]}</span> '
                 f"{text(cell.outcome)}</span>{reason}{again}"),
            _short(edge), _short(cell.positions.get("lambda_max")), _glance(cell.mean("loss")),
            text(whole(cell.run.last_step)) if cell.run is not None else text("–"),
        ])  # fmt: skip
    numeric = {*range(1, 1 + len(options)), *range(len(headers) - 4, len(headers))}
    shown = table(headers, rows, label="All runs", numeric=numeric)
    more = len(sweep) - len(rows)
    rest = Html(f'<p class="note">{more:,} more are in cells.csv.</p>') if more > 0 else Html("")
    intro = text(
        "Measured over threshold, λ_max and loss are means over the last quarter of a run; the edge is at 1. The names "
        "at the left lead to reports."
    )
    return section("cells", "All runs", Html(shown + rest), intro)


def _linked(number: int, cell: SweepCell, folder: Path) -> Html:
    """The number of a run, which leads to its report."""
    page = cell.path / "report.html"
    if not page.exists():
        return Html(f'<span title="{text(cell.name)}">{number}</span>')
    address = quote(os.path.relpath(page.resolve(), folder.resolve()))
    return Html(f'<a href="{text(address, 4000)}" title="{text(cell.name)}">run {number}</a>')


def _short(found: Estimate | None) -> Html:
    return text("–" if found is None or found.value is None else short(found).replace("-", "−"))


def _glance(found: Estimate | None) -> Html:
    return text("–" if found is None or found.value is None else f"{float(found):.3g}".replace("-", "−"))


def _provenance(sweep: Sweep) -> Html:
    """How the sweep was made, and what all its runs share."""
    manifest = sweep.manifest
    command = manifest.get("command")
    words = shlex.join(map(str, command)) if isinstance(command, list) and command else ""
    again = Html(f"<pre><code>{text(words, 4000)}</code></pre>") if words else Html("")
    shared = {"made": manifest.get("created"), "sgdscope": manifest.get("sgdscope"), **_flat(manifest.get("versions"))}
    shared |= {name: value for name, value in manifest["common"].items() if value not in (None, [], "")}
    rows = [[text(name), text(value)] for name, value in list(shared.items())[:_ROWS] if value is not None]
    shown = details(
        text("What all runs share"), table(["what", "value"], rows, label="What all runs share", stacked=False)
    )
    clock = "The monitor reads by the clock: training is the same every time, readings vary a little. With the option"
    intro = None if manifest["common"].get("every") else text(f"{clock} “every” they do not.")
    return section("provenance", "How it was made", Html(again + shown), intro)


def _flat(versions: object) -> dict[str, object]:
    return {str(name): value for name, value in versions.items()} if isinstance(versions, dict) else {}
