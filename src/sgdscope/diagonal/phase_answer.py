"""Phase answer: a phase diagram in words and pictures: how many cells agree, and which phase each is in."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sgdscope.diagonal.cell import LOST
from sgdscope.diagonal.phase_plane import AGREEING, PhaseDiagram
from sgdscope.picture import Field, Line, Picture, Role, Shape, Words
from sgdscope.predict.answer import Answer, Table
from sgdscope.theory import stationary as theory

Array = NDArray[np.float64]

_BANDS = (0.0, 0.02, 0.1, 0.25, 0.5, 0.75, 1.0)
_PHASES: tuple[tuple[str, str, Role], ...] = (
    ("I", "I: all mass at 0", "second"),
    ("IIa", "IIa: density diverges at 0", "third"),
    ("IIb", "IIb: and has a maximum away from 0", "ink"),
    ("III", "III: density vanishes at 0", "first"),
)
_POINTS = 160
_LOWEST = 0.03
"""T / T_c at the lower border of the lowest cell at least, for the logarithmic axis."""


def phase_answer(found: PhaseDiagram) -> Answer:
    """Counts of agreement with verdicts; drawn, the phase of every cell and the share of networks at 0."""
    flat = [one for row in found.cells for one in row]
    rows = []
    for phase, words, _ in _PHASES:
        theirs = [one for one in flat if one.predicted == phase]
        if theirs:
            decided = [one for one in theirs if one.found]
            right = sum(one.found == phase for one in decided)
            rows.append([words, str(len(theirs)), str(len(decided)), str(right)])
    verdicts = [found.agreement, *([found.discrete_agreement] if found.kind == "sgd" else [])]
    judged = [[verdict.claim, verdict.outcome] for verdict in verdicts]
    low, high = found.deviations[0], found.deviations[-1]
    title = f"Phases on the plane of noise (σ from {low:.3g} to {high:.3g}) and temperature, {_kind(found)}"
    notes = []
    if lost := sum(one.diverged >= LOST for one in flat):
        notes.append(f"doubt: in {lost} cells replicas diverged, steps of finite size; they are left out")
    return Answer(
        [Table(title, ["phase by theory", "cells", "decided", "in that phase"], rows),
         Table(f"Agreement (of at least {100 * AGREEING:g} % of the decided cells)", ["claim", "verdict"], judged)],
        notes, lambda: [_phases(found), _shares(found)],
    )  # fmt: skip


def _phases(found: PhaseDiagram) -> Picture:
    """The plane itself: cells in the colour of the phase that the runs are in."""
    across, up = _borders(np.log(found.deviations)), _borders(np.array(found.ratios))
    corners = np.exp(across)
    borders = np.maximum(up, _LOWEST)[:, None] * found.boundary(theory.critical_temperature, corners.tolist())
    labels = found.field(lambda one: _number(one.found))
    shapes: list[Shape] = [
        Field(corners, borders, np.where(labels == i, 0.0, np.nan), (0.0, 1.0), (words,), role)
        for i, (_, words, role) in enumerate(_PHASES)
        if (labels == i).any()
    ]
    sigma = np.geomspace(corners[0], corners[-1], _POINTS)
    critical = found.boundary(theory.critical_temperature, sigma.tolist())
    shapes += [Line(sigma, critical, role="ink"), Line(sigma, critical / 3, role="ink")]
    shapes.append(Line(sigma, found.boundary(theory.mode_temperature, sigma.tolist()), role="ink", dashed=True))
    end = float(sigma[-1])
    shapes += [Words(1.03 * end, float(critical[-1]), "T_c"), Words(1.03 * end, float(critical[-1]) / 3, "T_c / 3")]
    return Picture(
        _in_words(found), "noise σ of the targets", "temperature T", shapes, log_across=True, log_up=True,
        span_across=(float(sigma[0]), end * (end / float(sigma[0])) ** 0.09),
        span_up=(float(borders.min()), float(borders.max())),
    )  # fmt: skip


def _shares(found: PhaseDiagram) -> Picture:
    """Share at 0 over T / T_c, so that the boundaries are level."""
    values = found.field(lambda one: float(one.near) if one.near.value is not None else float("nan"))
    labels = [f"{100 * low:g}–{100 * high:g} %" for low, high in pairwise(_BANDS)]
    across, up = _borders(np.log(found.deviations)), _borders(np.array(found.ratios))
    sigma = np.exp(np.linspace(across[0], across[-1], _POINTS))
    level = np.ones_like(sigma)
    critical = found.boundary(theory.critical_temperature, sigma.tolist())
    ends = found.boundary(theory.mode_temperature, sigma.tolist()) / critical
    first = float(sigma[2])
    shapes: list[Shape] = [
        Field(np.exp(across), up, values, _BANDS, labels, "second"), Line(sigma, level, role="ink"),
        Line(sigma, level / 3, role="ink"), Line(sigma, ends, role="ink", dashed=True), Words(first, 1.055, "T_c"),
        Words(first, 1 / 3 + 0.055, "T_c / 3"),
    ]  # fmt: skip
    if ((ends > 0.4) & (ends < 0.9)).any():
        at = int(np.abs(ends - 0.65).argmin())
        shapes.append(Words(float(sigma[at]) * 1.06, float(ends[at]), "T*: no maximum away from 0 above"))
    if found.kind == "sgd":
        shapes += _real_threshold(found, sigma[::4], critical[::4], float(up[-1]))
    return Picture(
        f"Share of networks within 1 % of 0, {_kind(found)}", "noise σ of the targets", "temperature T / T_c", shapes,
        log_across=True, span_across=(float(sigma[0]), float(sigma[-1])),
        span_up=(max(float(up[0]), 0.0), float(up[-1])),
    )  # fmt: skip


def _real_threshold(found: PhaseDiagram, sigma: Array, critical: Array, top: float) -> list[Shape]:
    """Where steps of finite size collapse."""
    threshold = found.discrete_boundary(sigma.tolist()) / critical
    threshold[threshold > top] = np.nan
    known = np.flatnonzero(np.isfinite(threshold))
    if not len(known):
        return []
    at = known[int(np.abs(threshold[known] - 1).argmax())]  # where the two are told apart best
    below = threshold[at] < 1
    words = Words(float(sigma[at]) * (1.0 if below else 1.08), float(threshold[at]) - 0.07 * below, "T_c of real steps",
                  "first")  # fmt: skip
    return [Line(sigma, threshold, role="first", dashed=True), words]


def _in_words(found: PhaseDiagram) -> str:
    flat = [one for row in found.cells for one in row]
    right, decided = sum(one.found == one.predicted for one in flat), sum(bool(one.found) for one in flat)
    blank = f"; blank: {len(flat) - decided} undecided or diverged" if decided < len(flat) else ""
    return f"{right} of {decided} decided cells are in the phase of theory{blank}"


def _number(phase: str) -> float:
    names = [name for name, _, _ in _PHASES]
    return float(names.index(phase)) if phase in names else float("nan")


def _kind(found: PhaseDiagram) -> str:
    return "SGD with real minibatches" if found.kind == "sgd" else "by the differential equation"


def _borders(centres: Array) -> Array:
    """Borders of cells around centres, half-way between neighbours."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.1, centres[0] + 0.1])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
