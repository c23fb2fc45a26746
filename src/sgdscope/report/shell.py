"""Shell: what every page has around its content, and writing a page whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from sgdscope.records import RecordsError
from sgdscope.report.markup import Html, text

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def page(title: str, masthead: Html, body: Html, made_from: str) -> str:
    """A page that stands alone: nothing is fetched by it, which its content security policy states."""
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{text(title)}</title><style>\n{style}</style></head>\n"
        f"<body>{masthead}\n<main>{body}</main>\n"
        f"<footer><p>Made by sgdscope from {text(made_from)}. Nothing on this page is fetched from elsewhere.</p>"
        "</footer></body></html>\n"
    )


def written(path: str | Path, content: str) -> Path:
    """Write a page to `path`, whole or not at all, and return the path.

    Missing folders are made. Raises RecordsError if the place cannot be written.
    """
    path = Path(path)
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
