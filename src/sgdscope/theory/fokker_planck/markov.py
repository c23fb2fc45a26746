"""Rate matrices: what makes a matrix a generator, which cells reach which, detailed balance, factorisation.

Column convention throughout: entry (i, j) is the rate from cell j to cell i, so that dp/dt = Q p for masses p.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import splu

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_ROUNDING = 1e-10  # of the rate out of a cell: how far a column may be from summing to zero
_BALANCE = 1e-10  # relative size of a circular flow that counts as none


def checked(matrix: Any) -> Any:
    """The matrix as a sparse array in column form, its diagonal made minus the sum of each column's rates, to rounding.

    Raises ValueError unless it is square and finite, its off-diagonal entries are rates ≥ 0 and its columns sum to 0.
    """
    given = sparse.csc_array(matrix, dtype=np.float64)
    given.sum_duplicates()
    if given.shape[0] != given.shape[1] or given.shape[0] < 2:
        raise ValueError(f"expected a square rate matrix over at least two cells, got shape {given.shape}")
    if not np.isfinite(given.data).all():
        raise ValueError("expected finite rates, got NaN or infinity: is the drift or the diffusion finite everywhere?")
    diagonal = given.diagonal()
    rates = (given - sparse.diags_array(diagonal)).tocsc()
    rates.eliminate_zeros()
    if rates.nnz and rates.data.min() < 0:
        where = int(np.argmin(rates.data))
        target, source = int(rates.indices[where]), int(np.searchsorted(rates.indptr, where, side="right") - 1)
        raise ValueError(
            f"expected rates ≥ 0 off the diagonal, got {rates.data[where]:.3g} from cell {source} to cell {target}: "
            "use a monotone scheme"
        )
    out = np.asarray(rates.sum(axis=0)).ravel()
    off = np.abs(out + diagonal) > _ROUNDING * np.maximum(out, -diagonal)
    if off.any():
        column = int(np.argmax(off))
        raise ValueError(
            f"expected columns that sum to zero (entry (i, j) is the rate from j to i), got "
            f"{out[column] + diagonal[column]:.3g} in column {column}: transpose the matrix if its rows sum to zero"
        )
    return (rates - sparse.diags_array(out)).tocsc()


def factored(matrix: Any) -> Any:
    """LU of a matrix with dominant diagonal and off-diagonal entries ≤ 0 (or its transpose), kept without pivoting.

    No pivoting keeps every product of the elimination of one sign, so that the inverse is ≥ 0 in rounding too; the
    order is one for symmetric patterns, half the fill of the usual one. About 0.1 s for 200 × 200 cells.
    """
    options = {"SymmetricMode": True}
    return splu(sparse.csc_matrix(matrix), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)


def closed_classes(matrix: Any) -> int:
    """How many sets of cells, each connected within itself, no rate leads out of. One: a single stationary law."""
    count, label = csgraph.connected_components(matrix.T, directed=True, connection="strong")
    entries = matrix.tocoo()
    leaving = (entries.data > 0) & (label[entries.row] != label[entries.col])
    is_open = np.zeros(count, dtype=bool)
    is_open[label[entries.col[leaving]]] = True
    return int(count - is_open.sum())


def reaching(matrix: Any, target: Mask) -> Mask:
    """Which cells can get to the target."""
    size = matrix.shape[0]
    gate = sparse.csr_array(target.astype(float)[None, :])
    backwards = sparse.block_array([[matrix, None], [gate, sparse.csr_array((1, 1))]], format="csr")
    found = csgraph.breadth_first_order(backwards, size, directed=True, return_predecessors=False)
    reached = np.zeros(size + 1, dtype=bool)
    reached[found] = True
    return reached[:size]


def balanced_weights(matrix: Any) -> Floats | None:
    """Logarithms of the stationary masses up to a constant, if each flow between two cells balances the one back.

    Ratios of rates are multiplied along a spanning tree, each other pair of cells is then checked: no system is
    solved, and the relative precision of the masses does not suffer from rare exchange. None without such balance, or
    where the cells are not all connected. Cost: a few passes over the entries.
    """
    rates = matrix.tocoo()
    off = rates.row != rates.col
    forward = sparse.csr_array((rates.data[off], (rates.col[off], rates.row[off])), shape=matrix.shape)
    forward.sort_indices()
    back = forward.T.tocsr()
    back.sort_indices()
    if not (np.array_equal(forward.indptr, back.indptr) and np.array_equal(forward.indices, back.indices)):
        return None
    order, parent = csgraph.breadth_first_order(forward, 0, directed=True)
    if len(order) < matrix.shape[0]:
        return None
    source = np.repeat(np.arange(matrix.shape[0]), np.diff(forward.indptr))
    log_ratio = np.log(forward.data) - np.log(back.data)  # of the masses of end and source, if balanced
    tree = parent[forward.indices] == source
    step = np.zeros(matrix.shape[0])
    step[forward.indices[tree]] = log_ratio[tree]
    weights = np.zeros(matrix.shape[0])
    for cell in order[1:]:
        weights[cell] = weights[parent[cell]] + step[cell]
    scale = 1 + np.abs(log_ratio)
    if (np.abs(weights[forward.indices] - weights[source] - log_ratio) > _BALANCE * scale).any():
        return None
    return np.asarray(weights - weights.max())
