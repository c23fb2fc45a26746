"""Table: cells as rows of plain numbers and words, and as lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sgdscope.estimate import Estimate, short
from sgdscope.sweep_records.cell import SweepCell


def row(cell: SweepCell, varying: Sequence[str], extra: Sequence[str]) -> dict[str, Any]:
    """A cell with the options that vary, its position and its means, `extra` quantities among them."""
    found: dict[str, Any] = {"cell": cell.name, **{name: cell.config.get(name) for name in varying},
                           "status": cell.status, "reason": cell.reason, "attempts": cell.attempts}  # fmt: skip
    standing = cell.standing
    found["step"] = cell.run.last_step if cell.run is not None else None
    found["regime"] = standing.regime if standing is not None else None
    edge = standing.edge if standing is not None else None
    found["edge_of"] = edge.name if edge is not None and edge.value is not None else None
    found |= _number("edge", edge)
    for name in ("batch_sharpness", "lambda_max", "edge_ratio"):
        found |= _number(f"{name}_edge_units", cell.positions.get(name))
    for name in ("batch_sharpness", "lambda_max", "loss", "full_loss", *extra):
        found |= _number(name, cell.mean(name))
    return found


def _number(name: str, found: Estimate | None) -> dict[str, float | None]:
    value = float(found) if found is not None and found.value is not None else None
    error = found.standard_error if found is not None and value is not None else None
    return {name: value, f"{name}_error": error[0] if isinstance(error, tuple) else error}


def field(value: Any) -> Any:
    """A field of a CSV file; a text is kept from being taken for a formula by a spreadsheet."""
    if isinstance(value, list | tuple):
        value = " ".join(map(str, value))
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


def lines(cells: Sequence[SweepCell], options: Sequence[str], most: int = 40) -> list[str]:
    """Cells as lines of text, up to so many."""
    rows = [[*(name.replace("_", "-") for name in options), "outcome", "edge", "λ_max", "loss"]]
    for cell in cells[:most]:
        edge = cell.standing.edge if cell.standing is not None else None
        numbers = (edge, cell.positions.get("lambda_max"))
        loss = cell.mean("loss")
        rows.append([
            *(f"{v:g}" if isinstance(v := cell.config.get(name), float) else str(v) for name in options), cell.outcome,
            *(short(e) if e is not None and e.value is not None else "–" for e in numbers),
            f"{float(loss):.3g}" if loss is not None and loss.value is not None else "–",
        ])  # fmt: skip
    widths = [max(len(words[i]) for words in rows) for i in range(len(rows[0]))]
    reasons = ["", *(cell.reason for cell in cells[:most])]
    said = [
        "  ".join(["", *(word.ljust(width) for word, width in zip(words, widths, strict=True)), reason]).rstrip()
        for words, reason in zip(rows, reasons, strict=True)
    ]
    return said + [f"  … and {len(cells) - most:,} more"] * (len(cells) > most)
