"""Whether a risk's Hessian products may be taken by hand: compared once with autograd, refused with the reason."""

from __future__ import annotations

import math
from weakref import WeakKeyDictionary

import torch

from sgdscope import vectors
from sgdscope.chain import NotAChainError, check_chain
from sgdscope.chain.products import ChainProducts
from sgdscope.hessian.graph import GaussNewtonGraph, GraphProducts
from sgdscope.risk import Risk

_refusals: WeakKeyDictionary[Risk, str] = WeakKeyDictionary()
"""For each risk the reason why its products are not taken by hand; empty if it passed its self-check."""
_ROUNDING = 2e3
"""Difference allowed, in units of the precision times the norms of what is compared."""


def chain_refusal(risk: Risk) -> str:
    """Why the products of this risk are not taken by hand; empty if they are. Cost: a few samples, once per risk."""
    try:
        check_chain(risk)  # each time: hooks and frozen parameters may come and go
    except NotAChainError as error:
        return str(error)
    if risk not in _refusals:
        refusal = _self_check(risk)
        if refusal is None:
            return "self-check: nothing to compare (the derivatives are zero or not finite)"
        _refusals[risk] = refusal
    return _refusals[risk]


def _self_check(risk: Risk) -> str | None:
    """Why products by hand are refused, empty if they agree, None if these parameters cannot tell."""
    try:
        batch = risk.few()
        v = vectors.random_like([p.detach() for p in risk.parameters], torch.Generator().manual_seed(0))
        with risk.evaluating(second_order=True) as leaves:
            plain, by_hand = GraphProducts(risk, batch, leaves), ChainProducts(risk, batch, leaves)
            straight = GaussNewtonGraph(risk, batch, leaves)
            pairs = [
                ("gradient", plain.gradient, by_hand.gradient),
                ("Hv", plain.product(v), by_hand.product(v)),
                ("Gauss-Newton product", straight.product(v), by_hand.product(v, "gauss_newton")),
            ]
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        return f"self-check: {type(error).__name__}: {error}" if not isinstance(error, NotAChainError) else str(error)
    told = False
    for name, right, fast in pairs:
        size, difference = vectors.norm(right), vectors.norm(vectors.plus(right, fast, -1.0))
        if not math.isfinite(size) or not math.isfinite(difference):
            return None
        if difference > _ROUNDING * torch.finfo(risk.parameters[0].dtype).eps * max(size, vectors.norm(fast)):
            return f"self-check: {name} by hand differs from autograd's by {difference / max(size, 1e-300):.2g} of it"
        told = told or size > 0
    return "" if told else None
