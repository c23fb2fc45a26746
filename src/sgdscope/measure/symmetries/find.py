"""Find: propose symmetries from a model's structure and keep those that hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sgdscope.batches import Batch
from sgdscope.measure.symmetries.candidate import Candidate, candidates_of
from sgdscope.measure.symmetries.graph import graphs_of
from sgdscope.measure.symmetries.operations import NORMS
from sgdscope.measure.symmetries.part import Part, quadratic
from sgdscope.measure.symmetries.stream import streams_of
from sgdscope.measure.symmetries.symmetry import Status, Symmetries, Symmetry
from sgdscope.measure.symmetries.verify import Evidence, collect, difference, samples_of, shrunk_eps
from sgdscope.risk import Risk

Generator = Mapping[str, Tensor | float]
"""Diagonal of A by parameter name: a number, or a tensor that broadcasts to the parameter. Absent: zero."""

RESCALED = 4
"""Samples on which the model is really rescaled."""


def symmetries(
    risk: Risk,
    *,
    custom: Mapping[str, Generator] | None = None,
    samples: int = 16,
    tolerance: float | None = None,
    generator: torch.Generator | None = None,
) -> Symmetries:
    """Rescaling symmetries of the loss, proposed from the model's structure and verified sample by sample.

    Proposed are hidden activations that can change their scale unseen, per neuron or channel: the layers that write
    them are divided by λ, biases included, and those that read them multiplied, through ReLU-like functions, pooling,
    flattening, dropout, residual sums and norms; where units cannot be told apart, all of them together. Weights that
    only a norm reads are scale-invariant. Models are traced by torch.fx; of those that do not trace, the order of their
    ``nn.Sequential`` is taken. Attention, gates and low-rank adapters are not proposed.

    Verified is that θᵀA∇ℓ = 0 for the loss of every single sample (small batches where a batch is more than its
    samples, as with BatchNorm in train mode), and that outputs stay the same when units are rescaled by 2 and ½.

    Args:
        risk: mode included: in train mode BatchNorm makes weights scale-invariant, in eval mode it does not.
        custom: further generators by name, diagonal, verified alike: ``{"mine": {"0.weight": 1, "2.weight": -1}}``.
        samples: number of samples, at least 1; all data where there are fewer.
        tolerance: largest residual; 1e-10 in double precision, 1e-6 in single. Where terms of a unit cancel, 16
            roundings of the sum of their magnitudes are allowed on top: in single precision residuals may be larger.
        generator: of the samples.

    Cost: `samples` gradients of one sample (twice that with norms), and two losses of four samples per symmetry.
    Source: Ziyin, Li & Ueda 2308.06671 (rescaling, Eq. 26); Ziyin, Wang, Li & Wu 2402.07193 (exponential symmetries).
    Raises ValueError for parameters below single precision, unknown names or shapes in `custom`, or samples < 1.
    """
    if samples < 1:
        raise ValueError(f"expected at least 1 sample, got {samples}")
    rounding = max(torch.finfo(p.dtype).eps for p in risk.parameters)
    if rounding > 1e-6:
        raise ValueError("expected parameters in single or double precision, got a lower one, in which rounding looks "
                         "like a broken symmetry\nhint: verify model.float() and use its symmetries")  # fmt: skip
    tolerance = (1e-10 if rounding < 1e-12 else 1e-6) if tolerance is None else tolerance
    proposed, untraced = _proposed(risk)
    proposals = [*proposed, *([c] for c in _custom(risk, custom or {}))]
    drawn = samples_of(risk, samples, generator or torch.Generator().manual_seed(0))
    asked = [c for proposal in proposals for c in proposal if c.parts]
    norms = [norm for candidate in asked for norm in candidate.norms]
    evidence = dict(zip(map(id, asked), collect(risk, asked, drawn) if asked else [], strict=True))
    without_eps = evidence
    if norms:
        with shrunk_eps(norms):
            without_eps = dict(zip(map(id, asked), collect(risk, asked, drawn), strict=True))
    found, gradients, losses = [], len(drawn) * (2 if norms else 1) if asked else 0, 0
    for proposal in proposals:
        verdicts: list[Symmetry] = []
        for candidate in proposal:
            pair = evidence.get(id(candidate)), without_eps.get(id(candidate))
            verdicts.append(_verdict(risk, candidate, pair, drawn, tolerance, rounding))
            losses += 2 * len(drawn[:RESCALED]) * (verdicts[-1].difference is not None)
            if verdicts[-1].holds:
                break
        found.append(verdicts[-1] if verdicts[-1].holds else verdicts[0])
    notes = ["each sample is a small batch: " + risk.mixing] if risk.mixing else []
    if untraced:
        notes.append(f"only inside nn.Sequential was looked: torch.fx does not trace the model ({untraced})")
    return Symmetries(tuple(found), len(drawn), gradients + losses / 3, tuple(notes))


def _proposed(risk: Risk) -> tuple[list[list[Candidate]], str]:
    parameters = {id(p): (name, p) for name, p in zip(risk.names, risk.parameters, strict=True)}
    with risk.evaluating():
        graphs, untraced = graphs_of(risk)
        streams = [stream for graph in graphs for stream in streams_of(graph, risk.model)]
    return [candidates_of(stream, parameters) for stream in streams], untraced


def _custom(risk: Risk, custom: Mapping[str, Generator]) -> list[Candidate]:
    parameters = dict(zip(risk.names, risk.parameters, strict=True))
    norms = tuple(m for m in risk.model.modules() if isinstance(m, NORMS))
    made = []
    for name, diagonal in custom.items():
        parts = []
        for key, powers in diagonal.items():
            if key not in parameters:
                raise ValueError(f"expected generators over {', '.join(risk.names[:4])}, …, got {key!r} in {name!r}")
            like = parameters[key].detach()
            try:
                spread = torch.as_tensor(powers, dtype=torch.float64, device=like.device).expand(like.shape)
            except RuntimeError as error:
                raise ValueError(f"expected powers for {key} that broadcast to {tuple(like.shape)}, got "
                                 f"{tuple(torch.as_tensor(powers).shape)} in {name!r}") from error  # fmt: skip
            if not bool(torch.isfinite(spread).all()):
                raise ValueError(f"expected finite powers for {key} in {name!r}, got some that are not")
            parts.append(Part(key, tuple(like.shape), (), spread))
        if not any(bool(p.power.any()) for p in parts if isinstance(p.power, Tensor)):
            raise ValueError(f"expected a generator that scales something in {name!r}, got none or zeros")
        made.append(Candidate(name, "custom", 1, tuple(parts), norms))
    return made


def _verdict(
    risk: Risk,
    candidate: Candidate,
    evidence: tuple[Evidence | None, Evidence | None],
    samples: Sequence[Batch],
    tolerance: float,
    rounding: float,
) -> Symmetry:
    """The candidate as it stands after both checks."""
    named = dict(zip(risk.names, risk.parameters, strict=True))
    plain, without_eps = evidence
    symmetry = Symmetry(candidate.name, candidate.kind, candidate.units, candidate.parts)
    if plain is None or without_eps is None:
        return replace(symmetry, status="rejected", reason=candidate.reason)
    values = tuple(quadratic(candidate.parts, named, candidate.units).tolist())
    if not all(map(math.isfinite, values)) or not bool(torch.isfinite(plain.gap).all()):
        return replace(symmetry, status="rejected", reason="weights or gradients are not finite")
    symmetry = replace(symmetry, charges=values, residual=plain.residual, silent=int(plain.silent.sum()))
    if candidate.reason:
        return replace(symmetry, status="rejected", reason=candidate.reason)
    if plain.residual is None:
        return replace(symmetry, status="rejected", reason="no evidence: no gradient reaches it in these samples")
    if not without_eps.passes(tolerance, rounding):
        return replace(symmetry, status="rejected", reason="the gradients of single samples break it")
    status: Status = "exact" if plain.passes(tolerance, rounding) else "up to eps"
    with shrunk_eps(candidate.norms):
        changed = difference(risk, candidate, samples[:RESCALED])
    symmetry = replace(symmetry, difference=changed)
    if not changed <= 10 * tolerance:
        return replace(symmetry, status="rejected", reason="outputs change when it is rescaled")
    return replace(symmetry, status=status, reason=_bearing(symmetry.silent, status))


def _bearing(silent: int, status: Status) -> str:
    said = ["of the norm"] if status == "up to eps" else []
    return "; ".join([*said, *([f"{silent} units silent"] if silent else [])])
