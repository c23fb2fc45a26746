"""Gauge: where the run stands on a scale whose edge is 1, readable at a glance."""

from __future__ import annotations

from collections.abc import Sequence

from sgdscope.estimate import Estimate
from sgdscope.regime import Standing
from sgdscope.report.glossary import entry
from sgdscope.report.markup import Html, first, short, text
from sgdscope.report.traces import SHOWN

SCALE = 1.3
"""Edge units at the right end."""
_ROLES = {"lambda_max": "full", "edge_ratio": "streamed"}


def gauge(standing: Standing, edge: str = "edge") -> Html:
    """Bars for the quantity held against the edge and for λ_max, as one SVG; empty if nothing was measured.

    Positions are percentages, so that it fits any width while the letters keep their size.
    """
    bars: list[tuple[str, Estimate]] = []
    if standing.edge.value is not None:
        bars.append((standing.edge.name, standing.edge))
    if standing.lambda_max.value is not None and standing.edge.name != "lambda_max":
        bars.append(("lambda_max", standing.lambda_max))
    if not bars:
        return Html("")
    top, row = 34, 62
    height = top + row * len(bars) + 26
    base = top + row * len(bars)
    words = ", ".join(f"{entry(name).label} {short(e)}" for name, e in bars)
    parts = [
        f'<svg class="gauge" xmlns="http://www.w3.org/2000/svg" width="100%" height="{height}" role="img" '
        f'aria-labelledby="gauge-title gauge-desc"><title id="gauge-title">Position relative to the edge</title>'
        f'<desc id="gauge-desc">On a scale where the edge is 1: {text(words)}.</desc>',
        f'<rect class="beyond" x="{_at(1)}" y="{top - 8}" width="{100 - 100 / SCALE:.3f}%" height="{base - top + 8}"/>',
        *(
            _bar(top + i * row, name, estimate, _ROLES.get(name, "sharpness"))
            for i, (name, estimate) in enumerate(bars)
        ),
        *(f'<line class="edge" x1="{_at(1)}" x2="{_at(1)}" y1="{a}" y2="{b}"/>' for a, b in _edge(top, row, len(bars))),
        f'<line class="axis" x1="0" x2="100%" y1="{base}" y2="{base}"/>',
        f'<text class="edge" x="{_at(1)}" y="{top - 19}" text-anchor="middle">{edge}</text>',
        *_ticks(base + 19),
        "</svg>",
    ]
    return Html("".join(parts))


def _at(value: float) -> str:
    return f"{100 * min(max(value / SCALE, 0.0), 1.0):.3f}%"


def _edge(top: int, row: int, bars: int) -> list[tuple[int, int]]:
    """Pieces of the edge line: across the bars, and not through the words above them."""
    return [(top - 13, top - 3), *((top + i * row + 20, top + i * row + 44) for i in range(bars))]


def _ticks(y: int) -> Sequence[str]:
    ticks = ((0.0, "0", "start"), (0.25, ".25", "middle"), (0.5, ".5", "middle"), (0.75, ".75", "middle"))
    return [
        f'<text class="tick" x="{_at(v)}" y="{y}" text-anchor="{anchor}">{words}</text>'
        for v, words, anchor in (*ticks, (1.0, "1", "middle"))
    ]


def _bar(y: int, name: str, estimate: Estimate, role: str) -> str:
    value = float(estimate)
    doubt = SHOWN * first(estimate.standard_error) + first(estimate.residual)
    middle = y + 32
    beyond = " ▸" if value > SCALE else ""
    drawn = [
        f'<text class="name" x="0" y="{y + 12}"><tspan class="{role}">{text(entry(name).label)}</tspan>'
        f'<tspan class="value" dx="8">{text(short(estimate))}{beyond}</tspan></text>',
        f'<rect class="{role}" x="0" y="{middle - 7}" width="{_at(value)}" height="14" rx="2"/>',
    ]
    if doubt > 0.004 and value - doubt < SCALE:
        low, high = _at(value - doubt), _at(value + doubt)
        drawn.append(f'<line class="doubt" x1="{low}" x2="{high}" y1="{middle}" y2="{middle}"/>')
        drawn += [f'<line class="doubt" x1="{x}" x2="{x}" y1="{middle - 5}" y2="{middle + 5}"/>' for x in (low, high)]
    return "".join(drawn)
