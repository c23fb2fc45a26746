"""Propose: families of units made candidates, with names for people and reasons for those that cannot hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_matrix, csr_matrix, vstack
from torch import Tensor

from sgdscope.measure.symmetries.book import Book
from sgdscope.measure.symmetries.candidate import Candidate
from sgdscope.measure.symmetries.exponents import Kind, Rows
from sgdscope.measure.symmetries.families import Family, columns_of, families_of
from sgdscope.measure.symmetries.part import Part
from sgdscope.measure.symmetries.slices import parts_of
from sgdscope.measure.symmetries.solve import add, solve


def candidates_of(book: Book, parameters: Mapping[str, Tensor]) -> list[Candidate]:
    """Generators that the equations allow, and those that they would allow but for one that has a reason.

    In the order of the run. `parameters`: trainable ones by name.
    """
    rows, every = book.equations.rows, range(len(book.claims))
    once = [number for number in every if number not in book.repeated]

    def basis(*without: Kind) -> csr_matrix:
        return solve(book.equations.unknowns, [r for r in rows if r.kind not in without])

    found = [(family, "") for family in families_of(book, parameters, basis(), claims=once)]
    allowed = basis("small")
    further = _further(allowed, [r for r in rows if r.kind == "small"])
    found += [(family, "") for family in families_of(book, parameters, allowed, claims=once, only=further)]
    moved = np.asarray(abs(allowed).sum(1)).ravel() > 0
    kinds: tuple[tuple[Kind, Collection[int]], ...] = (("reason", once), ("tie", every))
    for kind, claims in kinds:
        if asked := [r for r in rows if r.kind == kind]:
            relaxed = basis("small", kind)
            reasons, frozen = _reasons(relaxed, asked, moved), _frozen(book, relaxed)
            found += [
                (family, reasons[int(family.free[0])])
                for family in families_of(book, parameters, relaxed, claims=claims, only=reasons)
                if frozen[int(family.free[0])] < len({use.claim for use in family.uses})  # else there is little to say
            ]
    found.sort(key=lambda pair: pair[0].first)
    return _named_apart([_candidate(book, family, reason, parameters) for family, reason in found])


def _broken(basis: csr_matrix, rows: Rows) -> csr_matrix:
    """By equation and column how far the column is from obeying it."""
    broken = sum(c * basis[rows.unknowns[:, k]] for k, c in enumerate(rows.coefficients))
    broken.eliminate_zeros()
    return broken.tocsr()


def _further(allowed: csr_matrix, small: Sequence[Rows]) -> list[int]:
    """Columns that hold up to small numbers only: as many as are independent, those of the fewest unknowns first."""
    if not small:
        return []
    broken = csc_matrix(vstack([_broken(allowed, rows) for rows in small]))
    size = np.diff(allowed.tocsc().indptr)
    reduced: dict[int, dict[int, float]] = {}  # by the equation that it was solved for
    found = []
    for column in sorted(np.flatnonzero(np.diff(broken.indptr)).tolist(), key=lambda c: (size[c], c)):
        own = slice(broken.indptr[column], broken.indptr[column + 1])
        left = dict(zip(broken.indices[own].tolist(), broken.data[own].tolist(), strict=True))
        while left and (pivot := min(left)) in reduced:
            add(left, reduced[pivot], -left[pivot])
        if left:
            pivot = min(left)
            reduced[pivot] = {row: value / left[pivot] for row, value in left.items()}
            found.append(column)
    return found


def _reasons(relaxed: csr_matrix, asked: Sequence[Rows], moved: npt.NDArray[np.bool_]) -> dict[int, str]:
    """By column the first equation it breaks; not of columns all of whose unknowns move in what is allowed."""
    reasons: dict[int, str] = {}
    for rows in asked:
        for column in np.unique(_broken(relaxed, rows).indices):
            reasons.setdefault(int(column), rows.reason)
    columns = relaxed.tocsc()
    support = {c: columns.indices[columns.indptr[c] : columns.indptr[c + 1]] for c in reasons}
    return {c: reason for c, reason in reasons.items() if not moved[support[c]].all()}


def _frozen(book: Book, basis: csr_matrix) -> Counter[int]:
    """By column how many uses of frozen parameters it would scale."""
    return Counter(
        column for claim in book.claims if claim.name in book.frozen for column in columns_of(basis, claim.terms)
    )


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
