"""Solve: the null space of the equations, as expressions of each unknown in few that are free."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from sgdscope.measure.symmetries.exponents import ZERO, Rows

Ids = npt.NDArray[np.int64]
Expression = dict[int, float]


def solve(unknowns: int, rows: Sequence[Rows]) -> csr_matrix:
    """A basis of the null space as columns, shape (unknowns, free): each free unknown is one in its own column.

    Nearly all equations say that two unknowns are equal or one is zero; these are gone through all at once. The few
    that are left are eliminated one by one.
    """
    same, left = _merged(unknowns, rows)
    expressions = _eliminated(left)
    classes = np.unique(same)
    free = [int(c) for c in classes if c != same[ZERO] and int(c) not in expressions]
    column = {c: i for i, c in enumerate(free)}
    known = np.full(unknowns, -1)
    known[free] = np.arange(len(free))
    single = known[same] >= 0
    row, columns, values = [np.flatnonzero(single)], [known[same][single]], [np.ones(int(single.sum()))]
    members = _members(same, set(expressions))
    for unknown, expression in expressions.items():
        own = members[unknown]
        for other, coefficient in expression.items():
            row.append(own)
            columns.append(np.full(len(own), column[other]))
            values.append(np.full(len(own), coefficient))
    entries = (np.concatenate(values), (np.concatenate(row), np.concatenate(columns)))
    return csr_matrix(entries, shape=(unknowns, len(free)))


def _merged(unknowns: int, rows: Sequence[Rows]) -> tuple[Ids, list[Expression]]:
    """By unknown the first one it is equal to, and the equations that say more, in these."""
    same = np.arange(unknowns)
    pending = [(np.tile(r.coefficients, (len(r.unknowns), 1)), r.unknowns) for r in rows if len(r.unknowns)]
    while True:
        pairs, left = [np.zeros((0, 2), dtype=np.int64)], []
        for coefficients, ids in pending:
            coefficients, ids = _collected(coefficients, same[ids], int(same[ZERO]))
            count = (coefficients != 0).sum(1)
            one, two = count == 1, (count == 2) & (coefficients.sum(1) == 0)
            for chosen, width in ((one, 1), (two, 2)):
                if chosen.any():
                    found = ids[chosen][coefficients[chosen] != 0].reshape(-1, width)
                    pairs.append(np.pad(found, ((0, 0), (0, 2 - width)), constant_values=same[ZERO]))
            more = (count > 0) & ~one & ~two
            if more.any():
                left.append((coefficients[more], ids[more]))
        edges = np.concatenate(pairs)
        if not len(edges):
            return same, _as_expressions(left)
        graph = csr_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(unknowns, unknowns))
        _, component = connected_components(graph, directed=False)
        first = np.full(component.max() + 1, unknowns)
        np.minimum.at(first, component, np.arange(unknowns))
        same = first[component[same]]
        pending = left


def _collected(coefficients: npt.NDArray[np.float64], ids: Ids, zero: int) -> tuple[npt.NDArray[np.float64], Ids]:
    """Coefficients of unknowns that appear twice in a row added up; those of zero left out."""
    coefficients = np.where(ids == zero, 0.0, coefficients)
    for second in range(ids.shape[1]):
        for first in range(second):
            again = ids[:, first] == ids[:, second]
            coefficients[again, first] += coefficients[again, second]
            coefficients[again, second] = 0.0
    return coefficients, ids


def _as_expressions(rows: Sequence[tuple[npt.NDArray[np.float64], Ids]]) -> list[Expression]:
    """Each equation once, the short ones first."""
    found = {
        tuple(sorted((int(i), float(c)) for i, c in zip(names, values, strict=True) if c))
        for coefficients, ids in rows
        for values, names in zip(coefficients, ids, strict=True)
    }
    return [dict(each) for each in sorted(found, key=lambda each: (len(each), each))]


def _eliminated(equations: list[Expression]) -> dict[int, Expression]:
    """By unknown that the equations settle its expression in those they leave free: Gauss and Jordan, sparse."""
    settled: dict[int, Expression] = {}
    appears: dict[int, set[int]] = {}
    for equation in equations:
        rest: Expression = {}
        for unknown, coefficient in equation.items():
            add(rest, settled.get(unknown, {unknown: 1.0}), coefficient)
        if not rest:
            continue
        pivot = min(rest)
        scale = -1.0 / rest.pop(pivot)
        own = {unknown: scale * c for unknown, c in rest.items()}
        for other in appears.pop(pivot, set()):
            add(settled[other], own, settled[other].pop(pivot, 0.0))
            for unknown in own:
                appears.setdefault(unknown, set()).add(other)
        settled[pivot] = own
        for unknown in own:
            appears.setdefault(unknown, set()).add(pivot)
    return settled


def add(to: Expression, expression: Expression, factor: float) -> None:
    """Add a multiple of an expression to another, in place; what cancels is left out."""
    for unknown, coefficient in expression.items():
        total = to.get(unknown, 0.0) + factor * coefficient
        if abs(total) < 1e-9:
            to.pop(unknown, None)
        else:
            to[unknown] = total


def _members(same: Ids, of: set[int]) -> dict[int, Ids]:
    """Unknowns of each of some classes."""
    order = np.argsort(same, kind="stable")
    starts = np.searchsorted(same[order], sorted(of))
    ends = np.searchsorted(same[order], sorted(of), side="right")
    return {c: order[a:b] for c, a, b in zip(sorted(of), starts, ends, strict=True)}
