"""Page: figures, standing and verdicts of a run as one HTML file that stands alone."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from sgdscope.records import RecordsError, Run
from sgdscope.regime import EdgeUnits
from sgdscope.report import evidence, sections
from sgdscope.report.markup import Html, join, text

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def render(run: Run) -> str:
    """The report of a run as HTML: the answer first, its evidence below.

    The same records give the same bytes. Nothing is fetched by the page, which its content security policy states, and
    everything the run recorded is escaped.
    """
    standing, units = run.standing(), EdgeUnits.of(run)
    found = evidence.readings(run)
    parts = [
        sections.answer(run, standing, units),
        sections.what_if(standing),
        sections.edge_map(run),
        sections.stability(run, standing, units),
        sections.loss(run, units),
        sections.noise_scale(run),
        sections.along_gradient(run),
        sections.noise_shape(run),
        sections.spectrum(run, units),
        sections.verdicts(standing) if run.rows else Html(""),
        evidence.cost(run, found),
        evidence.numbers(found, units),
        evidence.failures(run),
        evidence.provenance(run),
    ]
    body = join(parts, "\n")
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{text(sections.name_of(run))}: {text(standing.regime)}</title><style>\n{style}</style></head>\n"
        f"<body>{sections.masthead(run)}\n<main>{body}</main>\n"
        "<footer><p>Made by sgdscope from the records of this run. Nothing on this page is fetched from elsewhere.</p>"
        "</footer></body></html>\n"
    )


def write(run: Run, path: str | Path) -> Path:
    """Write the report of a run to `path`, whole or not at all, and return the path.

    Missing folders are made. Raises RecordsError if the place cannot be written.
    """
    path = Path(path)
    content = render(run)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(content, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise RecordsError(
            f"cannot write the report {path}: {error.strerror or error}\nhint: choose another place with --out"
        ) from error
    return path
