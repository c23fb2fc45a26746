"""Text in UTF-8, read whole, with a bound on its size."""

from __future__ import annotations

import zlib
from pathlib import Path

from sgdscope.data.arrays import DataError

MAX_TEXT = 1 << 27
"""Largest text file that is read (128 MiB): as Python objects it takes many times its size."""


def read_utf8(path: Path, what: str, hint: str) -> str:
    """The text of a file, line ends as line feeds, without byte order mark.

    Raises DataError, naming `what` was expected and with `hint`, for a folder, a file larger than `MAX_TEXT`, one that
    cannot be read, bytes that are not UTF-8, and zero bytes.
    """
    if path.is_dir():
        raise DataError(f"expected {what}, got the folder {path}\nhint: {hint}")
    try:
        size = path.stat().st_size
        if size > MAX_TEXT:
            raise DataError(f"expected {what} of at most {MAX_TEXT:,} bytes, got {size:,} in {path}\nhint: {hint}")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"expected {what} in UTF-8, but byte {error.start} of {path} (in line {line}) is not\n"
            "hint: save the file as UTF-8; if it is packed, unpack it first"
        ) from error
    if "\0" in text:
        raise DataError(f"expected {what}, but {path} holds zero bytes: it is no text\nhint: {hint}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def checksum(text: str) -> str:
    """CRC-32 of a text, in hexadecimal: whether a file is still the one that was read."""
    return f"{zlib.crc32(text.encode('utf-8', 'surrogatepass')):08x}"
