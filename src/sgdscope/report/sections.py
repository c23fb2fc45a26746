"""Sections: the parts of the page that answer: headline, what-if, charts, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from sgdscope.edge_map import EdgeMap
from sgdscope.estimate import Estimate
from sgdscope.gradient_steps import BatchLine, FullLossStep
from sgdscope.layer_balance import LayerBalance
from sgdscope.records import Run
from sgdscope.regime import EdgeUnits, Standing
from sgdscope.report import batch_line_figure, edge_map_figure, noise_figure, spectrum_figure
from sgdscope.report.advice import SPIKE, advice, has_edge, outlook
from sgdscope.report.chart import figure
from sgdscope.report.figures import LINE_POINTS, caption, loss_chart, noise_scale_chart, stability_chart
from sgdscope.report.gauge import SCALE, gauge
from sgdscope.report.markup import (
    Html,
    bar,
    first,
    join,
    outcome_mark,
    section,
    short,
    source,
    table,
    text,
    tied,
    whole,
    with_doubt,
)
from sgdscope.report.shape import NoiseShape, SpectrumShape
from sgdscope.verdict import Verdict

_STATUS = {
    "running": "still running: this page shows the records so far",
    "interrupted": "interrupted",
    "diverged": "diverged",
    "failed": "ended with an error",
    "finished": "finished",
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


def answer(run: Run, standing: Standing, units: EdgeUnits, layers: Sequence[LayerBalance] = ()) -> Html:
    """The headline, the gauge, and what they and the balance of layers mean."""
    start, colon, rest = standing.headline.rpartition(": ")
    if rest[:1].isascii():
        rest = rest[:1].upper() + rest[1:]
    headline = (
        f'<h1>{text(start)}<span class="colon">:</span> <span class="rest">{tied(rest)}</span></h1>'
        if colon
        else f"<h1>{text(standing.headline)}</h1>"
    )
    main, *others = advice(run, standing, units, layers)
    notes = join(Html(f"<p>{text(note)}</p>") for note in others)
    window = ""
    if standing.edge.value is not None:
        count, (begin, end) = standing.edge.count, standing.window
        window = (
            f"Mean of {count:,} readings over steps {whole(begin)} to {whole(end)}."
            if count > 1
            else "From a single reading, the last one."
        )
        solved = any(first(e.residual) for e in (standing.edge, standing.lambda_max))
        window += f" Bars: two standard errors{', and the residual of the solver' if solved else ''}."
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
    lead, more = edge_map_figure.caption(found)
    return section("edge-map", "What-if map", figure(edge_map_figure.edge_map_chart(found), more), tied(lead))


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
    return section("stability", "Stability along the run", figure(chart, caption(chart, run, units) + shaded), intro)


def loss(run: Run, units: EdgeUnits) -> Html:
    """The loss chart."""
    chart, readings = loss_chart(run, units), run.get("loss")
    if chart is None:
        return Html("")
    shown = ["two standard errors"] * bool(readings.standard_errors.any())
    shown += ["range of the readings that were averaged into a point"] * (len(readings) > LINE_POINTS)
    return section("loss", "Loss", figure(chart, f"Band: {', and the '.join(shown)}." if shown else ""))


def noise_scale(run: Run) -> Html:
    """How much of a step is noise: the noise scale along the run, beside the batch size, and the critical batch size.

    A sentence each if they were read once.
    """
    readings = run.get("gradient_noise").component("simple_noise_scale")
    critical = run.get("gradient_noise_interaction").component("critical_batch_size").latest
    latest = readings.latest
    if latest is None and critical is None:
        return Html("")
    batch = run.manifest.get("batch_size")
    size = batch if isinstance(batch, int) and 0 < batch < 1e12 else None
    lead, more, chart = [], [], None
    if latest is not None:
        lead.append(_noise_in_words(latest, size))
        more.append("Noise scale: the batch size at which noise and signal are alike in a step, tr Σ / ‖g‖².")
        chart = noise_scale_chart(run, size) if len(readings) > 1 else None
    if critical is not None:
        shown = with_doubt(float(critical), first(critical.standard_error), digits=1)
        lead.append(f"The critical batch size is {shown} samples.")
        more.append("Critical batch size: where noise, weighed by curvature, costs a step of the best length half of "
                    "its progress, tr(HΣ) / gᵀHg.")  # fmt: skip
    missed = sum(e.value is None for e in readings.estimates)
    if missed:
        more.append(f"At {missed} of {len(readings.estimates)} readings the gradient could not be told from zero.")
    if chart is not None:
        more.append("Bars: two standard errors." if readings.standard_errors.any() else "No bars: all data were taken.")
    words = " ".join(more)
    body = Html(f'<p class="note">{text(words, 1000)}</p>') if chart is None else figure(chart, words)
    return section("noise-scale", "Gradient noise", body, tied(" ".join(lead)))


def _noise_in_words(scale: Estimate, batch_size: int | None) -> str:
    error = first(scale.standard_error)
    shown = with_doubt(float(scale), error, digits=1)
    if batch_size is None:
        return f"The noise scale is {shown} samples."
    ratio = with_doubt(float(scale) / batch_size, None)
    if float(scale) - 2 * error > 2 * batch_size:
        meaning = f"{ratio} times the batch of {batch_size:,}: a step is mostly noise, and a larger batch would help"
    elif float(scale) + 2 * error < batch_size / 2:
        meaning = f"{ratio} times the batch of {batch_size:,}: a step is mostly signal, and a smaller batch would do"
    else:
        meaning = f"close to the batch of {batch_size:,}: noise and signal are alike in a step"
    return f"The noise scale is {shown} samples, {meaning}."


def spectrum(run: Run, units: EdgeUnits) -> Html:
    """Spectrum of the Hessian, and where in the network its largest eigenvectors live."""
    found = SpectrumShape.of(run)
    if found is None:
        return Html("")
    level = units.threshold_at(run.last_step) if units.full_batch or units.method == "sgd" else None
    edge, formula = (level.value, level.formula) if level is not None else (None, "")
    lead, more = spectrum_figure.caption(found, edge, formula)
    chart = spectrum_figure.spectrum_chart(found, edge, formula)
    return section("spectrum", "Spectrum of the Hessian", Html(figure(chart, more) + _homes(found)), tied(lead))


def _homes(found: SpectrumShape) -> Html:
    """A strip of bars: which parameters the top eigenvectors move."""
    if not found.homes:
        return Html("")
    shown = [home for home in found.homes[:6] if home[1] >= 0.005] or list(found.homes[:1])
    rows = [[text(name, 60), bar(mean), bar(first)] for name, mean, first in shown]
    rest = max(1 - sum(mean for _, mean, _ in shown), 0.0), max(1 - sum(first for _, _, first in shown), 0.0)
    if max(rest) >= 0.005:
        rows.append([text(f"{len(found.homes) - len(shown)} others"), bar(rest[0]), bar(rest[1])])
    headers = ("where they live", f"the {len(found.top)} largest, mean", "the largest")
    return table(headers, rows, label="Share of the top eigenvectors in each parameter")


def noise_shape(run: Run) -> Html:
    """Noise against curvature."""
    found = NoiseShape.of(run)
    if found is None:
        return Html("")
    lead, more = noise_figure.caption(found)
    shown = figure(noise_figure.noise_chart(found), more)
    return section("noise-shape", "Noise against curvature", shown, text(lead))


def along_gradient(run: Run) -> Html:
    """What a step along a batch's gradient does to that batch, to others and to all data."""
    line, full = BatchLine.of(run), FullLossStep.of(run)
    if line is None and full is None:
        return Html("")
    lead, more = batch_line_figure.caption(line, full)
    more = f"{more} Source: {batch_line_figure.SOURCE}."
    body = Html(f'<p class="note">{text(more, 1000)}</p>')
    if line is not None:
        body = figure(batch_line_figure.batch_line_chart(line), more)
    return section("batch-line", "One step, three losses", body, tied(lead))


