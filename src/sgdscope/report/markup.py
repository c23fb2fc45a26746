"""Markup: text becomes HTML in one place, so that nothing a run recorded can become markup."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NewType

from sgdscope.estimate import Estimate, with_error
from sgdscope.estimate import short as short
from sgdscope.verdict import Verdict

Html = NewType("Html", str)
"""Markup ready for the page. `text` makes it from anything; a bare ``str`` does not pass the type checker."""

_BIDI = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_OUTCOMES = {
    "agrees": ("✓", "agrees"),
    "disagrees": ("✕", "disagrees"),
    "undecided": ("≈", "undecided"),
    "unassessed": ("–", "not assessed"),
}
_ARXIV = re.compile(r"(?<![\d.])(\d{4}\.\d{5})(?![\d.])")


def clean(value: object, limit: int = 400) -> str:
    """Anything as plain text, cut after `limit` characters; control and direction characters become �."""
    whole = str(value)
    cut = whole if len(whole) <= limit else whole[: limit - 1] + "…"
    return "".join(
        "�" if c in _BIDI or (unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t") else c for c in cut
    )


def text(value: object, limit: int = 400) -> Html:
    """The same, escaped."""
    return Html(html.escape(clean(value, limit), quote=True))


def join(parts: Iterable[Html], between: str = "") -> Html:
    """Pieces of markup after one another."""
    return Html(between.join(parts))


def source(value: str) -> Html:
    """A citation as text, its arXiv numbers as links (followed only when clicked)."""
    return Html(_ARXIV.sub(r'<a href="https://arxiv.org/abs/\1" rel="noreferrer">\1</a>', text(value)))


def tied(value: str) -> Html:
    """Text whose formulas and numbers (``2 / lr``, ``0.9 ± 0.1``) do not break at the line's end."""
    for loose in (" / ", " ± ", "2 (", "(1 − β)", "(1 + β)", "(lr (1 + 2β))"):
        value = value.replace(loose, loose.replace(" ", "\u00a0"))
    return text(value)


def section(name: str, title: str, body: Html, intro: Html | None = None) -> Html:
    """A section of the page under a heading of the second level; empty if its body is."""
    if not body:
        return Html("")
    lead = f'<p class="intro">{intro}</p>' if intro else ""
    return Html(
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{text(title)}</h2>'
        f"{lead}{body}</section>"
    )


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[Html]],
    *,
    label: str,
    numeric: Iterable[int] = (),
    stacked: bool = True,
) -> Html:
    """A table whose first column names its rows; on a narrow screen each row becomes a card of labelled lines.

    The roles are spelled out because a table laid out as blocks loses its meaning to screen readers otherwise.
    """
    right = set(numeric)

    def cell(column: int, content: Html) -> str:
        kind = ' class="number"' if column in right else ""
        if not content:
            return f'<td role="cell"{kind}></td>'
        if column == 0:
            return f'<th scope="row" role="rowheader"{kind}>{content}</th>'
        return f'<td role="cell" data-label="{text(headers[column])}"{kind}><div>{content}</div></td>'

    head = "".join(
        f'<th scope="col" role="columnheader"{" class=number" if i in right else ""}>{text(h)}</th>'
        for i, h in enumerate(headers)
    )
    body = "".join(f'<tr role="row">{"".join(cell(i, c) for i, c in enumerate(row))}</tr>' for row in rows)
    return Html(
        f'<div class="scroll"><table role="table" aria-label="{text(label)}"{" class=stacked" if stacked else ""}>'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead><tbody role="rowgroup">{body}</tbody></table></div>'
    )


def details(summary: Html, body: Html, *, quiet: bool = False) -> Html:
    """Something at hand but out of the way."""
    return Html(f"<details{' class=quiet' if quiet else ''}><summary>{summary}</summary>{body}</details>")


def outcome_mark(verdict: Verdict) -> Html:
    """How a claim fared: a mark and a word."""
    mark, words = _OUTCOMES[verdict.outcome]
    kind = {"agrees": "good", "disagrees": "bad", "undecided": "unsure"}.get(verdict.outcome, "none")
    return Html(f'<span class="mark {kind}"><span aria-hidden="true">{mark}</span> {words}</span>')


def bar(share: float) -> Html:
    """A share from 0 to 1 as a bar, with its per cent."""
    width = 100 * min(max(share, 0.0), 1.0)
    return Html(f'<span class="bar"><span style="width:{width:.1f}%"></span></span>&nbsp;{width:.0f}&nbsp;%')


def with_doubt(value: float, error: float | None, *, digits: int = 2) -> str:
    """``value ± error`` to so many `digits` of the error, or the value to two where there is none; never 4e+03."""
    if error:
        return with_error(value, error, digits=digits)
    return f"{float(f'{value:.2g}'):,.10g}" if 1e-4 <= abs(value) < 1e9 else f"{value:.2g}"


def percent(share: float, error: float = 0.0) -> str:
    """A share from 0 to 1 in per cent: ``1.8 ± 0.3 %``, ``over 99.9 %``, ``no``."""
    if share == 0:
        return "no"
    over = error == 0 and 0.9995 <= share < 1
    return "over 99.9 %" if over else f"{100 * share:.3g} %" if not error and share > 0.99 else (
        f"{with_doubt(100 * share, 100 * error)} %")  # fmt: skip


def whole(number: float) -> str:
    """An integer with thin thousands: ``20,000``."""
    return f"{int(number):,}"


def first(number: float | tuple[float, ...] | None) -> float:
    """The leading component of a number; 0 for None or an empty tuple."""
    if isinstance(number, tuple):
        return number[0] if number else 0.0
    return number or 0.0


def full(estimate: Estimate, most: int = 5) -> Html:
    """Every digit that means something: components with their standard errors, where there are any."""
    if estimate.value is None:
        return Html("–")
    values = estimate.value if isinstance(estimate.value, tuple) else (estimate.value,)
    errors = estimate.standard_error if isinstance(estimate.standard_error, tuple) else (estimate.standard_error,)
    pairs = [(v, errors[min(i, len(errors) - 1)]) for i, v in enumerate(values[:most])]
    shown = [with_error(v, e) if e else f"{v:.4g}" for v, e in pairs]
    rest = f" … ({len(values)} in all)" if len(values) > most else ""
    return tied((", ".join(shown) + rest).replace("-", "−"))
