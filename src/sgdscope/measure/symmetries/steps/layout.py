"""Layout: operations that only move numbers. What they do to a tensor is done to its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sgdscope.batches import map_tensors
from sgdscope.measure.symmetries.book import Book, Leaf
from sgdscope.measure.symmetries.call import Call
from sgdscope.measure.symmetries.exponents import ZERO, Terms, compressed

KEPT = "clone _to_copy detach alias contiguous lift lift_fresh tril triu _conj resolve_conj resolve_neg"
"""The same numbers in the same places."""
SHAPED = "view reshape _unsafe_view _reshape_alias _reshape_copy flatten unflatten"
MOVED = (
    "t transpose permute expand unsqueeze squeeze slice select split split_with_sizes unsafe_split "
    "unsafe_split_with_sizes unbind chunk narrow diagonal unfold movedim swapaxes flip roll repeat rot90 pixel_shuffle "
    "pixel_unshuffle channel_shuffle native_channel_shuffle gather take index index_select masked_select"
)
LOOKED_UP = {"index", "index_select", "gather", "take", "masked_select"}
"""By places that depend on the data: another sample takes other rows of a parameter."""


def kept(book: Book, call: Call) -> None:
    """The same numbers."""
    book.put(call.out, book.of(call.first))


def shaped(book: Book, call: Call) -> None:
    """The same numbers in the same order."""
    _each(book, call, lambda labels: [labels.reshape(call.out.shape)])


def moved(book: Book, call: Call) -> None:
    """Some of the numbers, elsewhere."""
    args, kwargs = (
        map_tensors(lambda t: t.cpu(), list(call.keyed[0][1:])),
        map_tensors(lambda t: t.cpu(), call.keyed[1]),
    )
    if call.name in LOOKED_UP and isinstance(leaf := book.of(call.first), Leaf):
        rows = [d for d, i in enumerate(call["indices"]) if i is not None] if call.name == "index" else call.dims()
        book.put(call.first, book.free(leaf, [d for d in range(call.first.dim()) if d not in rows]))

    def same(labels: Tensor) -> Sequence[Tensor]:
        out = call.operation(labels.detach(), *args, **kwargs)  # an alias: an in-place version changes its shape
        return [out] if isinstance(out, Tensor) else list(out)

    _each(book, call, same)


def _each(book: Book, call: Call, move: Any) -> None:
    outputs = [call.output] if isinstance(call.output, Tensor) else list(call.output)
    known = book.of(call.first)
    if isinstance(known, Leaf):
        for output, index in zip(outputs, move(known.index), strict=True):
            copied = known.copied or not _shares(index, known.index)
            book.put(output, replace(known, index=index, copied=copied))
        return
    pieces: list[list[tuple[float, Tensor]]] = [[] for _ in outputs]
    for coefficient, labels in known:
        for piece, one in zip(pieces, move(labels), strict=True):
            piece.append((coefficient, one if _shares(one, labels) else compressed(one)))
    for output, terms in zip(outputs, pieces, strict=True):
        book.put(output, tuple(terms))


def _shares(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def joined(book: Book, call: Call) -> None:
    """Tensors side by side, or stacked."""
    tensors = [t for t in call["tensors"] if t.dim() or call.name == "stack"]
    tensors = [t for t in tensors if t.shape != (0,) or call.out.dim() == 1]
    pieces = [book.terms(t) for t in tensors]
    slots = sorted({slot for terms in pieces for slot in _slots(terms)})
    found: list[tuple[float, Tensor]] = []
    for coefficient, turn in slots:
        labels = []
        for tensor, terms in zip(tensors, pieces, strict=True):
            same = [own for c, own in terms if c == coefficient]
            labels.append(
                same[turn] if turn < len(same) else torch.full((1,) * tensor.dim(), ZERO).expand(tensor.shape)
            )
        found.append((coefficient, compressed(call.operation(labels, call["dim"]))))
    book.put(call.out, tuple(found))


def _slots(terms: Terms) -> list[tuple[float, int]]:
    """Coefficients, each with how often it was there before."""
    seen: list[float] = []
    for coefficient, _ in terms:
        seen.append(coefficient)
    return [(c, seen[:i].count(c)) for i, c in enumerate(seen)]


def as_complex(book: Book, call: Call) -> None:
    """Pairs as complex numbers: both parts have one exponent."""
    first = book.same_along(book.terms(call.first), [-1])
    book.put(call.out, tuple((c, labels.squeeze(-1)) for c, labels in first))


def as_real(book: Book, call: Call) -> None:
    """Complex numbers as pairs."""
    book.put(call.out, tuple((c, labels.unsqueeze(-1)) for c, labels in book.terms(call.first)))


def embedded(book: Book, call: Call) -> None:
    """Rows of a table, others for every sample: what is asked of one is asked of all."""
    table = book.of(call["weight"])
    terms = book.free(table, [1]) if isinstance(table, Leaf) else table
    book.put(call.out, book.same_along(terms, [0]))


def spread(book: Book, call: Call) -> None:
    """Numbers written to places along a dimension that depend on the data."""
    name = next(n for n in ("source", "src", "values") if n in call.given)
    along = 0 if call.name.endswith("index_put") else call.dims()[0]
    written = book.same_along(book.terms(call[name]), [along])
    book.put(call.out, book.equal([written, call.first], call.out.shape))


LAYOUT = {
    **dict.fromkeys(KEPT.split(), kept),
    **dict.fromkeys(SHAPED.split(), shaped),
    **dict.fromkeys(MOVED.split(), moved),
    **dict.fromkeys(("cat", "stack"), joined),
    "view_as_complex": as_complex,
    "view_as_real": as_real,
    **dict.fromkeys(("embedding", "_embedding_bag", "_embedding_bag_forward_only"), embedded),
    **dict.fromkeys(("index_add", "scatter_add", "index_put", "_unsafe_index_put", "scatter", "index_copy"), spread),
}
