"""Products: of activations with weights, and with each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgdscope.measure.symmetries.book import Book, Leaf
from sgdscope.measure.symmetries.call import Call
from sgdscope.measure.symmetries.exponents import Terms, at_first, combined, compact, difference, scaled


def matmul(book: Book, left: Terms | Leaf, right: Terms | Leaf, shape: Sequence[int]) -> Terms:
    """Exponents of the product of ``(…, m, k)`` and ``(…, k, n)``, of a shape ``(…, m, n)``.

    Those of every product that is summed over k must be equal. A weight is not asked: it takes what its input and
    unknowns of its output, one per n, leave to it.
    """
    if isinstance(left, Leaf) and isinstance(right, Leaf):
        left = book.free(left)
    if isinstance(left, Leaf):
        turned = replace(left, index=left.index.mT)
        product = matmul(book, _turned(right), turned, [*shape[:-2], shape[-1], shape[-2]])
        return _turned(product)
    if isinstance(right, Leaf):
        row, corner = at_first(left, [-2]), at_first(left, [-2, -1])
        above = difference(at_first(left, [-1]), corner)
        book.equations.vanish(combined((*difference(left, row), *scaled(above, -1.0))))
        written = _unknowns(book, right.index)
        book.claim(right, combined((*written, *scaled(_turned(row), -1.0))))
        return combined((*written, *above))
    one = tuple((c, labels.unsqueeze(-1)) for c, labels in left)  # (…, m, k, 1)
    two = tuple((c, labels.unsqueeze(-3)) for c, labels in right)  # (…, 1, k, n)
    both = combined((*one, *two))
    first = book.same_along(both, [-2])
    if len(shape) == 3:
        book.heads.append(_places(both))
    return tuple((c, labels.squeeze(-2)) for c, labels in first)


def _places(terms: Terms) -> npt.NDArray[np.int64]:
    """Pairs of an unknown and the matrix of the stack ``(matrices, …)`` that it appears in."""
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    for _, labels in terms:
        flat, dims = compact(labels)
        matrices = np.arange(len(flat)).repeat(flat[0].numel()) if 0 in dims else np.zeros(flat.numel(), dtype=np.int64)
        pairs.append(np.stack([flat.reshape(-1).numpy(), matrices], axis=1))
    return np.unique(np.concatenate(pairs), axis=0)


def _unknowns(book: Book, index: Tensor) -> Terms:
    """One for each column n, and for each of the matrices of a stack that differ."""
    dims = [d for d in range(index.dim() - 2) if index.shape[d] > 1 and index.stride(d)] + [index.dim() - 1]
    shape = [n if d in dims else 1 for d, n in enumerate(index.shape)]
    return ((1.0, book.equations.fresh(torch.Size(shape).numel()).reshape(shape)),)


def _turned(terms: Any) -> Terms:
    return tuple((c, labels.mT) for c, labels in terms)


def mm(book: Book, call: Call) -> None:
    """Matrices, or stacks of them."""
    left, right = (_factor(book, call[name]) for name in ("self", "mat2"))
    book.put(call.out, matmul(book, left, right, call.out.shape))


def add_mm(book: Book, call: Call) -> None:
    """A product and a bias."""
    names = [n for n in call.given if n.startswith(("mat", "batch"))]
    left, right = (_factor(book, call[name]) for name in names)
    terms = matmul(book, left, right, call.out.shape)
    book.put(call.out, biased(book, terms, call["self"], call.out.shape))


def _factor(book: Book, tensor: Tensor) -> Terms | Leaf:
    """What is known of a factor; one that is zero, as the first state of a recurrent network, has any exponents."""
    if book.knows(tensor) or bool(tensor.any()):
        return book.of(tensor)
    return ((1.0, book.equations.fresh(tensor.numel()).reshape(tensor.shape)),)


def mv(book: Book, call: Call) -> None:
    """With a vector, which is a matrix of one column, or row."""
    names = list(call.given)
    columns = [_column(book.of(call[n])) for n in names[:2]]
    if call.name != "mv":
        columns[0] = _row(columns[0])
    terms = matmul(book, columns[0], columns[1], [*(call.out.shape if call.name == "mv" else [1]), 1])
    book.put(call.out, tuple((c, labels.reshape(call.out.shape)) for c, labels in terms))


def _column(known: Terms | Leaf) -> Terms | Leaf:
    if isinstance(known, Leaf):
        return replace(known, index=known.index.unsqueeze(-1)) if known.index.dim() == 1 else known
    return tuple((c, labels.unsqueeze(-1) if labels.dim() == 1 else labels) for c, labels in known)


def _row(known: Terms | Leaf) -> Terms | Leaf:
    return replace(known, index=known.index.mT) if isinstance(known, Leaf) else _turned(known)


def linear(book: Book, call: Call) -> None:
    """Where torch does not take it apart."""
    weight = book.of(call["weight"])
    terms = matmul(book, book.terms(call["input"]), _row(weight), call.out.shape)
    book.put(call.out, biased(book, terms, call["bias"], call.out.shape))


def trilinear(book: Book, call: Call) -> None:
    """Σ x W y over some dimensions, W between two inputs, as in ``nn.Bilinear``."""
    opened = []
    for number in (1, 2, 3):
        known, dims = book.of(call[f"i{number}"]), sorted(call[f"expand{number}"])
        opened.append(_opened(known, dims))
    one, weight, two = opened
    if not isinstance(weight, Leaf) or isinstance(one, Leaf) or isinstance(two, Leaf):
        raise NotImplementedError
    shape = np.broadcast_shapes(*(tuple(labels.shape) for _, labels in (*one, *two)), tuple(weight.index.shape))
    summed = [d % len(shape) for d in call["sumdim"]]
    kept = [1 if d in summed or weight.index.shape[d] == 1 else n for d, n in enumerate(shape)]
    written: Terms = ((1.0, book.equations.fresh(math.prod(kept)).reshape(kept)),)
    claimed = combined((*written, *scaled(one, -1.0), *scaled(two, -1.0)))
    book.claim(replace(weight, index=weight.index.expand(shape)), claimed)
    out = [n for d, n in enumerate(kept) if d not in summed]
    book.put(call.out, tuple((c, labels.reshape(out)) for c, labels in written))


def _opened(known: Terms | Leaf, dims: Sequence[int]) -> Terms | Leaf:
    """With further dimensions of size 1."""

    def opened(tensor: Tensor) -> Tensor:
        for d in dims:
            tensor = tensor.unsqueeze(d)
        return tensor

    if isinstance(known, Leaf):
        return replace(known, index=opened(known.index))
    return tuple((c, opened(labels)) for c, labels in known)


def biased(book: Book, terms: Terms, bias: Any, shape: Sequence[int]) -> Terms:
    """With a bias, which must have the exponents of what it is added to."""
    return book.equal([terms, bias], shape) if bias is not None else terms


PRODUCTS = {
    **dict.fromkeys(("mm", "bmm"), mm),
    **dict.fromkeys(("addmm", "baddbmm"), add_mm),
    **dict.fromkeys(("mv", "dot", "vdot"), mv),
    "linear": linear,
    "_trilinear": trilinear,
}
