"""Book: which exponents the tensors of a run have, and which the parameters must have for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sgdscope.measure.symmetries.exponents import Equations, Terms, at_first, compressed, difference, expanded


@dataclass(frozen=True, eq=False)
class Leaf:
    """A parameter, or a part of it laid out anew, that nothing has been asked of yet.

    Attributes:
        name: of the parameter.
        index: for each element its place in the parameter, int32.
        copied: whether places lie in memory in another order than they count, so that strides do not tell them.
    """

    name: str
    index: Tensor
    copied: bool = False


@dataclass(frozen=True, eq=False)
class Claim:
    """The exponents that elements of a parameter have, asked for by one use of it.

    Attributes:
        name: of the parameter.
        index: places of the elements in it, each once.
        terms: their exponents, in the shape of `index`. Positive: written by it; negative: read by it.
        copied: as in `Leaf`.
    """

    name: str
    index: Tensor
    terms: Terms
    copied: bool = False


@dataclass
class Book:
    """What is known of the tensors of one run. A tensor it does not know is a constant: its exponent is zero.

    Attributes:
        frozen: parameters that may not change.
        claims: on parameters, in the order of the run.
        repeated: numbers of the claims on elements that an earlier one is on too.
        modules: those whose forward is running, with their paths.
        splits: labels of each dimension of a parameter whose exponents are sums of them.
        norms: labels of what each norm reads, and the module it is in.
        bent: labels that a function acts on one by one, so that they cannot be mixed.
        heads: for each product of activations, pairs of an unknown and the matrix of the stack that it appears in.
        unknown: operations that were taken to fix every scale.
        blank: a constant that was all zero before it was written into.
    """

    equations: Equations = field(default_factory=Equations)
    frozen: set[str] = field(default_factory=set)
    claims: list[Claim] = field(default_factory=list)
    repeated: set[int] = field(default_factory=set)
    modules: list[tuple[str, nn.Module]] = field(default_factory=list)
    splits: list[list[Tensor]] = field(default_factory=list)
    norms: list[tuple[Terms, str]] = field(default_factory=list)
    bent: list[Terms] = field(default_factory=list)
    heads: list[npt.NDArray[np.int64]] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    blank: Tensor | None = None
    _known: dict[int, tuple[Tensor, Terms | Leaf]] = field(default_factory=dict)

    def enter(self, name: str, parameter: Tensor, *, frozen: bool = False) -> None:
        """Make a parameter known."""
        if frozen:
            self.frozen.add(name)
        places = torch.arange(parameter.numel(), dtype=torch.int32).reshape(parameter.shape)
        self.put(parameter, Leaf(name, places))

    def put(self, tensor: Tensor, known: Terms | Leaf) -> None:
        """Note what is known of a tensor, which is kept: another could get its id."""
        self._known[id(tensor)] = (tensor, known if isinstance(known, Leaf) else expanded(known, tensor.shape))

    def knows(self, tensor: object) -> bool:
        """Whether it is anything but a constant: a tensor of the run, or exponents."""
        return isinstance(tensor, tuple | Leaf) or id(tensor) in self._known

    def knows_any(self, tensors: Sequence[object]) -> bool:
        """Whether any is."""
        return any(map(self.knows, tensors))

    def of(self, tensor: object) -> Terms | Leaf:
        """What is known of a tensor or number."""
        if isinstance(tensor, tuple | Leaf):
            return tensor
        return self._known[id(tensor)][1] if self.knows(tensor) else ()

    def terms(self, tensor: object) -> Terms:
        """The exponents of a tensor; of a parameter, a sum of unknowns of each dimension."""
        known = self.of(tensor)
        return self.free(known) if isinstance(known, Leaf) else known

    def free(self, leaf: Leaf, dims: Sequence[int] | None = None) -> Terms:
        """The exponents of a parameter as a sum of unknowns of each dimension, or of some of them."""
        for claim in self.claims:
            if claim.name == leaf.name and _same_places(claim, leaf):
                return claim.terms
        shape = leaf.index.shape
        terms: list[tuple[float, Tensor]] = []
        new: list[Tensor] = []
        for d in range(len(shape)) if dims is None else dims:
            if shape[d] > 1 and leaf.index.stride(d):
                new.append(self.equations.fresh(shape[d]))
                terms.append((1.0, new[-1].reshape(-1, *[1] * (len(shape) - d - 1)).expand(shape)))
        self.splits.append(new)
        own: Terms = tuple(terms) or ((1.0, self.equations.fresh(1).expand(shape)),)
        self.claim(leaf, own)
        return own

    def claim(self, leaf: Leaf, terms: Terms) -> None:
        """The elements of a parameter must have these exponents (of a shape that expands to the leaf's)."""
        index, terms = leaf.index, expanded(terms, leaf.index.shape)
        for d, n in enumerate(index.shape):
            if n > 1 and not index.stride(d):  # the same elements again
                self.equations.vanish(difference(terms, at_first(terms, [d])))
                index, terms = index.narrow(d, 0, 1), at_first(terms, [d])
        if leaf.copied:
            index, terms = self._once(index, terms)
        self.claims.append(Claim(leaf.name, index, terms, leaf.copied))
        if leaf.name in self.frozen:
            self.equations.vanish(terms, "reason", f"{leaf.name} is frozen")

    def _once(self, index: Tensor, terms: Terms) -> tuple[Tensor, Terms]:
        """Each element once; wherever it appears it has the same exponents."""
        flat, order = index.reshape(-1).sort(stable=True)
        again = flat[1:] == flat[:-1]
        if not bool(again.any()):
            return index, terms
        lined = tuple((c, labels.reshape(-1)[order]) for c, labels in terms)
        self.equations.vanish(tuple(
            term for c, labels in lined for term in ((c, labels[1:][again]), (-c, labels[:-1][again]))
        ))  # fmt: skip
        first = torch.cat([torch.tensor([True]), ~again])
        return flat[first], tuple((c, compressed(labels[first])) for c, labels in lined)

    def equal(self, operands: Sequence[object], shape: Sequence[int]) -> Terms:
        """Ask that operands that are added have equal exponents; parameters take those of the others."""
        known = [expanded(k, shape) for o in operands if self.knows(o) and not isinstance(k := self.of(o), Leaf)]
        leaves = [k for o in operands if isinstance(k := self.of(o), Leaf)]
        if not known:
            known, leaves = [expanded(self.free(leaves[0]), shape)], leaves[1:]
        for other in known[1:]:
            self.equations.vanish(difference(known[0], other))
        for leaf in leaves:
            self.claim(replace(leaf, index=leaf.index.expand(tuple(shape))), known[0])
        for constant in (o for o in operands if not self.knows(o) and o is not self.blank):
            if not _has_any_scale(constant):
                self.equations.vanish(known[0], "small" if is_small(constant) else "always")
        return known[0]

    def same_along(self, terms: Terms, dims: Sequence[int]) -> Terms:
        """Ask that exponents be the same along some dimensions; they at index 0 of these."""
        first = at_first(terms, dims)
        self.equations.vanish(difference(terms, first))
        return first

    def forgets(self, terms: Terms) -> None:
        """Note that a norm, in the module that is running, forgets the scale of what it reads but for its eps."""
        if self.modules:
            self.norms.append((terms, self.modules[-1][0]))

    def name_of(self, operation: str) -> str:
        """What people call an operation: by the activation module it is in, if it is in one."""
        module = self.modules[-1][1] if self.modules else None
        return type(module).__name__ if type(module).__module__ == nn.modules.activation.__name__ else operation

    def ties(self) -> None:
        """Elements that are used more than once have one exponent, which the first claim on them tells."""
        by_name: dict[str, list[Claim]] = {}
        for number, claim in enumerate(self.claims):
            known = by_name.setdefault(claim.name, [])
            if any(self._tied(claim, other) for other in known):
                self.repeated.add(number)
            else:
                known.append(claim)

    def _tied(self, claim: Claim, other: Claim) -> bool:
        one, two = _in_order(claim), _in_order(other)
        if _same_places(one, two):
            reason = f"tied: {claim.name} is used more than once"
            self.equations.vanish(difference(one.terms, two.terms), "tie", reason)
            return True
        if _overlap(claim.index, other.index):
            for each in (claim, other):
                self.equations.vanish(each.terms, "tie", f"tied: {claim.name} is used in more than one layout")
            return True
        return False


SMALL = 1e-3
"""Constants up to this are added to keep something from zero: a symmetry may hold up to them."""


def is_small(constant: object) -> bool:
    """Whether it is a number that is there to keep something from zero."""
    if isinstance(constant, Tensor) and constant.dim() == 0 and constant.is_floating_point():
        constant = float(constant)
    return isinstance(constant, int | float) and 0 < constant <= SMALL


def _has_any_scale(constant: object) -> bool:
    """Whether λ times it is it: zero, infinite (as in a mask), or both."""
    if isinstance(constant, Tensor):
        return not bool((constant if not constant.is_floating_point() else constant[constant.isfinite()]).any())
    return isinstance(constant, int | float) and (constant == 0 or math.isinf(constant))


def _same_places(one: Claim | Leaf, other: Claim | Leaf) -> bool:
    if one.index.shape != other.index.shape:
        return False
    if one.copied or other.copied:
        return torch.equal(one.index, other.index)
    return one.index.stride() == other.index.stride() and one.index.storage_offset() == other.index.storage_offset()


def _in_order(claim: Claim) -> Claim:
    """The same claim with dimensions in the order in which they lie in the parameter, those of size 1 left out."""
    kept = sorted((d for d, n in enumerate(claim.index.shape) if n > 1), key=claim.index.stride, reverse=True)
    ones = [d for d, n in enumerate(claim.index.shape) if n == 1]

    def turned(tensor: Tensor) -> Tensor:
        return tensor.permute(*kept, *ones).reshape([tensor.shape[d] for d in kept])

    return replace(claim, index=turned(claim.index), terms=tuple((c, turned(labels)) for c, labels in claim.terms))


def _overlap(one: Tensor, other: Tensor) -> bool:
    size = int(max(one.max(), other.max())) + 1
    seen = torch.zeros(size, dtype=torch.bool)
    seen[one.reshape(-1).long()] = True
    return bool(seen[other.reshape(-1).long()].any())
