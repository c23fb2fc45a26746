"""Sections: the parts of the page that answer: headline, what-if, charts, verdicts."""

from __future__ import annotations

from sgdscope.edge_map import EdgeMap
from sgdscope.estimate import Estimate
from sgdscope.records import Run
from sgdscope.regime import EdgeUnits, Standing
from sgdscope.report import edge_map_figure
from sgdscope.report.advice import SPIKE, advice, has_edge, outlook
from sgdscope.report.figures import Chart, caption, loss_chart, stability_chart
from sgdscope.report.gauge import SCALE, gauge
from sgdscope.report.markup import Html, join, section, short, source, table, text, tied, whole
from sgdscope.verdict import Verdict

_STATUS = {
    "running": "still running: this page shows the records so far",
    "interrupted": "interrupted",
    "diverged": "diverged",
    "failed": "ended with an error",
    "finished": "finished",
}
_OUTCOMES = {
    "agrees": ("✓", "agrees"),
    "disagrees": ("✕", "disagrees"),
    "undecided": ("≈", "undecided"),
    "unassessed": ("–", "not assessed"),
}


def masthead(run: Run) -> Html:
    """The line above the headline: which run this is and how far it got."""
    steps = f"step {whole(run.last_step)}" if run.rows else "no rows yet"
    status = _STATUS.get(run.status, run.status)
    kind = run.status if run.status in _STATUS else "unknown"
    return Html(
        f'<header><p class="eyebrow"><span class="brand">sgdscope</span> <span class="run">{text(name_of(run))}</span> '
        f'<span class="status {kind}">{text(status)}</span> <span class="steps">{text(steps)}</span></p></header>'
    )


def name_of(run: Run) -> str:
    """The folder's name, which is what people call a run."""
    return run.path.resolve().name or str(run.path)


def answer(run: Run, standing: Standing, units: EdgeUnits) -> Html:
    """The headline, the gauge, and what they mean."""
    start, colon, rest = standing.headline.rpartition(": ")
    if rest[:1].isascii():
        rest = rest[:1].upper() + rest[1:]
    headline = (
        f'<h1>{text(start)}<span class="colon">:</span> <span class="rest">{tied(rest)}</span></h1>'
        if colon
        else f"<h1>{text(standing.headline)}</h1>"
    )
    main, *others = advice(run, standing, units)
    notes = join(Html(f"<p>{text(note)}</p>") for note in others)
    window = ""
    if standing.edge.value is not None:
        count, (begin, end) = standing.edge.count, standing.window
        window = (
            f"Mean of {count:,} readings over steps {whole(begin)} to {whole(end)}; bars show two standard errors."
            if count > 1
            else "From a single reading, the last one."
        )
        if float(standing.edge) > SCALE:
            window += " ▸: beyond the scale."
        if standing.threshold is not None and has_edge(standing, units):
            window += f" Edge: {standing.threshold.formula} ({standing.threshold.scope})."
    return Html(
        f'<div class="answer">{headline}{gauge(standing, "edge" if has_edge(standing, units) else "ratio 2")}'
        f'<p class="note">{tied(window)}</p><div class="advice"><p class="main">{text(main)}</p>{notes}</div></div>'
    )


def what_if(standing: Standing) -> Html:
    """Predicted positions after a change; only the last prediction of each change counts."""
    last: dict[tuple[str, str, str], Estimate] = {}
    for e in standing.changes:
        key = (
            str(e.settings.get("change", "a change")),
            str(e.settings.get("lr", "–")),
            str(e.settings.get("batch_size", "–")),
        )
        last.pop(key, None)
        last[key] = e
    rows = []
    for (change, lr, batch), e in list(last.items())[-40:]:
        words, mark = outlook(e)
        kind = {"▲": "bad", "△": "unsure", "✓": "good"}.get(mark, "none")
        rows.append([
            text(change), text(lr), text(batch), text(short(e)),
            Html(f'<span class="mark {kind}"><span aria-hidden="true">{mark}</span> {text(words)}</span>'),
        ])  # fmt: skip
    if not rows:
        return Html("")
    headers = ("change", "learning rate", "batch size", "would stand at", "in words")
    intro = text(
        f"Where the run would stand at once after a change, in edge units (edge = 1). Above {SPIKE:g} the loss spikes."
    )
    shown = table(headers, rows, label="Predicted effect of changes", numeric=(1, 2, 3))
    return section("what-if", "What if", shown, intro)


