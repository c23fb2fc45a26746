"""Page: figures, standing and verdicts of a run as one HTML file that stands alone."""

from __future__ import annotations

from pathlib import Path

from sgdscope.layer_balance import LayerBalance
from sgdscope.records import Run
from sgdscope.regime import EdgeUnits
from sgdscope.report import evidence, sections, shell
from sgdscope.report.balance_section import balance
from sgdscope.report.markup import Html, join


def render(run: Run) -> str:
    """The report of a run as HTML: the answer first, its evidence below.

    The same records give the same bytes. Nothing is fetched by the page, which its content security policy states, and
    everything the run recorded is escaped.
    """
    standing, units = run.standing(), EdgeUnits.of(run)
    found, layers = evidence.readings(run), LayerBalance.of(run)
    parts = [
        sections.answer(run, standing, units, layers),
        sections.what_if(standing),
        sections.edge_map(run),
        sections.stability(run, standing, units),
        sections.loss(run, units),
        sections.noise_scale(run),
        sections.along_gradient(run),
        balance(run, layers),
        sections.noise_shape(run),
        sections.spectrum(run, units),
        sections.verdicts(standing) if run.rows else Html(""),
        evidence.cost(run, found),
        evidence.numbers(found, units),
        evidence.failures(run),
        evidence.provenance(run),
    ]
    body = join(parts, "\n")
    title = f"{sections.name_of(run)}: {standing.regime}"
    return shell.page(title, sections.masthead(run), body, "the records of this run")


def write(run: Run, path: str | Path) -> Path:
    """Write the report of a run to `path`, whole or not at all, and return the path.

    Missing folders are made. Raises RecordsError if the place cannot be written.
    """
    return shell.written(path, render(run))
