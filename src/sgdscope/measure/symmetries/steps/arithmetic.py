"""Arithmetic: sums, products, powers, functions of every element alone, and sums over dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sgdscope.measure.symmetries.book import Book, Leaf, is_small
from sgdscope.measure.symmetries.call import Call
from sgdscope.measure.symmetries.exponents import combined, scaled

SUMS = "add sub rsub maximum minimum fmax fmin hypot copy where masked_fill"
CHOOSING = ("maximum", "minimum", "fmax", "fmin", "hypot", "max", "min")
"""Sums in this sense that are not linear."""
COMPARISONS = "eq ne lt le gt ge isclose"
REDUCED = {
    "sum": 1, "mean": 1, "amax": 1, "amin": 1, "max": 1, "min": 1, "median": 1, "linalg_vector_norm": 1, "norm": 1,
    "std": 1, "var": 2, "nansum": 1,
}  # fmt: skip
"""Along dimensions, with the power of the scale that they have."""
ALONG = "cumsum sort topk cummax cummin"
"""Results keep the dimension along which they are taken."""
CHOICES = "argmax argmin argsort any all"
FIXED = (
    "_softmax _log_softmax _safe_softmax softmax log_softmax logsumexp mse_loss smooth_l1_loss huber_loss "
    "binary_cross_entropy binary_cross_entropy_with_logits nll_loss_forward soft_margin_loss l1_loss"
)
"""Known to depend on the scale of what they are given."""
UNREAD = (
    "empty_like zeros_like ones_like full_like rand_like randn_like new_empty new_zeros new_ones new_full zero fill "
    "_local_scalar_dense equal is_nonzero"
)
"""Take a shape from a tensor, or write over it, or look at a value to decide what to do (which samples must show)."""


def fixed(book: Book, call: Call) -> None:
    """Asks for zero exponents of all it is given."""
    for operand in _tensors(call):
        fix(book, operand)


def fix(book: Book, operand: Tensor) -> None:
    """Ask for zero exponents of a tensor."""
    known = book.of(operand)
    if isinstance(known, Leaf):
        book.claim(known, ())
    else:
        book.equations.vanish(known)


def unread(book: Book, call: Call) -> None:
    """The numbers of the operand do not matter; what is written in its place is a constant."""
    if call.in_place:
        book.put(call.out, ())


def sums(book: Book, call: Call) -> None:
    """Operands of one exponent."""
    operands = [v for n, v in call.given.items() if n not in ("alpha", "condition", "mask", "non_blocking")]
    if call.name == "copy":  # what was there does not matter
        operands = [call["src"]]
    if not book.knows_any(operands):
        return book.put(call.out, ())
    terms = book.equal(operands, call.out.shape)
    if call.name in CHOOSING:
        book.bent.append(terms)
    return book.put(call.out, terms)


def compared(book: Book, call: Call) -> None:
    """Operands of one exponent, and a result without."""
    if book.knows_any([call["self"], call["other"]]):
        book.equal([call["self"], call["other"]], np.broadcast_shapes(*(tuple(t.shape) for t in _tensors(call))))


def product(book: Book, call: Call) -> None:
    """Exponents add up."""
    book.put(call.out, combined((*book.terms(call["self"]), *book.terms(call["other"]))))


def quotient(book: Book, call: Call) -> None:
    """Exponents are subtracted."""
    if call.given.get("rounding_mode"):
        return fixed(book, call)
    return book.put(call.out, combined((*book.terms(call["self"]), *scaled(book.terms(call["other"]), -1.0))))


def pointwise(book: Book, call: Call) -> None:
    """A function of every element of one tensor: homogeneous of some degree or not, which is tried on numbers."""
    args, kwargs = call.keyed
    is_floor = call.name in ("clamp_min", "clamp") and is_small(call["min"]) and call.given.get("max") is None
    if not isinstance(args[0], Tensor) or (len(_tensors(call)) > 1 and not is_floor):
        book.unknown.add(call.name)
        return fixed(book, call)
    terms = book.terms(call.first)
    if is_floor:
        book.equations.vanish(terms, "small")
        return book.put(call.out, terms)
    power = degree(lambda z: call.operation(z, *args[1:], **kwargs))
    if power is None:
        book.equations.vanish(terms, "reason", f"{book.name_of(call.name)} is not homogeneous")
        power = 1.0
    if call.name not in ("neg", "mul", "div", "positive"):
        book.bent.append(terms)
    if call.out.is_floating_point():
        book.put(call.out, scaled(terms, power))
    return None


def degree(function: Callable[[Tensor], Tensor]) -> float | None:
    """The p for which ``f(2 z) = 2^p f(z)`` on numbers of both signs (positive ones where f asks for them)."""
    positive = torch.logspace(-2, 2, 41, dtype=torch.float64)
    with torch.no_grad():
        for z in (torch.cat([-positive, positive]), positive):
            once, twice = function(z.clone()).double(), function(2 * z).double()
            if not bool((once.isfinite() & twice.isfinite()).all()):
                continue
            reached = once != 0
            if not bool(reached.any()):
                return 0.0
            power = math.log2(abs(float((twice[reached] / once[reached])[-1])) or math.inf)
            power = round(12 * power) / 12 if math.isfinite(power) else 0.0
            return power if torch.allclose(twice, 2.0**power * once, rtol=1e-9, atol=0) else None
    return None


def powered(book: Book, call: Call) -> None:
    """A fixed power of every element."""
    if isinstance(call["exponent"], Tensor) or isinstance(call["self"], int | float):
        book.unknown.add(call.name)
        return fixed(book, call)
    terms = book.terms(call.first)
    book.bent.append(terms)
    return book.put(call.out, scaled(terms, float(call["exponent"])))


def gated(book: Book, call: Call) -> None:
    """One half times a sigmoid of the other."""
    dim = call.dims()[0]
    terms, half = book.terms(call.first), call.out.shape[dim]
    gate = tuple((c, labels.narrow(dim, half, half)) for c, labels in terms)
    book.equations.vanish(gate, "reason", "the gate of glu is not homogeneous")
    book.bent.append(gate)
    book.put(call.out, tuple((c, labels.narrow(dim, 0, half)) for c, labels in terms))


def prelu(book: Book, call: Call) -> None:
    """Homogeneous; its slope stays as it is."""
    terms = book.terms(call.first)
    fix(book, call["weight"])
    book.bent.append(terms)
    book.put(call.out, terms)


def passed(book: Book, call: Call) -> None:
    """A function of degree one, such as dropout."""
    terms = book.terms(call.first)
    if call.name != "native_dropout":
        book.bent.append(terms)
    book.put(call.out, terms)


def reduced(book: Book, call: Call) -> None:
    """Over dimensions along which exponents must be equal."""
    if "other" in call.given:
        return sums(book, call)
    if not call.out.is_floating_point():
        return None
    terms, dims = book.terms(call.first), call.dims()
    first = scaled(book.same_along(terms, dims), REDUCED[call.name])
    if call.name not in ("sum", "mean", "nansum"):
        book.bent.append(terms)
    if call.name in ("linalg_vector_norm", "norm", "std", "var") or any(abs(c) >= 2 for c, _ in first):
        book.forgets(first)  # a norm written by hand divides by it
    return book.put(call.out, tuple((c, labels.reshape(call.out.shape)) for c, labels in first))


def mean_and_variance(book: Book, call: Call) -> None:
    """Both over the same dimensions."""
    first = book.same_along(book.terms(call.first), call.dims())
    for output, power in zip(call.output, (2.0, 1.0), strict=True):
        book.put(output, scaled(tuple((c, labels.reshape(output.shape)) for c, labels in first), power))


def along(book: Book, call: Call) -> None:
    """Along a dimension along which exponents must be equal, and which stays."""
    terms = book.terms(call.first)
    first = book.same_along(terms, call.dims())
    if call.name != "cumsum":
        book.bent.append(terms)
    book.put(call.out, tuple((c, labels.expand(call.out.shape)) for c, labels in first))


def chosen(book: Book, call: Call) -> None:
    """A comparison of elements along a dimension."""
    book.same_along(book.terms(call.first), call.dims())


def _tensors(call: Call) -> list[Tensor]:
    given = [v for value in call.given.values() for v in (value if isinstance(value, list | tuple) else [value])]
    return [v for v in given if isinstance(v, Tensor)]


ARITHMETIC = {
    **dict.fromkeys(FIXED.split(), fixed),
    **dict.fromkeys(UNREAD.split(), unread),
    **dict.fromkeys(SUMS.split(), sums),
    **dict.fromkeys(COMPARISONS.split(), compared),
    **dict.fromkeys(REDUCED, reduced),
    **dict.fromkeys(ALONG.split(), along),
    **dict.fromkeys(CHOICES.split(), chosen),
    **dict.fromkeys(("mul", "multiply"), product),
    **dict.fromkeys(("div", "divide"), quotient),
    **dict.fromkeys(("native_dropout", "rrelu_with_noise", "rrelu_with_noise_functional"), passed),
    "var_mean": mean_and_variance,
    "pow": powered,
    "glu": gated,
    "_prelu_kernel": prelu,
}
