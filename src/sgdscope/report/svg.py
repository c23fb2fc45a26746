"""SVG: a matplotlib figure becomes text that lives inside a page, in the page's fonts and colours.

Figures are drawn in placeholder colours, one per role; each becomes a CSS variable, so that the page decides what it
looks like and dark mode needs no second drawing. The same figure gives the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from sgdscope.report.markup import Html, text

COLOURS = {
    "ink": "#010101",
    "soft": "#010102",
    "grid": "#010103",
    "sharpness": "#010104",
    "full": "#010105",
    "streamed": "#010106",
    "edge": "#010107",
    "shade": "#010108",
    "paper": "#010109",
    "good": "#01010a",
    "bad": "#01010b",
}
"""Role of a colour -> placeholder in the drawing; in the page it is ``var(--role)``."""

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sgdscope",
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "path.simplify": True,
    "font.family": "DejaVu Sans",
    "font.size": 13.5,
    "axes.edgecolor": COLOURS["soft"],
    "axes.labelcolor": COLOURS["soft"],
    "xtick.color": COLOURS["soft"],
    "ytick.color": COLOURS["soft"],
    "text.color": COLOURS["ink"],
}

_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def figure(width: float, height: float) -> Figure:
    """An empty transparent figure; one unit of the SVG is one point."""
    made = Figure(figsize=(width / 72, height / 72), dpi=72)
    made.patch.set_visible(False)
    return made


def embed(made: Figure, name: str, title: str, description: str) -> Html:
    """The figure as an ``<svg>`` element whose ids all begin with `name`. Call it inside ``style()``."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+")  # of names; the reader's browser has more letters
        made.savefig(buffer, format="svg", metadata=_NO_METADATA)
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.S)
    drawn = re.sub(r"<style.*?</style>", "", drawn, flags=re.S)  # would style the whole page
    drawn = re.sub(r"<!--.*?-->\s*", "", drawn, flags=re.S)
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawn)
    assert size is not None, "matplotlib writes a viewBox"
    body = drawn[drawn.index(">") + 1 :].rstrip().removesuffix("</svg>")
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"font: (?:(\d{3}|bold) )?([\d.]+)px [^;\"]*", _font, body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    for role, placeholder in COLOURS.items():
        body = body.replace(placeholder, f"var(--{role})")
    body = re.sub(r"\n\s*", "\n", body)
    return Html(
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{text(name)}" viewBox="0 0 {size[1]} {size[2]}" role="img" '
        f'aria-labelledby="{name}-title {name}-desc"><title id="{name}-title">{text(title)}</title>'
        f'<desc id="{name}-desc">{text(description, 2000)}</desc>{body}</svg>'
    )


def _font(found: re.Match[str]) -> str:
    """Size and weight stay; the family is the page's."""
    weight = "font-weight: 600; " if found[1] else ""
    return f"{weight}font-size: {found[2]}px"


def style() -> AbstractContextManager[None]:
    """Context in which figures are drawn: nothing of the user's matplotlib settings leaks in, and nothing leaks out."""
    defaults: dict[Any, Any] = {k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")}
    settings: Any = {**defaults, **STYLE}
    return matplotlib.rc_context(settings)
