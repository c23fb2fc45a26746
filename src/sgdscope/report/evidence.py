"""Evidence: the parts of the page that are looked up: cost, all numbers, failures, how the run was made."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sgdscope.estimate import Estimate
from sgdscope.records import Run
from sgdscope.regime import EdgeUnits
from sgdscope.report.glossary import entry
from sgdscope.report.markup import Html, bar, details, first, full, join, section, short, source, table, text, whole

MOST = 200
"""Rows of a table; what is beyond is counted."""
_OPEN = 8  # failures shown without a click
_SPENT_ON = {"training loss": "loss"}
"""Names under which the monitor counts time, where they are not those of the rows."""
_FULL_NAMES = ("noise_covariance", "batch_line", "full_loss_step", "balance", "charges")
"""Rows whose companions are told apart by the name of the row."""

Readings = dict[str, list[tuple[int, Estimate]]]


def readings(run: Run) -> Readings:
    """All rows by quantity, companions measured on the same draws included.

    Those of some rows bear the row's name as well: their own (slope, loss, …) say too little alone.
    """
    found: Readings = {}
    for step, _, estimate in run.rows:
        found.setdefault(estimate.name, []).append((step, estimate))
        for name, companion in estimate.beside.items():
            full_name = f"{estimate.name}.{name}" if estimate.name in _FULL_NAMES else name
            found.setdefault(full_name, []).append((step, companion))
    return found


def cost(run: Run, found: Readings) -> Html:
    """What watching cost: share of time, and gradient evaluations and seconds per quantity."""
    share = next((e for _, e in reversed(found.get("monitor_share", [])) if e.value is not None), None)
    seconds = share.settings.get("seconds") if share is not None else None
    items = seconds.items() if isinstance(seconds, Mapping) else ()
    spent = {_SPENT_ON.get(k, str(k)): float(v) for k, v in items if _is_number(v)}
    evaluations: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for _, _, e in run.rows:
        evaluations[e.name] += e.cost  # type: ignore[assignment]  # costs need not be whole
        counts[e.name] += 1
    names = [n for n in dict.fromkeys([*spent, *found]) if spent.get(n) or evaluations[n]]
    if share is None and not names:
        return Html("")
    total = sum(spent.values())
    rows = [
        [
            text(entry(n).label), text(whole(counts[n]) if counts[n] else "–"),
            text(f"{evaluations[n]:,.4g}" if evaluations[n] else "–"),
            text(f"{spent[n]:.3g} s" if spent.get(n) else "–"),
            bar(spent[n] / total) if spent.get(n) else Html("–"),
        ]
        for n in sorted(names, key=lambda n: -spent.get(n, 0.0))[:MOST]
    ]  # fmt: skip
    intro = None
    if share is not None:
        last = spent.get("final readings", 0.0)
        beside = f", and readings at its end {last:.2g} s more: rows without a time are parts of it" if last else ""
        intro = Html(f"Measuring took <strong>{100 * float(share):.2g} %</strong> of the run's wall time{beside}.")
    headers = ("quantity", "readings", "gradient evaluations", "time", "share of measuring")
    return section(
        "cost", "Cost of watching", table(headers, rows, label="Cost per quantity", numeric=(1, 2, 3)), intro
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


def numbers(found: Readings, units: EdgeUnits) -> Html:
    """The latest value of every quantity, with what it means at hand."""
    rows = [_number(name, pairs, units) for name, pairs in list(found.items())[:MOST]]
    if not rows:
        return Html("")
    headers = ("quantity", "latest value", "edge units", "step", "draws", "cost", "readings", "status")
    rest = len(found) - len(rows)
    more = Html(f'<p class="note">{rest:,} more quantities are in the records.</p>') if rest else Html("")
    intro = text(
        "Open a quantity for its definition, source and scope. ± is one standard error, missing where nothing was "
        "drawn at random; cost is in gradients."
    )
    shown = table(headers, rows, label="Latest value of every quantity", numeric=(1, 2, 3, 4, 5, 6))
    return section("numbers", "All numbers", Html(shown + more), intro)


def _number(name: str, pairs: Sequence[tuple[int, Estimate]], units: EdgeUnits) -> list[Html]:
    step, latest = next(((s, e) for s, e in reversed(pairs) if e.value is not None), pairs[-1])
    known = entry(name)
    about = [f"<p>{text(known.definition)}</p>"] if known.definition else ["<p>Not in the glossary.</p>"]
    if known.scope:
        about.append(f"<p>{text(known.scope)}</p>")
    if known.source:
        about.append(f"<p>Source: {source(known.source)}.</p>")
    about.append(f"<p>Recorded as <code>{text(name)}</code>.</p>")
    if latest.settings:
        settings = "; ".join(f"{k}: {v}" for k, v in _flat(latest.settings) if len(v) <= 80)  # no tables of numbers
        about.append(f"<p>Measured with {text(settings)}.</p>")
    place = _place(name, step, latest, units)
    residual = f"<small>residual {first(latest.residual):.1g}</small>" if latest.residual is not None else ""
    unit = f"<small>{text(latest.unit)}</small>" if latest.unit else ""
    return [
        details(text(known.label), Html("".join(about)), quiet=True),
        Html(f"{full(latest)} {unit} {residual}"),
        text(short(place).replace("-", "−")) if place is not None else Html(""),
        text(whole(step)),
        text(whole(latest.count)),
        text(f"{latest.cost:,.3g}") if latest.cost else Html("–"),
        text(whole(len(pairs))),
        text(latest.status.replace("_", " ")),
    ]


def _place(name: str, step: int, latest: Estimate, units: EdgeUnits) -> Estimate | None:
    """A reading in edge units; None where that has no meaning."""
    threshold = units.threshold_at(step) if entry(name).curvature else None
    factor = 0.5 if name == "edge_ratio" else 1 / threshold.value if threshold is not None else None
    try:
        return latest.scaled(factor) if factor is not None and latest.value is not None else None
    except ValueError:  # beyond what a number can hold
        return None


def failures(run: Run) -> Html:
    """Measurements that failed or fell short of the accuracy asked for, and rows that could not be read."""
    bad = [(step, e) for step, _, e in run.rows if e.status != "ok"]
    body: list[Html] = []
    if bad:
        rows = [
            [text(whole(s)), text(entry(e.name).label), text(e.status.replace("_", " ")), text(e.reason)]
            for s, e in bad[:MOST]
        ]
        headers = ("step", "quantity", "status", "reason")
        shown = table(headers, rows, label="Measurements that fell short", numeric=(0,))
        if len(bad) > MOST:
            shown = Html(f'{shown}<p class="note">{len(bad) - MOST:,} more are in the records.</p>')
        if len(bad) > _OPEN:
            kinds = Counter((entry(e.name).label, e.status.replace("_", " ")) for _, e in bad)
            summary = ", ".join(f"{n:,} × {name} {status}" for (name, status), n in kinds.most_common(6))
            shown = details(text(f"{len(bad):,} measurements: {summary}"), shown)
        body.append(shown)
    if run.unreadable:
        lines = "1 line" if run.unreadable == 1 else f"{run.unreadable:,} lines"
        body.append(Html(f"<p>{lines} of the records could not be read and were skipped.</p>"))
    return section("failures", "What could not be measured", join(body))


def provenance(run: Run) -> Html:
    """How the run was made, and how to make it again."""
    manifest = run.manifest
    command = manifest.get("command")
    if isinstance(command, list | tuple) and command:
        again = Html(f"<pre><code>{text(shlex.join(str(part) for part in command), 4000)}</code></pre>")
    elif isinstance(command, str) and command:
        again = Html(f"<pre><code>{text(command, 4000)}</code></pre>")
    else:
        again = Html("<p>No command was recorded: the run was watched from a program of its own.</p>")
    rest = {k: v for k, v in manifest.items() if k not in ("config", "command")}
    parts = [Html("<h3>Again</h3>"), again]
    for title, content in (("Configuration", run.config), ("Record", rest)):
        rows = [[text(k), text(v)] for k, v in _flat(content)]
        if rows:
            parts += [Html(f"<h3>{title}</h3>"), table(("setting", "value"), rows[:MOST], label=title, stacked=False)]
            if len(rows) > MOST:
                parts.append(Html(f'<p class="note">{len(rows) - MOST:,} more are in the manifest.</p>'))
    parts.append(Html(f'<p class="note">Folder: <code>{text(run.path)}</code>; {len(run.rows):,} rows.</p>'))
    return section("provenance", "How this run was made", join(parts))


def _flat(content: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names, in their order."""
    for key, value in content.items():
        if isinstance(value, Mapping) and value and depth < 8:
            yield from _flat(value, f"{prefix}{key}.", depth + 1)
        else:
            shown = f"{value:.10g}" if isinstance(value, float) else str(value)
            yield f"{prefix}{key}", shown
