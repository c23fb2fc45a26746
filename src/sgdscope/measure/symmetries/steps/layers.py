"""Layers: products with weights, of activations with each other, convolutions, pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgdscope.measure.symmetries.book import Book, Leaf
from sgdscope.measure.symmetries.call import Call
from sgdscope.measure.symmetries.exponents import (
    ZERO,
    Equations,
    Terms,
    at_first,
    combined,
    compact,
    compressed,
    difference,
    scaled,
)

LOCAL = (
    "max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d "
    "max_pool1d max_pool2d max_pool3d mkldnn_max_pool2d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
    "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool2d adaptive_avg_pool3d upsample_nearest1d "
    "upsample_nearest2d upsample_nearest3d _upsample_nearest_exact2d upsample_bilinear2d upsample_linear1d "
    "upsample_bicubic2d upsample_trilinear3d reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d "
    "replication_pad2d replication_pad3d"
)
"""Of neighbours in the last dimensions, as many as the name says."""


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
    left, right = call["self"], call["mat2"]
    book.put(call.out, matmul(book, book.of(left), book.of(right), call.out.shape))


def add_mm(book: Book, call: Call) -> None:
    """A product and a bias."""
    names = [n for n in call.given if n.startswith(("mat", "batch"))]
    known = [book.of(call[n]) for n in names]
    terms = matmul(book, known[0], known[1], call.out.shape)
    book.put(call.out, _biased(book, terms, call["self"], call.out.shape))


def mv(book: Book, call: Call) -> None:
    """With a vector, which is a matrix of one column, or row."""
    names = list(call.given)
    columns = [_column(book.of(call[n])) for n in names[:2]]
    if call.name == "dot":
        columns[0] = _row(columns[0])
    terms = matmul(book, columns[0], columns[1], [*([1] if call.name == "dot" else call.out.shape), 1])
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
    book.put(call.out, _biased(book, terms, call["bias"], call.out.shape))


def convolution(book: Book, call: Call) -> None:
    """A product of channels within each group, at every place: input (b, C, …), weight (O, C / groups, …)."""
    weight, groups, out = call["weight"], call["groups"], call.out
    turned = call["transposed"]  # weight (C, O / groups, …)
    terms = book.terms(call["input"])
    channels = book.same_along(terms, [0, *range(2, call["input"].dim())])
    kernel = [1] * (weight.dim() - 2)
    inner = [(c, labels.reshape(groups, 1, -1, *kernel)) for c, labels in channels]  # (group, output, input)
    known = book.of(weight)
    if isinstance(known, Leaf):
        index = known.index.reshape(groups, -1, *weight.shape[1:])
        index = index.transpose(1, 2) if turned else index
        own = book.equations.fresh(out.shape[1]).reshape(groups, -1, 1, *kernel)
        written: Terms = ((1.0, own),)
        book.claim(replace(known, index=index), combined((*written, *scaled(tuple(inner), -1.0))))
    else:
        split = tuple((c, labels.reshape(groups, -1, *weight.shape[1:])) for c, labels in known)
        split = tuple((c, labels.transpose(1, 2)) for c, labels in split) if turned else split
        written = book.same_along(combined((*split, *inner)), range(2, 3 + len(kernel)))
    shape = [1, out.shape[1], *[1] * len(kernel)]
    result = tuple((c, labels.reshape(shape)) for c, labels in written)
    book.put(out, _biased(book, result, _along_channels(call["bias"], book, shape), out.shape))


def _along_channels(bias: Tensor | None, book: Book, shape: Sequence[int]) -> Any:
    """A bias of as many channels, laid out like them, as something that is known."""
    if bias is None or not book.knows(bias):
        return bias
    known = book.of(bias)
    if isinstance(known, Leaf):
        return replace(known, index=known.index.reshape(tuple(shape)))
    return tuple((c, labels.reshape(tuple(shape))) for c, labels in known)


def _biased(book: Book, terms: Terms, bias: Any, shape: Sequence[int]) -> Terms:
    """With a bias, which must have the exponents of what it is added to."""
    return book.equal([terms, bias], shape) if bias is not None else terms


def local(book: Book, call: Call) -> None:
    """Pooling, padding, upsampling: exponents are equal along the dimensions it works on."""
    count = next(int(c) for c in call.name.removesuffix("_with_indices")[::-1] if c.isdigit())
    terms = book.terms(call.first)
    if "max" in call.name:
        book.bent.append(terms)
    first = book.same_along(terms, range(-count, 0))
    book.put(call.out, tuple((c, labels.expand(call.out.shape)) for c, labels in first))


def padded(book: Book, call: Call) -> None:
    """With zeros, which have any exponents; another number has none. A negative width crops."""
    terms, widths = book.terms(call.first), call["pad"]
    if call["value"] != 0:
        book.equations.vanish(terms)
    for step in range(len(widths) // 2):
        dim, (before, after) = call.first.dim() - 1 - step, widths[2 * step : 2 * step + 2]
        terms = tuple(
            (c, _widened(labels, dim, before, after, book.equations if number == 0 else None))
            for number, (c, labels) in enumerate(terms)
        )  # fmt: skip
    book.put(call.out, terms)


def _widened(labels: Tensor, dim: int, before: int, after: int, equations: Equations | None) -> Tensor:
    """Labels with more indices along a dimension: the same if they are all the same, else new ones (or none)."""
    first = max(-before, 0)
    labels = labels.narrow(dim, first, labels.shape[dim] - first - max(-after, 0))
    if labels.shape[dim] == 1 or labels.stride(dim) == 0:
        shape = list(labels.shape)
        shape[dim] += max(before, 0) + max(after, 0)
        return labels.expand(shape)

    def new(width: int) -> Tensor:
        unknowns = equations.fresh(width) if equations else torch.full((width,), ZERO)
        shape = [width if d == dim else n for d, n in enumerate(labels.shape)]
        return unknowns.reshape(-1, *[1] * (labels.dim() - 1 - dim)).expand(shape)

    return compressed(torch.cat([new(max(before, 0)), labels, new(max(after, 0))], dim))


LAYERS = {
    **dict.fromkeys(("mm", "bmm"), mm),
    **dict.fromkeys(("addmm", "baddbmm"), add_mm),
    **dict.fromkeys(("mv", "dot"), mv),
    **dict.fromkeys(LOCAL.split(), local),
    "linear": linear,
    "convolution": convolution,
    "constant_pad_nd": padded,
}
