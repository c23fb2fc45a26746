"""Convolutions, and what else works on neighbours: pooling, padding, upsampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sgdscope.measure.symmetries.book import Book, Leaf
from sgdscope.measure.symmetries.call import Call
from sgdscope.measure.symmetries.exponents import ZERO, Equations, Terms, combined, compressed, scaled
from sgdscope.measure.symmetries.steps.products import biased

LOCAL = (
    "max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d "
    "max_pool1d max_pool2d max_pool3d mkldnn_max_pool2d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
    "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool2d adaptive_avg_pool3d upsample_nearest1d "
    "upsample_nearest2d upsample_nearest3d _upsample_nearest_exact2d upsample_bilinear2d upsample_linear1d "
    "upsample_bicubic2d upsample_trilinear3d reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d "
    "replication_pad2d replication_pad3d"
)
"""Of neighbours in the last dimensions, as many as the name says."""


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
    book.put(out, biased(book, result, _along_channels(call["bias"], book, shape), out.shape))


def _along_channels(bias: Tensor | None, book: Book, shape: Sequence[int]) -> Any:
    """A bias of as many channels, laid out like them, as something that is known."""
    if bias is None or not book.knows(bias):
        return bias
    known = book.of(bias)
    if isinstance(known, Leaf):
        return replace(known, index=known.index.reshape(tuple(shape)))
    return tuple((c, labels.reshape(tuple(shape))) for c, labels in known)


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


CONVOLUTIONS = {**dict.fromkeys(LOCAL.split(), local), "convolution": convolution, "constant_pad_nd": padded}
