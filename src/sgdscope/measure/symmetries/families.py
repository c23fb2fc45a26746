"""Families: free unknowns that scale slices of the same parameters in the same way are the units of one symmetry."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from torch import Tensor

from sgdscope.measure.symmetries.book import Book
from sgdscope.measure.symmetries.exponents import compact
from sgdscope.measure.symmetries.slices import Use

Ids = npt.NDArray[np.int64]
Entries = npt.NDArray[np.void]
_ENTRY = np.dtype([("free", int), ("claim", int), ("dims", int), ("place", int), ("power", float), ("written", bool)])
"""Which free unknown scales which slice of which claim: its place along the dimensions (a bit each) it lies in."""
_TWELFTHS = 12
"""Powers are told apart to this fraction."""


@dataclass(frozen=True, eq=False)
class Family:
    """Units, each a free unknown, and what they scale.

    Attributes:
        free: columns of the basis, in the order of the run.
        uses: of parameters, by the number of the unit.
        first: place in the run.
        heads: by unit the matrix of a stack of matrices that it takes part in; None if not all do.
        norms: modules that read it and forget its scale.
        bent: whether a function acts on it coordinate by coordinate.
    """

    free: Ids
    uses: tuple[Use, ...]
    first: int
    heads: Ids | None
    norms: tuple[str, ...]
    bent: bool

    @property
    def powers(self) -> npt.NDArray[np.float64]:
        """One for each use."""
        return np.array([use.power for use in self.uses])


def families_of(
    book: Book, parameters: Mapping[str, Tensor], basis: csr_matrix, *,
    claims: Collection[int], only: Collection[int] | None = None,
) -> list[Family]:  # fmt: skip
    """Of the columns of a basis (of those named), by what they scale through some of the claims."""
    entries = _entries(book, parameters, basis, claims)
    entries = entries[~np.isin(entries["free"], _redundant(book, basis))]
    if only is not None:
        entries = entries[np.isin(entries["free"], list(only))]
    heads, by_column = _heads(book, basis), basis.tocsc()
    norms: dict[int, list[str]] = {}
    for terms, name in book.norms:
        for column in columns_of(basis, terms):
            norms.setdefault(column, []).append(name or "norm")
    bent = {column for terms in book.bent for column in columns_of(basis, terms)}
    found = []
    for free in _alike(entries):
        own = entries[np.isin(entries["free"], free)]
        matrices = np.array([heads.get(int(f), -1) for f in free])
        found.append(
            Family(
                free=free,
                uses=tuple(_uses(own, free)),
                first=int(by_column.indices[by_column.indptr[free[0]]]),
                heads=matrices if (matrices >= 0).all() else None,
                norms=tuple(norms.get(int(free[0]), ())),
                bent=not bent.isdisjoint(free.tolist()),
            )
        )
    return found


def columns_of(basis: csr_matrix, terms: Sequence[tuple[float, Tensor]]) -> set[int]:
    """Free unknowns that exponents depend on."""
    return {int(c) for _, labels in terms for c in np.unique(basis[compact(labels)[0].reshape(-1).numpy()].indices)}


def _redundant(book: Book, basis: csr_matrix) -> list[int]:
    """Columns that others add up to: a constant can be moved from the unknowns of one dimension to those of another."""
    found = []
    for dimensions in book.splits:
        columns = [np.unique(basis[labels.numpy()].indices) for labels in dimensions]
        found += [int(c[0]) for c in sorted(columns, key=len)[:-1] if len(c) == 1]
    return found


def _entries(book: Book, parameters: Mapping[str, Tensor], basis: csr_matrix, claims: Collection[int]) -> Entries:
    found = [np.zeros(0, dtype=_ENTRY)]
    for number in claims:
        claim = book.claims[number]
        if claim.name not in parameters:
            continue
        of_claim = [np.zeros(0, dtype=_ENTRY)]
        for coefficient, labels in claim.terms:
            flat, dims = compact(labels)
            hit = basis[flat.reshape(-1).numpy()].tocoo()
            if hit.nnz == flat.numel() and _is_constant(hit.col) and _is_constant(hit.data):  # all are one
                dims, hit = (), basis[flat.reshape(-1)[:1].numpy()].tocoo()
            rows = np.zeros(hit.nnz, dtype=_ENTRY)
            rows["free"], rows["place"], rows["power"] = hit.col, hit.row, coefficient * hit.data
            rows["claim"], rows["dims"], rows["written"] = number, sum(1 << d for d in dims), coefficient > 0
            of_claim.append(rows)
        found.append(_added_up(np.concatenate(of_claim)))
    return np.concatenate(found)


def _is_constant(values: npt.NDArray[np.generic]) -> bool:
    return bool((values == values[:1]).all())


def _added_up(rows: Entries) -> Entries:
    """Terms of the same slices as one: what a parameter writes and reads may cancel."""
    keys = np.stack([rows["free"], rows["dims"], rows["place"]], axis=1)
    _, first, which = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    summed: Entries = rows[first]
    summed["power"] = np.bincount(which.reshape(-1), weights=rows["power"], minlength=len(first))
    kept: Entries = summed[np.abs(summed["power"]) > 1e-9]
    return kept


def _kinds(entries: Entries) -> Ids:
    """Claim, dimensions and power of each entry."""
    power = np.round(_TWELFTHS * entries["power"]).astype(np.int64)
    return np.stack([entries["claim"], entries["dims"], power], axis=1)


def _alike(entries: Entries) -> Iterator[Ids]:
    """Free unknowns with slices along the same dimensions, to the same powers, and as many."""
    if not len(entries):
        return
    rows, counts = np.unique(
        np.column_stack([entries["free"], _kinds(entries)]), axis=0, return_counts=True
    )  # fmt: skip
    starts = np.flatnonzero(np.r_[True, rows[1:, 0] != rows[:-1, 0]])
    groups: dict[bytes, list[int]] = {}
    full = np.column_stack([rows[:, 1:], counts])
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        groups.setdefault(full[start:end].tobytes(), []).append(int(rows[start, 0]))
    for group in groups.values():
        yield from _apart(np.array(group), entries)


def _apart(free: Ids, entries: Entries) -> list[Ids]:
    """Those that share a slice in different groups, as two factors that are read by one layer."""
    own = entries[np.isin(entries["free"], free)]
    slices, which = np.unique(
        np.stack([own["claim"], own["dims"], own["place"]], axis=1), axis=0, return_inverse=True
    )  # fmt: skip
    if len(slices) == len(own):
        return [free]
    order = np.argsort(own["free"], kind="stable")
    of_each = np.split(which.reshape(-1)[order], np.searchsorted(own["free"][order], free)[1:])
    groups: list[tuple[list[int], set[int]]] = []
    for each, slices_of_each in zip(free, of_each, strict=True):
        places = set(slices_of_each.tolist())
        group = next((g for g in groups if not g[1] & places), None)
        if group is None:
            groups.append(group := ([], set()))
        group[0].append(int(each))
        group[1].update(places)
    return [np.array(members) for members, _ in groups]


def _uses(entries: Entries, free: Ids) -> Iterator[Use]:
    units = np.searchsorted(free, entries["free"])
    kinds, which = np.unique(_kinds(entries), axis=0, return_inverse=True)
    for number, (claim, bits, _) in enumerate(kinds.tolist()):
        here = which.reshape(-1) == number
        own = entries[here]
        dims = tuple(d for d in range(64) if bits >> d & 1)
        yield Use(claim, dims, float(own["power"][0]), bool(own["written"][0]), own["place"], units[here])


def _heads(book: Book, basis: csr_matrix) -> dict[int, int]:
    """By free unknown the first matrix that it takes part in, in the first product of two stacks of matrices."""
    found: dict[int, int] = {}
    for pairs in book.heads:
        hit = basis[pairs[:, 0]].tocoo()
        here: dict[int, int] = {}
        for column, matrix in zip(hit.col.tolist(), pairs[hit.row, 1].tolist(), strict=True):
            here[column] = min(matrix, here.get(column, matrix))
        found = {**here, **found}
    return found
