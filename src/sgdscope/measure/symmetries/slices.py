"""Slices: which elements of a parameter a unit owns, from the labels of the exponents asked of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgdscope.measure.symmetries.book import Book, Claim
from sgdscope.measure.symmetries.part import Part

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Use:
    """Slices of one claim, along some of its dimensions, that units scale to one power.

    Attributes:
        claim: number of it.
        dims: dimensions along which the slices lie.
        power: of λ.
        written: whether it is what the parameter writes that is scaled.
        places: of the slices along `dims` (flattened), and `units`: that own them.
    """

    claim: int
    dims: tuple[int, ...]
    power: float
    written: bool
    places: Ids
    units: Ids


def parts_of(
    book: Book, uses: Iterable[Use], parameters: Mapping[str, Tensor], number: Ids, *, simplify: bool = True
) -> tuple[Part, ...]:
    """Parts of the parameters, u before w. `number`: of each unit, where several are to be one.

    With `simplify` owners are left out where a view can tell them.
    """
    by_claim: dict[int, list[Part]] = {}
    for use in uses:
        claim = book.claims[use.claim]
        owners = _owners(claim, use, number)
        if claim.copied or claim.index.numel() < parameters[claim.name].numel():
            part = _searched(book, claim, owners, use.power, parameters[claim.name])
        else:
            part = _viewed(claim, owners, use.power)
        by_claim.setdefault(use.claim, []).append(_simplified(part) if simplify else part)
    parts = [part for _, made in sorted(by_claim.items()) for part in made]
    return tuple(sorted(parts, key=lambda p: -np.sign(float(p.power))))


def _owners(claim: Claim, use: Use, number: Ids) -> Tensor:
    """The owner of each slice, in the dimensions of the claim (1 where slices go all along), −1 if none."""
    shape = [n if d in use.dims else 1 for d, n in enumerate(claim.index.shape)]
    owners = np.full(math.prod(shape), -1, dtype=np.int64)
    owners[use.places] = number[use.units]
    return torch.from_numpy(owners).reshape(shape)


def _viewed(claim: Claim, owners: Tensor, power: float) -> Part:
    """Of a claim on the whole parameter: its dimensions, in the order in which they lie there, are a view of it."""
    dims = sorted((d for d, n in enumerate(claim.index.shape) if n > 1), key=claim.index.stride, reverse=True)
    rest = [d for d in range(owners.dim()) if d not in dims]
    turned = owners.permute(*dims, *rest).reshape([owners.shape[d] for d in dims])
    view = tuple(claim.index.shape[d] for d in dims) or (1,)
    return Part(claim.name, view, tuple(d for d, n in enumerate(turned.shape) if n > 1), power, turned.reshape(-1))


def _searched(book: Book, claim: Claim, owners: Tensor, power: float, like: Tensor) -> Part:
    """Of a claim on some of the elements: dimensions of the parameter along which owners change.

    Rows that no claim is on, such as later positions than the samples have, are owned like the others.
    """
    covered = torch.zeros(like.numel(), dtype=torch.bool)
    for each in book.claims:
        if each.name == claim.name:
            covered[each.index.reshape(-1).long()] = True
    by_element = torch.full((like.numel(),), -1)
    by_element[claim.index.reshape(-1).long()] = owners.expand(claim.index.shape).reshape(-1)
    covered, by_element = covered.reshape(like.shape), by_element.reshape(like.shape)
    for d in range(like.dim()):
        known = by_element.index_select(d, covered.movedim(d, 0).reshape(covered.shape[d], -1).any(1).nonzero()[:, 0])
        if bool((known == known.narrow(d, 0, 1)).all()):
            by_element, covered = known.narrow(d, 0, 1), covered.any(d, keepdim=True)
    dims = tuple(d for d, n in enumerate(by_element.shape) if n > 1)
    return Part(claim.name, tuple(like.shape), dims, power, by_element.reshape(-1))


def _simplified(part: Part) -> Part:
    """Without owners where these are equal runs of indices along one dimension, or every index its own."""
    owners = part.owners
    assert owners is not None
    units = int(owners.max()) + 1
    if units == 1 and bool((owners == 0).all()):
        return Part(part.name, (math.prod(part.view),), (), part.power)
    run = owners.numel() // units
    if owners.numel() % units or not torch.equal(owners, torch.arange(units).repeat_interleave(run)):
        return part
    if run == 1:
        return Part(part.name, part.view, part.unit_dims, part.power)
    if len(part.unit_dims) == 1:
        (dim,) = part.unit_dims
        return Part(part.name, (*part.view[:dim], units, run, *part.view[dim + 1 :]), (dim,), part.power)
    return part