def verdicts(standing: Standing) -> Html:
    """Claims of theory beside what was measured."""
    shared = _shared([v.scope for v in standing.verdicts])
    rows = [_verdict(v, v.scope.removeprefix(shared).removeprefix("; ")) for v in standing.verdicts]
    if not rows:
        return section(
            "verdicts", "Theory against measurement",
            Html('<p class="empty">No theory is at hand that makes a claim about this run.</p>'),
        )  # fmt: skip
    headers = ("claim", "predicted", "measured", "verdict", "source")
    scope = f" All claims: {shared}." if shared else ""
    return section(
        "verdicts", "Theory against measurement",
        table(headers, rows, label="Claims of theory and measurements", numeric=(1, 2)),
        text(f"In edge units. “Undecided” means that the error bars cross the border of the claim.{scope}", 1000),
    )  # fmt: skip


def _shared(scopes: Sequence[str]) -> str:
    """What the scopes of all claims begin with, up to a semicolon: said once."""
    parts = [scope.split("; ") for scope in scopes]
    return "; ".join(each[0] for each in takewhile(lambda each: len(set(each)) == 1, zip(*parts, strict=False)))


def _verdict(verdict: Verdict, scope: str) -> list[Html]:
    sign = {"equal": "", "below": "< ", "above": "> "}[verdict.relation]
    band = f"± {verdict.tolerance:.0%}" if verdict.relation == "equal" else ""
    predicted = f"{text(sign)}{verdict.predicted:.3g} <small>{text(band)}</small>"
    measured = text("–" if verdict.measured.value is None else short(verdict.measured))
    why = f"<small>{text(verdict.measured.reason)}</small>" if verdict.measured.reason else ""
    exact = ""
    if verdict.measured.value is not None and verdict.margin is not None:
        exact = f"<small>{text(f'{verdict.margin:+.1%}'.replace('-', '−'))}</small>"
    return [
        tied(verdict.claim),
        Html(predicted),
        Html(f"{measured} {exact}"),
        Html(f"{outcome_mark(verdict)} {why}"),
        Html(f"{source(verdict.source)} <small>{text(scope)}</small>"),
    ]
