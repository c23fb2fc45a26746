"""Norms: they forget the scale of what they read, if it is the same for all that one statistic is taken over."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sgdscope.measure.symmetries.book import Book, Leaf
from sgdscope.measure.symmetries.call import Call
from sgdscope.measure.symmetries.exponents import Terms


def layer_norm(book: Book, call: Call) -> None:
    """Over the last dimensions."""
    count = len(call["normalized_shape"])
    _forget(book, book.terms(call["input"]), range(-count, 0))
    _affine(book, call, [1] * (call.out.dim() - count) + list(call["normalized_shape"]))


def group_norm(book: Book, call: Call) -> None:
    """Over the channels of a group and all places."""
    read = call["input"]
    batch, channels, *places = read.shape
    groups = tuple(
        (c, labels.reshape(batch, call["group"], -1, *places)) for c, labels in book.terms(read)
    )  # fmt: skip
    _forget(book, groups, range(2, 3 + len(places)))
    _affine(book, call, [1, channels, *[1] * len(places)])


def batch_norm(book: Book, call: Call) -> None:
    """Over the batch and all places; by averages of earlier batches, which fix the scale, unless it trains."""
    read = call["input"]
    training = call.given.get("training", call.given.get("train", "no_" not in call.name))
    if training:
        _forget(book, book.terms(read), [0, *range(2, read.dim())])
    else:
        book.equations.vanish(book.terms(read))
    _affine(book, call, [1, read.shape[1], *[1] * (read.dim() - 2)])


def _forget(book: Book, terms: Terms, dims: Sequence[int]) -> None:
    first = book.same_along(terms, dims)
    book.equations.vanish(first, "small")
    book.forgets(first)


def _affine(book: Book, call: Call, shape: Sequence[int]) -> None:
    """Times a weight, whose exponents are those of the output, plus a bias that must have the same."""
    terms: Terms = ()
    if isinstance(call["weight"], Tensor):
        terms = tuple((c, labels.reshape(tuple(shape))) for c, labels in book.terms(call["weight"]))
    bias = call.given.get("bias")
    if isinstance(bias, Tensor) and book.knows(bias):
        known = book.of(bias)
        if isinstance(known, Leaf):
            book.claim(known, tuple((c, labels.reshape(bias.shape)) for c, labels in terms))
        else:
            book.equal([terms, tuple((c, labels.reshape(tuple(shape))) for c, labels in known)], call.out.shape)
    book.put(call.out, terms)


NORMS = {
    **dict.fromkeys(("native_layer_norm", "_fused_rms_norm"), layer_norm),
    "native_group_norm": group_norm,
    **dict.fromkeys(
        (
            "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
            "miopen_batch_norm", "_batch_norm_with_update", "_batch_norm_no_update", "batch_norm",
        ),
        batch_norm,
    ),
}  # fmt: skip
