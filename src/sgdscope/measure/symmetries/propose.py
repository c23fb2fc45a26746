"""Propose: families of units made candidates, with names for people and reasons for those that cannot hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from torch import Tensor

from sgdscope.measure.symmetries.book import Book
from sgdscope.measure.symmetries.candidate import Candidate
from sgdscope.measure.symmetries.exponents import Rows
from sgdscope.measure.symmetries.families import Family, columns_of, families_of
from sgdscope.measure.symmetries.part import Part
from sgdscope.measure.symmetries.slices import parts_of
from sgdscope.measure.symmetries.solve import solve


def candidates_of(book: Book, parameters: Mapping[str, Tensor]) -> list[Candidate]:
    """Generators that the equations allow, and those that they would allow but for one that has a reason.

    In the order of the run. `parameters`: trainable ones by name.
    """
    rows, unknowns = book.equations.rows, book.equations.unknowns
    every = range(len(book.claims))
    once = [number for number in every if number not in book.repeated]
    allowed = solve(unknowns, rows)
    moved = np.asarray(abs(allowed).sum(1)).ravel() > 0
    found = [(family, "") for family in families_of(book, parameters, allowed, claims=once)]
    for tie, claims in ((False, once), (True, every)):
        asked = [r for r in rows if r.reason and r.tie == tie]
        if asked:
            relaxed = solve(unknowns, [r for r in rows if not r.reason or r.tie != tie])
            reasons = _reasons(relaxed, asked, moved)
            found += [
                (family, reasons[int(family.free[0])])
                for family in families_of(book, parameters, relaxed, claims=claims, only=reasons)
                if _is_trained(book, family, relaxed)
            ]
    found.sort(key=lambda pair: pair[0].first)
    return _named_apart([_candidate(book, family, reason, parameters) for family, reason in found])


def _reasons(relaxed: csr_matrix, asked: Sequence[Rows], moved: npt.NDArray[np.bool_]) -> dict[int, str]:
    """By column the first equation it breaks; not of columns all of whose unknowns move in what is allowed."""
    reasons: dict[int, str] = {}
    for rows in asked:
        broken = sum(c * relaxed[rows.unknowns[:, k]] for k, c in enumerate(rows.coefficients))
        broken.eliminate_zeros()
        for column in np.unique(broken.tocoo().col):
            reasons.setdefault(int(column), rows.reason)
    columns = relaxed.tocsc()
    support = {c: columns.indices[columns.indptr[c] : columns.indptr[c + 1]] for c in reasons}
    return {c: reason for c, reason in reasons.items() if not moved[support[c]].all()}


def _is_trained(book: Book, family: Family, basis: csr_matrix) -> bool:
    """Whether more of what it scales is trained than frozen: there is little to say of frozen layers."""
    frozen = [c for c in book.claims if c.name in book.frozen and family.free[0] in columns_of(basis, c.terms)]
    return len(frozen) < len({use.claim for use in family.uses})


def _candidate(book: Book, family: Family, reason: str, parameters: Mapping[str, Tensor]) -> Candidate:
    powers = family.powers * _sign(family) / np.abs(family.powers).min()
    uses = [replace(use, power=float(power)) for use, power in zip(family.uses, powers, strict=True)]
    two_sided = bool((powers > 0).any() and (powers < 0).any())
    number, order = np.arange(len(family.free)), np.arange(len(family.free))
    unit, blocks, equal = "units", 1, True
    if family.heads is not None and len(heads := np.unique(family.heads)) > 1:
        number = np.searchsorted(heads, family.heads)
        order = np.argsort(np.argsort(number, kind="stable"))
        sizes = np.bincount(number)
        unit, blocks, equal = "heads", len(heads), bool((sizes == sizes[0]).all())
    coordinates: tuple[Part, ...] = ()
    if two_sided and equal and not (family.bent or reason) and len(order) > blocks and (np.abs(powers) == 1).all():
        coordinates = parts_of(book, uses, parameters, order, simplify=False)
    return Candidate(
        name=_name(book, family, powers),
        kind="rescaling" if two_sided else "scale invariance",
        units=int(number.max()) + 1,
        parts=parts_of(book, uses, parameters, number),
        reason=reason,
        unit=unit,
        coordinates=coordinates,
        blocks=blocks,
    )


def _sign(family: Family) -> float:
    """So that what reads is multiplied by λ; of factors that are both written (queries, keys) the first."""
    read = [use.power for use in family.uses if not use.written]
    first = next((use.power for use in family.uses if use.written), family.uses[0].power)
    one_sided = bool((family.powers * first > 0).all())
    return float(np.sign(first)) * (1.0 if one_sided or not read else -1.0)


def _name(book: Book, family: Family, powers: npt.NDArray[np.float64]) -> str:
    layers = [_layer(book.claims[use.claim].name) for use in family.uses]
    of_u = [layer for layer, power in zip(layers, powers, strict=True) if power > 0]
    of_w = [layer for layer, power in zip(layers, powers, strict=True) if power < 0]
    if not of_w:
        return " → ".join(_short(names) for names in (of_u, [_layer(f"{n}.") for n in family.norms]) if names)
    both_written = all(use.written for use, power in zip(family.uses, powers, strict=True) if power > 0)
    if both_written:
        return f"{_short(of_u)} · {_short(of_w) if _short(of_w) != _short(of_u) else 'itself'}"
    return f"{_short(of_w)} → {_short(of_u)}"


def _layer(parameter: str) -> str:
    """The module that a parameter is of; its own name where that is the model itself."""
    module, hidden, _ = parameter.partition(".parametrizations.")
    return module if hidden else parameter.rpartition(".")[0] or parameter


def _short(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _named_apart(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Further candidates of the same name are numbered."""
    seen: dict[str, int] = {}
    named = []
    for candidate in candidates:
        count = seen[candidate.name] = seen.get(candidate.name, 0) + 1
        named.append(replace(candidate, name=f"{candidate.name} ({count})") if count > 1 else candidate)
    return named
