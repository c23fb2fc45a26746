"""Balance of layers on the page: what was found in a sentence, three charts, and the numbers with their verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from sgdscope.estimate import Estimate
from sgdscope.layer_balance import SOURCE, LayerBalance, charges_in_words, error_of, standing_in_words
from sgdscope.records import Run
from sgdscope.report.balance_figure import MOST, balance_chart, shown_pairs, steps_in_words
from sgdscope.report.charge_figure import LINES, change_chart, compared, course_chart
from sgdscope.report.chart import figure
from sgdscope.report.markup import Html, join, outcome_mark, section, source, table, text, tied, whole, with_doubt
from sgdscope.verdict import Verdict

PER = 1000
"""Steps in which the changes of the table come about."""


def balance(run: Run, found: Sequence[LayerBalance]) -> Html:
    """Where the noise takes the norms of neighbouring layers, and whether it moves their charges as predicted."""
    if not found:
        return Html("")
    parts = [
        figure(chart, words)
        for chart, words in (
            (balance_chart(found), _about_balance(found)),
            (change_chart(found), _about_changes(found)),
            (course_chart(found, run.last_step), _about_course(found)),
        )
        if chart is not None
    ]
    note = Html(f'<p class="note">{text(_about_table(found), 1000)} Source: {source(SOURCE)}.</p>')
    return section("balance", "Balance of layers", join([*parts, _table(found), note]), tied(_lead(found)))


def _lead(found: Sequence[LayerBalance]) -> str:
    said = [standing_in_words(found)]
    free = [b for b in found if b.scale_free]
    if free and not said[0]:
        said = ["noise only makes scale-free weights grow: it has no balance to take them to"]
    said.append(charges_in_words(found))
    if found[0].law:
        said.append(f"the law of balance makes no claim about this run ({', '.join(found[0].law)})")
    words = "; ".join(part for part in said if part)
    return f"{words[:1].upper()}{words[1:]}."


def _about_balance(found: Sequence[LayerBalance]) -> str:
    pairs, resting = shown_pairs(found), sum(b.off is not None for b in found)
    said = [f"The {MOST} farthest from balance of {resting} pairs."] if len(pairs) < resting else []
    said.append(
        "●: ‖u‖ / ‖w‖ now, u the weights that read the activations in between, w those that write them, with biases. "
        "◇: the ratio at which gradient noise on the two sides is alike, where SGD takes it; dotted: equal norms."
    )
    if any(b.equilibrium_ratio is not None and error_of(b.equilibrium_ratio) for b in pairs):
        said.append("Bars: two standard errors.")
    said.append("Relaxation: steps in which a small distance shrinks to a third.")
    return " ".join(said)


def _about_changes(found: Sequence[LayerBalance]) -> str:
    drawn = len(compared(found))
    left_out = "" if drawn == len(found) else f" {len(found) - drawn} of {len(found)} have no measurement or no noise."
    return (
        "Change of ‖u‖² − ‖w‖² per step over what the noise of both sides would do if it pulled one way: 0 at noise "
        f"balance. Bars: two standard errors.{left_out}"
    )


def _about_course(found: Sequence[LayerBalance]) -> str:
    few = f"The {LINES} of {len(found)} charges that moved most. " if len(found) > LINES else ""
    return (
        f"{few}Change of ‖u‖² − ‖w‖² since the first reading, beside ‖u‖² + ‖w‖² at the last one. Gradient flow would "
        "leave all at 0."
    )


def _about_table(found: Sequence[LayerBalance]) -> str:
    said = [
        "Changes are those of the charge ‖u‖² − ‖w‖². Gradient flow conserves it; a step of SGD changes it by "
        "lr² (‖g_u‖² − ‖g_w‖²). ± is one standard error. “Agrees”: surely within "
        f"{100 * found[0].verdict.tolerance:g} % of the prediction, or within two standard errors where those are "
        "small beside what noise could do; “disagrees”: beyond three."
    ]
    if any(b.scale_free for b in found):
        said.append("Scale-free weights have the charge ‖u‖², which noise can only raise.")
    if len(found) > MOST:
        said.append(f"Listed are {MOST}: those that disagree, then the farthest from balance; the records have all.")
    said.append(f"Scope: {found[0].verdict.scope}.")
    return " ".join(said)


def _table(found: Sequence[LayerBalance]) -> Html:
    shown = list(found)
    if len(found) > MOST:
        shown = sorted(found, key=lambda b: (b.outcome != "disagrees", -b.times_off))[:MOST]
    headers = ("layers", "‖u‖ / ‖w‖ now", "at noise balance", f"change in {PER:,} steps", "over the run")
    rows = [_row(b) for b in shown]
    return table(headers, rows, label="Balance of each pair of layers", numeric=(1, 2, 3, 4))


def _row(b: LayerBalance) -> list[Html]:
    units = f"{whole(b.units)} units" if b.units > 1 else "1 unit" if b.units else ""
    kind = "" if b.kind == "rescaling" else f"{b.kind}, "
    name = b.name if b.short_name.startswith("…") else b.short_name
    there, relaxation = b.equilibrium_ratio, b.relaxation_steps
    return [
        Html(f"{text(name, 80)} <small>{text(kind + units)}</small>"),
        text("–" if b.ratio is None else _ratio(b.ratio, 0.0)),
        Html("–") if there is None else Html(
            f"{tied(_ratio(float(there), error_of(there)))} "
            f"<small>{text('' if relaxation is None else 'relaxation ' + steps_in_words(relaxation))}</small>"),
        _compared(b.verdict, b.measured_change, float(b.predicted_change), error_of(b.predicted_change), PER),
        Html("–") if b.total is None else _compared(b.total, b.total.measured, b.total.predicted, 0.0, 1),
    ]  # fmt: skip


def _compared(verdict: Verdict, measured: Estimate, predicted: float, error: float, times: float) -> Html:
    """Measured over predicted change, and the verdict."""
    seen = Html("–") if measured.value is None else _number(times * float(measured), times * error_of(measured))
    theory = _number(times * predicted, times * error)
    why = f"<small>{text(verdict.measured.reason)}</small>" if verdict.outcome == "unassessed" else ""
    return Html(f"{seen} <small>predicted {theory}</small> {outcome_mark(verdict)} {why}")


def _ratio(value: float, error: float) -> str:
    """Three digits, or as many as the error leaves."""
    if error:
        return with_doubt(value, error)
    return f"{value:#.3g}".rstrip(".") if 1e-3 < value < 1e3 else f"{value:.3g}"


def _number(value: float, error: float) -> Html:
    shown = with_doubt(value, error, digits=1) if error else f"{value:.3g}"
    return tied(shown.replace("-", "−"))