def edge_map(run: Run) -> Html:
    """The what-if map, if one was measured."""
    found = EdgeMap.of(run)
    if found is None:
        return Html("")
    intro = text("Which learning rate is too large, at which batch size: every batch size has an edge of its own.")
    shown = _figure(edge_map_figure.edge_map_chart(found), edge_map_figure.caption(found))
    return section("edge-map", "What-if map", shown, intro)


def stability(run: Run, standing: Standing, units: EdgeUnits) -> Html:
    """The stability chart with its caption."""
    chart = stability_chart(run, units, standing)
    if chart is None:
        return section("stability", "Stability along the run", Html('<p class="empty">Nothing to draw yet.</p>'))
    shaded = (
        f" Shaded: steps {whole(standing.window[0])} to {whole(standing.window[1])}, from which the headline is read."
        if standing.window[1] > standing.window[0]
        else ""
    )
    intro = text("Measured over threshold, in edge units: at 1 the steps are as large as the curvature allows.")
    if standing.threshold is None:
        intro = text("Half the generalised edge ratio; no threshold is known for this optimizer.")
    return section("stability", "Stability along the run", _figure(chart, caption(chart, run, units) + shaded), intro)


def loss(run: Run, units: EdgeUnits) -> Html:
    """The loss chart."""
    chart = loss_chart(run, units)
    return section("loss", "Loss", _figure(chart, "")) if chart is not None else Html("")


def _figure(chart: Chart, words: str) -> Html:
    below = f"<figcaption>{text(words, 1000)}</figcaption>" if words else ""
    return Html(f'<figure><div class="wide">{chart.wide}</div><div class="narrow">{chart.narrow}</div>{below}</figure>')


def verdicts(standing: Standing) -> Html:
    """Claims of theory beside what was measured."""
    rows = [_verdict(v) for v in standing.verdicts]
    if not rows:
        return section(
            "verdicts", "Theory against measurement",
            Html('<p class="empty">No theory is at hand that makes a claim about this run.</p>'),
        )  # fmt: skip
    headers = ("claim", "predicted", "measured", "verdict", "scope and source")
    return section(
        "verdicts", "Theory against measurement",
        table(headers, rows, label="Claims of theory and measurements", numeric=(1, 2)),
        text("In edge units. “Undecided” means that the error bars cross the border of the claim."),
    )  # fmt: skip


def _verdict(verdict: Verdict) -> list[Html]:
    mark, words = _OUTCOMES[verdict.outcome]
    sign = {"equal": "", "below": "< ", "above": "> "}[verdict.relation]
    band = f"± {verdict.tolerance:.0%}" if verdict.relation == "equal" else ""
    predicted = f"{text(sign)}{verdict.predicted:.3g} <small>{text(band)}</small>"
    measured = text("–" if verdict.measured.value is None else short(verdict.measured))
    why = f"<small>{text(verdict.measured.reason)}</small>" if verdict.measured.reason else ""
    exact = ""
    if verdict.measured.value is not None and verdict.margin is not None:
        exact = f"<small>{text(f'{verdict.margin:+.1%}'.replace('-', '−'))}</small>"
    kind = {"agrees": "good", "disagrees": "bad", "undecided": "unsure"}.get(verdict.outcome, "none")
    return [
        tied(verdict.claim),
        Html(predicted),
        Html(f"{measured} {exact}"),
        Html(f'<span class="mark {kind}"><span aria-hidden="true">{mark}</span> {words}</span> {why}'),
        Html(f"{text(verdict.scope)} <small>{source(verdict.source)}</small>"),
    ]
