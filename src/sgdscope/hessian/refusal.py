"""Whether a risk's Hessian products may be taken by hand: compared once with autograd, refused with the reason."""

from __future__ import annotations

import math

import torch

from sgdscope import vectors
from sgdscope.chain import NotAChainError, check_chain
from sgdscope.chain.products import ChainProducts
from sgdscope.hessian.graph import GaussNewtonGraph, GraphProducts
from sgdscope.risk import Risk
from sgdscope.self_check import SelfCheck, allowed


def chain_refusal(risk: Risk) -> str:
    """Why the products of this risk are not taken by hand; empty if they are. Cost: a few samples, once per risk."""
    try:
        check_chain(risk)  # each time: hooks and frozen parameters may come and go
    except NotAChainError as error:
        return str(error)
    return _check.refusal(risk)


def _difference(risk: Risk) -> str | None:
    """What differs between products by hand and autograd's; see `SelfCheck`."""
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
    told = False
    for name, right, fast in pairs:
        size, difference = vectors.norm(right), vectors.norm(vectors.plus(right, fast, -1.0))
        if not math.isfinite(size) or not math.isfinite(difference):
            return None
        if difference > allowed(risk) * max(size, vectors.norm(fast)):
            return f"{name} by hand differs from autograd's by {difference / max(size, 1e-300):.2g} of it"
        told = told or size > 0
    return "" if told else None


_check = SelfCheck(_difference, NotAChainError)
